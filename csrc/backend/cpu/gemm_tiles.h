// The register micro-kernels of the matrix product, and the loop over the tiles of one block. Only gemm.cpp and
// gemm_bf16.cpp include this; the other families reach it by multiply_block().
#pragma once
#include "backend/cpu/gemm_kernel.h"

namespace pydl {
namespace {

// What a tile does with an element of A, one vector of B and one of its sums.
struct MultiplyAdd {
  template <class V>
  static PYDL_INLINE V add(V a, V b, V sum) {
    return fma(a, b, sum);
  }
};

template <class Dot>
constexpr bool kPacks = false;  // whether tiles may pack B meanwhile
template <>
constexpr bool kPacks<MultiplyAdd> = true;

// What a tile asks memory for while it multiplies, every kSteps of k: some pairs of lines from `at` on into L2, and
// some rows of its own sums. All at once they would fill the queue of misses, and A and B, which come from L2, would
// wait behind.
struct Ahead {
  const char* at;
  int64_t pairs, step, rows;
  int64_t packed = 0, packs = 0;  // rows of BlockSpec::packing that are done, and how many follow every kSteps
};
#if defined(__AVX512F__)
constexpr int64_t kSteps = 8;
#else
constexpr int64_t kSteps = 16;  // of smaller tiles
#endif

// Hands each tile its share of what is needed soon.
class Fetch {
 public:
  // Of tiles of depth k and at most `rows` rows, `turns` in all.
  Fetch(int64_t k, int64_t rows, int64_t turns) : steps_(k > kSteps ? ceil_div(k, kSteps) : 1), turns_(turns) {
    ahead_ = {nullptr, 0, 0, ceil_div(rows, steps_)};
  }
  void pack(int64_t k) { ahead_.packs = ceil_div(k, turns_ * steps_); }
  void start(const Stretch* stretches, int count) {
    int64_t pairs = 0;
    for (int i = 0; i < count; ++i) pairs += ceil_div(stretches[i].bytes, stretches[i].step);
    pairs_ = ceil_div(pairs, turns_ * steps_);
    next_ = stretches;
    last_ = stretches + count;
    take_next();
  }
  const Ahead& share() const { return ahead_; }
  // One tile's share instead: all of a stretch.
  Ahead whole(const Stretch& stretch) const {
    return {stretch.at,  ceil_div(stretch.bytes, stretch.step * steps_), stretch.step, ahead_.rows, ahead_.packed,
            ahead_.packs};
  }
  void advance() {
    ahead_.packed += ahead_.packs * steps_;
    ahead_.at += ahead_.pairs * steps_ * ahead_.step;
    if (ahead_.at >= end_) take_next();
  }

 private:
  void take_next() {
    ahead_.pairs = next_ == last_ ? 0 : pairs_;
    if (next_ == last_) return;
    ahead_.at = next_->at;
    ahead_.step = next_->step;
    end_ = next_->at + next_->bytes;
    ++next_;
  }

