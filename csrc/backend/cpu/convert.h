// Conversions between element types on contiguous runs. Pairs that matter have a loop of their own; all others go
// through a block of float64 or int64, so that 13 types need 13 loads and 3 x 13 stores instead of 169 loops.
//
// Rounding is to nearest even, once, whatever the pair (float64 reaches the 16-bit types by way of a float rounded to
// odd). Floating to integer truncates, saturates, and makes NaN 0; integer to integer wraps; to boolean is "not zero".
#pragma once
#include "backend/cpu/vec.h"
#include "core/dtype.h"

namespace pydl {
namespace {

// Its loops are kept out of line (PYDL_NOINLINE): they are long once vectorized, and a call is nothing beside a run.
constexpr int kConvertBlock = 256;

inline uint32_t float_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float float_from_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

PYDL_INLINE float bfloat16_to_float(uint16_t h) { return float_from_bits(uint32_t{h} << 16); }
PYDL_INLINE uint16_t float_to_bfloat16(float x) {
  const uint32_t bits = float_bits(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return static_cast<uint16_t>(x != x ? bits >> 16 | 0x40u : rounded);
}

#if defined(__F16C__)
PYDL_INLINE float float16_to_float(uint16_t h) { return _cvtsh_ss(h); }
PYDL_INLINE uint16_t float_to_float16(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#else
PYDL_INLINE float float16_to_float(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  const uint32_t finite = float_bits(float_from_bits(magnitude << 13) * 0x1p112f);  // rebias; subnormals become normal
  return float_from_bits(sign | (magnitude < 0x7c00u ? finite : 0x7f800000u | magnitude << 13));
}
PYDL_INLINE uint16_t float_to_float16(float x) {
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t tiny =
      float_bits(float_from_bits(magnitude) + 0.5f) - float_bits(0.5f);  // the addition rounds to 2^-24
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? huge : magnitude < 0x38800000u ? tiny : normal));
}
#endif

// Rounded to odd: an inexact result has its last bit set, so that rounding it again to 16 bits rounds right.
PYDL_INLINE float double_to_odd_float(double x) {
  const float nearest = static_cast<float>(x);
  const double back = nearest;
  const uint32_t inexact = back == x || x != x ? 0 : 1, beyond = __builtin_fabs(back) > __builtin_fabs(x) ? inexact : 0;
  return float_from_bits((float_bits(nearest) - beyond) | inexact);
}

template <class T>
PYDL_INLINE T saturate(double x) {
  constexpr bool is_signed = T(-1) < T(0);
  constexpr int bits = static_cast<int>(sizeof(T)) * 8 - (is_signed ? 1 : 0);
  constexpr double limit = 2.0 * static_cast<double>(uint64_t{1} << (bits - 1));  // one past the largest
  constexpr T largest = static_cast<T>(~uint64_t{0} >> (64 - bits));
  constexpr T smallest = is_signed ? static_cast<T>(-largest - 1) : T(0);
  if (x >= limit) return largest;
  if (x <= (is_signed ? -limit : 0.0)) return smallest;
  return x == x ? static_cast<T>(x) : T(0);
}

template <class From, class To>
PYDL_INLINE void cast_run(const void* src, void* dst, int64_t n) {
  const From* s = static_cast<const From*>(src);
  To* d = static_cast<To*>(dst);
  for (int64_t i = 0; i < n; ++i) d[i] = static_cast<To>(s[i]);
}

PYDL_NOINLINE void bfloat16_run_to_float(const uint16_t* src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = bfloat16_to_float(src[i]);
}
PYDL_NOINLINE void float_run_to_bfloat16(const float* src, uint16_t* dst, int64_t n) {
  int64_t i = 0;
#if defined(PYDL_VEC_AVX512)  // compilers find no such narrowing
  for (; i + 16 <= n; i += 16) {
    const __m512 x = _mm512_loadu_ps(src + i);
    const __m512i bits = (__m512i)x, top = _mm512_srli_epi32(bits, 16);
    const __m512i even = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(top, _mm512_set1_epi32(1)));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, even), 16);
    const __m512i quiet = _mm512_or_si512(top, _mm512_set1_epi32(0x40));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    _mm256_storeu_si256((__m256i*)(dst + i), _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet)));
  }
