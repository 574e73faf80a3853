// Cross-entropy from logits, forward and backward, each one pass over them: targets are classes or probabilities q',
// and
//   loss = sum over c of q[c] * (lse - x[c]),   d_x = g * (softmax(x) * sum(q) - q),
//   q[c] = weight[c] * ((1 - s) * q'[c] + s / C),   s the label smoothing,
// except that with classes the loss's first part takes weight[class] alone. lse is kept as two numbers, x_max and
// log(sum(exp(x - x_max))): where logits are large their sum has lost what the difference needs.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class T>
struct Labels {
  const CrossEntropyArgs& args;
  double certain;     // 1 - s
  double even;        // s / C
  double weight_sum;  // of all classes

  explicit Labels(const CrossEntropyArgs& a) : args(a) {
    certain = 1.0 - a.label_smoothing;
    even = a.label_smoothing / static_cast<double>(a.classes);
    weight_sum = static_cast<double>(a.classes);
    if (a.weight != nullptr) {
      weight_sum = 0.0;
      for (int64_t c = 0; c < a.classes; ++c) weight_sum += static_cast<double>(weights()[c]);
    }
  }
  const T* weights() const { return static_cast<const T*>(args.weight); }
  double weight(int64_t c) const { return args.weight != nullptr ? static_cast<double>(weights()[c]) : 1.0; }
  bool in_range(int64_t c) const { return c >= 0 && c < args.classes; }
  bool counts(int64_t c) const { return c != args.ignore_index && in_range(c); }
};

// weight[c] for the vector that load is at, or 1.
template <class T, class Load>
PYDL_INLINE Vec<T> weight_at(const T* weight, Load load) {
  return weight != nullptr ? load(weight) : Vec<T>(1.0);
}

// One row's loss where targets are classes, without smoothing. x is the logit of the target.
template <class T>
double label_loss(const Labels<T>& labels, T x, int64_t target, T x_max, T log_sum) {
  const double picked = static_cast<double>(log_sum) - (static_cast<double>(x) - static_cast<double>(x_max));
  return labels.weight(target) * picked;
}

// One row's loss. x_max and log_sum are its statistics, q its target probabilities or null, `target` its class.
template <class T>
double row_loss(const Labels<T>& labels, const T* x, const T* q, int64_t target, T x_max, T log_sum) {
  using V = Vec<T>;
  const int64_t classes = labels.args.classes;
  const T* weight = labels.weights();
  const V shift(x_max), log_total(log_sum), certain(labels.certain), even(labels.even);
  if (q != nullptr) {
    return row_sum<T>(classes, [&](int64_t, auto load) {
      const V share = weight_at(weight, load) * (certain * load(q) + even);
      return share * (log_total - (load(x) - shift));
    });
  }
  if (!labels.counts(target)) return 0.0;
  double loss = label_loss(labels, x[target], target, x_max, log_sum);
  if (labels.even != 0.0) {
    loss = labels.certain * loss + labels.even * row_sum<T>(classes, [&](int64_t, auto load) {
                                     return weight_at(weight, load) * (log_total - (load(x) - shift));
                                   });
  }
  return loss;
}

// What a mean divides by, and the first target out of range.
template <class T>
double divisor_of(const Labels<T>& labels, int64_t* first_bad) {
  const CrossEntropyArgs& args = labels.args;
  const int64_t rows = args.outer * args.inner;
  *first_bad = -1;
  double divisor = args.target == nullptr ? static_cast<double>(rows) : 0.0;
  for (int64_t row = 0; args.target != nullptr && row < rows; ++row) {
    const int64_t target = args.target[row];
    if (labels.counts(target))
      divisor += labels.weight(target);
    else if (target != args.ignore_index && *first_bad < 0)
      *first_bad = row;
  }
  return args.reduction == Reduction::mean ? divisor : 1.0;
}

