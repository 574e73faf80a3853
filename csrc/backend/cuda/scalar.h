// Scalar<T>: one value of T, float, double or an integer type, with the interface that the formulas of elementwise.def,
// losses.def and formulas/ are written against; the device's counterpart of cpu/vec.h and cpu/vec_math.h, with the same
// rules for NaN, signed zeros and integers that wrap around. The elementary functions are CUDA's: one or two ULP.
#pragma once
#include <cstdint>
#include <type_traits>

#include "backend/cuda/launch.h"

#define PYDL_INLINE __device__ __forceinline__

namespace pydl {
namespace {

template <class U>
using IfArithmetic = std::enable_if_t<std::is_arithmetic<U>::value, int>;
template <class T>
using IfFloating = std::enable_if_t<std::is_floating_point<T>::value, int>;

template <class T>
struct Scalar;

template <class T>
struct ScalarMask {
  bool raw;
  PYDL_INLINE ScalarMask(bool b = false) : raw(b) {}
  friend PYDL_INLINE ScalarMask operator&(ScalarMask a, ScalarMask b) { return a.raw && b.raw; }
  friend PYDL_INLINE ScalarMask operator|(ScalarMask a, ScalarMask b) { return a.raw || b.raw; }
  friend PYDL_INLINE ScalarMask operator^(ScalarMask a, ScalarMask b) { return a.raw != b.raw; }
  friend PYDL_INLINE ScalarMask operator!(ScalarMask a) { return !a.raw; }
  friend PYDL_INLINE bool any(ScalarMask m) { return m.raw; }
  friend PYDL_INLINE bool all(ScalarMask m) { return m.raw; }
  friend PYDL_INLINE Scalar<T> select(ScalarMask m, Scalar<T> a, Scalar<T> b) { return m.raw ? a : b; }
};

template <class T>
struct Scalar {
  using Lane = T;
  using MaskType = ScalarMask<T>;
  static constexpr bool kFloat = std::is_floating_point<T>::value;
  // Unsigned and at least as wide as int, so that nothing overflows on the way.
  using Wrap = std::conditional_t<kFloat, T, std::conditional_t<sizeof(T) <= 4, uint32_t, uint64_t>>;
  T raw;

  PYDL_INLINE Scalar() : raw{} {}
  template <class U, IfArithmetic<U> = 0>
  PYDL_INLINE Scalar(U u) : raw(static_cast<T>(u)) {}

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
  friend PYDL_INLINE Scalar operator-(Scalar a) {
    if constexpr (kFloat)
      return -a.raw;
    else
      return Wrap{0} - static_cast<Wrap>(a.raw);
  }
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

