// Reductions of one axis: sums, products, extremes, norms' terms, truth. Sums and products of floats are made in
// float64, and one rounding ends them; integers and booleans are widened to int64. Bound by memory.
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

template <class T>
struct Limits;
template <>
struct Limits<double> {
  static __device__ double lowest() { return -__builtin_inf(); }
  static __device__ double highest() { return __builtin_inf(); }
};
template <>
struct Limits<int64_t> {
  static __device__ int64_t lowest() { return static_cast<int64_t>(uint64_t{1} << 63); }
  static __device__ int64_t highest() { return static_cast<int64_t>(~uint64_t{0} >> 1); }
};
template <>
struct Limits<uint64_t> {
  static __device__ uint64_t lowest() { return 0; }
  static __device__ uint64_t highest() { return ~uint64_t{0}; }
};

// Signed integers wrap around, as unsigned ones do.
__device__ inline double add(double a, double b) { return a + b; }
__device__ inline double multiply(double a, double b) { return a * b; }
__device__ inline int64_t add(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
__device__ inline int64_t multiply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
template <class A>
__device__ A magnitude(A x) {
  if constexpr (A(-1) > A(0)) return x;
  return x < A(0) ? static_cast<A>(A(0) - x) : x;
}
template <>
__device__ inline int64_t magnitude(int64_t x) {
  return x < 0 ? static_cast<int64_t>(uint64_t{0} - static_cast<uint64_t>(x)) : x;
}
template <>
__device__ inline double magnitude(double x) {
  return fabs(x);
}

// The ops over accumulators A: map(x) is what one element contributes.
struct SumOp {
  template <class A>
  static __device__ A identity() {
    return A(0);
  }
  template <class A>
  static __device__ A map(A x) {
    return x;
  }
  template <class A>
  static __device__ A combine(A a, A b) {
    return add(a, b);
  }
};
struct SumAbsOp : SumOp {
  template <class A>
  static __device__ A map(A x) {
    return magnitude(x);
  }
};
struct SumSquaresOp : SumOp {
  template <class A>
  static __device__ A map(A x) {
    return multiply(x, x);
  }
};
struct ProdOp : SumOp {
  template <class A>
  static __device__ A identity() {
    return A(1);
  }
  template <class A>
  static __device__ A combine(A a, A b) {
    return multiply(a, b);
  }
};
struct MaxOp : SumOp {
  template <class A>
  static __device__ A identity() {
    return Limits<A>::lowest();
  }
  template <class A>
  static __device__ A combine(A a, A b) {
    return a != a || a > b ? a : b;
  }
};
struct MinOp : SumOp {
  template <class A>
  static __device__ A identity() {
    return Limits<A>::highest();
  }
  template <class A>
  static __device__ A combine(A a, A b) {
    return a != a || a < b ? a : b;
  }
};
struct MaxAbsOp : MaxOp {
  template <class A>
  static __device__ A identity() {
    return A(0);
  }
  template <class A>
  static __device__ A map(A x) {
    return magnitude(x);
  }
};
struct MinAbsOp : MinOp {
  template <class A>
  static __device__ A map(A x) {
    return magnitude(x);
  }
};

__device__ inline int64_t load_integer(DType dtype, const void* src, int64_t i) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
      return static_cast<const uint8_t*>(src)[i];
    case DType::int8:
      return static_cast<const int8_t*>(src)[i];
    case DType::uint16:
      return static_cast<const uint16_t*>(src)[i];
    case DType::int16:
      return static_cast<const int16_t*>(src)[i];
    case DType::uint32:
      return static_cast<const uint32_t*>(src)[i];
    case DType::int32:
      return static_cast<const int32_t*>(src)[i];
    default:
      return static_cast<const int64_t*>(src)[i];
  }
}
__device__ inline bool is_true(DType dtype, const void* src, int64_t i) {
  switch (dtype) {
    case DType::float16:
    case DType::bfloat16:
      return (static_cast<const uint16_t*>(src)[i] & 0x7fffu) != 0;
    case DType::float32:
      return static_cast<const float*>(src)[i] != 0.0f;
    case DType::float64:
      return static_cast<const double*>(src)[i] != 0.0;
    default:
      return load_integer(dtype, src, i) != 0;
  }
}

