// softmax, log_softmax, their gradients, and logsumexp. The largest element and the sum of exponentials come from one
// pass over a row, what is written from a second one, which finds the row in cache: bound by memory.
#include "backend/cuda/rows.h"

namespace pydl {
namespace {

template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) softmax_rows(SoftmaxArgs args) {
  const Team<kind> team(args.outer * args.inner, args.n, args.inner);
  const T* src = static_cast<const T*>(args.src);
  T* dst = static_cast<T*>(args.dst);
  const Exponentials<T> e = exponentials_of(team, src);
  if (args.log) {
    const T log_sum = static_cast<T>(::log(e.sum));
    team.each([&](int64_t at, int64_t) { dst[at] = src[at] - e.largest - log_sum; });
  } else {
    const T scale = static_cast<T>(1.0 / e.sum);
    team.each([&](int64_t at, int64_t) { dst[at] = real_exp(src[at] - e.largest) * scale; });
  }
}

template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) softmax_gradient_rows(SoftmaxBackwardArgs args) {
  const Team<kind> team(args.outer * args.inner, args.n, args.inner);
  const T* y = static_cast<const T*>(args.y);
  const T* d_y = static_cast<const T*>(args.d_y);
  T* d_x = static_cast<T*>(args.d_x);
  double part = 0.0;
  team.each([&](int64_t at, int64_t) { part += static_cast<double>(args.log ? d_y[at] : d_y[at] * y[at]); });
  const T sum = static_cast<T>(team.sum(part));
  if (args.log)
    team.each([&](int64_t at, int64_t) { d_x[at] = d_y[at] - real_exp(y[at]) * sum; });
  else
    team.each([&](int64_t at, int64_t) { d_x[at] = y[at] * (d_y[at] - sum); });
}

template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) logsumexp_rows(LogSumExpArgs args) {
  const Team<kind> team(args.outer * args.inner, args.n, args.inner);
  const Exponentials<T> e = exponentials_of(team, static_cast<const T*>(args.src));
  if (!team.valid || team.lane != 0) return;
  double value = static_cast<double>(e.largest);
  if (is_finite(e.largest)) value += ::log(e.sum);
  static_cast<T*>(args.dst)[team.row] = static_cast<T>(value);
}

#define PYDL_ROWS_KERNEL(name, Args, rows_kernel)                                                 \
  void name##_kernel(const Args& args, Exec& exec) noexcept {                                     \
    dispatch_floating(args.dtype, [&](auto zero) {                                                \
      using T = decltype(zero);                                                                   \
      with_team(args.outer, args.n, args.inner, [&](auto kind, unsigned blocks) {                 \
        PYDL_CUDA_LAUNCH((rows_kernel<decltype(kind)::value, T>), blocks, kBlock, 0, exec, args); \
      });                                                                                         \
    });                                                                                           \
  }
PYDL_ROWS_KERNEL(softmax, SoftmaxArgs, softmax_rows)
PYDL_ROWS_KERNEL(softmax_backward, SoftmaxBackwardArgs, softmax_gradient_rows)
PYDL_ROWS_KERNEL(logsumexp, LogSumExpArgs, logsumexp_rows)
#undef PYDL_ROWS_KERNEL

}  // namespace
}  // namespace pydl

PYDL_FILL(softmax) {
  table.softmax = pydl::softmax_kernel;
  table.softmax_backward = pydl::softmax_backward_kernel;
  table.logsumexp = pydl::logsumexp_kernel;
}
