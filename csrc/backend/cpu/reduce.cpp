// Reductions of one axis: sums, products, extremes, norms' terms, truth. Extremes' places and moments are in
// arg_reduce.cpp and moments.cpp.
//
// Floats add several rows (or vectors of a row) at a time; a piece of fixed size makes one partial result, and partial
// results are combined as a tree, so that errors grow with the logarithm of n beyond a piece and the order depends on
// the shape alone. Where the inner axis is narrow, (n, inner) is seen as (n / k, k * inner) and the k results of a
// column are combined at the end. Integers and booleans are widened to int64, run by run.
#include "backend/cpu/convert.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kPieceRows = 256;   // rows that one accumulator takes in
constexpr int64_t kBlockCols = 1024;  // columns of one item of work; their accumulators stay in L1
constexpr int64_t kFoldWidth = 64;    // narrower ones are folded to about this
constexpr int64_t kRowPiece = 16384;  // elements of a row that one set of accumulators takes in
constexpr int64_t kItemWork = 16384;  // elements that are worth a fork

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
  else if constexpr (T(-1) < T(0))
    return static_cast<T>(uint64_t{1} << 63);
  else
    return T(0);
}
template <class T>
constexpr T highest() {
  if constexpr (kIsReal<T>)
    return static_cast<T>(__builtin_inf());
  else if constexpr (T(-1) < T(0))
    return static_cast<T>(~uint64_t{0} >> 1);
  else
    return static_cast<T>(~uint64_t{0});
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

// What the drivers below need of an op for accumulators of type T.
template <class T>
struct Folds {
  T identity;
  // acc[j] = combination of acc[j] with column j of src (rows, row_stride).
  void (*columns)(const T* src, int64_t row_stride, int64_t rows, int64_t width, T* acc);
  // The combination of n adjacent elements.
  T (*row)(const T* src, int64_t n);
  // Row 0 of all (count, stride) = combination of its rows, as a tree, without mapping them.
  void (*tree)(T* all, int64_t count, int64_t stride, int64_t width);
};

// `vectors` registers beside each other, over all rows.
template <class Op, class V, int vectors>
PYDL_INLINE void fold_block(const typename V::Lane* src, int64_t row_stride, int64_t rows, V* sum) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const auto* s = src + r * row_stride;
#pragma GCC unroll 8  // or the sums would be in memory
    for (int v = 0; v < vectors; ++v) {
      const int at = v * V::size;
      const V a = Op::combine(Op::map(V::load(s + at)), Op::map(V::load(s + row_stride + at)));
      const V b = Op::combine(Op::map(V::load(s + 2 * row_stride + at)), Op::map(V::load(s + 3 * row_stride + at)));
      sum[v] = Op::combine(sum[v], Op::combine(a, b));
    }
  }
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
  if constexpr (!kIsReal<T>) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* s = src + r * row_stride;
      for (int64_t j = 0; j < width; ++j) acc[j] = Op::combine(Scalar<T>(acc[j]), Op::map(Scalar<T>(s[j]))).raw;
    }
    return;
  } else {
    // Few columns: accumulators stay in registers. Many: four whole rows at a time, so that memory is read in order.
    const int64_t rows_at_once = width <= 8 * V::size ? rows : 4;
    for (int64_t r = 0; r < rows; r += rows_at_once) {
      const int64_t count = rows - r < rows_at_once ? rows - r : rows_at_once;
      const T* s = src + r * row_stride;
      int64_t j = 0;
      for (; j + 4 * V::size <= width; j += 4 * V::size)
        fold_columns_block<Op, V, 4>(s + j, row_stride, count, acc + j);
      for (; j + V::size <= width; j += V::size) fold_columns_block<Op, V, 1>(s + j, row_stride, count, acc + j);
      for (; j < width; ++j) fold_columns_block<Op, Scalar<T>, 1>(s + j, row_stride, count, acc + j);
    }
  }
}

