// The matrix product of the kernel table: which path a shape takes, blocks, threads, and what follows the product
// (activation). The arithmetic is in gemm_tiles.h and gemm_dots.h.
//
// Work is cut into a grid of row and column ranges, each finished by one thread from packing to activation, so one fork
// and join is all there is; where several row ranges need the same B, it is packed once for all of them before, by the
// tiles of the first rows where B's rows are contiguous: copying fits between their multiplications. An operand that
// few rows or columns meet is read where it lies: packing it would be a large part of the work. The grid may depend on
// the number of threads: no element's sum is ever split between two of them.
#include "backend/cpu/gemm_dots.h"
#include "backend/cpu/gemm_tiles.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

enum Activation { kNone = 0, kRelu = 1, kTanh = 2, kSigmoid = 3 };

// One matrix of a batch. The fields are those of GemmArgs.
template <class T>
struct Product {
  int64_t m, n, k;
  const T* a;
  const T* b;
  T* dst;
  const T* bias;
  int64_t a_row, a_col, b_row, b_col, dst_row;
  T alpha, beta;
  int activation;
  // All of B in panels, or null: tile_depth(k) rows after tile_depth(k) rows, each of packed_cols columns; column 0 is
  // packed_from there.
  T* packed_b = nullptr;
  int64_t packed_cols = 0, packed_from = 0;
  bool packs_b = false;     // these panels are filled on the way
  bool low_tiles = false;   // rows of A are read where they lie although they crowd the cache
  bool past_cache = false;  // where the product is finished by one block of depth
};

constexpr int64_t kFewRows = 4;       // up to here B is read in place, and once
constexpr int64_t kShallow = 4;       // depth up to here: nothing is packed
constexpr int64_t kFewColumns = 256;  // up to here packing rows of A is no small part of the work
// Blocks of A and B, kTileDepth deep, that stay in L2 together: 256 and 64 KB.
template <class T>
constexpr int64_t kBlockRows = 1024 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t kBlockCols = 256 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t kStreamedB = (128 << 10) / static_cast<int64_t>(sizeof(T));  // elements from which few rows stream B
template <class T>
constexpr int64_t kStretch = (16 << 10) / static_cast<int64_t>(sizeof(T));  // sums that few rows keep in L1
template <class T>
constexpr int64_t kPackingRows = (kHighTiles<T> ? 8 : 16) * GemmTile<T>::kRows;  // have time to pack B
constexpr int64_t kNarrowDepth = 64;                                             // from which sums in registers pay
constexpr int64_t kInPlaceBytes = 32 * 1024;   // operands this small are used where they are
constexpr int64_t kSerialWork = 768 * 1024;    // multiply-adds below which a fork does not pay
constexpr int64_t kLateWork = 16 << 20;        // multiply-adds of a thread that is worth waiting for in small steps
constexpr int64_t kSharedB = 4 << 20;          // elements of B that are packed at once, for all rows
constexpr int64_t kSerialTraffic = 96 * 1024;  // elements of B, likewise, where few rows make memory the limit

template <class T, class F>
PYDL_INLINE void map_rows(int64_t rows, int64_t cols, T* dst, int64_t dst_row, F f) {
  using V = Vec<T>;
  for (int64_t i = 0; i < rows; ++i) {
    T* d = dst + i * dst_row;
    each_vector<T>(cols,
                   [&](int64_t j, int lanes) PYDL_LAMBDA { store_some(f(load_some<V>(d + j, lanes)), d + j, lanes); });
  }
}

template <class T>
void apply_activation(int activation, int64_t rows, int64_t cols, T* dst, int64_t dst_row) {
  using V = Vec<T>;
  switch (activation) {
    case kRelu:
      return map_rows(rows, cols, dst, dst_row, [](V x) { return max(x, V(T(0))); });
    case kTanh:
      return map_rows(rows, cols, dst, dst_row, [](V x) { return tanh(x); });
    case kSigmoid:
      return map_rows(rows, cols, dst, dst_row, [](V x) { return sigmoid(x); });
    default:
      return;
  }
}

// Not many rows, B contiguous along k: one pass over B in place, vectors along k.
template <class T>
void multiply_along_depth(const Product<T>& p, Exec& exec) {
  Scratch<T> packed(exec, p.a_col == 1 ? 0 : p.m * p.k);
  BlockSpec<T> s{p.k, p.a_row, 1, 1, p.b_col, p.dst_row, p.alpha, p.beta};
  const T* a = p.a;
  if (p.a_col != 1) {
    pack_a(p.m, p.k, p.a, p.a_row, p.a_col, packed.get());
    a = packed.get();
    s.a_row = p.k;
  }
  multiply_dots(s, p.m, p.n, a, p.b, p.dst, p.bias);
  apply_activation(p.activation, p.m, p.n, p.dst, p.dst_row);
}