// T: float, double, or the 64-bit integer that integers are widened to.
template <class Op, class T>
struct AxisReducer : Fold<AxisReducer<Op, T>> {
  static constexpr bool kReal = T(0.5) != T(0);
  using Acc = std::conditional_t<kReal, double, T>;
  ReduceArgs args;
  bool truth;
  double scale;
  __device__ Acc identity() const { return Op::template identity<Acc>(); }
  __device__ Acc load(int64_t out, int64_t k) const {
    const int64_t at = (out / args.inner * args.n + k) * args.inner + out % args.inner;
    if constexpr (kReal)
      return Op::map(static_cast<Acc>(static_cast<const T*>(args.src)[at]));
    else
      return Op::map(truth ? static_cast<Acc>(is_true(args.src_dtype, args.src, at))
                           : static_cast<Acc>(load_integer(args.src_dtype, args.src, at)));
  }
  __device__ Acc combine(Acc a, Acc b) const { return Op::combine(a, b); }
  __device__ void store(int64_t out, Acc acc) const {
    if constexpr (kReal) {
      static_cast<T*>(args.dst)[out] = static_cast<T>(acc * scale);
    } else {
      switch (args.dst_dtype) {
        case DType::boolean:
          static_cast<uint8_t*>(args.dst)[out] = acc != 0;
          return;
        case DType::uint8:
        case DType::int8:
          static_cast<uint8_t*>(args.dst)[out] = static_cast<uint8_t>(acc);
          return;
        case DType::uint16:
        case DType::int16:
          static_cast<uint16_t*>(args.dst)[out] = static_cast<uint16_t>(acc);
          return;
        case DType::uint32:
        case DType::int32:
          static_cast<uint32_t*>(args.dst)[out] = static_cast<uint32_t>(acc);
          return;
        default:
          static_cast<uint64_t*>(args.dst)[out] = static_cast<uint64_t>(acc);
      }
    }
  }
};

template <class Op, class T>
void reduce_typed(const ReduceArgs& args, Exec& exec, bool truth = false) {
  const bool scaled = args.op == ReduceOp::sum || args.op == ReduceOp::sum_abs || args.op == ReduceOp::sum_squares;
  AxisReducer<Op, T> reducer{};
  reducer.args = args;
  reducer.truth = truth;
  reducer.scale = scaled ? args.scale : 1.0;
  reduce_to(exec, args.outer * args.inner, args.n, args.inner == 1, reducer);
}

template <class T>
void reduce_op(const ReduceArgs& args, Exec& exec) {
  switch (args.op) {
    case ReduceOp::sum:
      return reduce_typed<SumOp, T>(args, exec);
    case ReduceOp::prod:
      return reduce_typed<ProdOp, T>(args, exec);
    case ReduceOp::sum_abs:
      return reduce_typed<SumAbsOp, T>(args, exec);
    case ReduceOp::sum_squares:
      return reduce_typed<SumSquaresOp, T>(args, exec);
    case ReduceOp::max:
      return reduce_typed<MaxOp, T>(args, exec);
    case ReduceOp::min:
      return reduce_typed<MinOp, T>(args, exec);
    case ReduceOp::max_abs:
      return reduce_typed<MaxAbsOp, T>(args, exec);
    case ReduceOp::min_abs:
      return reduce_typed<MinAbsOp, T>(args, exec);
    default:
      return;
  }
}

void reduce_kernel(const ReduceArgs& args, Exec& exec) noexcept {
  switch (args.op) {
    case ReduceOp::any:
    case ReduceOp::count_nonzero:
      return reduce_typed<SumOp, int64_t>(args, exec, true);
    case ReduceOp::all:
      return reduce_typed<MinOp, int64_t>(args, exec, true);
    default:
      break;
  }
  if (args.src_dtype == DType::float32) return reduce_op<float>(args, exec);
  if (args.src_dtype == DType::float64) return reduce_op<double>(args, exec);
  if (args.src_dtype != DType::uint64) return reduce_op<int64_t>(args, exec);
  switch (args.op) {  // sums and products have the same bits, signed or not
    case ReduceOp::max:
    case ReduceOp::max_abs:
      return reduce_typed<MaxOp, uint64_t>(args, exec);
    case ReduceOp::min:
    case ReduceOp::min_abs:
      return reduce_typed<MinOp, uint64_t>(args, exec);
    case ReduceOp::sum_abs:
      return reduce_typed<SumOp, int64_t>(args, exec);
    default:
      return reduce_op<int64_t>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(reduce) { table.reduce = pydl::reduce_kernel; }
