// Vectors whose lanes are taken apart, even from odd, and put together again.
#pragma once
#include "backend/cpu/vec.h"

namespace pydl {
namespace {

// The lanes of [a, b] at 2 i + odd, and back.
template <class T, int... i>
PYDL_INLINE Vec<T> every_other(Vec<T> a, Vec<T> b, int odd, std::integer_sequence<int, i...>) {
  return odd ? Vec<T>(__builtin_shufflevector(a.raw, b.raw, (2 * i + 1)...))
             : Vec<T>(__builtin_shufflevector(a.raw, b.raw, (2 * i)...));
}
template <int first, class T, int... i>
PYDL_INLINE Vec<T> in_turns(Vec<T> a, Vec<T> b, std::integer_sequence<int, i...>) {
  return Vec<T>(__builtin_shufflevector(a.raw, b.raw, ((first + i) / 2 + (first + i) % 2 * Vec<T>::size)...));
}

}  // namespace
}  // namespace pydl
