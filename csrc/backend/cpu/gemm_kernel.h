// The parts of a matrix product that run on one core: register micro-kernels, packing of panels, and the loops over tiles.
// Not here: the choice of blocks and threads (gemm.cpp) and whatever uses prepacked weights (recurrent*.h).
//
// The scheme is that of Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): a panel of B,
// kTileDepth x kCols, stays in L1 while tiles of A, kRows x kTileDepth, run over it. Every element of the result is one chain of
// fused multiply-adds in the order of k, cut only at multiples of kTileDepth, so its bits do not depend on how rows and columns are
// grouped: heights of tiles are chosen to be even (50 rows are five tiles of 6 and four of 5), and threads may take any part.
#pragma once
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

// A tile is kRows x (2 vectors): as many rows as leave registers for two vectors of B and one element of A.
template <class T>
struct GemmTile {
  static constexpr int kLanes = Vec<T>::size;
  static constexpr int kCols = 2 * kLanes;
#if defined(__AVX512F__)
  static constexpr int kRows = 14;
#elif defined(__AVX2__)
  static constexpr int kRows = 6;
#elif defined(__ARM_NEON)
  static constexpr int kRows = 12;
#else
  static constexpr int kRows = 4;
#endif
  // With few rows a tile takes several panels side by side, to keep enough independent sums in flight.
  static constexpr int wide_vectors(int rows) { return rows == 1 ? 8 : rows == 2 ? 4 : rows == 3 ? 4 : 2; }
};
constexpr int64_t kTileDepth = 256;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// What tiles of one block have in common. Columns of B come in panels of kCols: element (p, j) of panel q is
// b[q * b_panel + p * b_row + j]; b_panel is kCols where B is used in place.
template <class T>
struct BlockSpec {
  int64_t k;
  int64_t a_row, a_col;
  int64_t b_row, b_panel;
  int64_t dst_row;
  T alpha, beta;  // dst = alpha * a @ b + beta * dst + bias; beta == 0 does not read dst
  // The same product for several groups of rows (the steps of a sequence), while a panel of B stays in L1.
  int64_t groups = 1, a_group = 0, dst_group = 0;
};

// The end of a tile with fewer columns than its vectors hold; the same roundings as the vector code.
template <class T>
__attribute__((noinline)) void finish_narrow(const BlockSpec<T>& s, const T* sums, int sums_row, int rows, int cols, T* dst,
                                             const T* bias) {
  for (int i = 0; i < rows; ++i) {
    T* d = dst + i * s.dst_row;
    for (int j = 0; j < cols; ++j) {
      T c = sums[i * sums_row + j];
      if (s.alpha != T(1)) c *= s.alpha;
      if (s.beta == T(1)) {
        c += d[j];
      } else if (s.beta != T(0)) {
        c += s.beta * d[j];
      }
      if (bias != nullptr) c += bias[j];
      d[j] = c;
    }
  }
}

template <class T, int kRows, int kVectors>
__attribute__((noinline)) void multiply_tile(const BlockSpec<T>& s, const T* a, const T* b, T* dst, const T* bias, int cols) {
  using V = Vec<T>;
  constexpr int kLanes = V::size;
  constexpr int kGroups = (kRows + 2) / 3;  // three rows share a base register: x86 addresses base + {0, 1, 2} * row
  V acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[i][v] = V(T(0));
  }
  const T* rows[kGroups];
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) rows[g] = a + 3 * g * s.a_row;
  const int64_t a_row = s.a_row, a_col = s.a_col, b_row = s.b_row, b_panel = s.b_panel;
  if (s.beta != T(0)) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) __builtin_prefetch(dst + i * s.dst_row);
  }
  for (int64_t p = s.k; p > 0; --p) {
    if constexpr (kVectors <= kRows) {
      V bv[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) bv[v] = V::load(b + (v / 2) * b_panel + (v % 2) * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const V av(rows[i / 3][(i % 3) * a_row]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) acc[i][v] = fma(av, bv[v], acc[i][v]);
      }
    } else {
      V av[kRows];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) av[i] = V(rows[i / 3][(i % 3) * a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const V bv = V::load(b + (v / 2) * b_panel + (v % 2) * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) acc[i][v] = fma(av[i], bv, acc[i][v]);
      }
    }
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) rows[g] += a_col;
    b += b_row;
  }
  if (cols < kVectors * kLanes) {
    T sums[kRows * kVectors * kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[i][v].store(sums + (i * kVectors + v) * kLanes);
    }
    finish_narrow(s, sums, kVectors * kLanes, kRows, cols, dst, bias);
    return;
  }
  if (s.alpha != T(1)) {
    const V alpha(s.alpha);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[i][v] = acc[i][v] * alpha;
    }
  }
  if (s.beta == T(1)) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[i][v] = acc[i][v] + V::load(dst + i * s.dst_row + v * kLanes);
    }
  } else if (s.beta != T(0)) {
    const V beta(s.beta);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[i][v] = acc[i][v] + beta * V::load(dst + i * s.dst_row + v * kLanes);
    }
  }
  if (bias != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const V bias_v = V::load(bias + v * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) acc[i][v] = acc[i][v] + bias_v;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[i][v].store(dst + i * s.dst_row + v * kLanes);
  }
}

