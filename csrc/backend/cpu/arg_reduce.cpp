// The place of the extreme along an axis: the first of equals, and a NaN before everything. One row (inner == 1) is
// searched block by block, first for a block's extreme, then, in the best block alone, for its place; columns are
// searched side by side, and so are short rows, turned into columns. Every search is one for the greatest of signed
// integers or of floats: others are brought into that order as they are read.
#include "backend/cpu/columns.h"
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
constexpr int64_t kArgShortRow = 32;   // integers of a row, up to which they are compared one by one

// Turns elements into keys, whose greatest is wanted, and back: the order of unsigned integers becomes that of signed
// ones, and the least becomes the greatest. For floats the compiler is told which of both is wanted.
template <class T, bool least>
struct Turn {
  T by;

  explicit Turn(const ArgReduceArgs& args) {
    const uint64_t top = is_signed(args.dtype) ? 0 : uint64_t{1} << (8 * sizeof(T) - 1);
    by = static_cast<T>(args.max ? top : ~top);
  }
  template <class V>
  PYDL_INLINE V operator()(V x) const {
    if constexpr (!std::is_floating_point<T>::value)
      return x ^ V(by);
    else if constexpr (least)
      return -x;
    else
      return x;
  }
};

// a comes before b: greater, or the first NaN.
template <class V>
PYDL_INLINE auto better(V a, V b) {
  return (a > b) | (isnan(a) & !isnan(b));
}

// The greatest key.
template <class V, class Order>
typename V::Lane extreme(const typename V::Lane* x, int64_t n, Order turn) {
  using S = Scalar<typename V::Lane>;
  V a = turn(V(x[0])), b = a;
  int64_t i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    a = max(a, turn(V::load(x + i)));
    b = max(b, turn(V::load(x + i + V::size)));
  }
  S best(reduce_max(max(a, b)));
  for (; i < n; ++i) best = max(best, turn(S(x[i])));
  return best.raw;
}

template <class V, class Order>
int64_t place_in_row(const typename V::Lane* x, int64_t n, Order turn) {
  using S = Scalar<typename V::Lane>;
  if (!std::is_floating_point<typename V::Lane>::value && n <= kArgShortRow) {
    int64_t place = 0;
    for (int64_t i = 1; i < n; ++i) place = turn(S(x[i])).raw > turn(S(x[place])).raw ? i : place;
    return place;
  }
  S best(extreme<V>(x, n < kArgBlock ? n : kArgBlock, turn));
  int64_t block = 0;
  for (int64_t i = kArgBlock; i < n; i += kArgBlock) {
    const S found(extreme<V>(x + i, n - i < kArgBlock ? n - i : kArgBlock, turn));
    if (!better(found, best).raw) continue;
    best = found;
    block = i;
  }
  const V wanted(best.raw);
  for (; block + V::size <= n; block += V::size) {
    const V found = turn(V::load(x + block));
    if (((found == wanted) | (isnan(found) & isnan(wanted))).any()) break;
  }
  while (!((turn(S(x[block])) == best) | (isnan(S(x[block])) & isnan(best))).raw) ++block;
  return block;
}

template <class V, bool least>
void arg_rows(const ArgReduceArgs& args, Exec& exec) {
  using T = typename V::Lane;
  using S = Scalar<T>;
  const Turn<T, least> turn(args);
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  const int64_t n = args.n, pieces = (n + kArgPiece - 1) / kArgPiece;
  Scratch<int64_t> places(exec, pieces > 1 ? args.outer * pieces : 0);
  parallel_for(exec, args.outer * pieces, 1 + kArgGrain / n, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t o = pieces > 1 ? k / pieces : k, first = (k - o * pieces) * kArgPiece;
      const T* row = src + o * n;
      const int64_t at = first + place_in_row<V>(row + first, n - first < kArgPiece ? n - first : kArgPiece, turn);
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
      if (better(turn(S(row[at])), turn(S(row[best]))).raw) best = at;
    }
    args.index[o] = best;
    if (value != nullptr) value[o] = row[best];
  }
}