  int64_t steps_, turns_, pairs_ = 0;
  Ahead ahead_;
  const char* end_ = nullptr;
  const Stretch *next_ = nullptr, *last_ = nullptr;
};

template <class T>
PYDL_INLINE void pack_row(const Packing<T>& packing, int64_t p) {
  using Tile = GemmTile<T>;
  constexpr int64_t kAhead = 8;
  const T* from = packing.from + p * packing.row;
  T* to = packing.to + p * Tile::kCols;
  for (int c = 0; c < Tile::kCols; c += kLine<T>) __builtin_prefetch(from + kAhead * packing.row + c);
  __builtin_prefetch(from + kAhead * packing.row + Tile::kCols - 1);  // one line more where rows are not aligned
  Vec<T>::load(from).store(to);
  Vec<T>::load(from + Tile::kLanes).store(to + Tile::kLanes);
}

template <class T, class Dot, int kRows, int kVectors>
__attribute__((noinline)) void multiply_tile(const BlockSpec<T>& s, const T* a, const T* b, T* dst, const T* bias,
                                             const Ahead& ahead) {
  using V = Vec<T>;
  constexpr int kLanes = V::size;
  constexpr int kGroups = (kRows + 2) / 3;  // three rows share a base register: x86 addresses base + {0, 1, 2} * row
  constexpr int kSums = kRows * kVectors;
  Unset<V, kSums> sum;
  repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] = V(); });
  const T* rows[kGroups];
  repeat<kGroups>([&](auto g) PYDL_LAMBDA { rows[g] = a + 3 * g * s.a_row; });
  const int64_t a_row = s.a_row, a_col = s.a_col, b_row = s.b_row, b_panel = s.b_panel, dst_row = s.dst_row;
  const char* at = ahead.at;
  RowRequests<T> requests(dst, dst_row, kRows);
  int64_t packed = ahead.packed;
  for (int64_t left = s.k; left > 0; left -= kSteps) {
    if constexpr (kPacks<Dot> && kVectors == 2 && 2 * kRows >= GemmTile<T>::kRows) {  // heights of more than kRows rows
      for (int64_t end = packed + ahead.packs < s.k ? packed + ahead.packs : s.k; packed < end; ++packed)
        pack_row(s.packing, packed);
    }
    for (int64_t pair = 0; pair < ahead.pairs; ++pair, at += ahead.step) {
      __builtin_prefetch(at, 0, 2);
      __builtin_prefetch(at + 64, 0, 2);
    }
    requests.template send<kVectors * kLanes>(ahead.rows);
    for (int64_t p = left < kSteps ? left : kSteps; p > 0; --p) {
      Unset<V, kVectors> bv;
      repeat<kVectors>([&](auto v) PYDL_LAMBDA { bv[v] = V::load(b + (v / 2) * b_panel + (v % 2) * kLanes); });
      repeat<kRows>([&](auto i) PYDL_LAMBDA {
        const V av(rows[i / 3][(i % 3) * a_row]);
        repeat<kVectors>([&](auto v)
                             PYDL_LAMBDA { sum[i * kVectors + v] = Dot::add(av, bv[v], sum[i * kVectors + v]); });
      });
      repeat<kGroups>([&](auto g) PYDL_LAMBDA { rows[g] += a_col; });
      b += b_row;
    }
  }
  if (s.beta == T(1))
    repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] += V::load(dst + x / kVectors * dst_row + x % kVectors * kLanes); });
  if (bias != nullptr) repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] += V::load(bias + x % kVectors * kLanes); });
  if constexpr (kHighTiles<T> && kVectors == 2 && kRows + 1 >= GemmTile<T>::kRows) {  // the heights of many rows
    if (s.past_cache) {
      repeat<kSums>(
          [&](auto x) PYDL_LAMBDA { put<true>(sum[x], dst + x / kVectors * dst_row + x % kVectors * kLanes, kLanes); });
      return;
    }
  }
  repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x].store(dst + x / kVectors * dst_row + x % kVectors * kLanes); });
}

template <class T>
using TileFunction = void (*)(const BlockSpec<T>&, const T*, const T*, T*, const T*, const Ahead&);

template <class T, class Dot, int kVectors, int kRows = GemmTile<T>::kRows>
PYDL_INLINE TileFunction<T> tile_function(int64_t rows) {
  if constexpr (kRows == 1) {
    return multiply_tile<T, Dot, 1, kVectors>;
  } else {
    if (rows == kRows) return multiply_tile<T, Dot, kRows, kVectors>;
    return tile_function<T, Dot, kVectors, kRows - 1>(rows);
  }
}

template <class T, class Dot>
PYDL_INLINE TileFunction<T> wide_tile_function(int64_t rows) {
  using Tile = GemmTile<T>;
  return rows == 1   ? multiply_tile<T, Dot, 1, Tile::wide_vectors(1)>
         : rows == 2 ? multiply_tile<T, Dot, 2, Tile::wide_vectors(2)>
                     : multiply_tile<T, Dot, 3, Tile::wide_vectors(3)>;
}

// A tile by way of its sums in memory: it has fewer columns than its vectors hold (B's panel has zeros there, dst has
// nothing), or factors that tiles don't know.
template <class T>
__attribute__((noinline)) void multiply_tile_by_sums(const BlockSpec<T>& s, TileFunction<T> tile, const T* a,
                                                     const T* b, T* dst, const T* bias, const Ahead& ahead, int rows,
                                                     int cols) {
  constexpr int kRow = GemmTile<T>::kCols;
  T sums[GemmTile<T>::kRows * kRow];
  BlockSpec<T> plain = s;
  plain.dst_row = kRow;
  plain.alpha = T(1);
  plain.beta = T(0);
  plain.past_cache = false;
  const T* no_bias = nullptr;
  Ahead without_sums = ahead;
  without_sums.rows = 0;
  tile(plain, a, b, sums, no_bias, without_sums);
  finish_rows(s, sums, kRow, rows, cols, dst, bias);
}

