// The parts of a matrix product that several families share: blocks and packing of panels. Not here: the register
// micro-kernels (gemm_tiles.h, gemm_dots.h), the choice of blocks and threads (gemm.cpp) and whatever uses prepacked
// weights (recurrent*.h).
//
// The scheme is that of Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): a panel of B,
// kTileDepth x kCols, stays in L1 while tiles of A, kRows x kTileDepth, run over it. Every element of a tile is one
// chain of fused multiply-adds in the order of k, cut only at multiples of tile_depth(k), so its bits do not depend on
// how rows and columns are grouped: heights of tiles are chosen to be even (50 rows are five tiles of 6 and four of 5),
// and threads may take any part.
//
// Measured on a Zen 4 core (AVX-512, 114 GFLOP/s): tiles within a product, whose sums and panels come from L3, reach
// 86 % at depth 64, 92 % at 128, 95 % at 256, 96 % at 342. On a Zen 5 core (AVX-512, 245 GFLOP/s) whole products reach
// 95 % at 64 x 1024 x 1024, 98 % at n = 256, 92 to 94 % at 1024, where packing A is 2 %; on two cores 92 %; against a
// transposed B 92 % at 64 x 1000 x 1000, 83 % at 64 x 1024 x 1024, whose rows crowd the cache. On a Zen 3 core (AVX2,
// 102 GFLOP/s), in CPU time because the machine was shared: a tile alone reaches 98 % at depth 128, 99 % at 256; whole
// products 94 % at n = 64, 93 % at 256, 91 % at 1024; on two cores, by the CPU time of the slower one, 87 % at 1024.
// Row vectors are limited by the cache they read B from.
#pragma once
#include "backend/cpu/stream.h"
#include "backend/cpu/transpose.h"
#include "backend/cpu/unroll.h"
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
  static constexpr int wide_vectors(int rows) { return rows == 1 ? 8 : rows == 2 ? 6 : rows == 3 ? 4 : 2; }
};
// Tiles as high as a line of the cache do so much with a column of A and a row of B that neither need lie in L1.
template <class T>
constexpr bool kHighTiles = GemmTile<T>::kRows * sizeof(T) >= 56;
template <class T>
constexpr int64_t kLowTile = (GemmTile<T>::kRows + 1) / 2;  // rows; fewer than a set of L1 has lines
constexpr int64_t kNearRows = 1024;  // bytes from one row of B to the next, so that the hardware fetches it in order

#if defined(__AVX512F__)
constexpr int64_t kTileDepth = 384;  // at most: so many a tile's sums stay in registers. L2 has 1 MB or more there
#else
constexpr int64_t kTileDepth = 256;
#endif

// The depth of k's blocks: even, so that 257 is not 256 and 1. Never 0.
constexpr int64_t tile_depth(int64_t k) { return k <= 0 ? 1 : ceil_div(k, ceil_div(k, kTileDepth)); }

// Asks memory for the rows of a tile's sums, some at a time.
template <class T>
class RowRequests {
 public:
  PYDL_INLINE RowRequests(const T* first, int64_t distance, int64_t rows)
      : row_(first),
        distance_(distance),
        left_(rows),
        straddles_((reinterpret_cast<uintptr_t>(first) | static_cast<uintptr_t>(distance) * sizeof(T)) % 64 != 0) {}
  template <int kCols>
  PYDL_INLINE void send(int64_t most) {
    const int64_t now = left_ < most ? left_ : most;
    left_ -= now;
    for (int64_t i = 0; i < now; ++i, row_ += distance_) {
      __builtin_prefetch(row_, 1);
      if (kCols * sizeof(T) > 64) __builtin_prefetch(row_ + 64 / sizeof(T), 1);
      if (straddles_) __builtin_prefetch(row_ + kCols - 1, 1);
    }
  }

 private:
  const T* row_;
  int64_t distance_, left_;
  bool straddles_;  // one line more than its bytes fill
};

