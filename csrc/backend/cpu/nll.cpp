// Negative log-likelihood of log-probabilities: it reads one element of each row and writes one into zeros, so it is
// bound by memory and has no vectors of its own.
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kNllGrain = 8192;  // places that are worth a fork

template <class T>
struct NllTargets {
  const NllArgs& args;
  bool counts(int64_t c) const { return c != args.ignore_index && c >= 0 && c < args.classes; }
  double weight(int64_t c) const {
    return args.weight != nullptr ? static_cast<double>(static_cast<const T*>(args.weight)[c]) : 1.0;
  }
  int64_t place(int64_t row, int64_t c) const {
    return (row / args.inner * args.classes + c) * args.inner + row % args.inner;
  }
};

template <class T>
void forward(const NllArgs& args, Exec& exec) {
  const NllTargets<T> targets{args};
  const int64_t rows = args.outer * args.inner;
  const T* x = static_cast<const T*>(args.x);
  T* losses = args.reduction == Reduction::none ? static_cast<T*>(args.loss) : nullptr;
  double total = 0.0, divisor = 0.0;
  *args.first_bad = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t c = args.target[row];
    double loss = 0.0;
    if (targets.counts(c)) {
      divisor += targets.weight(c);
      loss = -targets.weight(c) * static_cast<double>(x[targets.place(row, c)]);
    } else if (c != args.ignore_index && *args.first_bad < 0) {
      *args.first_bad = row;
    }
    if (losses != nullptr)
      losses[row] = static_cast<T>(loss);
    else
      total += loss;
  }
  *args.ws_divisor = args.reduction == Reduction::mean ? divisor : 1.0;
  if (losses == nullptr)
    *static_cast<T*>(args.loss) = static_cast<T>(*args.ws_divisor == 0.0 ? 0.0 : total / *args.ws_divisor);
  static_cast<void>(exec);
}

template <class T>
void backward(const NllBackwardArgs& args, Exec& exec) {
  const NllArgs& fwd = args.forward;
  const NllTargets<T> targets{fwd};
  const int64_t block = fwd.classes * fwd.inner;
  const T* d_loss = static_cast<const T*>(args.d_loss);
  T* d_x = static_cast<T*>(args.d_x);
  const double scale = *fwd.ws_divisor == 0.0 ? 0.0 : 1.0 / *fwd.ws_divisor;
  parallel_for(exec, fwd.outer, 1 + kNllGrain / (block + 1), [&](int64_t begin, int64_t end) {
    __builtin_memset(d_x + begin * block, 0, static_cast<size_t>((end - begin) * block) * sizeof(T));
    for (int64_t row = begin * fwd.inner; row < end * fwd.inner; ++row) {
      const int64_t c = fwd.target[row];
      if (!targets.counts(c)) continue;
      const double g = static_cast<double>(d_loss[fwd.reduction == Reduction::none ? row : 0]);
      d_x[targets.place(row, c)] = static_cast<T>(-targets.weight(c) * scale * g);
    }
  });
}

void nll_loss_kernel(const NllArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float32 ? forward<float>(args, exec) : forward<double>(args, exec);
}
void nll_loss_backward_kernel(const NllBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float32 ? backward<float>(args, exec) : backward<double>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(nll) {
  table.nll_loss = pydl::nll_loss_kernel;
  table.nll_loss_backward = pydl::nll_loss_backward_kernel;
}