#endif
  for (; i < n; ++i) dst[i] = float_to_bfloat16(src[i]);
}
PYDL_NOINLINE void float16_run_to_float(const uint16_t* src, float* dst, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i))));
#endif
  for (; i < n; ++i) dst[i] = float16_to_float(src[i]);
}
PYDL_NOINLINE void float_run_to_float16(const float* src, uint16_t* dst, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; ++i) dst[i] = float_to_float16(src[i]);
}

// Floating types only; n <= kConvertBlock.
PYDL_NOINLINE void load_real(DType dtype, const void* src, double* dst, int64_t n) {
  float wide[kConvertBlock];
  switch (dtype) {
    case DType::float64:
      __builtin_memcpy(dst, src, static_cast<size_t>(n) * sizeof(double));
      return;
    case DType::float32:
      return cast_run<float, double>(src, dst, n);
    case DType::float16:
      float16_run_to_float(static_cast<const uint16_t*>(src), wide, n);
      break;
    default:
      bfloat16_run_to_float(static_cast<const uint16_t*>(src), wide, n);
      break;
  }
  cast_run<float, double>(wide, dst, n);
}

template <class From>
PYDL_INLINE void widen_run(const void* src, int64_t* dst, int64_t n) {
  const From* s = static_cast<const From*>(src);
  int64_t i = 0;
#if defined(PYDL_VEC_AVX512)  // compilers write halves of vectors, which are slow to read as whole ones
  constexpr bool is_signed = From(-1) < From(0);
  for (; i + 8 <= n; i += 8) {
    __m512i wide;
    if constexpr (sizeof(From) == 1) {
      const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(s + i));
      wide = is_signed ? _mm512_cvtepi8_epi64(v) : _mm512_cvtepu8_epi64(v);
    } else if constexpr (sizeof(From) == 2) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s + i));
      wide = is_signed ? _mm512_cvtepi16_epi64(v) : _mm512_cvtepu16_epi64(v);
    } else {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s + i));
      wide = is_signed ? _mm512_cvtepi32_epi64(v) : _mm512_cvtepu32_epi64(v);
    }
    _mm512_storeu_si512(dst + i, wide);
  }
#endif
  for (; i < n; ++i) dst[i] = static_cast<int64_t>(s[i]);
}

// Integers and booleans; uint64 keeps its bits.
PYDL_NOINLINE void load_integer(DType dtype, const void* src, int64_t* dst, int64_t n) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
      return widen_run<uint8_t>(src, dst, n);
    case DType::int8:
      return widen_run<int8_t>(src, dst, n);
    case DType::uint16:
      return widen_run<uint16_t>(src, dst, n);
    case DType::int16:
      return widen_run<int16_t>(src, dst, n);
    case DType::uint32:
      return widen_run<uint32_t>(src, dst, n);
    case DType::int32:
      return widen_run<int32_t>(src, dst, n);
    default:
      __builtin_memcpy(dst, src, static_cast<size_t>(n) * sizeof(int64_t));
      return;
  }
}

template <class T>
PYDL_INLINE void saturate_run(const double* src, void* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) static_cast<T*>(dst)[i] = saturate<T>(src[i]);
}

// The same, quicker where no value is beyond To's range, as in most blocks: no choice for each.
template <class From, class To>
PYDL_NOINLINE void truncate_run(const void* from, void* to, int64_t n) {
  constexpr From kLimit = static_cast<From>(uint64_t{1} << (sizeof(To) * 8 - 1));
  const From* src = static_cast<const From*>(from);
  To* dst = static_cast<To*>(to);
  for (int64_t i = 0; i < n; i += kConvertBlock) {
    const int64_t end = n - i < kConvertBlock ? n : i + kConvertBlock;
    Vec<From> ordinary(1);
    int64_t k = i;
    for (; k + Vec<From>::size <= end; k += Vec<From>::size)
      ordinary = select(abs(Vec<From>::load(src + k)) < Vec<From>(kLimit), ordinary, Vec<From>(0));
    const bool quick = reduce_min(ordinary) == 1;
    if (quick) {
      for (int64_t q = i; q < k; ++q) dst[q] = static_cast<To>(src[q]);
    }
    for (int64_t q = quick ? k : i; q < end; ++q) dst[q] = saturate<To>(src[q]);
  }
}