// Memory that is needed soon and may lie far from the core: pairs of lines, one after the other or `step` bytes apart.
constexpr int64_t kPairOfLines = 128;  // bytes
struct Stretch {
  const char* at;
  int64_t bytes, step;
};
struct Soon {
  static constexpr int kMost = 4;
  Stretch stretches[kMost];  // the first `count` of them are set: a block need not clear the others
  int count;

  Soon() : count(0) {}
  void add(const void* at, int64_t bytes) {
    if (at != nullptr && bytes > 0 && count < kMost)
      stretches[count++] = {static_cast<const char*>(at), bytes, kPairOfLines};
  }
  // What steps [first, first + steps) of `all` bring.
  Soon part(int64_t first, int64_t steps, int64_t all) const {
    Soon out;
    for (int i = 0; i < count; ++i) {
      const int64_t begin = stretches[i].bytes * first / all, end = stretches[i].bytes * (first + steps) / all;
      out.add(stretches[i].at + begin, end - begin);
    }
    return out;
  }
};

// A panel of B that is packed while another is multiplied: rows of kCols, `row` apart, one after the other. A tile has
// room for it beside its multiplications; packing alone would wait for memory.
template <class T>
struct Packing {
  const T* from = nullptr;
  int64_t row = 0;
  T* to = nullptr;  // null: nothing is packed
};

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
  Soon soon{};              // brought into L2 meanwhile; where it is not given, the next panel of B is
  bool a_is_far = false;    // while the first panel is multiplied, the tile below is brought instead
  bool past_cache = false;  // dst, whose rows are whole lines, is not looked for in the cache; beta is 0
  bool low_tiles = false;   // rows of A are so far apart that a tile's lines of it would drive each other out of L1
  Packing<T> packing{};     // k rows, for a block of more than kRows rows and one panel of columns
};

// The end of a product whose sums lie in memory; the same roundings as the tiles'.
template <class T>
__attribute__((noinline)) void finish_rows(const BlockSpec<T>& s, const T* sums, int64_t sums_row, int64_t rows,
                                           int64_t cols, T* dst, const T* bias) {
  using V = Vec<T>;
  for (int64_t i = 0; i < rows; ++i, sums += sums_row, dst += s.dst_row) {
    for (int64_t j = 0; j < cols; j += V::size) {
      const int width = cols - j < V::size ? static_cast<int>(cols - j) : V::size;
      const bool whole = width == V::size;
      const auto load = [&](const T* from) PYDL_LAMBDA { return whole ? V::load(from) : V::load_partial(from, width); };
      V c = load(sums + j);
      if (s.alpha != T(1)) c *= V(s.alpha);
      if (s.beta == T(1)) {
        c += load(dst + j);
      } else if (s.beta != T(0)) {
        c += V(s.beta) * load(dst + j);
      }
      if (bias != nullptr) c += load(bias + j);
      if (whole)
        c.store(dst + j);
      else
        c.store_partial(dst + j, width);
    }
  }
}

// Rows cut into tiles of at most kRows, or `most`, whose heights differ by one at most: the first `tall` tiles have
// height + 1 rows.
struct RowTiles {
  int64_t count, height, tall;
};
template <class T>
RowTiles row_tiles(int64_t rows, int64_t most = GemmTile<T>::kRows) {
  const int64_t count = ceil_div(rows, most);
  return {count, rows / count, rows % count};
}

// dst (rows, cols) = alpha * a @ b + beta * dst + bias for one block of depth s.k, for each group. The tiles are
// compiled once, in gemm.cpp: a block is large enough for a call through the table. Of pairs, elements of a and b are
// two bfloat16 along k; columns of B that are contiguous along k need not be packed then: b_row is 1, and b_panel the
// distance of columns. Of T they need not either, for few rows (gemm_dots.h): then there is one group, and nothing is
// brought.
template <class T>
PYDL_INLINE void multiply_block(Exec& exec, const BlockSpec<T>& s, int64_t rows, int64_t cols, const T* a, const T* b,
                                T* dst, const T* bias, bool pairs = false) {
  if (pairs) return exec.table->gemm_block_bf16({DType::bfloat16, &s, rows, cols, a, b, dst, bias}, exec);
  exec.table->gemm_block({sizeof(T) == 4 ? DType::float32 : DType::float64, &s, rows, cols, a, b, dst, bias}, exec);
}