// What of A the tile below one of `height` rows at `a` reads: columns, or rows that follow each other.
template <class T>
Stretch tile_below(const BlockSpec<T>& s, const T* a, int64_t height) {
  constexpr int64_t kItem = static_cast<int64_t>(sizeof(T));
  const char* next = reinterpret_cast<const char*>(a + height * s.a_row);
  if (s.a_row == 1) return {next + height * kItem - 65, s.k * s.a_col * kItem, s.a_col * kItem};
  return {next, s.a_row < 2 * s.k ? height * s.a_row * kItem : 0, kPairOfLines};
}

// dst (rows, cols) = alpha * a @ b + beta * dst + bias for one block of depth s.k, for each group.
template <class T, class Dot = MultiplyAdd>
void multiply_tiles(const BlockSpec<T>& s, int64_t rows, int64_t cols, const T* a, const T* b, T* dst, const T* bias) {
  using Tile = GemmTile<T>;
  if (rows <= 0 || cols <= 0 || s.groups <= 0) return;
  const RowTiles tiles = row_tiles<T>(rows, s.low_tiles ? kLowTile<T> : int64_t{Tile::kRows});
  // Where the caller names nothing that is needed soon, the next panel of B is; with few tiles reading B is all there
  // is to do.
  constexpr int64_t kItem = static_cast<int64_t>(sizeof(T));
  const bool named = s.soon.count > 0, packed = s.b_row == Tile::kCols;
  const int64_t panel_bytes = s.k * s.b_row * kItem;
  const int64_t panel_turns = tiles.count * s.groups;
  const bool packs = s.packing.to != nullptr;
  const bool next_panels =
      !named && !packs && (packed ? panel_turns >= 4 : kHighTiles<T> && s.b_row * kItem > kNearRows);
  Fetch fetch(s.k, s.past_cache ? 0 : Tile::kRows,
              named ? panel_turns * ceil_div(cols, int64_t{Tile::kCols}) : panel_turns);
  if (named) fetch.start(s.soon.stretches, s.soon.count);
  if (packs) fetch.pack(s.k);
  const bool plain = s.alpha == T(1) && (s.beta == T(0) || s.beta == T(1));  // the factors that tiles know
  const int64_t wide = plain && rows <= 3 ? Tile::wide_vectors(static_cast<int>(rows)) * Tile::kLanes : 0;
  for (int64_t j = 0; j < cols;) {
    const bool is_wide = wide != 0 && cols - j >= wide;
    const int64_t step = is_wide ? wide : Tile::kCols;
    const int width = static_cast<int>(cols - j < step ? cols - j : step);
    const T* bias_j = bias == nullptr ? nullptr : bias + j;
    const T* b_j = b + j / Tile::kCols * s.b_panel;
    // In place, the last two lines of each row that it reads: the line before may be this panel's last.
    const Stretch next_panel =
        packed ? Stretch{reinterpret_cast<const char*>(b_j) + panel_bytes, panel_bytes, kPairOfLines}
               : Stretch{reinterpret_cast<const char*>(b_j + 2 * Tile::kCols) - 65, panel_bytes, s.b_row * kItem};
    if (next_panels) fetch.start(&next_panel, packed || (!is_wide && j + step < cols) ? 1 : 0);
    for (int64_t group = 0; group < s.groups; ++group) {
      const T* a_i = a + group * s.a_group;
      T* dst_i = dst + group * s.dst_group + j;
      for (int part = 0; part < 2; ++part) {
        const int64_t height = tiles.height + (part == 0 ? 1 : 0);
        const int64_t count = part == 0 ? tiles.tall : tiles.count - tiles.tall;
        if (count == 0) continue;
        const TileFunction<T> tile = is_wide                 ? wide_tile_function<T, Dot>(height)
                                     : width <= Tile::kLanes ? tile_function<T, Dot, 1>(height)
                                                             : tile_function<T, Dot, 2>(height);
        for (int64_t t = 0; t < count; ++t) {
          const Ahead ahead = s.a_is_far && j == 0 ? fetch.whole(tile_below(s, a_i, height)) : fetch.share();
          if (plain && (width == step || width == Tile::kLanes)) {
            tile(s, a_i, b_j, dst_i, bias_j, ahead);
          } else {
            multiply_tile_by_sums(s, tile, a_i, b_j, dst_i, bias_j, ahead, static_cast<int>(height), width);
          }
          fetch.advance();
          a_i += height * s.a_row;
          dst_i += height * s.dst_row;
        }
      }
    }
    j += step;
  }
}

}  // namespace
}  // namespace pydl