// sums (rows, cols), sums_row apart, += a @ b over kDepth of k.
template <class T, int kRows, int kDepth>
PYDL_INLINE void add_rows_of_b(int64_t cols, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row,
                               T* sums, int64_t sums_row) {
  using V = Vec<T>;
  Unset<V, kRows * kDepth> factor;
  repeat<kRows * kDepth>([&](auto x) PYDL_LAMBDA { factor[x] = V(a[x / kDepth * a_row + x % kDepth * a_col]); });
  each_vector<T>(cols, [=](int64_t j, int lanes) PYDL_LAMBDA {
    Unset<V, kDepth> column;
    repeat<kDepth>([&](auto p) PYDL_LAMBDA { column[p] = load_some<V>(b + p * b_row + j, lanes); });
    repeat<kRows>([&](auto i) PYDL_LAMBDA {
      V sum = load_some<V>(sums + i * sums_row + j, lanes);
      repeat<kDepth>([&](auto p) PYDL_LAMBDA { sum = fma(factor[i * kDepth + p], column[p], sum); });
      store_some(sum, sums + i * sums_row + j, lanes);
    });
  });
}

// sums (rows, cols), sums_row apart, = a @ b, for rows of A that are few: some rows of B are read side by side.
template <class T, int kRows>
void stream_b(int64_t depth, int64_t cols, const T* a, int64_t a_row, int64_t a_col, const T* b, int64_t b_row, T* sums,
              int64_t sums_row) {
  constexpr int kDepth = 4;
  for (int i = 0; i < kRows; ++i) __builtin_memset(sums + i * sums_row, 0, static_cast<size_t>(cols) * sizeof(T));
  for (; depth >= kDepth; depth -= kDepth, a += kDepth * a_col, b += kDepth * b_row)
    add_rows_of_b<T, kRows, kDepth>(cols, a, a_row, a_col, b, b_row, sums, sums_row);
  for (; depth > 0; --depth, a += a_col, b += b_row)
    add_rows_of_b<T, kRows, 1>(cols, a, a_row, a_col, b, b_row, sums, sums_row);
}

// At most kFewRows rows, B contiguous along its rows and too large for a cache: read once, in long stretches.
template <class T>
void multiply_streaming(const Product<T>& p, Exec& exec) {
  const int64_t chunk = kStretch<T> / p.m;
  const int64_t full_depth = tile_depth(p.k);
  // Not as far apart as B's rows may be: a store to one would look like the load of the other.
  const int64_t sums_row = chunk + 2 * kLine<T>;
  Scratch<T> sums(exec, p.m * sums_row);
  for (int64_t j = 0; j < p.n; j += chunk) {
    const int64_t cols = p.n - j < chunk ? p.n - j : chunk;
    for (int64_t p0 = 0; p0 == 0 || p0 < p.k; p0 += full_depth) {
      const int64_t depth = p.k - p0 < full_depth ? p.k - p0 : full_depth;
      const T *a = p.a + p0 * p.a_col, *b = p.b + p0 * p.b_row + j;
      const auto stream = p.m == 1   ? stream_b<T, 1>
                          : p.m == 2 ? stream_b<T, 2>
                          : p.m == 3 ? stream_b<T, 3>
                                     : stream_b<T, 4>;
      stream(depth, cols, a, p.a_row, p.a_col, b, p.b_row, sums.get(), sums_row);
      const bool last = p0 + full_depth >= p.k;
      const BlockSpec<T> s{depth, 0, 0, 0, 0, p.dst_row, p.alpha, p0 == 0 ? p.beta : T(1)};
      finish_rows(s, sums.get(), sums_row, p.m, cols, p.dst + j, last && p.bias != nullptr ? p.bias + j : nullptr);
    }
    apply_activation(p.activation, p.m, cols, p.dst + j, p.dst_row);
  }
}

// Whether a block of rows so far apart would fall into a few sets of a cache: the distance is within a line of a large
// power of two, or a multiple of one.
template <class T>
bool crowds_cache(int64_t row) {
  constexpr int64_t kLineBytes = 64, kPower = 2048;
  const int64_t bytes = row * static_cast<int64_t>(sizeof(T)), apart = bytes < 0 ? -bytes : bytes;
  if (apart < kPower / 2) return apart == 0;
  return ((apart + kLineBytes - 1) & (kPower - 1)) < 2 * kLineBytes - 1;
}

// Whether B is used where it is by `rows` rows in all: it is small, or tiles have time to read it from L2 and packing
// it would not be a small part of the work.
template <class T>
bool uses_b_in_place(const Product<T>& p, int64_t rows) {
  constexpr int64_t kNear = 1024, kFar = 128;  // rows, where those of B are so
  const int64_t item = static_cast<int64_t>(sizeof(T));
  if (p.b_col != 1) return false;
  if (p.k * p.n * item <= kInPlaceBytes) return true;
  return kHighTiles<T> && rows <= (p.b_row * item <= kNearRows ? kNear : crowds_cache<T>(p.b_row) ? 0 : kFar);
}

