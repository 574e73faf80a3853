// The place of the extreme along an axis: the first of equals, and a NaN before everything. One row (inner == 1) is
// searched block by block, first for a block's extreme, then, in the best block alone, for its place; columns are
// searched side by side, and so are short rows, turned into columns.
#include "backend/cpu/rows.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kArgBlock = 2048;    // elements whose extreme is found before anything is compared
constexpr int64_t kArgPiece = 32768;   // of a row: one item of work
constexpr int64_t kArgColumns = 256;   // side by side
constexpr int64_t kArgRows = 1 << 30;  // whose number fits 32 bits
constexpr int64_t kArgGrain = 8192;
constexpr int64_t kArgShortRows = 64;  // that are turned at once

// a comes before b: greater (or less), or the first NaN.
template <bool is_max, class V>
PYDL_INLINE auto better(V a, V b) {
  const auto beats = is_max ? a > b : a < b;
  return beats | (isnan(a) & !isnan(b));
}

template <bool is_max, class V>
typename V::Lane extreme(const typename V::Lane* x, int64_t n) {
  const auto join = [](auto a, auto b) { return is_max ? max(a, b) : min(a, b); };
  V a(x[0]), b(x[0]);
  int64_t i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    a = join(a, V::load(x + i));
    b = join(b, V::load(x + i + V::size));
  }
  a = join(a, b);
  Scalar<typename V::Lane> best(is_max ? reduce_max(a) : reduce_min(a));
  for (; i < n; ++i) best = join(best, Scalar<typename V::Lane>(x[i]));
  return best.raw;
}

template <bool is_max, class V>
int64_t place_in_row(const typename V::Lane* x, int64_t n) {
  using S = Scalar<typename V::Lane>;
  S best(extreme<is_max, V>(x, n < kArgBlock ? n : kArgBlock));
  int64_t block = 0;
  for (int64_t i = kArgBlock; i < n; i += kArgBlock) {
    const S found(extreme<is_max, V>(x + i, n - i < kArgBlock ? n - i : kArgBlock));
    if (!better<is_max>(found, best).raw) continue;
    best = found;
    block = i;
  }
  const V wanted(best.raw);
  for (; block + V::size <= n; block += V::size) {
    const V found = V::load(x + block);
    if (((found == wanted) | (isnan(found) & isnan(wanted))).any()) break;
  }
  while (!((S(x[block]) == best) | (isnan(S(x[block])) & isnan(best))).raw) ++block;
  return block;
}

template <bool is_max, class V>
void arg_rows(const ArgReduceArgs& args, Exec& exec) {
  using T = typename V::Lane;
  using S = Scalar<T>;
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  const int64_t n = args.n, pieces = (n + kArgPiece - 1) / kArgPiece;
  Scratch<int64_t> places(exec, pieces > 1 ? args.outer * pieces : 0);
  parallel_for(exec, args.outer * pieces, 1 + kArgGrain / n, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t o = pieces > 1 ? k / pieces : k, first = (k - o * pieces) * kArgPiece;
      const T* row = src + o * n;
      const int64_t at = first + place_in_row<is_max, V>(row + first, n - first < kArgPiece ? n - first : kArgPiece);
      if (pieces > 1) {
        places[k] = at;
      } else {
        args.index[o] = at;
        if (value != nullptr) value[o] = row[at];
      }
    }
  });
  if (pieces == 1) return;
  for (int64_t o = 0; o < args.outer; ++o) {
    const T* row = src + o * n;
    int64_t best = places[o * pieces];
    for (int64_t k = 1; k < pieces; ++k) {
      const int64_t at = places[o * pieces + k];
      if (better<is_max>(S(row[at]), S(row[best])).raw) best = at;
    }
    args.index[o] = best;
    if (value != nullptr) value[o] = row[best];
  }
}