// From floats to integers of one or two bytes, by way of int32; of signed and unsigned ones the bits are the same.
template <class Bits>
PYDL_INLINE void narrow_run(const int32_t* src, int32_t smallest, int32_t largest, void* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t most = src[i] > largest ? largest : src[i];
    static_cast<Bits*>(dst)[i] = static_cast<Bits>(most < smallest ? smallest : most);
  }
}
PYDL_NOINLINE void narrow_floats(DType src_dtype, const void* src, DType dtype, void* dst, int64_t n) {
  alignas(64) int32_t whole[kConvertBlock];
  const bool is_signed = dtype == DType::int8 || dtype == DType::int16;
  const int64_t size = static_cast<int64_t>(item_size(dtype)), src_size = static_cast<int64_t>(item_size(src_dtype));
  const int32_t largest = (1 << (size * 8 - (is_signed ? 1 : 0))) - 1, smallest = is_signed ? -largest - 1 : 0;
  for (int64_t i = 0; i < n; i += kConvertBlock) {
    const int64_t count = n - i < kConvertBlock ? n - i : kConvertBlock;
    const char* from = static_cast<const char*>(src) + i * src_size;
    char* to = static_cast<char*>(dst) + i * size;
    src_dtype == DType::float32 ? truncate_run<float, int32_t>(from, whole, count)
                                : truncate_run<double, int32_t>(from, whole, count);
    size == 1 ? narrow_run<uint8_t>(whole, smallest, largest, to, count)
              : narrow_run<uint16_t>(whole, smallest, largest, to, count);
  }
}

// n <= kConvertBlock.
PYDL_NOINLINE void store_real(const double* src, DType dtype, void* dst, int64_t n) {
  float odd[kConvertBlock];
  switch (dtype) {
    case DType::boolean:
      for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(dst)[i] = src[i] != 0.0;
      return;
    case DType::uint8:
      return saturate_run<uint8_t>(src, dst, n);
    case DType::int8:
      return saturate_run<int8_t>(src, dst, n);
    case DType::uint16:
      return saturate_run<uint16_t>(src, dst, n);
    case DType::int16:
      return saturate_run<int16_t>(src, dst, n);
    case DType::uint32:
      return saturate_run<uint32_t>(src, dst, n);
    case DType::int32:
      return saturate_run<int32_t>(src, dst, n);
    case DType::uint64:
      return saturate_run<uint64_t>(src, dst, n);
    case DType::int64:
      return saturate_run<int64_t>(src, dst, n);
    case DType::float32:
      return cast_run<double, float>(src, dst, n);
    case DType::float64:
      __builtin_memcpy(dst, src, static_cast<size_t>(n) * sizeof(double));
      return;
    default:
      break;
  }
  for (int64_t i = 0; i < n; ++i) odd[i] = double_to_odd_float(src[i]);
  if (dtype == DType::float16)
    float_run_to_float16(odd, static_cast<uint16_t*>(dst), n);
  else
    float_run_to_bfloat16(odd, static_cast<uint16_t*>(dst), n);
}

// To integers and booleans.
PYDL_NOINLINE void store_whole(const int64_t* src, DType dtype, void* dst, int64_t n) {
  switch (dtype) {
    case DType::boolean:
      for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(dst)[i] = src[i] != 0;
      return;
    case DType::uint8:
    case DType::int8:
      return cast_run<int64_t, uint8_t>(src, dst, n);
    case DType::uint16:
    case DType::int16:
      return cast_run<int64_t, uint16_t>(src, dst, n);
    case DType::uint32:
    case DType::int32:
      return cast_run<int64_t, uint32_t>(src, dst, n);
    default:
      __builtin_memcpy(dst, src, static_cast<size_t>(n) * sizeof(int64_t));
      return;
  }
}

// T is int64_t, or uint64_t for what load_integer took from uint64. n <= kConvertBlock.
template <class T>
PYDL_NOINLINE void store_integer(const int64_t* src, DType dtype, void* dst, int64_t n) {
  if (!is_float(dtype)) return store_whole(src, dtype, dst, n);
  if (dtype == DType::float32) return cast_run<T, float>(src, dst, n);
  if (dtype == DType::float64) return cast_run<T, double>(src, dst, n);
  double real[kConvertBlock];
  cast_run<T, double>(src, real, n);
  store_real(real, dtype, dst, n);
}