// Eight sums beside each other, and then their tree.
double sum_of(const double* x, int64_t n) {
  double sum[8] = {};
  for (int64_t i = 0; i < n; ++i) sum[i % 8] += x[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

// x_max and log_sum of short rows and columns.
template <class T>
void short_statistics(const CrossEntropyArgs& args, T* ws_max, T* ws_log_sum, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.classes;
  each_short_row<T, 1, 1>(exec, args.outer, n, args.inner, {static_cast<const T*>(args.logits)}, {nullptr},
                          [&](int64_t row, int count, const T* const* in, T* const*, int64_t step) {
                            const V x_max = short_max(n, in[0], step);
                            const V sum =
                                short_sum<V>(n, [&](int64_t k) { return exp(V::load(in[0] + k * step) - x_max); });
                            x_max.store_partial(ws_max + row, count);
                            log(sum).store_partial(ws_log_sum + row, count);
                          });
}

// d_x of short rows and columns whose targets are classes, without smoothing.
template <class T>
void short_backward(const CrossEntropyBackwardArgs& args, const Labels<T>& labels, double scale, Exec& exec) {
  using V = Vec<T>;
  const CrossEntropyArgs& fwd = args.forward;
  const int64_t n = fwd.classes;
  const T* ws_max = static_cast<const T*>(fwd.ws_lse);
  const T* ws_log_sum = ws_max + fwd.outer * fwd.inner;
  const T* d_loss = static_cast<const T*>(args.d_loss);
  each_short_row<T, 1, 1>(exec, fwd.outer, n, fwd.inner, {static_cast<const T*>(fwd.logits)},
                          {static_cast<T*>(args.d_logits)},
                          [&](int64_t row, int count, const T* const* in, T* const* out, int64_t step) {
                            T own[V::size] = {};
                            for (int r = 0; r < count; ++r) {
                              const int64_t target = fwd.target[row + r];
                              if (!labels.counts(target)) continue;
                              const T g = d_loss[fwd.reduction == Reduction::none ? row + r : 0];
                              own[r] = static_cast<T>(scale * static_cast<double>(g) * labels.weight(target));
                            }
                            const V total = V::load(own), shift = V::load_partial(ws_max + row, count),
                                    log_sum = V::load_partial(ws_log_sum + row, count);
                            for (int64_t k = 0; k < n * step; k += step)
                              (exp(V::load(in[0] + k) - shift - log_sum) * total).store(out[0] + k);
                            for (int r = 0; r < count; ++r) {
                              const int64_t target = fwd.target[row + r];
                              if (labels.counts(target))
                                out[0][target * step + r] -= own[r];
                              else
                                for (int64_t c = 0; c < n; ++c) out[0][c * step + r] = T(0);
                            }
                          });
}

template <class T>
void forward(const CrossEntropyArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.classes, rows = args.outer * args.inner;
  const Labels<T> labels(args);
  T* ws_max = static_cast<T*>(args.ws_lse);
  T* ws_log_sum = ws_max + rows;
  T* losses = args.reduction == Reduction::none ? static_cast<T*>(args.loss) : nullptr;
  Scratch<double> reduced(exec, losses == nullptr ? rows : 0);
  const double divisor = divisor_of(labels, args.first_bad);
  *args.ws_divisor = divisor;
  const bool plain = args.target_probability == nullptr && labels.even == 0.0;  // long columns are read once then
  const bool is_short = sizeof(T) == 4 && is_short_row<T>(n, args.inner) && (plain || n <= kShortRow<T>);
  if constexpr (sizeof(T) == 4)
    if (is_short) short_statistics(args, ws_max, ws_log_sum, exec);
  const auto keep = [&](int64_t row, double loss) {
    if (losses != nullptr)
      losses[row] = static_cast<T>(loss);
    else
      reduced[row] = loss;
  };
  if (is_short && plain) {
    const T* logits = static_cast<const T*>(args.logits);
    parallel_for(exec, rows, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t target = args.target[row], o = row / args.inner, i = row % args.inner;
        const bool counts = labels.counts(target);
        const T x = counts ? logits[(o * n + target) * args.inner + i] : T(0);
        keep(row, counts ? label_loss(labels, x, target, ws_max[row], ws_log_sum[row]) : 0.0);
      }
    });
  } else {
    each_row<T, 2, 1>(exec, args.outer, n, args.inner,
                      {static_cast<const T*>(args.logits), static_cast<const T*>(args.target_probability)}, {nullptr},
                      [&](int64_t row, const T* const* in, T* const*) {
                        const T* x = in[0];
                        if (!is_short) {
                          const V shift(row_max(x, n));
                          const double sum = row_sum<T>(n, [&](int64_t, auto load) { return exp(load(x) - shift); });
                          ws_max[row] = shift.lane(0);
                          ws_log_sum[row] = static_cast<T>(__builtin_log(sum));
                        }
                        const T* q = args.target_probability != nullptr ? in[1] : nullptr;
                        keep(row,
                             row_loss(labels, x, q, q != nullptr ? 0 : args.target[row], ws_max[row], ws_log_sum[row]));
                      });
  }
  if (losses != nullptr) return;
  const double total = sum_of(reduced, rows);
  *static_cast<T*>(args.loss) = static_cast<T>(divisor == 0.0 ? 0.0 : total / divisor);
}