template <class T>
using TileFunction = void (*)(const BlockSpec<T>&, const T*, const T*, T*, const T*, int);

template <class T, int kVectors, int kRows = GemmTile<T>::kRows>
PYDL_INLINE TileFunction<T> tile_function(int64_t rows) {
  if constexpr (kRows == 1) {
    return multiply_tile<T, 1, kVectors>;
  } else {
    if (rows == kRows) return multiply_tile<T, kRows, kVectors>;
    return tile_function<T, kVectors, kRows - 1>(rows);
  }
}

template <class T>
PYDL_INLINE TileFunction<T> wide_tile_function(int64_t rows) {
  using Tile = GemmTile<T>;
  return rows == 1   ? multiply_tile<T, 1, Tile::wide_vectors(1)>
         : rows == 2 ? multiply_tile<T, 2, Tile::wide_vectors(2)>
                     : multiply_tile<T, 3, Tile::wide_vectors(3)>;
}

// Rows cut into tiles of at most kRows whose heights differ by one at most: the first `tall` tiles have height + 1 rows.
struct RowTiles {
  int64_t count, height, tall;
};
template <class T>
RowTiles row_tiles(int64_t rows) {
  const int64_t count = ceil_div(rows, int64_t{GemmTile<T>::kRows});
  return {count, rows / count, rows % count};
}

// dst (rows, cols) = alpha * a @ b + beta * dst + bias for one block of depth s.k, for each group. Where a_tiled, A was packed by
// pack_a in tiles along k, and a_row and a_col of the spec are not used.
template <class T>
void multiply_block(const BlockSpec<T>& spec, int64_t rows, int64_t cols, const T* a, bool a_tiled, const T* b, T* dst,
                    const T* bias) {
  using Tile = GemmTile<T>;
  if (rows <= 0) return;
  BlockSpec<T> s = spec;
  const RowTiles tiles = row_tiles<T>(rows);
  const int64_t wide = rows <= 3 ? Tile::wide_vectors(static_cast<int>(rows)) * Tile::kLanes : 0;
  for (int64_t j = 0; j < cols;) {
    const bool is_wide = wide != 0 && cols - j >= wide;
    const int64_t step = is_wide ? wide : Tile::kCols;
    const int width = static_cast<int>(cols - j < step ? cols - j : step);
    const T* bias_j = bias == nullptr ? nullptr : bias + j;
    const T* b_j = b + j / Tile::kCols * s.b_panel;
    for (int64_t group = 0; group < s.groups; ++group) {
      const T* a_i = a + group * s.a_group;
      T* dst_i = dst + group * s.dst_group + j;
      for (int part = 0; part < 2; ++part) {
        const int64_t height = tiles.height + (part == 0 ? 1 : 0);
        const int64_t count = part == 0 ? tiles.tall : tiles.count - tiles.tall;
        if (count == 0) continue;
        if (a_tiled) {
          s.a_row = 1;
          s.a_col = height;
        }
        const TileFunction<T> tile = is_wide                  ? wide_tile_function<T>(height)
                                     : width <= Tile::kLanes ? tile_function<T, 1>(height)
                                                              : tile_function<T, 2>(height);
        const int64_t a_step = height * (a_tiled ? s.k : s.a_row);
        for (int64_t t = 0; t < count; ++t) {
          tile(s, a_i, b_j, dst_i, bias_j, width);
          a_i += a_step;
          dst_i += height * s.dst_row;
        }
      }
    }
    j += step;
  }
}