template <class T>
Product<T> part_of(const Product<T>& p, int64_t i, int64_t rows, int64_t j, int64_t cols) {
  Product<T> part = p;
  part.m = rows;
  part.n = cols;
  part.a += i * p.a_row;
  part.b += j * p.b_col;
  part.dst += i * p.dst_row + j;
  part.packed_from += j;
  if (p.bias != nullptr) part.bias += j;
  return part;
}

// An outer product, or the sum of a few: rows of B, b_row apart, times elements of A are all that a row of dst is.
template <class T, int kDepth>
void multiply_rows(const Product<T>& p) {
  using V = Vec<T>;
  for (int64_t i = 0; i < p.m; ++i) {
    Unset<V, kDepth> factor;
    repeat<kDepth>([&](auto d) PYDL_LAMBDA { factor[d] = V(p.a[i * p.a_row + d * p.a_col]); });
    T* dst = p.dst + i * p.dst_row;
    each_vector<T>(p.n, [&](int64_t j, int lanes) PYDL_LAMBDA {
      V sum;
      repeat<kDepth>([&](auto d)
                         PYDL_LAMBDA { sum = fma(factor[d], load_some<V>(p.b + d * p.b_row + j, lanes), sum); });
      if (p.bias != nullptr) sum += load_some<V>(p.bias + j, lanes);
      p.past_cache ? put<true>(sum, dst + j, lanes) : store_some(sum, dst + j, lanes);
    });
  }
}

template <class T>
void multiply_shallow(const Product<T>& p, Exec& exec) {
  constexpr int64_t kChunk = 2048;  // columns, whose rows of B stay in L1
  const bool in_place = p.b_col == 1;
  Scratch<T> packed(exec, in_place ? 0 : p.k * kChunk);
  const auto multiply = p.k == 1   ? multiply_rows<T, 1>
                        : p.k == 2 ? multiply_rows<T, 2>
                        : p.k == 3 ? multiply_rows<T, 3>
                                   : multiply_rows<T, 4>;
  for (int64_t j = 0; j < p.n; j += kChunk) {
    Product<T> q = part_of(p, 0, p.m, j, p.n - j < kChunk ? p.n - j : kChunk);
    if (!in_place) {
      for (int64_t c = 0; c < q.n; ++c)
        for (int64_t d = 0; d < q.k; ++d) packed[d * kChunk + c] = q.b[d * q.b_row + c * q.b_col];
      q.b = packed.get();
      q.b_row = kChunk;
    }
    multiply(q);
    apply_activation(q.activation, q.m, q.n, q.dst, q.dst_row);
  }
}

// A (rows, k), contiguous along its columns, into columns that do not crowd the cache.
template <class T>
void pack_columns(int64_t rows, int64_t k, const T* a, int64_t a_col, T* packed) {
  using V = Vec<T>;
  constexpr int64_t kAhead = 4;
  for (int64_t p = 0; p < k; ++p, a += a_col, packed += odd_lines<T>(rows)) {
    for (int64_t i = 0; i < rows; i += V::size) {
      if (p + kAhead < k) __builtin_prefetch(a + kAhead * a_col + i);
      const int lanes = static_cast<int>(rows - i < V::size ? rows - i : V::size);
      store_some(load_some<V>(a + i, lanes), packed + i, lanes);
    }
  }
}

