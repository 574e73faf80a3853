// The functions of elementwise.def that vec_math.h does not have.
#pragma once
#include "backend/cpu/vec_math.h"
#include "backend/formulas/arithmetic.h"

namespace pydl {
namespace {

template <class T>
PYDL_INLINE Vec<T> nextafter(Vec<T> a, Vec<T> b) {
  Vec<T> out;
  for (int i = 0; i < Vec<T>::size; ++i) {
    if constexpr (sizeof(T) == 4)
      out.set_lane(i, __builtin_nextafterf(a.lane(i), b.lane(i)));
    else
      out.set_lane(i, __builtin_nextafter(a.lane(i), b.lane(i)));
  }
  return out;
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