// Of `cols` columns, at most kArgColumns, of src (n, inner); value may be null.
template <class T, class Order>
__attribute__((noinline)) void search_columns(const T* src, int64_t n, int64_t inner, int64_t cols, Order turn,
                                              int64_t* index, T* value) {
  using Place = LaneInt<std::conditional_t<sizeof(T) < 4, int32_t, T>>;  // as wide as T, where that is enough
  T best[kArgColumns];
  Place place[kArgColumns];  // within kArgRows, -1: before
  for (int64_t c = 0; c < cols; ++c) {
    best[c] = turn(Scalar<T>(src[c])).raw;
    index[c] = 0;
  }
  for (int64_t first = 0; first < n; first += kArgRows) {
    const int64_t rows = n - first < kArgRows ? n - first : kArgRows;
    for (int64_t c = 0; c < cols; ++c) place[c] = -1;
    for (int64_t k = 0; k < rows; ++k) {
      const T* x = src + (first + k) * inner;
      for (int64_t c = 0; c < cols; ++c) {
        // Not better(): comparisons joined without branches, which the compiler makes vectors of.
        const T old = best[c], key = turn(Scalar<T>(x[c])).raw;
        const bool wins = (key > old) | ((key != key) & (old == old));
        best[c] = wins ? key : old;
        place[c] = wins ? static_cast<Place>(k) : place[c];
      }
    }
    for (int64_t c = 0; c < cols; ++c) {
      if (place[c] >= 0) index[c] = first + place[c];
    }
  }
  for (int64_t c = 0; value != nullptr && c < cols; ++c) value[c] = turn(Scalar<T>(best[c])).raw;
}

template <class T, bool least>
void arg_columns(const ArgReduceArgs& args, Exec& exec) {
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  each_column_block(exec, args, kArgColumns, kArgGrain, [&](int64_t o, int64_t col, int64_t cols) {
    const int64_t at = o * args.inner + col;
    search_columns(src + o * args.n * args.inner + col, args.n, args.inner, cols, Turn<T, least>(args), args.index + at,
                   value != nullptr ? value + at : nullptr);
  });
}

template <class T, bool least>
void arg_short_rows(const ArgReduceArgs& args, Exec& exec) {
  const int64_t n = args.n, blocks = ceil_div(args.outer, kArgShortRows);
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  parallel_for(exec, blocks, 1 + kArgGrain / (n * kArgShortRows), [&](int64_t begin, int64_t end) {
    alignas(64) T turned[kShortRow<T> * kArgShortRows];
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * kArgShortRows;
      const int64_t rows = args.outer - row < kArgShortRows ? args.outer - row : kArgShortRows;
      transpose_copy(rows, n, src + row * n, n, turned, kArgShortRows);
      search_columns(turned, n, kArgShortRows, rows, Turn<T, least>(args), args.index + row,
                     value != nullptr ? value + row : nullptr);
    }
  });
}

template <class V, bool least = false>
void arg_typed(const ArgReduceArgs& args, Exec& exec) {
  using T = typename V::Lane;
  if constexpr (sizeof(T) >= 4)
    if (args.inner == 1 && is_short_row<T>(args.n, args.inner) && args.outer > 1)
      return arg_short_rows<T, least>(args, exec);
  if (args.inner == 1)
    arg_rows<V, least>(args, exec);
  else
    arg_columns<T, least>(args, exec);
}

void arg_reduce_kernel(const ArgReduceArgs& args, Exec& exec) noexcept {
  if (args.n <= 0 || args.outer <= 0 || args.inner <= 0) return;
  if (args.dtype == DType::float32)
    return args.max ? arg_typed<Vec<float>>(args, exec) : arg_typed<Vec<float>, true>(args, exec);
  if (args.dtype == DType::float64)
    return args.max ? arg_typed<Vec<double>>(args, exec) : arg_typed<Vec<double>, true>(args, exec);
  switch (item_size(args.dtype)) {
    case 1:
      return arg_typed<Scalar<int8_t>>(args, exec);
    case 2:
      return arg_typed<Scalar<int16_t>>(args, exec);
    case 4:
      return arg_typed<Scalar<int32_t>>(args, exec);
    default:
      return arg_typed<Scalar<int64_t>>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(arg_reduce) { table.arg_reduce = pydl::arg_reduce_kernel; }