// Any shape, one thread. Rows are few enough for a block of A to stay in L2.
template <class T>
void multiply_by_tiles(const Product<T>& p, Exec& exec) {
  using Tile = GemmTile<T>;
  const int64_t item = static_cast<int64_t>(sizeof(T));
  const int64_t full_depth = tile_depth(p.k);
  const bool b_in_place = p.packed_b == nullptr && p.b_col == 1 && (uses_b_in_place(p, p.m) || p.m <= 2 * Tile::kRows);
  const bool a_is_packed = p.packed_b != nullptr && p.a_col == 1 && p.a_row == p.k && p.k <= full_depth;
  const bool a_by_columns = kHighTiles<T> && p.a_row == 1 && !crowds_cache<T>(p.a_col);
  const bool a_by_rows =
      p.low_tiles || (kHighTiles<T> && p.a_col == 1 && !crowds_cache<T>(p.a_row) && p.n <= kFewColumns);
  const bool a_is_large = p.m * p.k * item > kInPlaceBytes;
  const bool a_as_large = a_is_packed || a_by_columns || a_by_rows;
  const bool a_in_place = a_as_large || ((p.a_col == 1 || p.a_row == 1) && (!a_is_large || p.m <= kFewRows));
  const bool packs = p.packs_b || (p.packed_b == nullptr && !b_in_place && p.b_col == 1);
  const int64_t chunk =
      b_in_place || packs ? Tile::kCols : round_up(p.n < kBlockCols<T> ? p.n : kBlockCols<T>, Tile::kCols);
  Scratch<T> packed_a(exec, a_in_place ? 0 : odd_lines<T>(p.m) * full_depth);
  Scratch<T> packed_b(exec, p.packed_b == nullptr ? full_depth * chunk * (packs ? 2 : 1) : 0);
  for (int64_t p0 = 0; p0 == 0 || p0 < p.k; p0 += full_depth) {
    const int64_t depth = p.k - p0 < full_depth ? p.k - p0 : full_depth;
    const bool last = p0 + full_depth >= p.k;
    BlockSpec<T> s{depth, p.a_row, p.a_col, p.b_row, Tile::kCols, p.dst_row, p.alpha, p0 == 0 ? p.beta : T(1)};
    s.a_is_far = a_as_large && a_is_large;
    s.low_tiles = p.low_tiles;
    s.past_cache = p.past_cache && last && p0 == 0 && row_tiles<T>(p.m).height >= Tile::kRows - 1;
    const T* a = p.a + p0 * p.a_col;
    const T* b = p.b + p0 * p.b_row;
    if (!a_in_place && kHighTiles<T> && p.a_row == 1) {
      pack_columns(p.m, depth, a, p.a_col, packed_a.get());
      a = packed_a.get();
      s.a_col = odd_lines<T>(p.m);
    } else if (!a_in_place) {
      pack_a(p.m, depth, a, p.a_row, p.a_col, packed_a.get());
      a = packed_a.get();
      s.a_row = depth;
      s.a_col = 1;
    }
    int64_t j = 0;
    if (b_in_place) {
      j = p.n / Tile::kCols * Tile::kCols;
      const int64_t left = p.k - p0 - depth;
      if (p.b_row * item <= kNearRows) s.soon.add(b + depth * p.b_row, (left < depth ? left : depth) * p.b_row * item);
      multiply_tiles(s, p.m, j, a, b, p.dst, last ? p.bias : nullptr);
      s.soon = {};
      s.a_is_far = s.a_is_far && j == 0;
    }
    s.b_row = Tile::kCols;
    s.b_panel = depth * Tile::kCols;
    const auto panel_of = [&](int64_t col) {
      if (p.packed_b != nullptr) return p.packed_b + p0 * p.packed_cols + (p.packed_from + col) * depth;
      return packed_b.get() + (packs ? col / Tile::kCols % 2 * s.b_panel : 0);
    };
    for (; j < p.n; j += chunk) {
      const int64_t cols = p.n - j < chunk ? p.n - j : chunk;
      const T* panels = panel_of(j);
      if (packs) {
        if (j == 0) pack_b(depth, cols, b, p.b_row, p.b_col, panel_of(0));
        const int64_t next = j + Tile::kCols, left = p.n - next;
        s.packing = {};
        if (left >= Tile::kCols) {
          s.packing = {b + next, p.b_row, panel_of(next)};
        } else if (left > 0) {
          pack_b(depth, left, b + next, p.b_row, p.b_col, panel_of(next));
        }
      } else if (p.packed_b == nullptr) {
        pack_b(depth, cols, b + j * p.b_col, p.b_row, p.b_col, packed_b.get());
      }
      multiply_tiles(s, p.m, cols, a, panels, p.dst + j, last && p.bias != nullptr ? p.bias + j : nullptr);
      s.a_is_far = false;
      if (last) apply_activation(p.activation, p.m, cols, p.dst + j, p.dst_row);
    }
    if (last && b_in_place) apply_activation(p.activation, p.m, p.n / Tile::kCols * Tile::kCols, p.dst, p.dst_row);
  }
}

// One or two rows against B of one vector's columns, contiguous along its rows: the sums stay in registers.
template <class T, int kRows>
void multiply_narrow(const Product<T>& p) {
  using V = Vec<T>;
  constexpr int kWays = 4;  // sums side by side: an addition need not wait for the last
  const int width = static_cast<int>(p.n);
  // Rows of B that can be read as a whole vector, what lies behind them included.
  const int64_t behind = width == V::size ? 0 : p.b_row > 0 ? ceil_div(V::size - p.n, p.b_row) : p.k;
  const int64_t full_depth = tile_depth(p.k);
  V total[kRows];
  for (int64_t p0 = 0; p0 < p.k; p0 += full_depth) {
    const int64_t end = p.k - p0 < full_depth ? p.k : p0 + full_depth;
    const int64_t whole = end < p.k - behind ? end : p.k - behind;
    V sum[kRows][kWays];
    int64_t at = p0;
    for (; at + kWays <= whole; at += kWays) {
      repeat<kWays>([&](auto w) PYDL_LAMBDA {
        const V b = V::load(p.b + (at + w) * p.b_row);
        repeat<kRows>([&](auto i)
                          PYDL_LAMBDA { sum[i][w] = fma(V(p.a[i * p.a_row + (at + w) * p.a_col]), b, sum[i][w]); });
      });
    }
    for (; at < end; ++at) {
      const V b = V::load_partial(p.b + at * p.b_row, width);
      repeat<kRows>([&](auto i) PYDL_LAMBDA { sum[i][0] = fma(V(p.a[i * p.a_row + at * p.a_col]), b, sum[i][0]); });
    }
    repeat<kRows>([&](auto i) PYDL_LAMBDA { total[i] += (sum[i][0] + sum[i][1]) + (sum[i][2] + sum[i][3]); });
  }
  T sums[kRows * V::size];
  for (int i = 0; i < kRows; ++i) total[i].store(sums + i * V::size);
  const BlockSpec<T> s{p.k, 0, 0, 0, 0, p.dst_row, p.alpha, p.beta};
  finish_rows(s, sums, V::size, kRows, width, p.dst, p.bias);
  apply_activation(p.activation, kRows, width, p.dst, p.dst_row);
}