  friend PYDL_INLINE ScalarMask<T> isnan(Scalar a) {
    if constexpr (kFloat)
      return a.raw != a.raw;
    else
      return false;
  }
  friend PYDL_INLINE Scalar max_or_b(Scalar a, Scalar b) { return a.raw > b.raw ? a : b; }
  friend PYDL_INLINE Scalar min_or_b(Scalar a, Scalar b) { return a.raw < b.raw ? a : b; }
  friend PYDL_INLINE Scalar max(Scalar a, Scalar b) { return isnan(a).raw || a.raw > b.raw ? a : b; }
  friend PYDL_INLINE Scalar min(Scalar a, Scalar b) { return isnan(a).raw || a.raw < b.raw ? a : b; }
  friend PYDL_INLINE Scalar abs(Scalar a) {
    if constexpr (kFloat)
      return ::fabs(a.raw);
    else if constexpr (std::is_signed<T>::value)
      return a.raw < 0 ? -a : a;
    else
      return a;
  }
  friend PYDL_INLINE Scalar copysign(Scalar magnitude, Scalar sign) {
    if constexpr (kFloat)
      return ::copysign(magnitude.raw, sign.raw);
    else
      return sign.raw < 0 ? -abs(magnitude) : abs(magnitude);
  }
  friend PYDL_INLINE Scalar fma(Scalar a, Scalar b, Scalar c) {
    if constexpr (kFloat)
      return ::fma(a.raw, b.raw, c.raw);
    else
      return a * b + c;
  }
  friend PYDL_INLINE Scalar sqrt(Scalar a) {
    if constexpr (kFloat)
      return ::sqrt(a.raw);
    else
      return ::sqrt(static_cast<double>(a.raw));
  }
// Integers are whole already.
#define PYDL_ROUNDING(f, device)          \
  friend PYDL_INLINE Scalar f(Scalar a) { \
    if constexpr (kFloat)                 \
      return ::device(a.raw);             \
    else                                  \
      return a;                           \
  }
  PYDL_ROUNDING(floor, floor)
  PYDL_ROUNDING(ceil, ceil)
  PYDL_ROUNDING(trunc, trunc)
  PYDL_ROUNDING(round, rint)  // half to even
#undef PYDL_ROUNDING
};

#define PYDL_SCALAR(f)                   \
  template <class T, IfFloating<T> = 0>  \
  PYDL_INLINE Scalar<T> f(Scalar<T> x) { \
    return ::f(x.raw);                   \
  }
PYDL_SCALAR(exp)
PYDL_SCALAR(exp2)
PYDL_SCALAR(expm1)
PYDL_SCALAR(log)
PYDL_SCALAR(log2)
PYDL_SCALAR(log10)
PYDL_SCALAR(log1p)
PYDL_SCALAR(tanh)
PYDL_SCALAR(sinh)
PYDL_SCALAR(cosh)
PYDL_SCALAR(asinh)
PYDL_SCALAR(acosh)
PYDL_SCALAR(atanh)
PYDL_SCALAR(erf)
PYDL_SCALAR(erfc)
PYDL_SCALAR(sin)
PYDL_SCALAR(cos)
PYDL_SCALAR(tan)
PYDL_SCALAR(asin)
PYDL_SCALAR(acos)
PYDL_SCALAR(atan)
#undef PYDL_SCALAR

#define PYDL_SCALAR(f)                                \
  template <class T, IfFloating<T> = 0>               \
  PYDL_INLINE Scalar<T> f(Scalar<T> x, Scalar<T> y) { \
    return ::f(x.raw, y.raw);                         \
  }
PYDL_SCALAR(atan2)
PYDL_SCALAR(pow)
PYDL_SCALAR(hypot)
PYDL_SCALAR(fmod)
PYDL_SCALAR(nextafter)
#undef PYDL_SCALAR

// Winitzki's start (2008), then Halley's steps; erfc near the ends, where 1 - |x| is exact.
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> erfinv(Scalar<T> x) {
  const double a = ::fabs(static_cast<double>(x.raw)), log = ::log1p(-a * a), b = 4.3307467508 + 0.5 * log;
  double y = ::sqrt(::sqrt(b * b - log / 0.147) - b);
  for (int i = 0; i < 3; ++i) {
    const double error = a > 0.5 ? 1.0 - a - ::erfc(y) : ::erf(y) - a, u = error * ::exp(y * y) * 0.88622692545275801;
    y -= u / (1.0 + y * u);
  }
  return static_cast<T>(::copysign(a == 1.0 ? __builtin_huge_val() : y, static_cast<double>(x.raw)));
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> rsqrt(Scalar<T> x) {
  return T(1) / ::sqrt(x.raw);
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> sign(Scalar<T> x) {
  return x.raw > 0 ? Scalar<T>(1) : x.raw < 0 ? Scalar<T>(-1) : x;
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> sigmoid(Scalar<T> x) {
  const T e = ::exp(-::fabs(x.raw));
  return (x.raw < 0 ? e : T(1)) / (e + 1);
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> softplus(Scalar<T> x) {
  return max(x, Scalar<T>(0)) + Scalar<T>(::log1p(::exp(-::fabs(x.raw))));
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> log_sigmoid(Scalar<T> x) {
  return -softplus(-x);
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> gelu(Scalar<T> x) {
  return T(0.5) * x.raw * ::erfc(x.raw * T(-0.70710678118654752440));
}
// x to one power in all elements: by products and roots where that is faster.
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> pow_uniform(Scalar<T> x, Scalar<T> p) {
  const T power = p.raw;
  const auto root = [&] {  // of -0 it is 0, and of -inf inf, as IEEE 754 wants of pow
    return x.raw == -__builtin_huge_val() ? static_cast<T>(__builtin_huge_val()) : ::sqrt(x.raw + T(0));
  };
  if (power == T(0)) return T(1);
  if (power == T(1)) return x;
  if (power == T(2)) return x * x;
  if (power == T(3)) return x * x * x;
  if (power == T(4)) return (x * x) * (x * x);
  if (power == T(0.5)) return root();
  if (power == T(-0.5)) return T(1) / root();
  if (power == T(-1)) return T(1) / x.raw;
  if (power == T(-2)) return (T(1) / x.raw) * (T(1) / x.raw);
  return pow(x, p);
}

}  // namespace
}  // namespace pydl

#include "backend/formulas/arithmetic.h"
#include "backend/formulas/gamma.h"

namespace pydl {
namespace {

template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> lgamma(Scalar<T> x) {
  return static_cast<T>(log_gamma_of(Scalar<double>(x.raw)).raw);
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> digamma(Scalar<T> x) {
  return static_cast<T>(digamma_of(Scalar<double>(x.raw)).raw);
}
template <class T, IfFloating<T> = 0>
PYDL_INLINE Scalar<T> polygamma(Scalar<T> x, Scalar<T> order) {
  return static_cast<T>(polygamma_of(Scalar<double>(x.raw), static_cast<int>(order.raw)).raw);
}

}  // namespace
}  // namespace pydl
