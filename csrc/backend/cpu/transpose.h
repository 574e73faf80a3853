// The transposing copy of a block of elements of 2, 4 or 8 bytes: squares of 16-byte vectors, turned in registers.
#pragma once
#include "backend/cpu/vec.h"

namespace pydl {
namespace {

// 16-byte vectors, the same on every ISA.
template <class T, size_t bytes = sizeof(T)>
struct Quad;
template <class T>
struct Quad<T, 2> {
  typedef T V __attribute__((vector_size(16)));
  static constexpr int kSize = 8;
  static PYDL_INLINE void transpose(V* r) {
    V a[8], b[8];
    for (int i = 0; i < 8; i += 2) {  // columns of two rows
      a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 2, 10, 3, 11);
      a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {  // of four
      for (int half = 0; half < 2; ++half) {
        const V x = a[i + half], y = a[i + 2 + half];
        b[i + 2 * half] = __builtin_shufflevector(x, y, 0, 1, 8, 9, 2, 3, 10, 11);
        b[i + 2 * half + 1] = __builtin_shufflevector(x, y, 4, 5, 12, 13, 6, 7, 14, 15);
      }
    }
    for (int i = 0; i < 4; ++i) {  // of eight
      r[2 * i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      r[2 * i + 1] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
  }
};
template <class T>
struct Quad<T, 4> {
  typedef T V __attribute__((vector_size(16)));
  static constexpr int kSize = 4;
  static PYDL_INLINE void transpose(V* r) {
    const V a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const V c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
  }
};
template <class T>
struct Quad<T, 8> {
  typedef T V __attribute__((vector_size(16)));
  static constexpr int kSize = 2;
  static PYDL_INLINE void transpose(V* r) {
    const V a = __builtin_shufflevector(r[0], r[1], 0, 2), b = __builtin_shufflevector(r[0], r[1], 1, 3);
    r[0] = a;
    r[1] = b;
  }
};

// dst[p * dst_row + j] = src[j * src_row + p] for j < rows, p < cols. Unless it is 0, rows of src are asked for `ahead`
// rows before they are read, and as many behind the last.
template <class T>
void transpose_copy(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst, int64_t dst_row, int64_t ahead) {
  using Q = Quad<T>;
  constexpr int kSize = Q::kSize;
  constexpr int kRows = 2 * kSize;  // two squares side by side: longer runs of dst
  int64_t j = 0;
  for (; j + kRows <= rows; j += kRows) {
    const T* s = src + j * src_row;
    T* d = dst + j;
    for (int64_t i = ahead; ahead != 0 && i < ahead + kRows; ++i) {
      for (int64_t line = 0; line < cols; line += 64 / static_cast<int64_t>(sizeof(T)))
        __builtin_prefetch(s + i * src_row + line);
    }
    int64_t p = 0;
    for (; p + kSize <= cols; p += kSize) {
      for (int half = 0; half < kRows; half += kSize) {
        typename Q::V r[kSize];
        for (int i = 0; i < kSize; ++i) __builtin_memcpy(&r[i], s + (half + i) * src_row + p, sizeof(r[i]));
        Q::transpose(r);
        for (int i = 0; i < kSize; ++i) __builtin_memcpy(d + half + (p + i) * dst_row, &r[i], sizeof(r[i]));
      }
    }
    for (; p < cols; ++p) {
      for (int i = 0; i < kRows; ++i) d[p * dst_row + i] = s[i * src_row + p];
    }
  }
  for (; j < rows; ++j) {
    for (int64_t p = 0; p < cols; ++p) dst[p * dst_row + j] = src[j * src_row + p];
  }
}

}  // namespace
}  // namespace pydl