// Whether up to kMostRows rows take products along k: A lies so too, the sum over a vector that ends each product is
// a small part of it, and some columns of B stay in L2 while all rows meet them.
template <class T>
bool takes_dots(const Product<T>& p) {
  constexpr int64_t kMostRows = kHighTiles<T> ? 32 : 6, kDepthOfRow = 16, kMostDepth = 16384;
  return p.b_row == 1 && p.b_col != 1 && p.a_col == 1 && p.n > kFewRows && p.m <= kMostRows &&
         kDepthOfRow * p.m <= p.k && p.k <= kMostDepth;
}

// How a product is made by one thread. Decided for the whole of it: the order of sums is that of its path.
enum class Path { kTiles, kShallow, kAlongDepth, kStreaming, kNarrow };

template <class T>
Path path_of(const Product<T>& p) {
  if (p.k >= 1 && p.k <= kShallow && p.alpha == T(1) && p.beta == T(0)) return Path::kShallow;
  if (takes_dots(p)) return Path::kAlongDepth;
  if (p.m > kFewRows) return Path::kTiles;
  if (p.b_row == 1 && p.b_col != 1) return Path::kAlongDepth;
  if (p.b_col != 1) return Path::kTiles;
  if (p.n <= Vec<T>::size && p.k >= kNarrowDepth) return Path::kNarrow;
  return p.k * p.n >= kStreamedB<T> ? Path::kStreaming : Path::kTiles;
}

template <class T>
void multiply_by(Path path, const Product<T>& p, Exec& exec) {
  switch (path) {
    case Path::kShallow:
      return multiply_shallow(p, exec);
    case Path::kAlongDepth:
      return multiply_along_depth(p, exec);
    case Path::kStreaming:
      return multiply_streaming(p, exec);
    case Path::kNarrow:
      for (int64_t i = 0; i < p.m; i += 2) {
        const Product<T> rows = part_of(p, i, p.m - i < 2 ? 1 : 2, 0, p.n);
        rows.m == 1 ? multiply_narrow<T, 1>(rows) : multiply_narrow<T, 2>(rows);
      }
      return;
    default:
      return multiply_by_tiles(p, exec);
  }
}

// b^T (n, k) @ a^T (k, m), without bias.
template <class T>
Product<T> transpose_of(const Product<T>& p) {
  return {p.n,     p.m,     p.k,     p.b,       p.a,     p.dst,  nullptr,     p.b_col,
          p.b_row, p.a_col, p.a_row, p.dst_row, p.alpha, p.beta, p.activation};
}

// The end of a product that was made by its transpose: dst (rows, cols) of block (cols, rows), its rows block_row
// apart, by way of a buffer of as many elements.
template <class T>
void finish_turned(const Product<T>& p, int64_t rows, int64_t cols, const T* block, int64_t block_row, T* buffer,
                   T* dst, const T* bias) {
  const BlockSpec<T> s{p.k, 0, 0, 0, 0, p.dst_row, p.alpha, p.beta};
  transpose_copy(cols, rows, block, block_row, buffer, cols);
  finish_rows(s, buffer, cols, rows, cols, dst, bias);
  apply_activation(p.activation, rows, cols, dst, p.dst_row);
}

// dst (m, n <= kFewRows) by its transpose, which has few rows.
template <class T>
void multiply_few_columns(Path path, const Product<T>& p, Exec& exec) {
  Product<T> t = transpose_of(p);
  if (p.n == 1 && p.dst_row == 1 && p.bias == nullptr) return multiply_by(path, t, exec);
  const int64_t stretch = kStretch<T> / p.n;
  Scratch<T> turned(exec, p.n * stretch), sums(exec, p.beta == T(0) ? 0 : p.n * stretch);
  t.dst = turned.get();
  t.dst_row = stretch;
  t.activation = kNone;
  if (p.beta != T(0)) {
    t.alpha = T(1);
    t.beta = T(0);
  }
  for (int64_t i = 0; i < p.m; i += stretch) {
    T* dst = p.dst + i * p.dst_row;
    t.n = p.m - i < stretch ? p.m - i : stretch;
    t.b = p.a + i * p.a_row;
    multiply_by(path, t, exec);
    if (p.beta != T(0)) {
      finish_turned(p, t.n, p.n, turned.get(), stretch, sums.get(), dst, p.bias);
      continue;
    }
    for (int64_t j = 0; j < p.n && p.bias != nullptr; ++j) {
      const T bias = p.bias[j];
      map_rows(1, t.n, turned.get() + j * stretch, stretch, [bias](Vec<T> x) { return x + bias; });
    }
    apply_activation(p.activation, p.n, t.n, turned.get(), stretch);
    transpose_copy(p.n, t.n, turned.get(), stretch, dst, p.dst_row);
  }
}

