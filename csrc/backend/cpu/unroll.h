// What keeps the arrays of an unrolled loop in registers.
#pragma once
#include <utility>

#include "backend/cpu/vec.h"

namespace pydl {
namespace {

// body(0), ..., body(n - 1) with constants: unrolled by the front end, so that arrays indexed by them become registers.
#define PYDL_LAMBDA __attribute__((always_inline))
template <class F, int... i>
PYDL_INLINE void repeat(std::integer_sequence<int, i...>, F body) {
  (body(std::integral_constant<int, i>{}), ...);
}
template <int n, class F>
PYDL_INLINE void repeat(F body) {
  repeat(std::make_integer_sequence<int, n>{}, body);
}

// n of T that are not set to zeros first: an array of Vec is cleared in memory, even where each is written before it is
// read.
template <class T, int n>
union Unset {
  T at[n];
  PYDL_INLINE Unset() {}
  PYDL_INLINE T& operator[](int i) { return at[i]; }
  PYDL_INLINE const T& operator[](int i) const { return at[i]; }
};

}  // namespace
}  // namespace pydl