template <class Op, class T>
T fold_row(const T* src, int64_t n) {
  using V = Vec<T>;
  constexpr int kVectors = kIsReal<T> ? 8 : 0;
  const T nothing = Op::template identity<T>();
  int64_t i = 0;
  if constexpr (kVectors > 0) {
    V last(nothing), other(nothing);
    if (n >= kVectors * V::size) {
      V sum[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v] = V(nothing);
      const int64_t rows = n / (kVectors * V::size);
      fold_block<Op, V, kVectors>(src, kVectors * V::size, rows, sum);
      i = rows * kVectors * V::size;
      // Written out: a loop over sum would put it into memory.
      last = Op::combine(Op::combine(sum[0], sum[2]), Op::combine(sum[4], sum[6]));
      other = Op::combine(Op::combine(sum[1], sum[3]), Op::combine(sum[5], sum[7]));
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
      other = Op::combine(other, select(V::iota() < V(n - i), rest, V(nothing)));
    }
    return Op::combine(last, other).reduce([](V a, V b) { return Op::combine(a, b); });
  }
  T result = nothing;
  for (; i < n; ++i) result = Op::combine(Scalar<T>(result), Op::map(Scalar<T>(src[i]))).raw;
  return result;
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

// Elements of any type but the accumulators': widened to int64 by value, or (truth) to 1 and 0.
struct Widening {
  DType dtype;
  bool truth;
  void load(const char* src, int64_t* dst, int64_t n) const {
    if (is_float(dtype)) {
      double real[kConvertBlock];
      load_real(dtype, src, real, n);
      for (int64_t i = 0; i < n; ++i) dst[i] = real[i] != 0.0;
      return;
    }
    load_integer(dtype, src, dst, n);
    if (truth)
      for (int64_t i = 0; i < n; ++i) dst[i] = dst[i] != 0;
  }
};

template <class T>
PYDL_INLINE void columns_of(const Folds<T>& op, Widening from, const char* src, int64_t row_stride, int64_t rows,
                            int64_t width, T* acc) {
  if constexpr (kIsReal<T>) {
    op.columns(reinterpret_cast<const T*>(src), row_stride, rows, width, acc);
    return;
  }
  alignas(64) int64_t wide[kConvertBlock];
  const int64_t item = static_cast<int64_t>(item_size(from.dtype));
  const int64_t rows_at_once = row_stride == width && width <= kConvertBlock ? kConvertBlock / width : 1;
  for (int64_t r = 0; r < rows; r += rows_at_once) {
    const int64_t count = rows - r < rows_at_once ? rows - r : rows_at_once;
    for (int64_t j = 0; j < width; j += kConvertBlock) {
      const int64_t cols = width - j < kConvertBlock ? width - j : kConvertBlock;
      from.load(src + (r * row_stride + j) * item, wide, count * cols);
      op.columns(reinterpret_cast<const T*>(wide), cols, count, cols, acc + j);
    }
  }
}

template <class T>
PYDL_INLINE T row_of(const Folds<T>& op, Widening from, const char* src, int64_t n) {
  if constexpr (kIsReal<T>) return op.row(reinterpret_cast<const T*>(src), n);
  alignas(64) int64_t wide[kConvertBlock];
  const int64_t item = static_cast<int64_t>(item_size(from.dtype));
  T parts[2] = {op.identity, op.identity};
  for (int64_t i = 0; i < n; i += kConvertBlock) {
    const int64_t count = n - i < kConvertBlock ? n - i : kConvertBlock;
    from.load(src + i * item, wide, count);
    parts[1] = op.row(reinterpret_cast<const T*>(wide), count);
    op.tree(parts, 2, 1, 1);
  }
  return parts[0];
}

template <class T>
PYDL_INLINE void store_result(const ReduceArgs& args, const T* result, int64_t at, int64_t n) {
  if constexpr (kIsReal<T>) {
    const bool scaled = args.op == ReduceOp::sum || args.op == ReduceOp::sum_abs || args.op == ReduceOp::sum_squares;
    const double scale = scaled ? args.scale : 1.0;
    for (int64_t j = 0; j < n; ++j) static_cast<T*>(args.dst)[at + j] = static_cast<T>(result[j] * scale);
  } else {
    char* dst = static_cast<char*>(args.dst) + at * static_cast<int64_t>(item_size(args.dst_dtype));
    store_integer<int64_t>(reinterpret_cast<const int64_t*>(result), args.dst_dtype, dst, n);
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
      for (int64_t o = begin; o < end; ++o) {
        const T result = row_of(op, from, src + o * args.n * item, args.n);
        store_result(args, &result, o, 1);
      }
    });
    return;
  }
  Scratch<T> partial(exec, args.outer * pieces);
  parallel_for(exec, args.outer * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t o = k / pieces, first = k % pieces * kRowPiece;
      const int64_t n = args.n - first < kRowPiece ? args.n - first : kRowPiece;
      partial[k] = row_of(op, from, src + (o * args.n + first) * item, n);
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
  const Folds<T> op{Op::template identity<T>(), fold_columns<Op, T>, fold_row<Op, T>, fold_tree<Op, T>};
  const Widening from{args.src_dtype, truth};
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

void reduce_kernel(const ReduceArgs& args, Exec& exec) noexcept {
  switch (args.op) {
    case ReduceOp::any:
    case ReduceOp::count_nonzero:
      return reduce_typed<Sum, int64_t>(args, exec, true);
    case ReduceOp::all:
      return reduce_typed<Min, int64_t>(args, exec, true);
    default:
      break;
  }
  if (args.src_dtype == DType::float32) return reduce_op<float>(args, exec);
  if (args.src_dtype == DType::float64) return reduce_op<double>(args, exec);
  if (args.src_dtype != DType::uint64) return reduce_op<int64_t>(args, exec);
  switch (args.op) {  // sums and products have the same bits, signed or not
    case ReduceOp::max:
    case ReduceOp::max_abs:
      return reduce_typed<Max, uint64_t>(args, exec);
    case ReduceOp::min:
    case ReduceOp::min_abs:
      return reduce_typed<Min, uint64_t>(args, exec);
    case ReduceOp::sum_abs:
      return reduce_typed<Sum, int64_t>(args, exec);
    default:
      return reduce_op<int64_t>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(reduce) { table.reduce = pydl::reduce_kernel; }