template <class T>
void gemm_typed(const GemmArgs& args, Exec& exec);

template <class T>
void gemm_one_by_one(const GemmArgs& g, Exec& exec) {
  GemmArgs one = g;
  one.batch = 1;
  for (int64_t i = 0; i < g.batch; ++i) {
    one.a = static_cast<const T*>(g.a) + i * g.a_batch;
    one.b = static_cast<const T*>(g.b) + i * g.b_batch;
    one.dst = static_cast<T*>(g.dst) + i * g.dst_batch;
    gemm_typed<T>(one, exec);
  }
}

template <class T>
void gemm_sliced(const GemmArgs& g, int64_t cols, Exec& exec) {
  GemmArgs slice = g;
  for (int64_t j = 0; j < g.n; j += cols) {
    slice.n = g.n - j < cols ? g.n - j : cols;
    slice.b = static_cast<const T*>(g.b) + j * g.b_col;
    slice.dst = static_cast<T*>(g.dst) + j;
    if (g.bias != nullptr) slice.bias = static_cast<const T*>(g.bias) + j;
    gemm_typed<T>(slice, exec);
  }
}

template <class T>
void pack_shared_b(const Product<T>& p, T* packed, Exec& exec) {
  const int64_t chunk = kBlockCols<T>;
  const int64_t chunks = ceil_div(p.n, chunk);
  const int64_t full_depth = tile_depth(p.k);
  const int64_t grain = 1 + 16384 / (full_depth * chunk);
  parallel_for(exec, chunks * ceil_div(p.k, full_depth), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p0 = i / chunks * full_depth, j = i % chunks * chunk;
      const int64_t depth = p.k - p0 < full_depth ? p.k - p0 : full_depth;
      pack_b(depth, p.n - j < chunk ? p.n - j : chunk, p.b + p0 * p.b_row + j * p.b_col, p.b_row, p.b_col,
             packed + p0 * p.packed_cols + j * depth);
    }
  });
}

// Rows cut into equal shares, and each at multiples of a tile's height. A thread's share is a run of blocks, the last
// of them cut into a half, a quarter and two eighths: a thread that a neighbour on its core slows down then leaves
// little to wait for.
struct RowParts {
  int64_t rows, tile, shares, blocks;  // blocks of one share
  bool tapered;
  int64_t per_share() const { return tapered ? blocks + 3 : blocks; }
  int64_t count() const { return shares * per_share(); }
  int64_t begin_of(int64_t part) const {
    const int64_t share = part / per_share(), i = part % per_share();
    const int64_t begin = rows * share / shares, end = rows * (share + 1) / shares;
    const int64_t eighths = i < blocks || !tapered ? 8 * i : 8 * blocks - (8 >> (i - blocks + 1));
    const int64_t at = begin + round_up((end - begin) * eighths / (8 * blocks), tile);
    return at < end ? at : end;
  }
};
template <class T>
RowParts row_parts_of(int64_t rows, int64_t work, int64_t blocks, int64_t threads) {
  constexpr int64_t kTile = GemmTile<T>::kRows;
  const int64_t tiles = ceil_div(rows, kTile);
  if (blocks > tiles) blocks = tiles;
  if (threads == 1 || blocks % threads != 0) return {rows, kTile, 1, blocks, false};
  return {rows, kTile, threads, blocks / threads, rows / blocks >= 16 * kTile && work / threads >= kLateWork};
}

// Whether few rows of A meet enough of a B that is contiguous along k for it to be read as the rows of tiles, which
// needs no packing: their columns are then A's rows, and vectors of them that are nearly full.
template <class T>
bool pays_turned(const Product<T>& p) {
  constexpr int64_t kLeast = 24, kMost = 192, kMostCrowded = kHighTiles<T> ? 128 : 0;
  const int64_t lanes = Vec<T>::size, idle = round_up(p.m, lanes) - p.m;
  return p.b_row == 1 && p.b_col != 1 && p.a_col == 1 && p.m >= kLeast &&
         p.m <= (crowds_cache<T>(p.b_col) ? kMostCrowded : kMost) && 10 * idle <= p.m && p.k >= 6 * p.m &&
         p.n >= 8 * GemmTile<T>::kRows;
}

constexpr int64_t kCrowdedBlock = 512 << 10;  // bytes of rows that share sets of L2, what lies between them included