template <class T>
void backward(const CrossEntropyBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  const CrossEntropyArgs& fwd = args.forward;
  const int64_t n = fwd.classes, rows = fwd.outer * fwd.inner;
  const Labels<T> labels(fwd);
  const T* weight = labels.weights();
  const T* ws_max = static_cast<const T*>(fwd.ws_lse);
  const T* ws_log_sum = ws_max + rows;
  const T* d_loss = static_cast<const T*>(args.d_loss);
  const double scale = *fwd.ws_divisor == 0.0 ? 0.0 : 1.0 / *fwd.ws_divisor;
  const V certain(labels.certain), even(labels.even);
  if constexpr (sizeof(T) == 4) {
    const bool plain = fwd.target_probability == nullptr && labels.even == 0.0 && args.d_logits != nullptr;
    if (plain && is_short_row<T>(n, fwd.inner)) return short_backward(args, labels, scale, exec);
  }
  each_row<T, 2, 2>(
      exec, fwd.outer, n, fwd.inner, {static_cast<const T*>(fwd.logits), static_cast<const T*>(fwd.target_probability)},
      {static_cast<T*>(args.d_logits), static_cast<T*>(args.d_target_probability)},
      [&](int64_t row, const T* const* in, T* const* out) {
        const T* x = in[0];
        T* d_x = out[0];
        const double g = scale * static_cast<double>(d_loss[fwd.reduction == Reduction::none ? row : 0]);
        const V shift(ws_max[row]), log_sum(ws_log_sum[row]), grad(g);
        if (fwd.target_probability != nullptr) {
          const T* q = in[1];
          if (args.d_target_probability != nullptr) {
            const V factor(g * labels.certain);
            row_map(n, out[1],
                    [&](auto load) { return factor * weight_at(weight, load) * (log_sum - (load(x) - shift)); });
          }
          if (args.d_logits == nullptr) return;
          const V total(g * row_sum<T>(n, [&](int64_t, auto load) {
                          return weight_at(weight, load) * (certain * load(q) + even);
                        }));
          row_map(n, d_x, [&](auto load) {
            const V share = weight_at(weight, load) * (certain * load(q) + even);
            return exp(load(x) - shift - log_sum) * total - grad * share;
          });
          return;
        }
        if (args.d_logits == nullptr) return;
        const int64_t target = fwd.target[row];
        if (!labels.counts(target)) {
          for (int64_t c = 0; c < n; ++c) d_x[c] = T(0);
          return;
        }
        const double own = labels.certain * labels.weight(target);
        const V total(g * (own + labels.even * labels.weight_sum));
        if (labels.even == 0.0) {
          row_map(n, d_x, [&](auto load) { return exp(load(x) - shift - log_sum) * total; });
        } else {
          const V share(g * labels.even);
          row_map(n, d_x,
                  [&](auto load) { return exp(load(x) - shift - log_sum) * total - share * weight_at(weight, load); });
        }
        d_x[target] -= static_cast<T>(g * own);
      });
}

void cross_entropy_kernel(const CrossEntropyArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? forward<double>(args, exec) : forward<float>(args, exec);
}
void cross_entropy_backward_kernel(const CrossEntropyBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float64 ? backward<double>(args, exec) : backward<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(cross_entropy) {
  table.cross_entropy = pydl::cross_entropy_kernel;
  table.cross_entropy_backward = pydl::cross_entropy_backward_kernel;
}