// Of `cols` columns, at most kArgColumns, of src (n, inner); value may be null.
template <bool is_max, class T>
__attribute__((noinline)) void search_columns(const T* src, int64_t n, int64_t inner, int64_t cols, int64_t* index,
                                              T* value) {
  using Place = LaneInt<std::conditional_t<sizeof(T) < 4, int32_t, T>>;  // as wide as T, where that is enough
  T best[kArgColumns];
  Place place[kArgColumns];  // within kArgRows, -1: before
  for (int64_t c = 0; c < cols; ++c) {
    best[c] = src[c];
    index[c] = 0;
  }
  for (int64_t first = 0; first < n; first += kArgRows) {
    const int64_t rows = n - first < kArgRows ? n - first : kArgRows;
    for (int64_t c = 0; c < cols; ++c) place[c] = -1;
    for (int64_t k = 0; k < rows; ++k) {
      const T* x = src + (first + k) * inner;
      for (int64_t c = 0; c < cols; ++c) {
        // Not better(): comparisons joined without branches, which the compiler makes vectors of.
        const T old = best[c];
        const bool beats = is_max ? x[c] > old : x[c] < old;
        const bool wins = beats | ((x[c] != x[c]) & (old == old));
        best[c] = wins ? x[c] : old;
        place[c] = wins ? static_cast<Place>(k) : place[c];
      }
    }
    for (int64_t c = 0; c < cols; ++c) {
      if (place[c] >= 0) index[c] = first + place[c];
    }
  }
  for (int64_t c = 0; value != nullptr && c < cols; ++c) value[c] = best[c];
}

template <bool is_max, class T>
void arg_columns(const ArgReduceArgs& args, Exec& exec) {
  const int64_t n = args.n, inner = args.inner, blocks = ceil_div(inner, kArgColumns);
  const int64_t width = inner < kArgColumns ? inner : kArgColumns;
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  parallel_for(exec, args.outer * blocks, 1 + kArgGrain / (n * width), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t o = block / blocks, col = block % blocks * kArgColumns, at = o * inner + col;
      const int64_t cols = inner - col < kArgColumns ? inner - col : kArgColumns;
      search_columns<is_max>(src + o * n * inner + col, n, inner, cols, args.index + at,
                             value != nullptr ? value + at : nullptr);
    }
  });
}

template <bool is_max, class T>
void arg_short_rows(const ArgReduceArgs& args, Exec& exec) {
  const int64_t n = args.n, blocks = ceil_div(args.outer, kArgShortRows);
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  parallel_for(exec, blocks, 1 + kArgGrain / (n * kArgShortRows), [&](int64_t begin, int64_t end) {
    alignas(64) T turned[kShortRow<T> * kArgShortRows];
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * kArgShortRows;
      const int64_t rows = args.outer - row < kArgShortRows ? args.outer - row : kArgShortRows;
      transpose_copy(rows, n, src + row * n, n, turned, kArgShortRows, int64_t{0});
      search_columns<is_max>(turned, n, kArgShortRows, rows, args.index + row,
                             value != nullptr ? value + row : nullptr);
    }
  });
}

template <bool is_max, class V>
void arg_typed(const ArgReduceArgs& args, Exec& exec) {
  using T = typename V::Lane;
  if constexpr (sizeof(T) >= 4)
    if (args.inner == 1 && is_short_row<T>(args.n, args.inner) && args.outer > 1)
      return arg_short_rows<is_max, T>(args, exec);
  if (args.inner == 1)
    arg_rows<is_max, V>(args, exec);
  else
    arg_columns<is_max, T>(args, exec);
}

template <bool is_max>
void arg_any(const ArgReduceArgs& args, Exec& exec) {
  switch (args.dtype) {
    case DType::boolean:
    case DType::uint8:
      return arg_typed<is_max, Scalar<uint8_t>>(args, exec);
    case DType::int8:
      return arg_typed<is_max, Scalar<int8_t>>(args, exec);
    case DType::uint16:
      return arg_typed<is_max, Scalar<uint16_t>>(args, exec);
    case DType::int16:
      return arg_typed<is_max, Scalar<int16_t>>(args, exec);
    case DType::uint32:
      return arg_typed<is_max, Scalar<uint32_t>>(args, exec);
    case DType::int32:
      return arg_typed<is_max, Scalar<int32_t>>(args, exec);
    case DType::uint64:
      return arg_typed<is_max, Scalar<uint64_t>>(args, exec);
    case DType::int64:
      return arg_typed<is_max, Scalar<int64_t>>(args, exec);
    case DType::float32:
      return arg_typed<is_max, Vec<float>>(args, exec);
    case DType::float64:
      return arg_typed<is_max, Vec<double>>(args, exec);
    default:
      return;
  }
}

void arg_reduce_kernel(const ArgReduceArgs& args, Exec& exec) noexcept {
  if (args.n <= 0 || args.outer <= 0 || args.inner <= 0) return;
  args.max ? arg_any<true>(args, exec) : arg_any<false>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(arg_reduce) { table.arg_reduce = pydl::arg_reduce_kernel; }
