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
template <class T>
PYDL_INLINE Vec<T> fmod(Vec<T> a, Vec<T> b) {
  Vec<T> out;
  for (int i = 0; i < Vec<T>::size; ++i) out.set_lane(i, static_cast<T>(__builtin_fmod(a.lane(i), b.lane(i))));
  return out;
}

}  // namespace
}  // namespace pydl