// A distance for columns or planes of so many elements: an odd number of lines, so that they spread over all sets.
template <class T>
constexpr int64_t odd_lines(int64_t elements) {
  return (ceil_div(elements, kLine<T>) | 1) * kLine<T>;
}

// B (k, cols) into panels [ceil(cols / kCols)][k][kCols], the last one filled up with zeros.
template <class T>
void pack_b(int64_t k, int64_t cols, const T* b, int64_t b_row, int64_t b_col, T* packed) {
  using Tile = GemmTile<T>;
  using V = Vec<T>;
  int64_t whole = 0;
  constexpr int64_t kAhead = 8;
  if (b_col == 1) {  // row by row: memory is read in order, and all panels grow at once
    whole = cols / Tile::kCols * Tile::kCols;
    for (int64_t p = 0; p < k; ++p) {
      const T* src = b + p * b_row;
      T* dst = packed + p * Tile::kCols;
      for (int64_t j = 0; j < whole; j += Tile::kCols, dst += k * Tile::kCols) {
        if (p + kAhead < k) {
          for (int c = 0; c < Tile::kCols; c += kLine<T>) __builtin_prefetch(src + kAhead * b_row + j + c);
        }
        V::load(src + j).store(dst);
        V::load(src + j + Tile::kLanes).store(dst + Tile::kLanes);
      }
    }
    packed += k * whole;
  }
  for (int64_t j = whole; j < cols; j += Tile::kCols, packed += k * Tile::kCols) {
    const int64_t width = cols - j < Tile::kCols ? cols - j : Tile::kCols;
    const T* src = b + j * b_col;
    if (b_col == 1) {
      const int left = static_cast<int>(width < Tile::kLanes ? width : Tile::kLanes),
                right = static_cast<int>(width) - left;
      for (int64_t p = 0; p < k; ++p) {
        load_some<V>(src + p * b_row, left).store(packed + p * Tile::kCols);
        const V beside = right == 0 ? V() : load_some<V>(src + p * b_row + Tile::kLanes, right);
        beside.store(packed + p * Tile::kCols + Tile::kLanes);
      }
      continue;
    }
    if (width < Tile::kCols) {
      for (int64_t i = 0; i < k * Tile::kCols; ++i) packed[i] = T(0);
    }
    if (b_row == 1) {
      transpose_copy(width, k, src, b_col, packed, int64_t{Tile::kCols}, Tile::kLanes * b_col);
    } else {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t c = 0; c < width; ++c) packed[p * Tile::kCols + c] = src[p * b_row + c * b_col];
      }
    }
  }
}

// A (rows, k) into packed, contiguous rows of k.
template <class T>
void pack_a(int64_t rows, int64_t k, const T* a, int64_t a_row, int64_t a_col, T* packed) {
  using V = Vec<T>;
  if (a_row == 1 && a_col != 1) {
    // A cache line of A at a time, so that few lines of `packed` are open at once.
    for (int64_t i = 0; i < rows; i += kLine<T>) {
      transpose_copy(k, rows - i < kLine<T> ? rows - i : kLine<T>, a + i, a_col, packed + i * k, k, 32 * a_col);
    }
    return;
  }
  if (a_col == 1) {
    constexpr int64_t kAhead = 4;  // rows, which are too short for the hardware to fetch them ahead
    for (int64_t i = 0; i < rows; ++i, a += a_row, packed += k) {
      each_vector<T>(k, [=](int64_t p, int lanes) PYDL_LAMBDA {
        if (i + kAhead < rows) __builtin_prefetch(a + kAhead * a_row + p);
        store_some(load_some<V>(a + p, lanes), packed + p, lanes);
      });
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t p = 0; p < k; ++p) packed[i * k + p] = a[i * a_row + p * a_col];
  }
}

}  // namespace
}  // namespace pydl
