// Blocks turned in registers: squares of 16 bytes a row, as many beside each other as a vector has lanes of 16 bytes,
// so that nothing crosses lanes but what the loads put there. Only copy.cpp includes this; the others reach it by
// transpose_copy().
#pragma once
#include "backend/cpu/stream.h"
#include "backend/cpu/transpose.h"
#include "backend/cpu/unroll.h"

namespace pydl {
namespace {

template <class Half, int... i>
PYDL_INLINE auto joined(Half a, Half b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, i...);
}

// 16 bytes of each of so many rows, in a lane each.
template <class T, int lanes>
PYDL_INLINE auto load_lanes(const T* src, int64_t row) {
  typedef T V __attribute__((vector_size(16 * lanes)));
  if constexpr (lanes == 1) {
    V v;
    __builtin_memcpy(&v, src, sizeof(V));
    return v;
#if defined(__AVX2__)  // GCC joins halves by more instructions
  } else if constexpr (lanes == 2) {
    return (V)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)load_lanes<T, 1>(src, row)),
                                      (__m128i)load_lanes<T, 1>(src + row, row), 1);
#endif
#if defined(__AVX512F__)
  } else if constexpr (lanes == 4) {
    const auto lane = [=](int i) PYDL_LAMBDA { return (__m128i)load_lanes<T, 1>(src + i * row, row); };
    __m512i v = _mm512_castsi128_si512(lane(0));
    v = _mm512_inserti32x4(v, lane(1), 1);
    v = _mm512_inserti32x4(v, lane(2), 2);
    return (V)_mm512_inserti32x4(v, lane(3), 3);
#endif
  } else {
    using Elements = std::make_integer_sequence<int, lanes* static_cast<int>(16 / sizeof(T))>;
    return joined(load_lanes<T, lanes / 2>(src, row), load_lanes<T, lanes / 2>(src + lanes / 2 * row, row), Elements());
  }
}

// Squares of kSide elements, `lanes` of them below each other.
template <class T, int lanes>
struct Squares {
  using V = decltype(load_lanes<T, lanes>(nullptr, 0));
  static constexpr int kSide = static_cast<int>(16 / sizeof(T)), kRows = lanes * kSide;
  Unset<V, kSide> row;

  PYDL_INLINE Squares(const T* src, int64_t src_row) {
    repeat<kSide>([&](auto i) PYDL_LAMBDA { row[i] = load_lanes<T, lanes>(src + i * src_row, kSide * src_row); });
    transpose<kSide>();
  }

 private:
  // Each round joins rows half a square apart, element by element: after log2(kSide) of them rows are columns.
  template <int rounds>
  PYDL_INLINE void transpose() {
    if constexpr (rounds > 1) {
      Unset<V, kSide> next;
      repeat<kSide / 2>([&](auto i) PYDL_LAMBDA {
        using Elements = std::make_integer_sequence<int, kRows>;
        next[2 * i] = zip<0>(row[i], row[i + kSide / 2], Elements());
        next[2 * i + 1] = zip<kSide / 2>(row[i], row[i + kSide / 2], Elements());
      });
      row = next;
      transpose<rounds / 2>();
    }
  }
  // In each lane, elements `first`, first + 1, ... of a and of b in turn.
  template <int first, int... e>
  static PYDL_INLINE V zip(V a, V b, std::integer_sequence<int, e...>) {
    return __builtin_shufflevector(a, b, (e / kSide * kSide + first + e % kSide / 2 + e % 2 * kRows)...);
  }
};

// As many rows and columns as fill Squares; the first column that is left.
template <class T, int lanes, bool past_cache = false>
PYDL_INLINE int64_t turn_squares(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst, int64_t dst_row) {
  using S = Squares<T, lanes>;
  int64_t p = 0;
  for (; p + S::kSide <= cols; p += S::kSide) {
    for (int64_t j = 0; j + S::kRows <= rows; j += S::kRows) {
      const S squares(src + j * src_row + p, src_row);
      repeat<S::kSide>([&](auto i) PYDL_LAMBDA {
        T* to = dst + (p + i) * dst_row + j;
        if constexpr (past_cache)
          put_past_cache(squares.row[i], to);
        else
          __builtin_memcpy(to, &squares.row[i], sizeof(typename S::V));
      });
    }
  }
  return p;
}

// transpose_copy, a line of the destination at a time.
template <class T>
void transpose_blocks(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst, int64_t dst_row, int64_t ahead,
                      bool past_cache) {
  constexpr int kLanes = kVectorBytes / 16, kRows = Squares<T, kLanes>::kRows, kSide = Squares<T, 1>::kSide;
  for (int64_t j = 0; j < rows; j += kLine<T>, src += kLine<T> * src_row, dst += kLine<T>) {
    const int64_t height = rows - j < kLine<T> ? rows - j : kLine<T>;
    for (int64_t i = 0; ahead != 0 && i < height; ++i)
      for (int64_t p = 0; p < cols; p += kLine<T>) __builtin_prefetch(src + i * src_row + p + ahead);
    const int64_t wide = height / kRows * kRows, whole = height / kSide * kSide;
    int64_t p = past_cache ? turn_squares<T, kLanes, true>(wide, cols, src, src_row, dst, dst_row)
                           : turn_squares<T, kLanes>(wide, cols, src, src_row, dst, dst_row);
    turn_squares<T, 1>(whole - wide, cols, src + wide * src_row, src_row, dst + wide, dst_row);
    for (; p < cols; ++p)
      for (int64_t i = 0; i < whole; ++i) dst[p * dst_row + i] = src[i * src_row + p];
    const auto few = [&](auto count, int64_t first) PYDL_LAMBDA {
      const T* from = src + first * src_row;
      T* to = dst + first;
      for (int64_t i = 0; i < cols; ++i, ++from, to += dst_row)
        repeat<count>([&](auto r) PYDL_LAMBDA { to[r] = from[r * src_row]; });
    };
    int64_t i = whole;
    for (; i + 3 <= height; i += 3) few(std::integral_constant<int, 3>(), i);
    for (; i < height; ++i) few(std::integral_constant<int, 1>(), i);
  }
}

}  // namespace
}  // namespace pydl