// dst by its transpose, blocks of which are turned.
template <class T>
void multiply_turned(const Product<T>& p, Exec& exec) {
  Product<T> t = transpose_of(p);
  t.alpha = T(1);
  t.beta = T(0);
  t.activation = kNone;
  const bool plain = p.alpha == T(1) && p.beta == T(0) && p.bias == nullptr && p.activation == kNone;
  const int64_t work = p.m * p.n * p.k, threads = work >= kSerialWork ? exec.threads : 1;
  int64_t block = kBlockRows<T>;
  if (crowds_cache<T>(t.a_row)) {
    t.low_tiles = true;
    const int64_t bytes = (t.a_row < 0 ? -t.a_row : t.a_row) * static_cast<int64_t>(sizeof(T));
    if (bytes * block > kCrowdedBlock) block = kCrowdedBlock / bytes / 16 * 16 + 16;
  }
  const RowParts rows = row_parts_of<T>(t.m, work, round_up(ceil_div(t.m, block), threads), threads);
  t.packed_cols = round_up(t.n, int64_t{GemmTile<T>::kCols});
  Scratch<T> packed(exec, t.packed_cols * t.k);
  t.packed_b = packed;
  pack_shared_b(t, packed.get(), exec);
  t.dst_row = odd_lines<T>(t.n);
  parallel_for(exec, rows.count(), threads == 1 ? rows.count() : 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t j = rows.begin_of(part);
      Product<T> q = part_of(t, j, rows.begin_of(part + 1) - j, 0, t.n);
      Scratch<T> sums(exec, q.m * q.dst_row), turned(exec, plain ? 0 : q.m * q.n);
      q.dst = sums;
      multiply_by_tiles(q, exec);
      T* const dst = p.dst + j;
      const T* const bias = p.bias == nullptr ? nullptr : p.bias + j;
      if (plain)
        transpose_copy(q.m, q.n, sums.get(), q.dst_row, dst, p.dst_row);
      else
        finish_turned(p, q.n, q.m, sums.get(), q.dst_row, turned.get(), dst, bias);
    }
  });
}

