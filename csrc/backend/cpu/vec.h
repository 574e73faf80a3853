// Vec<T>: one SIMD register of lanes T, as wide as the ISA level this file is compiled for; Mask<T>: one truth value
// per lane; Scalar<T>: the same interface with one lane, for integers and strided tails. Arithmetic is the compilers'
// vector extension, intrinsics stand only where it has no equivalent. No mathematical functions beyond sqrt and
// rounding: those are in vec_math.h.
//
// A formula is written once, as a template over V = Vec<T> or Scalar<T>: `select(x > 0.0, x, 0.0 * x)`. Literals
// broadcast.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define PYDL_INLINE inline __attribute__((always_inline))
#define PYDL_NOINLINE inline __attribute__((noinline))

namespace pydl {
namespace {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define PYDL_VEC_AVX512 1
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
#define PYDL_VEC_AVX2 1
constexpr int kVectorBytes = 32;
#elif defined(__SSE4_2__)
#define PYDL_VEC_SSE 1
constexpr int kVectorBytes = 16;
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define PYDL_VEC_NEON 1
constexpr int kVectorBytes = 16;
#else
#error "vec.h needs SSE4.2, AVX2, AVX-512 or AArch64 NEON"
#endif

template <class T>
constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));  // elements of a line of a cache

#if defined(PYDL_VEC_AVX512) || defined(__FMA__) || defined(PYDL_VEC_NEON)
constexpr bool kHasFma = true;  // fma rounds once
#else
constexpr bool kHasFma = false;  // fma(a, b, c) is a * b + c
#endif

template <int bytes>
struct SignedOfSize;
template <>
struct SignedOfSize<1> {
  using Type = int8_t;
};
template <>
struct SignedOfSize<2> {
  using Type = int16_t;
};
template <>
struct SignedOfSize<4> {
  using Type = int32_t;
};
template <>
struct SignedOfSize<8> {
  using Type = int64_t;
};
// The signed integer as wide as T: lanes of masks and bit patterns.
template <class T>
using LaneInt = typename SignedOfSize<sizeof(T)>::Type;

template <class T>
using Register __attribute__((vector_size(kVectorBytes))) = T;

template <class U>
using IfArithmetic = std::enable_if_t<std::is_arithmetic<U>::value, int>;

// Native<T>: what the vector extension cannot say, for T = float and double. max and min give b where a or b is NaN.
template <class T>
struct Native;

