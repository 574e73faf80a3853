// Reductions of one axis: sums, products, extremes, norms' terms, truth. Extremes' places and moments are in
// arg_reduce.cpp and moments.cpp.
//
// Floats add several rows (or vectors of a row) at a time; a piece of fixed size makes one partial result, and partial
// results are combined as a tree, so that errors grow with the logarithm of n beyond a piece and the order depends on
// the shape alone. Where the inner axis is narrow, (n, inner) is seen as (n / k, k * inner) and the k results of a
// column are combined at the end. Rows are folded to a vector each, and the vectors of several rows to results
// together. Integers of fewer bits and booleans are widened to int64, run by run.
#include "backend/cpu/convert.h"
#include "backend/cpu/unroll.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kPieceRows = 256;   // rows that one accumulator takes in
constexpr int64_t kBlockCols = 1024;  // columns of one item of work; their accumulators stay in L1
constexpr int64_t kFoldWidth = 64;    // narrower ones are folded to about this
constexpr int64_t kRowPiece = 16384;  // elements of a row that one set of accumulators takes in
constexpr int64_t kItemWork = 16384;  // elements that are worth a fork
constexpr int64_t kWideBlock = 1024;  // elements that are widened at once; read when they have left the store buffer
constexpr int64_t kRowsAtOnce = 64;   // whose results wait to be stored together

// The ops: map(x) is what one element contributes, combine joins contributions, identity is that of nothing.
struct Identity {
  template <class V>
  static PYDL_INLINE V map(V x) {
    return x;
  }
};
struct Add {
  template <class V>
  static PYDL_INLINE V combine(V a, V b) {
    return a + b;
  }
  template <class T>
  static constexpr T identity() {
    return T(0);
  }
};
template <class T>
constexpr bool kIsReal = T(0.5) != T(0);
template <class T>
constexpr T lowest() {
  if constexpr (kIsReal<T>)
    return -static_cast<T>(__builtin_inf());
  else
    return static_cast<T>(uint64_t{1} << 63);
}
template <class T>
constexpr T highest() {
  if constexpr (kIsReal<T>)
    return static_cast<T>(__builtin_inf());
  else
    return static_cast<T>(~uint64_t{0} >> 1);
}
struct Largest {
  template <class V>
  static PYDL_INLINE V combine(V a, V b) {
    return max(a, b);
  }
  template <class T>
  static constexpr T identity() {
    return lowest<T>();
  }
};
struct Smallest {
  template <class V>
  static PYDL_INLINE V combine(V a, V b) {
    return min(a, b);
  }
  template <class T>
  static constexpr T identity() {
    return highest<T>();
  }
};
struct Magnitude {
  template <class V>
  static PYDL_INLINE V map(V x) {
    return abs(x);
  }
};

struct Sum : Identity, Add {};
struct SumAbs : Magnitude, Add {};
struct SumSquares : Add {
  template <class V>
  static PYDL_INLINE V map(V x) {
    return x * x;
  }
};
struct Prod : Identity {
  template <class V>
  static PYDL_INLINE V combine(V a, V b) {
    return a * b;
  }
  template <class T>
  static constexpr T identity() {
    return T(1);
  }
};
struct Max : Identity, Largest {};
struct Min : Identity, Smallest {};
struct MaxAbs : Magnitude, Largest {
  template <class T>
  static constexpr T identity() {
    return T(0);
  }
};
struct MinAbs : Magnitude, Smallest {};

// Of uint64 as int64: in the same order with the top bit flipped, until the result is stored.
constexpr int64_t kTopBit = static_cast<int64_t>(uint64_t{1} << 63);
struct Flipped {
  template <class V>
  static PYDL_INLINE V map(V x) {
    return x ^ V(kTopBit);
  }
};
struct MaxUnsigned : Flipped, Largest {};
struct MinUnsigned : Flipped, Smallest {};

// What the drivers below need of an op for accumulators of type T: float, double or int64_t.
template <class T>
struct Folds {
  T identity;
  // acc[j] = combination of acc[j] with column j of src (rows, row_stride).
  void (*columns)(const T* src, int64_t row_stride, int64_t rows, int64_t width, T* acc);
  // dst[r] = combination of row r of src (rows, n).
  void (*rows)(const T* src, int64_t rows, int64_t n, T* dst);
  // Row 0 of all (count, stride) = combination of its rows, as a tree, without mapping them.
  void (*tree)(T* all, int64_t count, int64_t stride, int64_t width);
};