template <class T>
void gemm_typed(const GemmArgs& args, Exec& exec) {
  using Tile = GemmTile<T>;
  GemmArgs g = args;
  if (g.batch > 1 && g.b_batch == 0 && g.a_batch == g.m * g.a_row && g.dst_batch == g.m * g.dst_row) {
    g.m *= g.batch;
    g.batch = 1;
  }
  if (g.m <= 0 || g.n <= 0 || g.batch <= 0) return;
  if (g.k <= 0) {  // the operands may be null then: no arithmetic on their addresses
    g.k = g.a_batch = g.a_row = g.a_col = g.b_batch = g.b_row = g.b_col = 0;
  }
  if (g.n == 1 && g.b_row == 1) g.b_col = g.k > 1 ? g.k : 2;  // a stride that is never taken: say "contiguous along k"
  if (g.m == 1 && g.a_col == 1) g.a_row = g.k > 1 ? g.k : 2;
  const int64_t work = g.m * g.n * g.k;
  const bool tall =
      g.m > kBlockRows<T> && g.n > kFewRows && work >= kSerialWork;  // several row ranges, worth a B of their own
  if (tall && g.batch > 1 && g.b_batch != 0) return gemm_one_by_one<T>(g, exec);
  const int64_t slice = kSharedB / (g.k + 1) / Tile::kCols * Tile::kCols;
  if (tall && g.n > slice && slice >= 4 * Tile::kCols) return gemm_sliced<T>(g, slice, exec);
  Product<T> p{g.m,
               g.n,
               g.k,
               static_cast<const T*>(g.a),
               static_cast<const T*>(g.b),
               static_cast<T*>(g.dst),
               static_cast<const T*>(g.bias),
               g.a_row,
               g.a_col,
               g.b_row,
               g.b_col,
               g.dst_row,
               static_cast<T>(g.alpha),
               static_cast<T>(g.beta),
               g.activation};
  if (g.batch == 1 && pays_turned(p)) return multiply_turned(p, exec);
  const int64_t row_bytes = (p.dst_row | g.dst_batch) * static_cast<int64_t>(sizeof(T));
  const int64_t bytes = g.batch * p.m * p.n * static_cast<int64_t>(sizeof(T));
  p.past_cache = kHighTiles<T> && p.beta == T(0) && p.activation == kNone && worth_streaming(g.dst, row_bytes, bytes);
  const bool strided_vector = p.n == 1 && p.b_row != 1 && p.a_col == 1;  // gathered once, then the rest is in order
  const bool few_columns = p.n <= kFewRows && (p.m > kFewRows || strided_vector);
  const Path path = path_of(few_columns ? transpose_of(p) : p);

  // The grid: row blocks that fit L2, their number and the columns' rounded up so that threads have equal shares.
  const int64_t traffic = p.n <= kFewRows ? p.m * p.k : p.m <= kFewRows ? p.n * p.k : 0;
  const bool forks = exec.threads > 1 && (work * g.batch >= kSerialWork || traffic * g.batch >= kSerialTraffic);
  const bool splits = forks && (work >= kSerialWork || traffic >= kSerialTraffic) && g.batch < 2 * exec.threads;
  int64_t row_parts = ceil_div(p.m, kBlockRows<T>);
  int64_t col_parts = 1;
  if (splits) {
    const int64_t threads = exec.threads;
    const int64_t max_rows = ceil_div(p.m, int64_t{Tile::kRows});
    const int64_t max_cols = ceil_div(p.n, int64_t{Tile::kCols});
    if (few_columns && path != Path::kAlongDepth) {
      row_parts = threads;  // long stretches
    } else if (p.n <= kFewRows || row_parts >= threads) {
      row_parts = round_up(row_parts, threads);
    } else if (p.m >= 2 * p.n && p.m / threads >= 8 * Tile::kRows) {
      row_parts = threads;  // what each thread packs for itself is the smaller operand
    } else {
      col_parts = ceil_div(threads, row_parts);
      if (col_parts > max_cols || p.n < 2 * Tile::kCols * col_parts) {
        row_parts = row_parts * col_parts;
        col_parts = 1;
      }
    }
    if (row_parts > max_rows) row_parts = max_rows;
  }
  const int64_t panels = ceil_div(p.n, int64_t{Tile::kCols});
  const bool shares_b = path == Path::kTiles && p.m > kFewRows && !few_columns && row_parts * g.batch > 1 &&
                        (g.batch == 1 || g.b_batch == 0) && p.n <= slice && !uses_b_in_place(p, p.m * g.batch);
  Scratch<T> packed_b(exec, shares_b ? panels * Tile::kCols * p.k : 0);
  if (shares_b) {
    p.packed_b = packed_b;
    p.packed_cols = panels * Tile::kCols;
    const int64_t threads = splits ? exec.threads : 1;
    if (g.batch == 1 && p.b_col == 1 && p.m >= 4 * kPackingRows<T> && panels >= 4 * threads) {
      parallel_for(exec, threads, 1, [&](int64_t begin, int64_t end) {
        const int64_t j0 = panels * begin / threads * Tile::kCols;
        const int64_t j1 = end == threads ? p.n : panels * end / threads * Tile::kCols;
        Product<T> top = part_of(p, 0, kPackingRows<T>, j0, j1 - j0);
        top.packs_b = true;
        multiply_by_tiles(top, exec);
        if (p.past_cache) stream_fence();
      });
      p = part_of(p, kPackingRows<T>, p.m - kPackingRows<T>, 0, p.n);
    } else {
      pack_shared_b(p, packed_b.get(), exec);
    }
  }
  const RowParts rows = row_parts_of<T>(p.m, work, row_parts, splits && col_parts == 1 ? exec.threads : 1);
  row_parts = rows.count();
  const int64_t parts = row_parts * col_parts;
  const int64_t grain = splits ? 1 : forks ? 1 + kSerialWork / (4 * (work / parts + 1)) : parts * g.batch;
  parallel_for(exec, parts * g.batch, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t matrix = task / parts, part = task % parts;
      const int64_t row = part / col_parts, col = part % col_parts;
      const int64_t i0 = rows.begin_of(row), i1 = rows.begin_of(row + 1);
      const int64_t j0 = panels * col / col_parts * Tile::kCols;
      const int64_t j1 = col + 1 == col_parts ? p.n : panels * (col + 1) / col_parts * Tile::kCols;
      Product<T> q = part_of(p, i0, i1 - i0, j0, j1 - j0);
      q.a += matrix * g.a_batch;
      q.b += matrix * g.b_batch;
      q.dst += matrix * g.dst_batch;
      few_columns ? multiply_few_columns(path, q, exec) : multiply_by(path, q, exec);
    }
    if (p.past_cache) stream_fence();
  });
}

void gemm(const GemmArgs& args, Exec& exec) noexcept {
  if (args.dtype == DType::float64) {
    gemm_typed<double>(args, exec);
  } else {
    gemm_typed<float>(args, exec);
  }
}

template <class T>
void gemm_block_typed(const GemmBlockArgs& args) {
  const BlockSpec<T>& s = *static_cast<const BlockSpec<T>*>(args.spec);
  const auto multiply = s.b_row == 1 ? multiply_dots<T> : multiply_tiles<T>;
  multiply(s, args.rows, args.cols, static_cast<const T*>(args.a), static_cast<const T*>(args.b),
           static_cast<T*>(args.dst), static_cast<const T*>(args.bias));
}

void gemm_block(const GemmBlockArgs& args, Exec&) noexcept {
  args.dtype == DType::float64 ? gemm_block_typed<double>(args) : gemm_block_typed<float>(args);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(gemm) {
  table.gemm = pydl::gemm;
  table.gemm_block = pydl::gemm_block;
}
