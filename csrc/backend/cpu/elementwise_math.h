// The functions of elementwise.def that vec_math.h does not have.
#pragma once
#include "backend/cpu/vec_math.h"
#include "backend/formulas/arithmetic.h"
#include "backend/formulas/gamma.h"

namespace pydl {
namespace {

// The gamma function's family: large, so called; float by its double twin. p: the order of the derivative.
// lgamma: 0.51 / 8.0 ULP where x > 0; digamma: 8 epsilons of |y| or 1; polygamma: a few dozen where x > 0.
PYDL_NOINLINE Vec<double> lgamma(Vec<double> x) { return log_gamma_of(x); }
PYDL_NOINLINE Vec<double> digamma(Vec<double> x) { return digamma_of(x); }
PYDL_NOINLINE Vec<double> polygamma(Vec<double> x, Vec<double> p) {
  return polygamma_of(x, static_cast<int>(p.lane(0)));
}
inline Vec<float> lgamma(Vec<float> x) {
  return by_double([](Vec<double> a) { return lgamma(a); }, x);
}
inline Vec<float> digamma(Vec<float> x) {
  return by_double([](Vec<double> a) { return digamma(a); }, x);
}
inline Vec<float> polygamma(Vec<float> x, Vec<float> p) {
  return by_double([](Vec<double> a, Vec<double> b) { return polygamma(a, b); }, x, p);
}

// One step in the order of the bits, which is that of the magnitudes.
template <class T>
PYDL_INLINE Vec<T> nextafter(Vec<T> a, Vec<T> b) {
  using I = LaneInt<T>;
  const Vec<I> bits = reinterpret<I>(a), one(1);
  const Vec<T> moved = select((a < b) ^ (a > 0.0), reinterpret<T>(bits - one), reinterpret<T>(bits + one));
  const Vec<T> smallest = copysign(reinterpret<T>(one), b);
  return select((a != a) | (b != b), a + b, select(a == b, b, select(a == 0.0, smallest, moved)));
}
// Exact. With few enough bits in the quotient, a - n * b is a multiple of b's last bit and less than b, so that fma
// gives it without rounding; a quotient just below n may have been rounded up to it.
template <class T>
PYDL_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  using V = Vec<T>;
  const V quotient = a / b;
  const double most = sizeof(T) == 4 ? 0x1p23 : 0x1p52;
  if (kHasFma && __builtin_expect(all((abs(quotient) < most) & (abs(b) < infinity<T>())), true)) {
    const V rest = fma(-trunc(quotient), b, a);
    const V raised = rest + copysign(b, a);
    return copysign(select((rest != 0.0) & ((rest < 0.0) ^ (a < 0.0)), raised, rest), a);
  }
  V out;
  for (int i = 0; i < V::size; ++i) {
    if constexpr (sizeof(T) == 4)
      out.set_lane(i, __builtin_fmodf(a.lane(i), b.lane(i)));
    else
      out.set_lane(i, __builtin_fmod(a.lane(i), b.lane(i)));
  }
  return out;
}

}  // namespace
}  // namespace pydl