template <class T>
PYDL_NOINLINE void truth_run(const void* src, void* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) static_cast<uint8_t*>(dst)[i] = static_cast<const T*>(src)[i] != T(0);
}

// Any pair of types, any n; src and dst do not overlap.
PYDL_NOINLINE void convert_run(DType src_dtype, const void* src, DType dst_dtype, void* dst, int64_t n) {
  const size_t src_size = item_size(src_dtype), dst_size = item_size(dst_dtype);
  const bool same_bits =
      !is_float(src_dtype) && !is_float(dst_dtype) && src_size == dst_size && dst_dtype != DType::boolean;
  if (src_dtype == dst_dtype || same_bits) {
    __builtin_memcpy(dst, src, static_cast<size_t>(n) * dst_size);
    return;
  }
  if (dst_dtype == DType::boolean && !is_float(src_dtype)) {
    switch (src_size) {
      case 1:
        return truth_run<uint8_t>(src, dst, n);
      case 2:
        return truth_run<uint16_t>(src, dst, n);
      case 4:
        return truth_run<uint32_t>(src, dst, n);
      default:
        return truth_run<uint64_t>(src, dst, n);
    }
  }
  if (dst_dtype == DType::float32) {
    switch (src_dtype) {
      case DType::boolean:
      case DType::uint8:
        return cast_run<uint8_t, float>(src, dst, n);
      case DType::int32:
        return cast_run<int32_t, float>(src, dst, n);
      case DType::int64:
        return cast_run<int64_t, float>(src, dst, n);
      case DType::float64:
        return cast_run<double, float>(src, dst, n);
      case DType::float16:
        return float16_run_to_float(static_cast<const uint16_t*>(src), static_cast<float*>(dst), n);
      case DType::bfloat16:
        return bfloat16_run_to_float(static_cast<const uint16_t*>(src), static_cast<float*>(dst), n);
      default:
        break;
    }
  } else if (src_dtype == DType::float32) {
    switch (dst_dtype) {
      case DType::float64:
        return cast_run<float, double>(src, dst, n);
      case DType::float16:
        return float_run_to_float16(static_cast<const float*>(src), static_cast<uint16_t*>(dst), n);
      case DType::bfloat16:
        return float_run_to_bfloat16(static_cast<const float*>(src), static_cast<uint16_t*>(dst), n);
      case DType::int32:
        return truncate_run<float, int32_t>(src, dst, n);
      case DType::int64:
        return truncate_run<float, int64_t>(src, dst, n);
      case DType::boolean:
        return truth_run<float>(src, dst, n);
      default:
        break;
    }
  } else if (src_dtype == DType::float64 && dst_dtype == DType::int64) {
    return truncate_run<double, int64_t>(src, dst, n);
  } else if (src_dtype == DType::float64 && dst_dtype == DType::int32) {
    return truncate_run<double, int32_t>(src, dst, n);
  }
  if (!is_float(dst_dtype) && dst_size < 4 && dst_dtype != DType::boolean && is_float(src_dtype) && src_size > 2)
    return narrow_floats(src_dtype, src, dst_dtype, dst, n);
  const char* s = static_cast<const char*>(src);
  char* d = static_cast<char*>(dst);
  alignas(64) double real[kConvertBlock];
  alignas(64) int64_t whole[kConvertBlock];
  for (int64_t i = 0; i < n; i += kConvertBlock) {
    const int64_t count = n - i < kConvertBlock ? n - i : kConvertBlock;
    if (is_float(src_dtype)) {
      load_real(src_dtype, s, real, count);
      store_real(real, dst_dtype, d, count);
    } else {
      load_integer(src_dtype, s, whole, count);
      if (src_dtype == DType::uint64)
        store_integer<uint64_t>(whole, dst_dtype, d, count);
      else
        store_integer<int64_t>(whole, dst_dtype, d, count);
    }
    s += static_cast<size_t>(count) * src_size;
    d += static_cast<size_t>(count) * dst_size;
  }
}

}  // namespace
}  // namespace pydl
