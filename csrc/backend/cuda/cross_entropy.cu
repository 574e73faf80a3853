// Cross-entropy from logits, forward and backward, with the formulas that cpu/cross_entropy.cpp states. Forward is one
// pass over the logits (largest and sum of exponentials together; a second one, from cache, where all classes count),
// then one reduction of the rows' losses; backward is one pass that reads logits and writes their gradient. Bound by
// memory. Where targets are classes, forward waits for the stream: the op must know of one out of range.
#include "backend/cuda/reduction.h"
#include "backend/cuda/rows.h"

namespace pydl {
namespace {

template <class T>
struct Labels {
  CrossEntropyArgs args;
  double certain, even;  // 1 - s and s / C
  explicit Labels(const CrossEntropyArgs& a)
      : args(a), certain(1.0 - a.label_smoothing), even(a.label_smoothing / static_cast<double>(a.classes)) {}
  __device__ double weight(int64_t c) const {
    return args.weight != nullptr ? static_cast<double>(static_cast<const T*>(args.weight)[c]) : 1.0;
  }
  __device__ T weight_of(int64_t c) const {
    return args.weight != nullptr ? static_cast<const T*>(args.weight)[c] : T(1);
  }
  __device__ bool counts(int64_t c) const { return c != args.ignore_index && c >= 0 && c < args.classes; }
};

// losses: (rows) of T where there is no reduction; else reduced: (rows).
template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) row_losses(Labels<T> labels, T* losses, double* reduced) {
  const CrossEntropyArgs& args = labels.args;
  const int64_t rows = args.outer * args.inner;
  const Team<kind> team(rows, args.classes, args.inner);
  const T* x = static_cast<const T*>(args.logits);
  const T* q = static_cast<const T*>(args.target_probability);
  const Exponentials<T> e = exponentials_of(team, x);
  const T log_sum = static_cast<T>(::log(e.sum));
  double loss = 0.0;
  if (q != nullptr || labels.even != 0.0) {
    const T certain = static_cast<T>(labels.certain), even = static_cast<T>(labels.even);
    double part = 0.0;
    team.each([&](int64_t at, int64_t c) {
      const T share = labels.weight_of(c) * (q != nullptr ? certain * q[at] + even : T(1));
      part += static_cast<double>(share * (log_sum - (x[at] - e.largest)));
    });
    loss = team.sum(part);
  }
  if (!team.valid || team.lane != 0) return;
  if (q == nullptr) {
    const int64_t target = args.target[team.row];
    if (labels.counts(target)) {
      const double logit = static_cast<double>(x[team.start() + target * team.step()]);
      const double own =
          labels.weight(target) * (static_cast<double>(log_sum) - (logit - static_cast<double>(e.largest)));
      loss = labels.even != 0.0 ? labels.certain * own + labels.even * loss : own;
    } else {
      loss = 0.0;
    }
  }
  T* ws = static_cast<T*>(args.ws_lse);
  ws[team.row] = e.largest;
  ws[rows + team.row] = log_sum;
  if (losses != nullptr)
    losses[team.row] = static_cast<T>(loss);
  else
    reduced[team.row] = loss;
}

struct Totals {
  double loss, divisor;
  FirstBad first_bad;
};

template <class T>
struct TotalOf : Fold<TotalOf<T>> {
  using Acc = Totals;
  Labels<T> labels;
  const double* reduced;  // (rows) or null
  FirstBad* first_bad;
  explicit TotalOf(const Labels<T>& l) : labels(l) {}
  __device__ Acc identity() const { return {0.0, 0.0, ~FirstBad{0}}; }
  __device__ Acc load(int64_t, int64_t row) const {
    Acc acc{reduced != nullptr ? reduced[row] : 0.0, 1.0, ~FirstBad{0}};
    if (labels.args.target == nullptr) return acc;
    const int64_t target = labels.args.target[row];
    acc.divisor = labels.counts(target) ? labels.weight(target) : 0.0;
    if (!labels.counts(target) && target != labels.args.ignore_index) acc.first_bad = static_cast<FirstBad>(row);
    return acc;
  }
  __device__ Acc combine(Acc a, Acc b) const {
    return {a.loss + b.loss, a.divisor + b.divisor, a.first_bad < b.first_bad ? a.first_bad : b.first_bad};
  }
  __device__ void store(int64_t, Acc acc) const {
    const double divisor = labels.args.reduction == Reduction::mean ? acc.divisor : 1.0;
    *labels.args.ws_divisor = divisor;
    *first_bad = acc.first_bad;
    if (reduced != nullptr)
      *static_cast<T*>(labels.args.loss) = static_cast<T>(divisor == 0.0 ? 0.0 : acc.loss / divisor);
  }
};

template <class T>
void forward(const CrossEntropyArgs& args, Exec& exec) {
  const int64_t rows = args.outer * args.inner;
  const Labels<T> labels(args);
  T* losses = args.reduction == Reduction::none ? static_cast<T*>(args.loss) : nullptr;
  DeviceScratch<double> reduced(exec, losses == nullptr ? rows + 1 : 1);
  DeviceScratch<FirstBad> first_bad(exec, 1);
  if (args.first_bad != nullptr) *args.first_bad = -1;
  if (!reduced || !first_bad) return;
  with_team(args.outer, args.classes, args.inner, [&](auto kind, unsigned blocks) {
    PYDL_CUDA_LAUNCH((row_losses<decltype(kind)::value, T>), blocks, kBlock, 0, exec, labels, losses, reduced.get());
  });
  TotalOf<T> total(labels);
  total.reduced = losses == nullptr ? reduced.get() : nullptr;
  total.first_bad = first_bad.get();
  reduce_to(exec, 1, rows, true, total);
  if (args.target != nullptr) report_first_bad(exec, first_bad.get(), args.first_bad);
}

template <class T>
struct WeightSum : Fold<WeightSum<T>> {
  using Acc = double;
  const T* weight;
  double* dst;
  __device__ Acc identity() const { return 0.0; }
  __device__ Acc load(int64_t, int64_t c) const { return static_cast<double>(weight[c]); }
  __device__ Acc combine(Acc a, Acc b) const { return a + b; }
  __device__ void store(int64_t, Acc acc) const { *dst = acc; }
};

// weight_sum: of all classes, on the device, or null for as many as there are.
template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock)
    row_gradients(Labels<T> labels, const T* d_loss, T* d_x, T* d_q, const double* weight_sum) {
  const CrossEntropyArgs& args = labels.args;
  const int64_t rows = args.outer * args.inner;
  const Team<kind> team(rows, args.classes, args.inner);
  const T* x = static_cast<const T*>(args.logits);
  const T* q = static_cast<const T*>(args.target_probability);
  const T* ws = static_cast<const T*>(args.ws_lse);
  const int64_t row = team.valid ? team.row : 0;
  const double divisor = *args.ws_divisor;
  const double g =
      (divisor == 0.0 ? 0.0 : 1.0 / divisor) * static_cast<double>(d_loss[args.reduction == Reduction::none ? row : 0]);
  const T shift = ws[row], log_sum = ws[rows + row], grad = static_cast<T>(g);
  if (q != nullptr) {
    const T certain = static_cast<T>(labels.certain), even = static_cast<T>(labels.even);
    double part = 0.0;
    if (d_x != nullptr)
      team.each(
          [&](int64_t at, int64_t c) { part += static_cast<double>(labels.weight_of(c) * (certain * q[at] + even)); });
    const T total = static_cast<T>(g * team.sum(part)), factor = static_cast<T>(g * labels.certain);
    team.each([&](int64_t at, int64_t c) {
      const T w = labels.weight_of(c), v = x[at] - shift;
      const T share = w * (certain * q[at] + even);
      if (d_q != nullptr) d_q[at] = factor * w * (log_sum - v);
      if (d_x != nullptr) d_x[at] = real_exp(v - log_sum) * total - grad * share;
    });
    return;
  }
  if (d_x == nullptr) return;
  const int64_t target = args.target[row];
  if (!labels.counts(target)) {
    team.each([&](int64_t at, int64_t) { d_x[at] = T(0); });
    return;
  }
  const double all = weight_sum != nullptr ? *weight_sum : static_cast<double>(args.classes);
  const double own = labels.certain * labels.weight(target);
  const T total = static_cast<T>(g * (own + labels.even * all)), picked = static_cast<T>(g * own);
  const T share = static_cast<T>(g * labels.even);
  team.each([&](int64_t at, int64_t c) {
    T d = real_exp(x[at] - shift - log_sum) * total;
    if (labels.even != 0.0) d -= share * labels.weight_of(c);
    d_x[at] = c == target ? d - picked : d;
  });
}

