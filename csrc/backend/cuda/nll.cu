// Negative log-likelihood of log-probabilities: it reads one element of each row and writes one into zeros. Forward
// waits for the stream: the op must know of a target out of range.
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

struct Totals {
  double loss, divisor;
  FirstBad first_bad;
};

template <class T>
struct NllSum : Fold<NllSum<T>> {
  using Acc = Totals;
  NllArgs args;
  FirstBad* first_bad;
  explicit NllSum(const NllArgs& a) : args(a), first_bad(nullptr) {}
  __device__ bool counts(int64_t c) const { return c != args.ignore_index && c >= 0 && c < args.classes; }
  __device__ double weight(int64_t c) const {
    return args.weight != nullptr ? static_cast<double>(static_cast<const T*>(args.weight)[c]) : 1.0;
  }
  __device__ int64_t place(int64_t row, int64_t c) const {
    return (row / args.inner * args.classes + c) * args.inner + row % args.inner;
  }
  __device__ Acc identity() const { return {0.0, 0.0, ~FirstBad{0}}; }
  __device__ Acc load(int64_t, int64_t row) const {
    Acc acc = identity();
    const int64_t c = args.target[row];
    if (counts(c)) {
      acc.divisor = weight(c);
      acc.loss = -weight(c) * static_cast<double>(static_cast<const T*>(args.x)[place(row, c)]);
    } else if (c != args.ignore_index) {
      acc.first_bad = static_cast<FirstBad>(row);
    }
    if (args.reduction == Reduction::none) static_cast<T*>(args.loss)[row] = static_cast<T>(acc.loss);
    return acc;
  }
  __device__ Acc combine(Acc a, Acc b) const {
    return {a.loss + b.loss, a.divisor + b.divisor, a.first_bad < b.first_bad ? a.first_bad : b.first_bad};
  }
  __device__ void store(int64_t, Acc acc) const {
    const double divisor = args.reduction == Reduction::mean ? acc.divisor : 1.0;
    *args.ws_divisor = divisor;
    *first_bad = acc.first_bad;
    if (args.reduction != Reduction::none)
      *static_cast<T*>(args.loss) = static_cast<T>(divisor == 0.0 ? 0.0 : acc.loss / divisor);
  }
};

template <class T>
__global__ void __launch_bounds__(kBlock) nll_gradient(NllSum<T> nll, const T* d_loss, T* d_x) {
  const NllArgs& args = nll.args;
  const double divisor = *args.ws_divisor, scale = divisor == 0.0 ? 0.0 : 1.0 / divisor;
  PYDL_CUDA_LOOP(i, args.outer * args.classes * args.inner) {
    const int64_t inner = i % args.inner, c = i / args.inner % args.classes, o = i / args.inner / args.classes;
    const int64_t row = o * args.inner + inner;
    T d = T(0);
    if (args.target[row] == c && nll.counts(c)) {
      const double g = static_cast<double>(d_loss[args.reduction == Reduction::none ? row : 0]);
      d = static_cast<T>(-nll.weight(c) * scale * g);
    }
    d_x[i] = d;
  }
}

void nll_loss_kernel(const NllArgs& args, Exec& exec) noexcept {
  if (args.first_bad != nullptr) *args.first_bad = -1;
  DeviceScratch<FirstBad> first_bad(exec, 1);
  if (!first_bad) return;
  dispatch_floating(args.dtype, [&](auto zero) {
    NllSum<decltype(zero)> sum(args);
    sum.first_bad = first_bad.get();
    reduce_to(exec, 1, args.outer * args.inner, true, sum);
  });
  report_first_bad(exec, first_bad.get(), args.first_bad);
}
void nll_loss_backward_kernel(const NllBackwardArgs& args, Exec& exec) noexcept {
  const NllArgs& f = args.forward;
  const int64_t count = f.outer * f.classes * f.inner;
  if (count <= 0) return;
  dispatch_floating(f.dtype, [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((nll_gradient<T>), grid_for(count), kBlock, 0, exec, NllSum<T>(f),
                     static_cast<const T*>(args.d_loss), static_cast<T*>(args.d_x));
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(nll) {
  table.nll_loss = pydl::nll_loss_kernel;
  table.nll_loss_backward = pydl::nll_loss_backward_kernel;
}
