// The place of the extreme along an axis: the first of equals, and a NaN before everything. Bound by memory.
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

template <class T>
struct Placed {
  T value;
  int64_t at;  // -1: nothing yet
};

template <class T, bool is_max>
struct ArgReducer : Fold<ArgReducer<T, is_max>> {
  using Acc = Placed<T>;
  ArgReduceArgs args;
  __device__ int64_t place(int64_t out, int64_t k) const {
    return (out / args.inner * args.n + k) * args.inner + out % args.inner;
  }
  __device__ Acc identity() const { return {T(0), -1}; }
  __device__ Acc load(int64_t out, int64_t k) const { return {static_cast<const T*>(args.src)[place(out, k)], k}; }
  __device__ Acc combine(Acc a, Acc b) const {
    if (a.at < 0) return b;
    if (b.at < 0) return a;
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan || b_nan) return a_nan && (!b_nan || a.at < b.at) ? a : b;
    if (a.value == b.value) return a.at < b.at ? a : b;
    return (is_max ? a.value > b.value : a.value < b.value) ? a : b;
  }
  __device__ void store(int64_t out, Acc acc) const {
    args.index[out] = acc.at;
    if (args.value != nullptr) static_cast<T*>(args.value)[out] = acc.value;
  }
};

template <class T>
void arg_typed(const ArgReduceArgs& args, Exec& exec) {
  const int64_t outputs = args.outer * args.inner;
  if (args.max) {
    ArgReducer<T, true> reducer{};
    reducer.args = args;
    reduce_to(exec, outputs, args.n, args.inner == 1, reducer);
  } else {
    ArgReducer<T, false> reducer{};
    reducer.args = args;
    reduce_to(exec, outputs, args.n, args.inner == 1, reducer);
  }
}

void arg_reduce_kernel(const ArgReduceArgs& args, Exec& exec) noexcept {
  if (args.n <= 0) return;
  const auto run = [&](auto zero) { arg_typed<decltype(zero)>(args, exec); };
  args.dtype >= DType::float32 ? dispatch_floating(args.dtype, run) : dispatch_integer(args.dtype, run);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(arg_reduce) { table.arg_reduce = pydl::arg_reduce_kernel; }