// `vectors` registers beside each other, over all rows, four at a time. Where rows follow each other and any vector
// serves for any register (`adjacent`), memory is read in order.
template <class Op, class V, int vectors, bool adjacent = false>
PYDL_INLINE void fold_block(const typename V::Lane* src, int64_t row_stride, int64_t rows, V* sum) {
  const int64_t next = adjacent ? V::size : row_stride;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
#pragma GCC unroll 8  // or the sums would be in memory
    for (int v = 0; v < vectors; ++v) {
      const auto* s = src + r * row_stride + v * (adjacent ? 4 : 1) * V::size;
      const V a = Op::combine(Op::map(V::load(s)), Op::map(V::load(s + next)));
      const V b = Op::combine(Op::map(V::load(s + 2 * next)), Op::map(V::load(s + 3 * next)));
      sum[v] = Op::combine(sum[v], Op::combine(a, b));
    }
  }
#pragma GCC unroll 1
  for (; r < rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      sum[v] = Op::combine(sum[v], Op::map(V::load(src + r * row_stride + v * V::size)));
  }
}

template <class Op, class V, int vectors>
PYDL_INLINE void fold_columns_block(const typename V::Lane* src, int64_t row_stride, int64_t rows,
                                    typename V::Lane* acc) {
  V sum[vectors];
  for (int v = 0; v < vectors; ++v) sum[v] = V::load(acc + v * V::size);
  fold_block<Op, V, vectors>(src, row_stride, rows, sum);
  for (int v = 0; v < vectors; ++v) sum[v].store(acc + v * V::size);
}

template <class Op, class T>
void fold_columns(const T* src, int64_t row_stride, int64_t rows, int64_t width, T* acc) {
  using V = Vec<T>;
  // Few columns: accumulators stay in registers. Many: four whole rows at a time, so that memory is read in order.
  const int64_t rows_at_once = width <= 8 * V::size ? rows : 4;
  for (int64_t r = 0; r < rows; r += rows_at_once) {
    const int64_t count = rows - r < rows_at_once ? rows - r : rows_at_once;
    const T* s = src + r * row_stride;
    int64_t j = 0;
    for (; j + 4 * V::size <= width; j += 4 * V::size) fold_columns_block<Op, V, 4>(s + j, row_stride, count, acc + j);
    for (; j + V::size <= width; j += V::size) fold_columns_block<Op, V, 1>(s + j, row_stride, count, acc + j);
    for (; j < width; ++j) fold_columns_block<Op, Scalar<T>, 1>(s + j, row_stride, count, acc + j);
  }
}

// n adjacent elements, combined to one vector.
template <class Op, class V>
PYDL_INLINE V fold_row(const typename V::Lane* src, int64_t n) {
  constexpr int kVectors = kIsReal<typename V::Lane> ? 8 : 4;  // integers wait for nothing but memory
  const V nothing(Op::template identity<typename V::Lane>());
  V last = nothing, other = nothing;
  int64_t i = 0;
  if (n >= kVectors * V::size) {
    V sum[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] = nothing;
    const int64_t rows = n / (kVectors * V::size);
    fold_block<Op, V, kVectors, true>(src, kVectors * V::size, rows, sum);
    i = rows * kVectors * V::size;
    // Written out: a loop over sum would put it into memory.
    last = Op::combine(sum[0], sum[2]);
    other = Op::combine(sum[1], sum[3]);
    if constexpr (kVectors == 8) {
      last = Op::combine(last, Op::combine(sum[4], sum[6]));
      other = Op::combine(other, Op::combine(sum[5], sum[7]));
    }
  }
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    last = Op::combine(last, Op::map(V::load(src + i)));
    other = Op::combine(other, Op::map(V::load(src + i + V::size)));
  }
  if (i + V::size <= n) {
    last = Op::combine(last, Op::map(V::load(src + i)));
    i += V::size;
  }
  if (i < n) {
    const V rest = Op::map(V::load_partial(src + i, static_cast<int>(n - i)));
    other = Op::combine(other, select(V::iota() < V(n - i), rest, nothing));
  }
  return Op::combine(last, other);
}