template <class T>
void backward(const CrossEntropyBackwardArgs& args, Exec& exec) {
  const Labels<T> labels(args.forward);
  const bool weighs = args.forward.weight != nullptr && labels.even != 0.0 && args.forward.target != nullptr;
  DeviceScratch<double> weight_sum(exec, 1);
  if (!weight_sum) return;
  if (weighs) {
    WeightSum<T> sum{};
    sum.weight = static_cast<const T*>(args.forward.weight);
    sum.dst = weight_sum.get();
    reduce_to(exec, 1, args.forward.classes, true, sum);
  }
  with_team(args.forward.outer, args.forward.classes, args.forward.inner, [&](auto kind, unsigned blocks) {
    PYDL_CUDA_LAUNCH((row_gradients<decltype(kind)::value, T>), blocks, kBlock, 0, exec, labels,
                     static_cast<const T*>(args.d_loss), static_cast<T*>(args.d_logits),
                     static_cast<T*>(args.d_target_probability),
                     static_cast<const double*>(weighs ? weight_sum.get() : nullptr));
  });
}

void cross_entropy_kernel(const CrossEntropyArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) { forward<decltype(zero)>(args, exec); });
}
void cross_entropy_backward_kernel(const CrossEntropyBackwardArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.forward.dtype, [&](auto zero) { backward<decltype(zero)>(args, exec); });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(cross_entropy) {
  table.cross_entropy = pydl::cross_entropy_kernel;
  table.cross_entropy_backward = pydl::cross_entropy_backward_kernel;
}
