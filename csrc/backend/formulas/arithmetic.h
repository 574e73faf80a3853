// Functions of elementwise.def that are made of others, written once for every backend: over V = Vec<T> or Scalar<T> of
// cpu/vec.h, or Scalar<T> of cuda/scalar.h. Include the header of V first: it defines PYDL_INLINE.
#pragma once
#include <cstdint>
#include <type_traits>

namespace pydl {
namespace {

template <class V>
using IfFloatingLanes = std::enable_if_t<std::is_floating_point<typename V::Lane>::value, int>;
template <class V>
using IfIntegerLanes = std::enable_if_t<std::is_integral<typename V::Lane>::value, int>;

template <class V, class = typename V::Lane>
PYDL_INLINE V square(V x) {
  return x * x;
}

template <class V, IfFloatingLanes<V> = 0>
PYDL_INLINE V logaddexp(V a, V b) {
  const V top = max(a, b);
  const V rest = log1p(exp(-abs(a - b)));
  return select(a == b, a + 0.6931471805599453, top + rest);  // equal infinities: no inf - inf
}

// Python's: the sign is the divisor's.
template <class V, IfFloatingLanes<V> = 0>
PYDL_INLINE V remainder(V a, V b) {
  const V r = fmod(a, b);
  const V shifted = select((r < 0.0) ^ (b < 0.0), r + b, r);
  return select(r == 0.0, copysign(r, b), shifted);
}
template <class V, IfFloatingLanes<V> = 0>
PYDL_INLINE V floor_divide(V a, V b) {
  const V r = fmod(a, b);
  V q = (a - r) / b;
  q = select((r != 0.0) & ((r < 0.0) ^ (b < 0.0)), q - 1.0, q);
  V whole = floor(q);
  whole = select(q - whole > 0.5, whole + 1.0, whole);
  return select(b == 0.0, a / b, whole);
}

template <class T>
PYDL_INLINE bool below_zero(T a) {
  if constexpr (std::is_signed<T>::value)
    return a < 0;
  else
    return (void)a, false;
}

// Integers, one lane. Division by zero gives 0: the caller has refused it where it can be seen; nothing may trap.
template <class T>
PYDL_INLINE bool divides_safely(T a, T b) {
  if (b == 0) return false;
  if constexpr (std::is_signed<T>::value) return b != -1 || a != static_cast<T>(T{1} << (sizeof(T) * 8 - 1));
  return true;
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V fmod(V a, V b) {
  return divides_safely(a.raw, b.raw) ? V(a.raw % b.raw) : V(0);
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V remainder(V a, V b) {
  const V r = fmod(a, b);
  return r.raw != 0 && below_zero(r.raw) != below_zero(b.raw) ? r + b : r;
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V floor_divide(V a, V b) {
  using T = typename V::Lane;
  if (b.raw == 0) return V(0);
  if (!divides_safely(a.raw, b.raw)) return a;
  const T q = static_cast<T>(a.raw / b.raw);
  return V(q) - V(a.raw % b.raw != 0 && below_zero(a.raw) != below_zero(b.raw) ? 1 : 0);
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V pow(V a, V b) {
  using T = typename V::Lane;
  if (below_zero(b.raw)) return a.raw == 1 ? a : a.raw == static_cast<T>(-1) ? (b.raw & 1 ? a : V(1)) : V(0);
  V out(1);
  for (T e = b.raw; e != 0; e = static_cast<T>(e >> 1)) {
    if (e & 1) out *= a;
    a *= a;
  }
  return out;
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V sign(V a) {
  return V((a.raw > 0) - below_zero(a.raw));
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V shift_left(V a, V b) {
  const bool fits = !below_zero(b.raw) && static_cast<uint64_t>(b.raw) < sizeof(a.raw) * 8;
  return fits ? a << static_cast<int>(b.raw) : V(0);
}
template <class V, IfIntegerLanes<V> = 0>
PYDL_INLINE V shift_right(V a, V b) {
  const bool fits = !below_zero(b.raw) && static_cast<uint64_t>(b.raw) < sizeof(a.raw) * 8;
  return a >> (fits ? static_cast<int>(b.raw) : static_cast<int>(sizeof(a.raw) * 8 - 1));
}

}  // namespace
}  // namespace pydl
