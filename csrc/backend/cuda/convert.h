// One element from any type to any other, with the rules of cpu/convert.h: rounding to nearest even, once, whatever the
// pair; floating to integer truncates, saturates, and makes NaN 0; integer to integer wraps; to boolean is "not zero".
#pragma once
#include "backend/cuda/launch.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace pydl {
namespace {

// The 16-bit types as they lie in memory; arithmetic is done in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
struct Boolean {
  uint8_t value;
};

__device__ inline float to_float(BFloat16 h) { return __uint_as_float(static_cast<uint32_t>(h.bits) << 16); }
__device__ inline float to_float(float x) { return x; }
#if defined(__CUDACC__)
__device__ inline float to_float(Half h) { return __half2float(__ushort_as_half(h.bits)); }
#else
inline float to_float(Half h) {
  const uint32_t sign = (h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  const uint32_t finite = __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f);
  return __uint_as_float(sign | (magnitude < 0x7c00u ? finite : 0x7f800000u | magnitude << 13));
}
#endif

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline BFloat16 from_float<BFloat16>(float x) {
  const uint32_t bits = __float_as_uint(x);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>(x != x ? bits >> 16 | 0x40u : rounded)};
}
template <>
__device__ inline Half from_float<Half>(float x) {
#if defined(__CUDACC__)
  return {__half_as_ushort(__float2half_rn(x))};
#else
  const uint32_t bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t tiny = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f);
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return {static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? huge : magnitude < 0x38800000u ? tiny : normal))};
#endif
}

// Rounded to odd: an inexact result has its last bit set, so that rounding it again to 16 bits rounds right.
__device__ inline float to_odd_float(double x) {
  const float nearest = static_cast<float>(x);
  const double back = nearest;
  if (back == x || x != x) return nearest;
  uint32_t bits = __float_as_uint(nearest);
  if (::fabs(back) > ::fabs(x)) --bits;
  return __uint_as_float(bits | 1u);
}

template <class T>
__device__ inline T saturate(double x) {
  constexpr bool is_signed = T(-1) < T(0);
  constexpr int bits = static_cast<int>(sizeof(T)) * 8 - (is_signed ? 1 : 0);
  constexpr double limit = 2.0 * static_cast<double>(uint64_t{1} << (bits - 1));  // one past the largest
  constexpr T largest = static_cast<T>(~uint64_t{0} >> (64 - bits));
  constexpr T smallest = is_signed ? static_cast<T>(-largest - 1) : T(0);
  if (x >= limit) return largest;
  if (x <= (is_signed ? -limit : 0.0)) return smallest;
  return x == x ? static_cast<T>(x) : T(0);
}

// What everything passes through: float64, int64, or int64 that has the bits of a uint64.
struct Wide {
  enum Kind { real, whole, natural } kind;
  double f;
  int64_t i;
};

__device__ inline Wide load_wide(DType dtype, const void* src, int64_t i) {
  const auto at = [=](auto zero) { return static_cast<const decltype(zero)*>(src)[i]; };
  switch (dtype) {
    case DType::float64:
      return {Wide::real, at(double{}), 0};
    case DType::float32:
      return {Wide::real, at(float{}), 0};
    case DType::float16:
      return {Wide::real, to_float(at(Half{})), 0};
    case DType::bfloat16:
      return {Wide::real, to_float(at(BFloat16{})), 0};
    case DType::int8:
      return {Wide::whole, 0, at(int8_t{})};
    case DType::uint16:
      return {Wide::whole, 0, at(uint16_t{})};
    case DType::int16:
      return {Wide::whole, 0, at(int16_t{})};
    case DType::uint32:
      return {Wide::whole, 0, at(uint32_t{})};
    case DType::int32:
      return {Wide::whole, 0, at(int32_t{})};
    case DType::uint64:
      return {Wide::natural, 0, at(int64_t{})};
    case DType::int64:
      return {Wide::whole, 0, at(int64_t{})};
    default:
      return {Wide::whole, 0, at(uint8_t{})};
  }
}

__device__ inline double real_of(Wide w) {
  return w.kind == Wide::real      ? w.f
         : w.kind == Wide::natural ? static_cast<double>(static_cast<uint64_t>(w.i))
                                   : static_cast<double>(w.i);
}
template <class T>
__device__ inline T narrow(Wide w) {
  if constexpr (std::is_same<T, Boolean>::value)
    return {static_cast<uint8_t>(w.kind == Wide::real ? w.f != 0 : w.i != 0)};
  else if constexpr (std::is_same<T, double>::value)
    return real_of(w);
  else if constexpr (std::is_same<T, float>::value)
    return w.kind == Wide::real      ? static_cast<float>(w.f)
           : w.kind == Wide::natural ? static_cast<float>(static_cast<uint64_t>(w.i))
                                     : static_cast<float>(w.i);
  else if constexpr (std::is_same<T, Half>::value || std::is_same<T, BFloat16>::value)
    return from_float<T>(to_odd_float(real_of(w)));
  else
    return w.kind == Wide::real ? saturate<T>(w.f) : static_cast<T>(w.i);
}

// f(T{}) with the type of one element of dtype.
template <class F>
void dispatch_any(DType dtype, F&& f) {
  switch (dtype) {
    case DType::boolean:
      return f(Boolean{});
    case DType::float16:
      return f(Half{});
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    default:
      return dispatch_integer(dtype, f);
  }
}

}  // namespace
}  // namespace pydl
