// The element-wise losses of ops/losses.def: one pass through memory forward, the reduction included, and one backward
// for each of input and target. Formulas work on runs that stay in L1, where weights and reductions find their results.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

constexpr int64_t kLossPiece = 16384;        // elements that make one partial sum
constexpr int64_t kLossRun = 4 * kSumBlock;  // elements that a formula is given at a time

// Where a formula finds n neighbouring elements, from the element `first` on: input, target, weight of positive
// targets.
template <class T>
struct LossRun {
  int64_t first, n;
  const T *x, *t, *v;
};

// dst[i] = formula(x[i], t[i], v[i], p) * scale, and the sum of the formulas. What is no formula is written once for
// all of them.
template <class T>
using LossBody = void (*)(const LossRun<T>& run, double p, double scale, T* dst);
template <class T>
using LossSum = double (*)(const LossRun<T>& run, double p);

// body(run) for runs of [begin, end).
template <class T, class F>
PYDL_INLINE void each_run(const LossArgs& args, int64_t begin, int64_t end, F body) {
  alignas(64) T ones[kLossRun];
  const T *x = static_cast<const T*>(args.x), *t = static_cast<const T*>(args.target);
  const T* positive = static_cast<const T*>(args.positive);
  if (positive == nullptr) {
    row_map(end - begin < kLossRun ? end - begin : kLossRun, ones, [](auto) { return Vec<T>(1.0); });
  }
  for (int64_t i = begin; i < end; i += kLossRun) {
    body(LossRun<T>{i, end - i < kLossRun ? end - i : kLossRun, x + i, t + i,
                    positive == nullptr ? ones : positive + i});
  }
}

template <class T>
PYDL_INLINE void multiply_by(const T* factor, int64_t n, T* dst) {
  if (factor != nullptr) row_map(n, dst, [&](auto load) { return load(dst) * load(factor); });
}

// Without `sum` by way of memory in L1: float64 and weighted sums are not worth the code of a second loop each.
template <class T>
void loss_forward(const LossArgs& args, Exec& exec, LossBody<T> value, LossSum<T> sum) {
  const T* weight = static_cast<const T*>(args.weight);
  T* loss = static_cast<T*>(args.loss);
  const auto weighted = [&](const LossRun<T>& run, T* dst) {
    value(run, args.p, 1.0, dst);
    multiply_by(weight == nullptr ? nullptr : weight + run.first, run.n, dst);
  };
  if (args.reduction == Reduction::none) {
    parallel_for(exec, args.count, kLossPiece, [&](int64_t begin, int64_t end) {
      each_run<T>(args, begin, end, [&](const LossRun<T>& run) { weighted(run, loss + run.first); });
    });
    return;
  }
  const int64_t pieces = ceil_div(args.count, kLossPiece);
  Scratch<double> sums(exec, pieces);
  parallel_for(exec, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kLossPiece, last = first + kLossPiece;
      sums[piece] = 0.0;
      each_run<T>(args, first, last < args.count ? last : args.count, [&](const LossRun<T>& run) {
        if (sum != nullptr && weight == nullptr) {
          sums[piece] += sum(run, args.p);
          return;
        }
        alignas(64) T losses[kLossRun];
        weighted(run, losses);
        sums[piece] += row_sum<T>(run.n, [&](int64_t, auto load) { return load(losses); });
      });
    }
  });
  double total = 0.0;
  for (int64_t piece = 0; piece < pieces; ++piece) total += sums[piece];
  *loss = static_cast<T>(total * args.scale);
}

// dst = derivative * weight * d_loss
template <class T>
void loss_gradient(const LossBackwardArgs& args, Exec& exec, void* to, LossBody<T> derivative) {
  const LossArgs& fwd = args.forward;
  const T *weight = static_cast<const T*>(fwd.weight), *d_loss = static_cast<const T*>(args.d_loss);
  T* dst = static_cast<T*>(to);
  const bool each = fwd.reduction == Reduction::none;
  const double scale = each ? 1.0 : fwd.scale * static_cast<double>(d_loss[0]);
  parallel_for(exec, fwd.count, kLossPiece, [&](int64_t begin, int64_t end) {
    each_run<T>(fwd, begin, end, [&](const LossRun<T>& run) {
      const int64_t i = run.first;
      derivative(run, fwd.p, scale, dst + i);
      multiply_by(weight == nullptr ? nullptr : weight + i, run.n, dst + i);
      multiply_by(each ? d_loss + i : nullptr, run.n, dst + i);
    });
  });
}

#define LOSS_TERM(formula)                                                \
  const LossRun<T> r = run; /* which stores to dst leave alone */         \
  [[maybe_unused]] const Vec<T> p(parameter);                             \
  const auto term = [=](auto load) {                                      \
    using V = Vec<T>;                                                     \
    [[maybe_unused]] const V x = load(r.x), t = load(r.t), v = load(r.v); \
    return V(formula);                                                    \
  };
#define LOSS_BODY(name, formula)                                              \
  template <class T>                                                          \
  void name(const LossRun<T>& run, double parameter, double factor, T* dst) { \
    LOSS_TERM(formula)                                                        \
    const Vec<T> scale(factor);                                               \
    row_map(r.n, dst, [&](auto load) { return term(load) * scale; });         \
  }
#define LOSS(name, formula, derivative_x, derivative_t)                                             \
  LOSS_BODY(name##_value, formula)                                                                  \
  LOSS_BODY(name##_d_x, derivative_x)                                                               \
  LOSS_BODY(name##_d_t, derivative_t)                                                               \
  double name##_sum(const LossRun<float>& run, double parameter) {                                  \
    using T = float;                                                                                \
    LOSS_TERM(formula)                                                                              \
    return row_sum<T>(r.n, [&](int64_t, auto load) { return term(load); });                         \
  }                                                                                                 \
  void name##_kernel(const LossArgs& args, Exec& exec) noexcept {                                   \
    args.dtype == DType::float32 ? loss_forward<float>(args, exec, name##_value<float>, name##_sum) \
                                 : loss_forward<double>(args, exec, name##_value<double>, nullptr); \
  }                                                                                                 \
  void name##_backward_kernel(const LossBackwardArgs& args, Exec& exec) noexcept {                  \
    const bool single = args.forward.dtype == DType::float32;                                       \
    if (args.d_x != nullptr) {                                                                      \
      single ? loss_gradient<float>(args, exec, args.d_x, name##_d_x<float>)                        \
             : loss_gradient<double>(args, exec, args.d_x, name##_d_x<double>);                     \
    }                                                                                               \
    if (args.d_target != nullptr) {                                                                 \
      single ? loss_gradient<float>(args, exec, args.d_target, name##_d_t<float>)                   \
             : loss_gradient<double>(args, exec, args.d_target, name##_d_t<double>);                \
    }                                                                                               \
  }
#include "ops/losses.def"
#undef LOSS
#undef LOSS_BODY
#undef LOSS_TERM

}  // namespace
}  // namespace pydl

PYDL_FILL(loss) {
#define LOSS(name, formula, derivative_x, derivative_t) \
  table.name = pydl::name##_kernel;                     \
  table.name##_backward = pydl::name##_backward_kernel;
#include "ops/losses.def"
}
