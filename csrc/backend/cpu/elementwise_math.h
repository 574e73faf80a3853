// The functions of elementwise.def that vec_math.h does not have: compositions, and what integers need instead.
#pragma once
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class V>
PYDL_INLINE V square(V x) {
  return x * x;
}

template <class V>
PYDL_INLINE V logaddexp(V a, V b) {
  const V top = max(a, b);
  const V rest = log1p(exp(-abs(a - b)));
  return select(a == b, a + 0.6931471805599453, top + rest);  // equal infinities: no inf - inf
}

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
// Python's: the sign is the divisor's.
template <class T>
PYDL_INLINE Vec<T> remainder(Vec<T> a, Vec<T> b) {
  const Vec<T> r = fmod(a, b);
  const Vec<T> shifted = select((r < 0.0) ^ (b < 0.0), r + b, r);
  return select(r == 0.0, copysign(r, b), shifted);
}
template <class T>
PYDL_INLINE Vec<T> floor_divide(Vec<T> a, Vec<T> b) {
  const Vec<T> r = fmod(a, b);
  Vec<T> q = (a - r) / b;
  q = select((r != 0.0) & ((r < 0.0) ^ (b < 0.0)), q - 1.0, q);
  Vec<T> whole = floor(q);
  whole = select(q - whole > 0.5, whole + 1.0, whole);
  return select(b == 0.0, a / b, whole);
}

// Integers. Division by zero gives 0: the caller has refused it where it can be seen; nothing may trap.
template <class T>
PYDL_INLINE bool divides_safely(T a, T b) {
  if (b == 0) return false;
  if constexpr (std::is_signed<T>::value) return b != -1 || a != static_cast<T>(T{1} << (sizeof(T) * 8 - 1));
  return true;
}
template <class T>
PYDL_INLINE Scalar<T> fmod(Scalar<T> a, Scalar<T> b) {
  return divides_safely(a.raw, b.raw) ? Scalar<T>(a.raw % b.raw) : Scalar<T>(0);
}
template <class T>
PYDL_INLINE Scalar<T> remainder(Scalar<T> a, Scalar<T> b) {
  const Scalar<T> r = fmod(a, b);
  return r.raw != 0 && (r.raw < 0) != (b.raw < 0) ? r + b : r;
}
template <class T>
PYDL_INLINE Scalar<T> floor_divide(Scalar<T> a, Scalar<T> b) {
  if (b.raw == 0) return Scalar<T>(0);
  if (!divides_safely(a.raw, b.raw)) return a;
  const T q = static_cast<T>(a.raw / b.raw);
  return Scalar<T>(q) - Scalar<T>(a.raw % b.raw != 0 && (a.raw < 0) != (b.raw < 0) ? 1 : 0);
}
template <class T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
PYDL_INLINE Scalar<T> pow(Scalar<T> a, Scalar<T> b) {
  if (b.raw < 0) return a.raw == 1 ? a : a.raw == static_cast<T>(-1) ? (b.raw & 1 ? a : Scalar<T>(1)) : Scalar<T>(0);
  Scalar<T> out(1);
  for (T e = b.raw; e != 0; e = static_cast<T>(e >> 1)) {
    if (e & 1) out *= a;
    a *= a;
  }
  return out;
}
template <class T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
PYDL_INLINE Scalar<T> sign(Scalar<T> a) {
  return Scalar<T>((a.raw > 0) - (a.raw < 0));
}
template <class T>
PYDL_INLINE Scalar<T> shift_left(Scalar<T> a, Scalar<T> b) {
  const bool fits = b.raw >= 0 && static_cast<uint64_t>(b.raw) < sizeof(T) * 8;
  return fits ? a << static_cast<int>(b.raw) : Scalar<T>(0);
}
template <class T>
PYDL_INLINE Scalar<T> shift_right(Scalar<T> a, Scalar<T> b) {
  const bool fits = b.raw >= 0 && static_cast<uint64_t>(b.raw) < sizeof(T) * 8;
  return a >> (fits ? static_cast<int>(b.raw) : static_cast<int>(sizeof(T) * 8 - 1));
}

}  // namespace
}  // namespace pydl
