// Products of few rows of A with columns of B, both contiguous along k: vectors run along k, and B is read in place,
// once. Only gemm.cpp includes this; the other families reach it by multiply_block().
#pragma once
#include "backend/cpu/gemm_kernel.h"

namespace pydl {
namespace {

template <class T, int kRows, int kCols>
__attribute__((noinline)) void dot_tile(const BlockSpec<T>& s, const T* a, const T* b, T* dst, const T* bias) {
  using V = Vec<T>;
  constexpr int kSums = kRows * kCols, kTwos = kSums & -kSums, kTogether = kTwos < V::size ? kTwos : V::size;
  const int64_t a_row = s.a_row, b_col = s.b_panel;
  Unset<V, kSums> sum;
  repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] = V(); });
  each_vector<T>(s.k, [&](int64_t p, int lanes) PYDL_LAMBDA {
    Unset<V, kRows> av;
    repeat<kRows>([&](auto i) PYDL_LAMBDA { av[i] = load_some<V>(a + i * a_row + p, lanes); });
    repeat<kCols>([&](auto j) PYDL_LAMBDA {
      const V bv = load_some<V>(b + j * b_col + p, lanes);
      repeat<kRows>([&](auto i) PYDL_LAMBDA { sum[i * kCols + j] = fma(av[i], bv, sum[i * kCols + j]); });
    });
  });
  T sums[kSums + V::size];
  repeat<kSums / kTogether>([&](auto i) PYDL_LAMBDA {
    V::template reduce_each<kTogether>(sum.at + i * kTogether, [](V x, V y) {
      return x + y;
    }).store(sums + i * kTogether);
  });
  if (s.alpha == T(1) && s.beta == T(0) && bias == nullptr) {
    for (int i = 0; i < kRows; ++i) __builtin_memcpy(dst + i * s.dst_row, sums + i * kCols, kCols * sizeof(T));
  } else {
    finish_rows(s, sums, kCols, kRows, kCols, dst, bias);
  }
}

template <class T, int kRows>
void dot_row_block(const BlockSpec<T>& s, int64_t cols, const T* a, const T* b, T* dst, const T* bias) {
  constexpr int kCols = kRows == 1 ? 8 : kRows == 4 && !kHighTiles<T> ? 2 : 4;  // so many sums fit the registers
  int64_t j = 0;
  for (; j + kCols <= cols; j += kCols) {
    dot_tile<T, kRows, kCols>(s, a, b + j * s.b_panel, dst + j, bias == nullptr ? nullptr : bias + j);
  }
  for (; j < cols; ++j) {
    dot_tile<T, kRows, 1>(s, a, b + j * s.b_panel, dst + j, bias == nullptr ? nullptr : bias + j);
  }
}

// dst (rows, cols) = alpha * a @ b + beta * dst + bias; B's columns lie s.b_panel apart. A few columns at a
// time stay near while all rows meet them, four at most together.
template <class T>
void multiply_dots(const BlockSpec<T>& s, int64_t rows, int64_t cols, const T* a, const T* b, T* dst, const T* bias) {
  constexpr int64_t kGroup = 16, kMost = 4;
  const int64_t step = rows <= kMost ? cols : kGroup, blocks = ceil_div(rows, kMost);
  for (int64_t j = 0; j < cols; j += step, b += step * s.b_panel) {
    const int64_t width = cols - j < step ? cols - j : step;
    const T* bias_j = bias == nullptr ? nullptr : bias + j;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t i = rows * block / blocks, height = rows * (block + 1) / blocks - i;
      const auto multiply = height == 1   ? dot_row_block<T, 1>
                            : height == 2 ? dot_row_block<T, 2>
                            : height == 3 ? dot_row_block<T, 3>
                                          : dot_row_block<T, 4>;
      multiply(s, width, a + i * s.a_row, b, dst + i * s.dst_row + j, bias_j);
    }
  }
}

}  // namespace
}  // namespace pydl