template <class Op, class T>
void fold_rows(const T* src, int64_t rows, int64_t n, T* dst) {
  using V = Vec<T>;
  const auto combine = [](V a, V b) { return Op::combine(a, b); };
  const V nothing(Op::template identity<T>());
  const auto within = V::iota() < V(n);
  Unset<V, V::size> row;
  for (int64_t r = 0; r < rows; r += V::size) {
    const int count = rows - r < V::size ? static_cast<int>(rows - r) : V::size;
    if (n <= V::size) {
#pragma GCC unroll 1  // unrolled, it would be no quicker
      for (int i = 0; i < count; ++i) {
        const V x = Op::map(V::load_partial(src + (r + i) * n, static_cast<int>(n)));
        row[i] = Op::combine(nothing, select(within, x, nothing));
      }
    } else {
#pragma GCC unroll 1
      for (int i = 0; i < count; ++i) row[i] = fold_row<Op, V>(src + (r + i) * n, n);
    }
#pragma GCC unroll 1
    for (int i = count; i < V::size; ++i) row[i] = row[0];
    V::template reduce_each<V::size>(row.at, combine).store_partial(dst + r, count);
  }
}

template <class Op, class T>
void fold_tree(T* all, int64_t count, int64_t stride, int64_t width) {
  for (int64_t step = 1; step < count; step *= 2) {
    for (int64_t i = 0; i + step < count; i += 2 * step) {
      T* a = all + i * stride;
      const T* b = all + (i + step) * stride;
      for (int64_t j = 0; j < width; ++j) a[j] = Op::combine(Scalar<T>(a[j]), Scalar<T>(b[j])).raw;
    }
  }
}

// acc[j] = the greatest, or the least, of acc[j] and column j of src (rows, row_stride).
template <class T>
PYDL_INLINE void extremes(bool greatest, const char* from, int64_t row_stride, int64_t rows, int64_t width, char* to) {
  const T* src = reinterpret_cast<const T*>(from);
  T* acc = reinterpret_cast<T*>(to);
  for (int64_t r = 0; r < rows; ++r, src += row_stride) {
    if (greatest)
      for (int64_t j = 0; j < width; ++j) acc[j] = src[j] > acc[j] ? src[j] : acc[j];
    else
      for (int64_t j = 0; j < width; ++j) acc[j] = src[j] < acc[j] ? src[j] : acc[j];
  }
}

// Elements of any type but the accumulators': widened to int64 by value, or (truth) to 1 and 0.
struct Widening {
  DType dtype;
  bool truth;
  ReduceOp op;
  bool is_needed() const { return truth || item_size(dtype) != sizeof(int64_t); }
  void load(const char* src, int64_t* dst, int64_t n) const {
    if (!is_float(dtype)) {
      load_integer(dtype, src, dst, n);
      for (int64_t i = 0; truth && dtype != DType::boolean && i < n; ++i) dst[i] = dst[i] != 0;
      return;
    }
    double real[kConvertBlock];
    for (int64_t i = 0; i < n; i += kConvertBlock) {
      const int64_t count = n - i < kConvertBlock ? n - i : kConvertBlock;
      load_real(dtype, src + i * static_cast<int64_t>(item_size(dtype)), real, count);
      for (int64_t k = 0; k < count; ++k) dst[i + k] = real[k] != 0.0;
    }
  }
  // Extremes of the columns of (rows, row_stride), found before they are widened.
  bool has_extremes() const { return !truth && (op == ReduceOp::max || op == ReduceOp::min); }
  void load_extremes(const char* src, int64_t row_stride, int64_t rows, int64_t* dst, int64_t n) const;
};

__attribute__((noinline)) void Widening::load_extremes(const char* src, int64_t row_stride, int64_t rows, int64_t* dst,
                                                       int64_t n) const {
  alignas(64) char acc[kWideBlock * sizeof(int32_t)];
  const int64_t item = static_cast<int64_t>(item_size(dtype));
  __builtin_memcpy(acc, src, static_cast<size_t>(n * item));
  const auto fold = [&](auto zero) {
    extremes<decltype(zero)>(op == ReduceOp::max, src + row_stride * item, row_stride, rows - 1, n, acc);
  };
  switch (dtype) {
    case DType::uint8:
      fold(uint8_t{});
      break;
    case DType::int8:
      fold(int8_t{});
      break;
    case DType::uint16:
      fold(uint16_t{});
      break;
    case DType::int16:
      fold(int16_t{});
      break;
    case DType::uint32:
      fold(uint32_t{});
      break;
    default:
      fold(int32_t{});
      break;
  }
  load(acc, dst, n);
}