// 16-byte vectors for the transposing copies below, the same on every ISA.
template <class T>
struct Quad;
template <>
struct Quad<float> {
  typedef float V __attribute__((vector_size(16)));
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
template <>
struct Quad<double> {
  typedef double V __attribute__((vector_size(16)));
  static constexpr int kSize = 2;
  static PYDL_INLINE void transpose(V* r) {
    const V a = __builtin_shufflevector(r[0], r[1], 0, 2), b = __builtin_shufflevector(r[0], r[1], 1, 3);
    r[0] = a;
    r[1] = b;
  }
};

// dst[p * dst_row + j] = src[j * src_row + p] for j < rows, p < cols.
template <class T>
void transpose_copy(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst, int64_t dst_row) {
  using Q = Quad<T>;
  constexpr int kSize = Q::kSize;
  int64_t j = 0;
  for (; j + kSize <= rows; j += kSize) {
    const T* s = src + j * src_row;
    T* d = dst + j;
    int64_t p = 0;
    for (; p + kSize <= cols; p += kSize) {
      typename Q::V r[kSize];
#pragma GCC unroll 4
      for (int i = 0; i < kSize; ++i) __builtin_memcpy(&r[i], s + i * src_row + p, sizeof(r[i]));
      Q::transpose(r);
#pragma GCC unroll 4
      for (int i = 0; i < kSize; ++i) __builtin_memcpy(d + (p + i) * dst_row, &r[i], sizeof(r[i]));
    }
    for (; p < cols; ++p) {
      for (int i = 0; i < kSize; ++i) d[p * dst_row + i] = s[i * src_row + p];
    }
  }
  for (; j < rows; ++j) {
    for (int64_t p = 0; p < cols; ++p) dst[p * dst_row + j] = src[j * src_row + p];
  }
}

// B (k, cols) into panels [ceil(cols / kCols)][k][kCols], the last one filled up with zeros.
template <class T>
void pack_b(int64_t k, int64_t cols, const T* b, int64_t b_row, int64_t b_col, T* packed) {
  using Tile = GemmTile<T>;
  using V = Vec<T>;
  for (int64_t j = 0; j < cols; j += Tile::kCols, packed += k * Tile::kCols) {
    const int64_t width = cols - j < Tile::kCols ? cols - j : Tile::kCols;
    const T* src = b + j * b_col;
    if (b_col == 1 && width == Tile::kCols) {
      for (int64_t p = 0; p < k; ++p) {
        V::load(src + p * b_row).store(packed + p * Tile::kCols);
        V::load(src + p * b_row + Tile::kLanes).store(packed + p * Tile::kCols + Tile::kLanes);
      }
      continue;
    }
    if (width < Tile::kCols) {
      for (int64_t i = 0; i < k * Tile::kCols; ++i) packed[i] = T(0);
    }
    if (b_row == 1 && b_col != 1) {
      transpose_copy(width, k, src, b_col, packed, int64_t{Tile::kCols});
    } else {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t c = 0; c < width; ++c) packed[p * Tile::kCols + c] = src[p * b_row + c * b_col];
      }
    }
  }
}