#if defined(PYDL_VEC_AVX512)
// The maskz forms, because GCC 12 warns of an uninitialized operand inside the plain ones.
#define PYDL_NATIVE(T, M, s)                                                        \
  template <>                                                                       \
  struct Native<T> {                                                                \
    using R = M;                                                                    \
    static PYDL_INLINE R fma(R a, R b, R c) { return _mm512_fmadd_##s(a, b, c); }   \
    static PYDL_INLINE R sqrt(R a) { return _mm512_maskz_sqrt_##s(kAll, a); }       \
    static PYDL_INLINE R max(R a, R b) { return _mm512_maskz_max_##s(kAll, a, b); } \
    static PYDL_INLINE R min(R a, R b) { return _mm512_maskz_min_##s(kAll, a, b); } \
    template <int mode>                                                             \
    static PYDL_INLINE R round(R a) {                                               \
      return _mm512_maskz_roundscale_##s(kAll, a, mode);                            \
    }                                                                               \
    static PYDL_INLINE R load(const T* p, int n) {                                  \
      return _mm512_maskz_loadu_##s(static_cast<Bits>((1u << n) - 1), p);           \
    }                                                                               \
    static PYDL_INLINE void store(T* p, R a, int n) {                               \
      _mm512_mask_storeu_##s(p, static_cast<Bits>((1u << n) - 1), a);               \
    }                                                                               \
                                                                                    \
   private:                                                                         \
    using Bits = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;           \
    static constexpr Bits kAll = static_cast<Bits>(-1);                             \
  };
PYDL_NATIVE(float, __m512, ps)
PYDL_NATIVE(double, __m512d, pd)
#undef PYDL_NATIVE

#elif defined(PYDL_VEC_AVX2)
#if defined(__FMA__)
#define PYDL_FMA(a, b, c, s) _mm256_fmadd_##s(a, b, c)
#else
#define PYDL_FMA(a, b, c, s) a* b + c
#endif
#define PYDL_NATIVE(T, M, s, set, lane, cast)                                                                 \
  template <>                                                                                                 \
  struct Native<T> {                                                                                          \
    using R = M;                                                                                              \
    static PYDL_INLINE R fma(R a, R b, R c) { return PYDL_FMA(a, b, c, s); }                                  \
    static PYDL_INLINE R sqrt(R a) { return _mm256_sqrt_##s(a); }                                             \
    static PYDL_INLINE R max(R a, R b) { return _mm256_max_##s(a, b); }                                       \
    static PYDL_INLINE R min(R a, R b) { return _mm256_min_##s(a, b); }                                       \
    template <int mode>                                                                                       \
    static PYDL_INLINE R round(R a) {                                                                         \
      return _mm256_round_##s(a, mode);                                                                       \
    }                                                                                                         \
    static PYDL_INLINE R load(const T* p, int n) { return _mm256_maskload_##s(p, first(n)); }                 \
    static PYDL_INLINE void store(T* p, R a, int n) { _mm256_maskstore_##s(p, first(n), a); }                 \
                                                                                                              \
   private:                                                                                                   \
    static PYDL_INLINE __m256i first(int n) { return _mm256_cmpgt_epi##lane(_mm256_set1_epi##cast(n), set); } \
  };
PYDL_NATIVE(float, __m256, ps, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), 32, 32)
PYDL_NATIVE(double, __m256d, pd, _mm256_setr_epi64x(0, 1, 2, 3), 64, 64x)
#undef PYDL_NATIVE
#undef PYDL_FMA

#else  // 128 bits: no masked loads, so the part goes through a small array

template <class R, class T>
PYDL_INLINE R load_first(const T* p, int n) {
  T lanes[sizeof(R) / sizeof(T)] = {};
  for (int i = 0; i < n; ++i) __builtin_memcpy(lanes + i, p + i, sizeof(T));
  R r;
  __builtin_memcpy(&r, lanes, sizeof r);
  return r;
}
template <class R, class T>
PYDL_INLINE void store_first(T* p, R a, int n) {
  T lanes[sizeof(R) / sizeof(T)];
  __builtin_memcpy(lanes, &a, sizeof a);
  for (int i = 0; i < n; ++i) __builtin_memcpy(p + i, lanes + i, sizeof(T));
}

#if defined(PYDL_VEC_SSE)
#if defined(__FMA__)
#define PYDL_FMA(a, b, c, s) _mm_fmadd_##s(a, b, c)
#else
#define PYDL_FMA(a, b, c, s) a* b + c
#endif
#define PYDL_NATIVE(T, M, s)                                                     \
  template <>                                                                    \
  struct Native<T> {                                                             \
    using R = Register<T>;                                                       \
    static PYDL_INLINE R fma(R a, R b, R c) { return PYDL_FMA(a, b, c, s); }     \
    static PYDL_INLINE R sqrt(R a) { return _mm_sqrt_##s(a); }                   \
    static PYDL_INLINE R max(R a, R b) { return _mm_max_##s(a, b); }             \
    static PYDL_INLINE R min(R a, R b) { return _mm_min_##s(a, b); }             \
    template <int mode>                                                          \
    static PYDL_INLINE R round(R a) {                                            \
      return _mm_round_##s(a, mode);                                             \
    }                                                                            \
    static PYDL_INLINE R load(const T* p, int n) { return load_first<R>(p, n); } \
    static PYDL_INLINE void store(T* p, R a, int n) { store_first(p, a, n); }    \
  };
PYDL_NATIVE(float, __m128, ps)
PYDL_NATIVE(double, __m128d, pd)
#undef PYDL_NATIVE
#undef PYDL_FMA
#else  // NEON
#define PYDL_NATIVE(T, s)                                                                                      \
  template <>                                                                                                  \
  struct Native<T> {                                                                                           \
    using R = Register<T>;                                                                                     \
    static PYDL_INLINE R fma(R a, R b, R c) { return vfmaq_##s(c, a, b); }                                     \
    static PYDL_INLINE R sqrt(R a) { return vsqrtq_##s(a); }                                                   \
    static PYDL_INLINE R max(R a, R b) { return a > b ? a : b; }                                               \
    static PYDL_INLINE R min(R a, R b) { return a < b ? a : b; }                                               \
    template <int mode>                                                                                        \
    static PYDL_INLINE R round(R a) {                                                                          \
      return mode == 0 ? vrndnq_##s(a) : mode == 1 ? vrndmq_##s(a) : mode == 2 ? vrndpq_##s(a) : vrndq_##s(a); \
    }                                                                                                          \
    static PYDL_INLINE R load(const T* p, int n) { return load_first<R>(p, n); }                               \
    static PYDL_INLINE void store(T* p, R a, int n) { store_first(p, a, n); }                                  \
  };
PYDL_NATIVE(float, f32)
PYDL_NATIVE(double, f64)
#undef PYDL_NATIVE
#endif
#endif

// The rounding modes of Native::round, in x86's numbering with "raise no inexact" set.
#if defined(PYDL_VEC_NEON)
constexpr int kNearest = 0, kDown = 1, kUp = 2, kToZero = 3;
#else
constexpr int kNearest = 8, kDown = 9, kUp = 10, kToZero = 11;
#endif

template <class T>
struct Vec;

// One truth value per lane of Vec<T>, all bits of a lane set or none. Masks of lanes of one width convert into each
// other.
template <class T>
struct Mask {
  using Raw = Register<LaneInt<T>>;
  static constexpr int size = kVectorBytes / static_cast<int>(sizeof(T));
  Raw raw;

  PYDL_INLINE Mask() : raw{} {}
  PYDL_INLINE explicit Mask(Raw r) : raw(r) {}
  PYDL_INLINE Mask(bool b) : raw(Vec<LaneInt<T>>(-LaneInt<T>{b}).raw) {}
  template <class U, std::enable_if_t<sizeof(U) == sizeof(T) && !std::is_same<U, T>::value, int> = 0>
  PYDL_INLINE Mask(Mask<U> m) : raw((Raw)m.raw) {}

  friend PYDL_INLINE Mask operator&(Mask a, Mask b) { return Mask(a.raw & b.raw); }
  friend PYDL_INLINE Mask operator|(Mask a, Mask b) { return Mask(a.raw | b.raw); }
  friend PYDL_INLINE Mask operator^(Mask a, Mask b) { return Mask(a.raw ^ b.raw); }
  friend PYDL_INLINE Mask operator!(Mask a) { return Mask(~a.raw); }

  PYDL_INLINE bool lane(int i) const { return raw[i] != 0; }
  // Bit i is lane i.
  PYDL_INLINE unsigned bits() const {
#if defined(PYDL_VEC_AVX512)
    if constexpr (sizeof(T) == 4) return _mm512_movepi32_mask((__m512i)raw);
    if constexpr (sizeof(T) == 8) return _mm512_movepi64_mask((__m512i)raw);
#elif defined(PYDL_VEC_AVX2)
    if constexpr (sizeof(T) == 4) return static_cast<unsigned>(_mm256_movemask_ps((__m256)raw));
    if constexpr (sizeof(T) == 8) return static_cast<unsigned>(_mm256_movemask_pd((__m256d)raw));
#elif defined(PYDL_VEC_SSE)
    if constexpr (sizeof(T) == 4) return static_cast<unsigned>(_mm_movemask_ps((__m128)raw));
    if constexpr (sizeof(T) == 8) return static_cast<unsigned>(_mm_movemask_pd((__m128d)raw));
#else
    unsigned m = 0;
    for (int i = 0; i < size; ++i) m |= (raw[i] != 0 ? 1u : 0u) << i;
    return m;
#endif
  }
  PYDL_INLINE bool any() const {
#if defined(PYDL_VEC_NEON)
    return vmaxvq_u32((uint32x4_t)raw) != 0;
#else
    return bits() != 0;
#endif
  }
  PYDL_INLINE bool all() const { return !(!*this).any(); }
  friend PYDL_INLINE bool any(Mask m) { return m.any(); }
  friend PYDL_INLINE bool all(Mask m) { return m.all(); }
  // a where the mask holds, b elsewhere.
  friend PYDL_INLINE Vec<T> select(Mask m, Vec<T> a, Vec<T> b) { return Vec<T>(m.raw ? a.raw : b.raw); }
};

template <class T>
struct Vec {
  using Lane = T;
  using Raw = Register<T>;
  using MaskType = Mask<T>;
  static constexpr int size = kVectorBytes / static_cast<int>(sizeof(T));
  Raw raw;

  PYDL_INLINE Vec() : raw{} {}
  PYDL_INLINE explicit Vec(Raw r) : raw(r) {}
  template <class U, IfArithmetic<U> = 0>
  PYDL_INLINE Vec(U u) : raw(static_cast<T>(u) - Raw{}) {}  // minus, so that -0.0 stays

  static PYDL_INLINE Vec load(const T* p) {
    Vec v;
    __builtin_memcpy(&v.raw, p, sizeof v.raw);
    return v;
  }
  PYDL_INLINE void store(T* p) const { __builtin_memcpy(p, &raw, sizeof raw); }
  // 0 <= n <= size; lanes from n on are zero and their memory is not touched. Lanes of 4 and 8 bytes.
  static PYDL_INLINE Vec load_partial(const T* p, int n) {
    return Vec((Raw)Native<Float>::load(reinterpret_cast<const Float*>(p), n));
  }
  PYDL_INLINE void store_partial(T* p, int n) const {
    Native<Float>::store(reinterpret_cast<Float*>(p), (Register<Float>)raw, n);
  }
  static PYDL_INLINE Vec iota() { return iota(std::make_integer_sequence<int, size>()); }  // 0, 1, 2, ...

  PYDL_INLINE T lane(int i) const { return raw[i]; }
  PYDL_INLINE void set_lane(int i, T value) { raw[i] = value; }

  // Integers wrap around.
  friend PYDL_INLINE Vec operator+(Vec a, Vec b) { return Vec((Raw)((Wrap)a.raw + (Wrap)b.raw)); }
  friend PYDL_INLINE Vec operator-(Vec a, Vec b) { return Vec((Raw)((Wrap)a.raw - (Wrap)b.raw)); }
  friend PYDL_INLINE Vec operator*(Vec a, Vec b) { return Vec((Raw)((Wrap)a.raw * (Wrap)b.raw)); }
  friend PYDL_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.raw / b.raw); }
  friend PYDL_INLINE Vec operator-(Vec a) { return Vec(-a.raw); }
  PYDL_INLINE Vec& operator+=(Vec b) { return *this = *this + b; }
  PYDL_INLINE Vec& operator-=(Vec b) { return *this = *this - b; }
  PYDL_INLINE Vec& operator*=(Vec b) { return *this = *this * b; }
  PYDL_INLINE Vec& operator/=(Vec b) { return *this = *this / b; }

  friend PYDL_INLINE Mask<T> operator<(Vec a, Vec b) { return mask(a.raw < b.raw); }
  friend PYDL_INLINE Mask<T> operator<=(Vec a, Vec b) { return mask(a.raw <= b.raw); }
  friend PYDL_INLINE Mask<T> operator>(Vec a, Vec b) { return mask(a.raw > b.raw); }
  friend PYDL_INLINE Mask<T> operator>=(Vec a, Vec b) { return mask(a.raw >= b.raw); }
  friend PYDL_INLINE Mask<T> operator==(Vec a, Vec b) { return mask(a.raw == b.raw); }
  friend PYDL_INLINE Mask<T> operator!=(Vec a, Vec b) { return mask(a.raw != b.raw); }

  // Bits: integer lanes only. >> keeps the sign of signed lanes.
  friend PYDL_INLINE Vec operator&(Vec a, Vec b) { return Vec(a.raw & b.raw); }
  friend PYDL_INLINE Vec operator|(Vec a, Vec b) { return Vec(a.raw | b.raw); }
  friend PYDL_INLINE Vec operator^(Vec a, Vec b) { return Vec(a.raw ^ b.raw); }
  friend PYDL_INLINE Vec operator~(Vec a) { return Vec(~a.raw); }
  friend PYDL_INLINE Vec operator<<(Vec a, int count) { return Vec(a.raw << count); }
  friend PYDL_INLINE Vec operator>>(Vec a, int count) { return Vec(a.raw >> count); }

  // a * b + c, rounded once where kHasFma.
  friend PYDL_INLINE Vec fma(Vec a, Vec b, Vec c) {
    if constexpr (std::is_floating_point<T>::value)
      return Vec((Raw)Native<T>::fma(a.raw, b.raw, c.raw));
    else
      return a * b + c;
  }
  friend PYDL_INLINE Vec sqrt(Vec a) { return Vec((Raw)Native<T>::sqrt(a.raw)); }
  friend PYDL_INLINE Vec floor(Vec a) { return Vec((Raw)Native<T>::template round<kDown>(a.raw)); }
  friend PYDL_INLINE Vec ceil(Vec a) { return Vec((Raw)Native<T>::template round<kUp>(a.raw)); }
  friend PYDL_INLINE Vec trunc(Vec a) { return Vec((Raw)Native<T>::template round<kToZero>(a.raw)); }
  friend PYDL_INLINE Vec round(Vec a) { return Vec((Raw)Native<T>::template round<kNearest>(a.raw)); }  // half to even

  // One instruction each: b where a or b is NaN, so min_or_b(limit, x) clamps x and keeps its NaN.
  friend PYDL_INLINE Vec max_or_b(Vec a, Vec b) {
    if constexpr (std::is_floating_point<T>::value)
      return Vec((Raw)Native<T>::max(a.raw, b.raw));
    else
      return select(a > b, a, b);
  }
  friend PYDL_INLINE Vec min_or_b(Vec a, Vec b) {
    if constexpr (std::is_floating_point<T>::value)
      return Vec((Raw)Native<T>::min(a.raw, b.raw));
    else
      return select(a < b, a, b);
  }
  // NaN where a or b is NaN.
  friend PYDL_INLINE Vec max(Vec a, Vec b) {
#if defined(PYDL_VEC_NEON)
    if constexpr (sizeof(T) == 4 && std::is_floating_point<T>::value) return Vec((Raw)vmaxq_f32(a.raw, b.raw));
    if constexpr (sizeof(T) == 8 && std::is_floating_point<T>::value) return Vec((Raw)vmaxq_f64(a.raw, b.raw));
#endif
    return select(isnan(a), a, max_or_b(a, b));
  }
  friend PYDL_INLINE Vec min(Vec a, Vec b) {
#if defined(PYDL_VEC_NEON)
    if constexpr (sizeof(T) == 4 && std::is_floating_point<T>::value) return Vec((Raw)vminq_f32(a.raw, b.raw));
    if constexpr (sizeof(T) == 8 && std::is_floating_point<T>::value) return Vec((Raw)vminq_f64(a.raw, b.raw));
#endif
    return select(isnan(a), a, min_or_b(a, b));
  }
  friend PYDL_INLINE Mask<T> isnan(Vec a) {
    if constexpr (std::is_floating_point<T>::value)
      return a != a;
    else
      return false;
  }
  friend PYDL_INLINE Vec abs(Vec a) {
    if constexpr (std::is_floating_point<T>::value)
      return Vec((Raw)((IntRaw)a.raw & ~sign_bit()));
    else
      return select(a < 0, -a, a);
  }
  friend PYDL_INLINE Vec copysign(Vec magnitude, Vec sign) {
    return Vec((Raw)(((IntRaw)magnitude.raw & ~sign_bit()) | ((IntRaw)sign.raw & sign_bit())));
  }

  // All lanes, by halves: the order is fixed, but depends on the width.
  template <class F>
  PYDL_INLINE T reduce(F combine) const {
    return fold<size / 2>(combine);
  }
  friend PYDL_INLINE T reduce_add(Vec a) {
    return a.reduce([](Vec x, Vec y) { return x + y; });
  }
  friend PYDL_INLINE T reduce_max(Vec a) {
    return a.reduce([](Vec x, Vec y) { return max(x, y); });
  }
  friend PYDL_INLINE T reduce_min(Vec a) {
    return a.reduce([](Vec x, Vec y) { return min(x, y); });
  }
  // reduce() of each of `count` Vecs, a power of two up to size: lane i, and those count further on, is v[i]'s.
  template <int count, class F>
  static PYDL_INLINE Vec reduce_each(const Vec* v, F combine) {
    return reduce_each<count>(v, combine, std::make_integer_sequence<int, size>());
  }

 private:
  // Of two vectors whose values lie in groups of 2 * half lanes, the lower and (+ half) upper halves of all groups side
  // by side: the lane of [x, y] that comes to lane i. Each index pattern is one shuffle on x86.
  static constexpr int half_of_pair(int half, int i) {
    if (half == 1 && sizeof(T) == 4) return i / 4 * 4 + i % 2 * 2 + (i % 4 < 2 ? 0 : size);
    const int at = i % (2 * half);
    return i - at + at % half + (at < half ? 0 : size);
  }
  // Whose sum (or part of it) is in lane i after `count` vectors were joined.
  static constexpr int whose(int count, int i) {
    if (count == 1) return 0;
    const int from = half_of_pair(size / count, i);
    return from < size ? whose(count / 2, from) : count / 2 + whose(count / 2, from - size);
  }
  static constexpr int lane_of(int count, int which) {
    int i = 0;
    while (whose(count, i) != which % count) ++i;
    return i;
  }
  template <int half, class F, int... i>
  static PYDL_INLINE Vec join(Vec x, Vec y, F combine, std::integer_sequence<int, i...>) {
    return combine(Vec(__builtin_shufflevector(x.raw, y.raw, half_of_pair(half, i)...)),
                   Vec(__builtin_shufflevector(x.raw, y.raw, (half_of_pair(half, i) + half)...)));
  }
  template <int count, class R, class F>
  static PYDL_INLINE Vec joined(const R* v, F combine) {
    if constexpr (count == 1)
      return Vec(v[0]);
    else
      return join<size / count>(joined<count / 2>(v, combine), joined<count / 2>(v + count / 2, combine), combine,
                                std::make_integer_sequence<int, size>());
  }
  template <int half, class F, int... i>
  static PYDL_INLINE Vec fold_halves(Vec v, F combine, std::integer_sequence<int, i...> lanes) {
    if constexpr (half == 0)
      return v;
    else
      return fold_halves<half / 2>(combine(v, Vec(__builtin_shufflevector(v.raw, v.raw, (i ^ half)...))), combine,
                                   lanes);
  }
  template <int count, class F, int... i>
  static PYDL_INLINE Vec reduce_each(const Vec* v, F combine, std::integer_sequence<int, i...> lanes) {
    const Vec all = fold_halves<size / count / 2>(joined<count>(v, combine), combine, lanes);
    return Vec(__builtin_shufflevector(all.raw, all.raw, lane_of(count, i)...));
  }

  // What moves some lanes of this width.
  using Float = std::conditional_t<sizeof(T) == 4, float, double>;
  template <class U, class = void>
  struct WrapOf {
    using Type = std::make_unsigned_t<U>;
  };
  template <class U>
  struct WrapOf<U, std::enable_if_t<std::is_floating_point<U>::value>> {
    using Type = U;
  };
  using Wrap = Register<typename WrapOf<T>::Type>;
  using IntRaw = Register<LaneInt<T>>;
  static PYDL_INLINE Mask<T> mask(IntRaw r) { return Mask<T>(r); }
  static PYDL_INLINE IntRaw sign_bit() { return ~IntRaw{} << static_cast<int>(sizeof(T) * 8 - 1); }
  template <int... i>
  static PYDL_INLINE Vec iota(std::integer_sequence<int, i...>) {
    return Vec(Raw{static_cast<T>(i)...});
  }
  template <int shift, int... i>
  PYDL_INLINE Vec rotate(std::integer_sequence<int, i...>) const {
    return Vec(__builtin_shufflevector(raw, raw, ((i + shift) % size)...));
  }
  template <int half, class F>
  PYDL_INLINE T fold(F combine) const {
    Vec sum = combine(*this, rotate<half>(std::make_integer_sequence<int, size>()));
    if constexpr (half == 1)
      return sum.raw[0];
    else
      return sum.template fold<half / 2>(combine);
  }
};

// The same bits, read as lanes To (of the same width).
template <class To, class From>
PYDL_INLINE Vec<To> reinterpret(Vec<From> v) {
  static_assert(sizeof(To) == sizeof(From), "lanes of one width");
  return Vec<To>((Register<To>)v.raw);
}
// The same values; to integers truncates, and the value must fit. int64 <-> double is slow below AVX-512.
template <class To, class From>
PYDL_INLINE Vec<To> convert(Vec<From> v) {
  static_assert(sizeof(To) == sizeof(From), "lanes of one width");
  return Vec<To>(__builtin_convertvector(v.raw, Register<To>));
}

// Lane i of the result is lane which[i] of x, or of [x, y]: where there is an instruction for it.
#if defined(PYDL_VEC_AVX512)
template <class T>
constexpr bool kPicksLanes = true;
PYDL_INLINE Vec<float> pick_lanes(Vec<float> x, Vec<int32_t> which) {
  return Vec<float>((Vec<float>::Raw)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)which.raw, x.raw));
}
PYDL_INLINE Vec<float> pick_lanes(Vec<float> x, Vec<float> y, Vec<int32_t> which) {
  return Vec<float>((Vec<float>::Raw)_mm512_permutex2var_ps(x.raw, (__m512i)which.raw, y.raw));
}
PYDL_INLINE Vec<double> pick_lanes(Vec<double> x, Vec<int64_t> which) {
  return Vec<double>((Vec<double>::Raw)_mm512_maskz_permutexvar_pd(0xff, (__m512i)which.raw, x.raw));
}
PYDL_INLINE Vec<double> pick_lanes(Vec<double> x, Vec<double> y, Vec<int64_t> which) {
  return Vec<double>((Vec<double>::Raw)_mm512_permutex2var_pd(x.raw, (__m512i)which.raw, y.raw));
}
#elif defined(PYDL_VEC_AVX2)
template <class T>
constexpr bool kPicksLanes = sizeof(T) == 4;
PYDL_INLINE Vec<float> pick_lanes(Vec<float> x, Vec<int32_t> which) {
  return Vec<float>((Vec<float>::Raw)_mm256_permutevar8x32_ps(x.raw, (__m256i)which.raw));
}
PYDL_INLINE Vec<float> pick_lanes(Vec<float> x, Vec<float> y, Vec<int32_t> which) {
  const __m256 of_y = _mm256_castsi256_ps(_mm256_slli_epi32((__m256i)which.raw, 28));  // bit 3 as the sign
  const __m256 low = _mm256_permutevar8x32_ps(x.raw, (__m256i)which.raw);
  return Vec<float>((Vec<float>::Raw)_mm256_blendv_ps(low, _mm256_permutevar8x32_ps(y.raw, (__m256i)which.raw), of_y));
}
#else
template <class T>
constexpr bool kPicksLanes = false;
#endif

template <class T>
using HalfRegister __attribute__((vector_size(kVectorBytes / 2))) = T;

template <int first, int... i>
PYDL_INLINE Vec<double> widen(Vec<float> v, std::integer_sequence<int, i...>) {
  HalfRegister<float> half = __builtin_shufflevector(v.raw, v.raw, (first + i)...);
  return Vec<double>(__builtin_convertvector(half, Register<double>));
}
// The lower and the upper half of the lanes as double, and back (rounded).
PYDL_INLINE Vec<double> widen_low(Vec<float> v) {
  return widen<0>(v, std::make_integer_sequence<int, Vec<double>::size>());
}
PYDL_INLINE Vec<double> widen_high(Vec<float> v) {
  return widen<Vec<double>::size>(v, std::make_integer_sequence<int, Vec<double>::size>());
}
template <int... i>
PYDL_INLINE Vec<float> join(HalfRegister<float> low, HalfRegister<float> high, std::integer_sequence<int, i...>) {
  return Vec<float>(__builtin_shufflevector(low, high, i...));
}
PYDL_INLINE Vec<float> narrow(Vec<double> low, Vec<double> high) {
  return join(__builtin_convertvector(low.raw, HalfRegister<float>),
              __builtin_convertvector(high.raw, HalfRegister<float>),
              std::make_integer_sequence<int, Vec<float>::size>());
}

template <class T>
struct Scalar;

template <class T>
struct ScalarMask {
  static constexpr int size = 1;
  bool raw;

  PYDL_INLINE ScalarMask(bool b = false) : raw(b) {}
  friend PYDL_INLINE ScalarMask operator&(ScalarMask a, ScalarMask b) { return a.raw && b.raw; }
  friend PYDL_INLINE ScalarMask operator|(ScalarMask a, ScalarMask b) { return a.raw || b.raw; }
  friend PYDL_INLINE ScalarMask operator^(ScalarMask a, ScalarMask b) { return a.raw != b.raw; }
  friend PYDL_INLINE ScalarMask operator!(ScalarMask a) { return !a.raw; }
  PYDL_INLINE bool lane(int) const { return raw; }
  PYDL_INLINE unsigned bits() const { return raw; }
  PYDL_INLINE bool any() const { return raw; }
  PYDL_INLINE bool all() const { return raw; }
  friend PYDL_INLINE bool any(ScalarMask m) { return m.raw; }
  friend PYDL_INLINE bool all(ScalarMask m) { return m.raw; }
  friend PYDL_INLINE Scalar<T> select(ScalarMask m, Scalar<T> a, Scalar<T> b) { return m.raw ? a : b; }
};

// One T with Vec's interface. Integers wrap around; their division is C's, so the divisor must not be 0.
template <class T>
struct Scalar {
  using Lane = T;
  using Raw = T;
  using MaskType = ScalarMask<T>;
  static constexpr int size = 1;
  T raw;

  PYDL_INLINE Scalar() : raw{} {}
  template <class U, IfArithmetic<U> = 0>
  PYDL_INLINE Scalar(U u) : raw(static_cast<T>(u)) {}

  static PYDL_INLINE Scalar load(const T* p) { return *p; }
  PYDL_INLINE void store(T* p) const { *p = raw; }
  static PYDL_INLINE Scalar load_partial(const T* p, int n) { return n > 0 ? Scalar(*p) : Scalar(); }
  PYDL_INLINE void store_partial(T* p, int n) const {
    if (n > 0) *p = raw;
  }
  static PYDL_INLINE Scalar iota() { return Scalar(); }
  PYDL_INLINE T lane(int) const { return raw; }
  PYDL_INLINE void set_lane(int, T value) { raw = value; }

  friend PYDL_INLINE Scalar operator+(Scalar a, Scalar b) {
    return static_cast<Wrap>(a.raw) + static_cast<Wrap>(b.raw);
  }
  friend PYDL_INLINE Scalar operator-(Scalar a, Scalar b) {
    return static_cast<Wrap>(a.raw) - static_cast<Wrap>(b.raw);
  }
  friend PYDL_INLINE Scalar operator*(Scalar a, Scalar b) {
    return static_cast<Wrap>(a.raw) * static_cast<Wrap>(b.raw);
  }
  friend PYDL_INLINE Scalar operator/(Scalar a, Scalar b) { return a.raw / b.raw; }
  friend PYDL_INLINE Scalar operator-(Scalar a) { return -static_cast<Wrap>(a.raw); }
  PYDL_INLINE Scalar& operator+=(Scalar b) { return *this = *this + b; }
  PYDL_INLINE Scalar& operator-=(Scalar b) { return *this = *this - b; }
  PYDL_INLINE Scalar& operator*=(Scalar b) { return *this = *this * b; }
  PYDL_INLINE Scalar& operator/=(Scalar b) { return *this = *this / b; }

  friend PYDL_INLINE ScalarMask<T> operator<(Scalar a, Scalar b) { return a.raw < b.raw; }
  friend PYDL_INLINE ScalarMask<T> operator<=(Scalar a, Scalar b) { return a.raw <= b.raw; }
  friend PYDL_INLINE ScalarMask<T> operator>(Scalar a, Scalar b) { return a.raw > b.raw; }
  friend PYDL_INLINE ScalarMask<T> operator>=(Scalar a, Scalar b) { return a.raw >= b.raw; }
  friend PYDL_INLINE ScalarMask<T> operator==(Scalar a, Scalar b) { return a.raw == b.raw; }
  friend PYDL_INLINE ScalarMask<T> operator!=(Scalar a, Scalar b) { return a.raw != b.raw; }

  friend PYDL_INLINE Scalar operator&(Scalar a, Scalar b) { return a.raw & b.raw; }
  friend PYDL_INLINE Scalar operator|(Scalar a, Scalar b) { return a.raw | b.raw; }
  friend PYDL_INLINE Scalar operator^(Scalar a, Scalar b) { return a.raw ^ b.raw; }
  friend PYDL_INLINE Scalar operator~(Scalar a) { return ~a.raw; }
  friend PYDL_INLINE Scalar operator<<(Scalar a, int count) { return static_cast<Wrap>(a.raw) << count; }
  friend PYDL_INLINE Scalar operator>>(Scalar a, int count) { return a.raw >> count; }

  friend PYDL_INLINE Scalar fma(Scalar a, Scalar b, Scalar c) {
    if constexpr (!kFloat || !kHasFma)
      return a * b + c;
    else if constexpr (sizeof(T) == 4)
      return __builtin_fmaf(a.raw, b.raw, c.raw);
    else
      return __builtin_fma(a.raw, b.raw, c.raw);
  }
  friend PYDL_INLINE Scalar sqrt(Scalar a) {
    if constexpr (sizeof(T) == 4 && kFloat)
      return __builtin_sqrtf(a.raw);
    else
      return __builtin_sqrt(static_cast<double>(a.raw));
  }
  // Through double, which is exact for float; integers are whole already.
  friend PYDL_INLINE Scalar floor(Scalar a) {
    if constexpr (kFloat)
      return __builtin_floor(a.raw);
    else
      return a;
  }
  friend PYDL_INLINE Scalar ceil(Scalar a) {
    if constexpr (kFloat)
      return __builtin_ceil(a.raw);
    else
      return a;
  }
  friend PYDL_INLINE Scalar trunc(Scalar a) {
    if constexpr (kFloat)
      return __builtin_trunc(a.raw);
    else
      return a;
  }
  friend PYDL_INLINE Scalar round(Scalar a) {  // half to even
    if constexpr (kFloat)
      return __builtin_nearbyint(a.raw);
    else
      return a;
  }
  friend PYDL_INLINE Scalar max_or_b(Scalar a, Scalar b) { return a.raw > b.raw ? a : b; }
  friend PYDL_INLINE Scalar min_or_b(Scalar a, Scalar b) { return a.raw < b.raw ? a : b; }
  friend PYDL_INLINE Scalar max(Scalar a, Scalar b) { return isnan(a).raw || a.raw > b.raw ? a : b; }
  friend PYDL_INLINE Scalar min(Scalar a, Scalar b) { return isnan(a).raw || a.raw < b.raw ? a : b; }
  friend PYDL_INLINE ScalarMask<T> isnan(Scalar a) {
    if constexpr (kFloat)
      return a.raw != a.raw;
    else
      return false;
  }
  friend PYDL_INLINE Scalar abs(Scalar a) {
    if constexpr (kFloat)
      return __builtin_fabs(a.raw);
    else if constexpr (std::is_signed<T>::value)
      return a.raw < 0 ? -a : a;
    else
      return a;
  }
  friend PYDL_INLINE Scalar copysign(Scalar magnitude, Scalar sign) {
    if constexpr (kFloat)
      return __builtin_copysign(magnitude.raw, sign.raw);
    else
      return sign.raw < 0 ? -abs(magnitude) : abs(magnitude);
  }
  friend PYDL_INLINE T reduce_add(Scalar a) { return a.raw; }
  friend PYDL_INLINE T reduce_max(Scalar a) { return a.raw; }
  friend PYDL_INLINE T reduce_min(Scalar a) { return a.raw; }

 private:
  static constexpr bool kFloat = std::is_floating_point<T>::value;
  // Unsigned and at least as wide as int, so that nothing overflows on the way.
  using Wrap = std::conditional_t<kFloat, T, std::conditional_t<sizeof(T) <= 4, uint32_t, uint64_t>>;
};

}  // namespace
}  // namespace pydl