template <class T>
PYDL_INLINE void columns_of(const Folds<T>& op, Widening from, const char* src, int64_t row_stride, int64_t rows,
                            int64_t width, T* acc) {
  if (kIsReal<T> || !from.is_needed()) return op.columns(reinterpret_cast<const T*>(src), row_stride, rows, width, acc);
  alignas(64) int64_t wide[kWideBlock];
  const int64_t item = static_cast<int64_t>(item_size(from.dtype));
  if (from.has_extremes() && width <= kWideBlock && rows > 1) {
    from.load_extremes(src, row_stride, rows, wide, width);
    return op.columns(reinterpret_cast<const T*>(wide), width, 1, width, acc);
  }
  const int64_t rows_at_once = row_stride == width && width <= kWideBlock ? kWideBlock / width : 1;
  for (int64_t r = 0; r < rows; r += rows_at_once) {
    const int64_t count = rows - r < rows_at_once ? rows - r : rows_at_once;
    for (int64_t j = 0; j < width; j += kWideBlock) {
      const int64_t cols = width - j < kWideBlock ? width - j : kWideBlock;
      from.load(src + (r * row_stride + j) * item, wide, count * cols);
      op.columns(reinterpret_cast<const T*>(wide), cols, count, cols, acc + j);
    }
  }
}

template <class T>
PYDL_INLINE void rows_of(const Folds<T>& op, Widening from, const char* src, int64_t rows, int64_t n, T* dst) {
  if (kIsReal<T> || !from.is_needed()) return op.rows(reinterpret_cast<const T*>(src), rows, n, dst);
  alignas(64) int64_t wide[kWideBlock];
  const int64_t item = static_cast<int64_t>(item_size(from.dtype));
  if (n > 0 && 2 * n <= kWideBlock) {
    const int64_t rows_at_once = kWideBlock / n;
    for (int64_t r = 0; r < rows; r += rows_at_once) {
      const int64_t count = rows - r < rows_at_once ? rows - r : rows_at_once;
      from.load(src + r * n * item, wide, count * n);
      op.rows(reinterpret_cast<const T*>(wide), count, n, dst + r);
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {  // as columns first
    alignas(64) T acc[kFoldWidth];
    for (int64_t j = 0; j < kFoldWidth; ++j) acc[j] = op.identity;
    for (int64_t i = 0; i < n; i += kWideBlock) {
      const char* block = src + (r * n + i) * item;
      int64_t count = n - i < kWideBlock ? n - i : kWideBlock;
      if (from.has_extremes()) {  // of the whole row, in parts that overlap a little
        const int64_t parts = n / (4 * kFoldWidth), part = n / parts;
        count = n - (parts - 1) * part;
        from.load_extremes(block, part, parts, wide, count);
        i = n;
      } else {
        from.load(block, wide, count);
      }
      const int64_t rest = count % kFoldWidth;
      op.columns(reinterpret_cast<const T*>(wide), kFoldWidth, count / kFoldWidth, kFoldWidth, acc);
      op.columns(reinterpret_cast<const T*>(wide) + count - rest, rest, 1, rest, acc);
    }
    op.rows(acc, 1, kFoldWidth, dst + r);
  }
}

template <class T>
PYDL_INLINE void store_result(const ReduceArgs& args, T* result, int64_t at, int64_t n) {
  if constexpr (kIsReal<T>) {
    const bool scaled = args.op == ReduceOp::sum || args.op == ReduceOp::sum_abs || args.op == ReduceOp::sum_squares;
    const double scale = scaled ? args.scale : 1.0;
    for (int64_t j = 0; j < n; ++j) static_cast<T*>(args.dst)[at + j] = static_cast<T>(result[j] * scale);
  } else {
    if (args.src_dtype == DType::uint64 && (args.op == ReduceOp::max || args.op == ReduceOp::min))
      for (int64_t j = 0; j < n; ++j) result[j] ^= kTopBit;
    char* dst = static_cast<char*>(args.dst) + at * static_cast<int64_t>(item_size(args.dst_dtype));
    store_whole(result, args.dst_dtype, dst, n);
  }
}

// inner == 1.
template <class T>
PYDL_NOINLINE void reduce_rows(const ReduceArgs& args, Exec& exec, const Folds<T>& op, Widening from) {
  const int64_t item = static_cast<int64_t>(item_size(args.src_dtype));
  const int64_t pieces = args.n > kRowPiece ? (args.n + kRowPiece - 1) / kRowPiece : 1;
  const char* src = static_cast<const char*>(args.src);
  if (pieces == 1) {
    parallel_for(exec, args.outer, 1 + kItemWork / (args.n + 8), [&](int64_t begin, int64_t end) {
      T result[kRowsAtOnce];
      for (int64_t o = begin; o < end; o += kRowsAtOnce) {
        const int64_t rows = end - o < kRowsAtOnce ? end - o : kRowsAtOnce;
        rows_of(op, from, src + o * args.n * item, rows, args.n, result);
        store_result(args, result, o, rows);
      }
    });
    return;
  }
  Scratch<T> partial(exec, args.outer * pieces);
  parallel_for(exec, args.outer * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t o = k / pieces, first = k % pieces * kRowPiece;
      const int64_t n = args.n - first < kRowPiece ? args.n - first : kRowPiece;
      rows_of(op, from, src + (o * args.n + first) * item, 1, n, partial + k);
    }
  });
  for (int64_t o = 0; o < args.outer; ++o) {
    op.tree(partial + o * pieces, pieces, 1, 1);
    store_result(args, partial + o * pieces, o, 1);
  }
}