// A (rows, k) into packed (rows * k + Vec<T>::size elements). Contiguous along its rows (a_row == 1): tiles [k][height], and
// true is returned; otherwise rows [rows][k].
template <class T>
bool pack_a(int64_t rows, int64_t k, const T* a, int64_t a_row, int64_t a_col, T* packed) {
  using V = Vec<T>;
  static_assert(GemmTile<T>::kRows <= 2 * V::size, "a tile's column is at most two vectors");
  if (a_row != 1 || a_col == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      const T* src = a + i * a_row;
      T* dst = packed + i * k;
      if (a_col == 1) {
        __builtin_memcpy(dst, src, static_cast<size_t>(k) * sizeof(T));
      } else {
        for (int64_t p = 0; p < k; ++p) dst[p] = src[p * a_col];
      }
    }
    return false;
  }
  const RowTiles tiles = row_tiles<T>(rows);
  int64_t i = 0;
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int64_t height = tiles.height + (t < tiles.tall ? 1 : 0);
    const int64_t vectors = ceil_div(height, int64_t{V::size});
    T* dst = packed + i * k;
    // Whole vectors are stored, and what lies past the tile's height is overwritten by the next column or tile.
    if (i + vectors * V::size <= rows) {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t v = 0; v < vectors; ++v) V::load(a + i + p * a_col + v * V::size).store(dst + p * height + v * V::size);
      }
    } else {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t r = 0; r < height; ++r) dst[p * height + r] = a[i + r + p * a_col];
      }
    }
    i += height;
  }
  return true;
}

// Columns of B that are contiguous along k, against a few rows of A contiguous along k: vectors run along k.
template <class T, int kRows, int kCols>
__attribute__((noinline)) void dot_tile(const BlockSpec<T>& s, const T* a, const T* b, int64_t b_col, T* dst, const T* bias) {
  using V = Vec<T>;
  V acc[kRows][kCols];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kCols; ++j) acc[i][j] = V(T(0));
  }
  int64_t p = 0;
  for (; p + V::size <= s.k; p += V::size) {
    V av[kRows];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) av[i] = V::load(a + i * s.a_row + p);
#pragma GCC unroll 8
    for (int j = 0; j < kCols; ++j) {
      const V bv = V::load(b + j * b_col + p);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) acc[i][j] = fma(av[i], bv, acc[i][j]);
    }
  }
  if (p < s.k) {
    const int rest = static_cast<int>(s.k - p);
    for (int j = 0; j < kCols; ++j) {
      const V bv = V::load_partial(b + j * b_col + p, rest);
      for (int i = 0; i < kRows; ++i) acc[i][j] = fma(V::load_partial(a + i * s.a_row + p, rest), bv, acc[i][j]);
    }
  }
  T sums[kRows * kCols];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kCols; ++j) sums[i * kCols + j] = reduce_add(acc[i][j]);
  }
  finish_narrow(s, sums, kCols, kRows, kCols, dst, bias);
}

template <class T, int kRows>
void dot_row_block(const BlockSpec<T>& s, int64_t cols, const T* a, const T* b, int64_t b_col, T* dst, const T* bias) {
  constexpr int kCols = kRows == 1 ? 8 : kRows == 4 ? 2 : 4;
  int64_t j = 0;
  for (; j + kCols <= cols; j += kCols) {
    dot_tile<T, kRows, kCols>(s, a, b + j * b_col, b_col, dst + j, bias == nullptr ? nullptr : bias + j);
  }
  for (; j < cols; ++j) {
    dot_tile<T, kRows, 1>(s, a, b + j * b_col, b_col, dst + j, bias == nullptr ? nullptr : bias + j);
  }
}

// dst (rows <= 4, cols) = alpha * a @ b + beta * dst + bias; B's columns lie b_col apart, A's rows s.a_row.
template <class T>
void multiply_dots(const BlockSpec<T>& s, int64_t rows, int64_t cols, const T* a, const T* b, int64_t b_col, T* dst,
                   const T* bias) {
  switch (rows) {
    case 1: return dot_row_block<T, 1>(s, cols, a, b, b_col, dst, bias);
    case 2: return dot_row_block<T, 2>(s, cols, a, b, b_col, dst, bias);
    case 3: return dot_row_block<T, 3>(s, cols, a, b, b_col, dst, bias);
    case 4: return dot_row_block<T, 4>(s, cols, a, b, b_col, dst, bias);
    default: return;
  }
}

}  // namespace
}  // namespace pydl
