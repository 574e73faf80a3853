// softmax, log_softmax, their gradients, and logsumexp. The largest element is subtracted first, so that nothing
// overflows; sums are kept in float64 from block to block.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class T>
void softmax_typed(const SoftmaxArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  each_row<T, 1, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.src)}, {static_cast<T*>(args.dst)},
                    [&](int64_t, const T* const* in, T* const* out) {
                      const T* x = in[0];
                      T* y = out[0];
                      const V x_max(row_max(x, n));
                      if (args.log) {
                        const double sum = row_sum<T>(n, [&](int64_t, auto load) { return exp(load(x) - x_max); });
                        const V log_sum(__builtin_log(sum));
                        row_map(n, y, [&](auto load) { return load(x) - x_max - log_sum; });
                        return;
                      }
                      row_map(n, y, [&](auto load) { return exp(load(x) - x_max); });
                      const V scale(1.0 / row_sum<T>(n, [&](int64_t, auto load) { return load(y); }));
                      row_map(n, y, [&](auto load) { return load(y) * scale; });
                    });
}

template <class T>
void softmax_backward_typed(const SoftmaxBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  each_row<T, 2, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.y), static_cast<const T*>(args.d_y)},
                    {static_cast<T*>(args.d_x)}, [&](int64_t, const T* const* in, T* const* out) {
                      const T* y = in[0];
                      const T* d_y = in[1];
                      T* d_x = out[0];
                      if (args.log) {
                        const V sum(row_sum<T>(n, [&](int64_t, auto load) { return load(d_y); }));
                        row_map(n, d_x, [&](auto load) { return load(d_y) - exp(load(y)) * sum; });
                      } else {
                        const V sum(row_sum<T>(n, [&](int64_t, auto load) { return load(d_y) * load(y); }));
                        row_map(n, d_x, [&](auto load) { return load(y) * (load(d_y) - sum); });
                      }
                    });
}

template <class T>
void logsumexp_typed(const LogSumExpArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  each_row<T, 1, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.src)}, {nullptr},
                    [&](int64_t row, const T* const* in, T* const*) {
                      const T* x = in[0];
                      const T x_max = row_max(x, n);
                      double value = x_max;
                      if (__builtin_isfinite(x_max)) {
                        const V shift(x_max);
                        value += __builtin_log(row_sum<T>(n, [&](int64_t, auto load) { return exp(load(x) - shift); }));
                      }
                      static_cast<T*>(args.dst)[row] = static_cast<T>(value);
                    });
}

void softmax_kernel(const SoftmaxArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? softmax_typed<double>(args, exec) : softmax_typed<float>(args, exec);
}
void softmax_backward_kernel(const SoftmaxBackwardArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? softmax_backward_typed<double>(args, exec) : softmax_backward_typed<float>(args, exec);
}
void logsumexp_kernel(const LogSumExpArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? logsumexp_typed<double>(args, exec) : logsumexp_typed<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(softmax) {
  table.softmax = pydl::softmax_kernel;
  table.softmax_backward = pydl::softmax_backward_kernel;
  table.logsumexp = pydl::logsumexp_kernel;
}