template <class T>
PYDL_NOINLINE void reduce_columns(const ReduceArgs& args, Exec& exec, const Folds<T>& op, Widening from) {
  const int64_t item = static_cast<int64_t>(item_size(args.src_dtype)), inner = args.inner;
  // (n, inner) as (rows, width) and a rest of fewer than `fold` rows of inner.
  int64_t fold = inner < kFoldWidth ? kFoldWidth / inner : 1;
  while (fold > 1 && 4 * fold > args.n) fold /= 2;
  const int64_t rows = args.n / fold, width = fold * inner, rest = args.n - rows * fold;
  const int64_t pieces = rows > kPieceRows ? (rows + kPieceRows - 1) / kPieceRows : 1;
  const int64_t blocks = (width + kBlockCols - 1) / kBlockCols;
  const int64_t parts = pieces * fold;
  Scratch<T> partial(exec, args.outer * pieces * width);

  const int64_t piece_work = (rows < kPieceRows ? rows + 1 : kPieceRows) * (width < kBlockCols ? width : kBlockCols);
  parallel_for(exec, args.outer * pieces * blocks, 1 + kItemWork / piece_work, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t block = k % blocks, piece = k / blocks % pieces, o = k / blocks / pieces;
      const int64_t col = block * kBlockCols, first = piece * kPieceRows;
      const int64_t cols = width - col < kBlockCols ? width - col : kBlockCols;
      const int64_t count = rows - first < kPieceRows ? rows - first : kPieceRows;
      const char* src = static_cast<const char*>(args.src) + (o * args.n * inner + first * width + col) * item;
      T* acc = partial + (o * pieces + piece) * width + col;
      for (int64_t j = 0; j < cols; ++j) acc[j] = op.identity;
      columns_of(op, from, src, width, count, cols, acc);
      if (piece == pieces - 1 && rest > 0) {  // fold > 1, so there is one block of columns
        columns_of(op, from, src + count * width * item, inner, rest, inner, acc);
      }
      if (parts == 1) store_result(args, acc, o * inner + col, cols);
    }
  });
  if (parts == 1) return;

  constexpr int64_t kFinishCols = 256;
  const int64_t finish_blocks = (inner + kFinishCols - 1) / kFinishCols;
  const int64_t finish_work = parts * (inner < kFinishCols ? inner : kFinishCols);
  parallel_for(exec, args.outer * finish_blocks, 1 + kItemWork / finish_work, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t o = k / finish_blocks, col = k % finish_blocks * kFinishCols;
      const int64_t cols = inner - col < kFinishCols ? inner - col : kFinishCols;
      T* all = partial + o * parts * inner + col;  // (parts, inner)
      op.tree(all, parts, inner, cols);
      store_result(args, all, o * inner + col, cols);
    }
  });
}

