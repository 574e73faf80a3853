// softmax, log_softmax, their gradients, and logsumexp. The largest element is subtracted first, so that nothing
// overflows; sums of long rows are kept in float64 from block to block. Short rows and columns go side by side, vectors
// across them, with sums of their own type in blocks.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class T>
void short_softmax(const SoftmaxArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  each_short_row<T, 1, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.src)},
                          {static_cast<T*>(args.dst)},
                          [&](int64_t, int, const T* const* in, T* const* out, int64_t step) {
                            const T* x = in[0];
                            T* y = out[0];
                            const V x_max = short_max(n, x, step);
                            const V sum = short_sum<V>(n, [&](int64_t k) {
                              const V e = exp(V::load(x + k * step) - x_max);
                              if (!args.log) e.store(y + k * step);
                              return e;
                            });
                            const V factor = args.log ? log(sum) : 1.0 / sum;
                            for (int64_t k = 0; k < n * step; k += step) {
                              const V value = args.log ? V::load(x + k) - x_max - factor : V::load(y + k) * factor;
                              value.store(y + k);
                            }
                          });
}

template <class T>
void softmax_typed(const SoftmaxArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  if (is_short_row_or_block<T>(n, args.inner)) return short_softmax<T>(args, exec);
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
void short_softmax_backward(const SoftmaxBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  each_short_row<T, 2, 1>(exec, args.outer, n, args.inner,
                          {static_cast<const T*>(args.y), static_cast<const T*>(args.d_y)}, {static_cast<T*>(args.d_x)},
                          [&](int64_t, int, const T* const* in, T* const* out, int64_t step) {
                            const auto y = [&](int64_t k) { return V::load(in[0] + k * step); };
                            const auto d_y = [&](int64_t k) { return V::load(in[1] + k * step); };
                            const V sum = short_sum<V>(n, [&](int64_t k) { return args.log ? d_y(k) : d_y(k) * y(k); });
                            for (int64_t k = 0; k < n; ++k) {
                              const V d_x = args.log ? d_y(k) - exp(y(k)) * sum : y(k) * (d_y(k) - sum);
                              d_x.store(out[0] + k * step);
                            }
                          });
}

template <class T>
void softmax_backward_typed(const SoftmaxBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  if (is_short_row_or_block<T>(n, args.inner)) return short_softmax_backward<T>(args, exec);
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
  if (is_short_row<T>(args.n, args.inner)) {
    each_short_row<T, 1, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.src)}, {nullptr},
                            [&](int64_t row, int count, const T* const* in, T* const*, int64_t step) {
                              const V x_max = short_max(n, in[0], step);
                              const V sum =
                                  short_sum<V>(n, [&](int64_t k) { return exp(V::load(in[0] + k * step) - x_max); });
                              select(abs(x_max) < infinity<T>(), x_max + log(sum), x_max)
                                  .store_partial(static_cast<T*>(args.dst) + row, count);
                            });
    return;
  }
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