template <class Op, class T>
void reduce_typed(const ReduceArgs& args, Exec& exec, bool truth = false) {
  if (args.outer <= 0 || args.inner <= 0) return;
  const Folds<T> op{Op::template identity<T>(), fold_columns<Op, T>, fold_rows<Op, T>, fold_tree<Op, T>};
  const Widening from{args.src_dtype, truth, args.op};
  args.inner == 1 ? reduce_rows(args, exec, op, from) : reduce_columns(args, exec, op, from);
}

template <class T>
void reduce_op(const ReduceArgs& args, Exec& exec) {
  switch (args.op) {
    case ReduceOp::sum:
      return reduce_typed<Sum, T>(args, exec);
    case ReduceOp::prod:
      return reduce_typed<Prod, T>(args, exec);
    case ReduceOp::sum_abs:
      return reduce_typed<SumAbs, T>(args, exec);
    case ReduceOp::sum_squares:
      return reduce_typed<SumSquares, T>(args, exec);
    case ReduceOp::max:
      return reduce_typed<Max, T>(args, exec);
    case ReduceOp::min:
      return reduce_typed<Min, T>(args, exec);
    case ReduceOp::max_abs:
      return reduce_typed<MaxAbs, T>(args, exec);
    case ReduceOp::min_abs:
      return reduce_typed<MinAbs, T>(args, exec);
    default:
      return;
  }
}

// Sums and products have the same bits, signed or not.
void reduce_integers(const ReduceArgs& args, Exec& exec) {
  const bool is_unsigned = args.src_dtype == DType::uint64;
  switch (args.op) {
    case ReduceOp::any:
    case ReduceOp::count_nonzero:
      return reduce_typed<Sum, int64_t>(args, exec, true);
    case ReduceOp::all:
      return reduce_typed<Min, int64_t>(args, exec, true);
    case ReduceOp::sum:
      return reduce_typed<Sum, int64_t>(args, exec);
    case ReduceOp::prod:
      return reduce_typed<Prod, int64_t>(args, exec);
    case ReduceOp::max:
      return is_unsigned ? reduce_typed<MaxUnsigned, int64_t>(args, exec) : reduce_typed<Max, int64_t>(args, exec);
    case ReduceOp::min:
      return is_unsigned ? reduce_typed<MinUnsigned, int64_t>(args, exec) : reduce_typed<Min, int64_t>(args, exec);
    default:
      return;
  }
}

// Truth of rows of bytes, which are not widened for it.
void truth_of_bytes(const ReduceArgs& args, Exec& exec) {
  const bool any = args.op == ReduceOp::any;
  parallel_for(exec, args.outer, 1 + kItemWork / (args.n + 8), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* src = static_cast<const uint8_t*>(args.src) + row * args.n;
      bool found = false;  // of any: a byte that is not 0; of all: one that is
      for (int64_t i = 0; i < args.n && !found; i += kItemWork) {
        const int64_t n = args.n - i < kItemWork ? args.n - i : kItemWork;
        uint8_t bits = 0;
        if (any) {
          for (int64_t k = i; k < i + n; ++k) bits |= src[k];
        } else {
          for (int64_t k = i; k < i + n; ++k) bits |= src[k] == 0;
        }
        found = bits != 0;
      }
      static_cast<uint8_t*>(args.dst)[row] = found == any;
    }
  });
}

void reduce_kernel(const ReduceArgs& args, Exec& exec) noexcept {
  const bool one_truth = args.op == ReduceOp::any || args.op == ReduceOp::all;
  if (one_truth && args.inner == 1 && item_size(args.src_dtype) == 1) return truth_of_bytes(args, exec);
  if (one_truth || args.op == ReduceOp::count_nonzero || !is_float(args.src_dtype)) return reduce_integers(args, exec);
  args.src_dtype == DType::float64 ? reduce_op<double>(args, exec) : reduce_op<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(reduce) { table.reduce = pydl::reduce_kernel; }
