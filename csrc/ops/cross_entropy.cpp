// Cross-entropy of logits with class indices or class probabilities, fused with the softmax:
//   loss = -sum over classes c of q[c] log_softmax(logits)[c]
// q is the target distribution, smoothed and weighted; of a class index t it is weight[t] at t and 0 elsewhere, of an
// ignored one 0. Backward is fused too, and made of ops where it is to be differentiated again.
#include "backend/registry.h"
#include "core/capture.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

struct Setting {
  Reduction reduction;
  int64_t ignore_index;
  double smoothing;
  int axis;  // of the classes
  bool probabilities;
};

Dims without_axis(Dims shape, int axis) {
  shape.erase(axis);
  return shape;
}

// The classes' weights in a shape that broadcasts against the logits; undefined where there are none.
Tensor weight_along(const Tensor& weight, const Tensor& logits, int axis) {
  if (!weight.defined()) return weight;
  Dims shape = Dims::filled(logits.ndim() - axis, 1);
  shape[0] = weight.count();
  return reshape(weight, shape);
}

Tensor number(double v, const Tensor& like) { return scalar(Number::of(v), like.dtype()); }

// q of the head of this file, from ops.
Tensor target_distribution(const Setting& s, const Tensor& logits, const Tensor& target, const Tensor& weight) {
  const double even = s.smoothing / static_cast<double>(logits.size(s.axis));
  const Tensor w = weight_along(weight, logits, s.axis);
  if (s.probabilities) {
    const Tensor smooth = s.smoothing > 0 ? (target * Expr(1 - s.smoothing) + Expr(even)).tensor() : target;
    return w.defined() ? multiply(smooth, w) : smooth;
  }
  const Tensor valid = not_equal(target, scalar(Number::of(s.ignore_index), DType::int64));
  const Tensor index = expand_dims(where(valid, target, scalar(Number::of(int64_t{0}), DType::int64)), s.axis);
  const Tensor counts = cast(expand_dims(valid, s.axis), logits.dtype());
  const Tensor hot =
      scatter_add(zeros(logits.shape(), logits.dtype(), logits.device()), s.axis, index, contiguous(counts));
  Tensor q = (hot * Expr(1 - s.smoothing) + counts * Expr(even)).tensor();
  return w.defined() ? multiply(q, w) : q;
}

struct Workspace {
  Tensor lse;      // (2, outer * inner)
  Tensor divisor;  // float64, one element
};

CrossEntropyArgs arguments(const Setting& s, const Tensor& logits, const Tensor& target, const Tensor& weight,
                           const Workspace& ws) {
  const Lanes l = lanes(logits, s.axis);
  CrossEntropyArgs args;
  args.dtype = logits.dtype();
  args.reduction = s.reduction;
  args.outer = l.outer;
  args.classes = l.n;
  args.inner = l.inner;
  args.logits = logits.bytes();
  args.target = s.probabilities ? nullptr : target.data<int64_t>();
  args.target_probability = s.probabilities ? target.bytes() : nullptr;
  args.weight = weight.defined() ? weight.bytes() : nullptr;
  args.ignore_index = s.ignore_index;
  args.label_smoothing = s.smoothing;
  args.loss = nullptr;
  args.ws_lse = ws.lse.bytes();
  args.ws_divisor = ws.divisor.data<double>();
  args.first_bad = nullptr;
  return args;
}

void fused_gradient(const Setting& s, const Tensor& logits, const Tensor& target, const Tensor& weight,
                    const Workspace& ws, const Tensor& d_loss0, Tensor* d_logits, Tensor* d_target) {
  const Tensor d_loss = contiguous(cast(d_loss0, logits.dtype()));
  CrossEntropyBackwardArgs args;
  args.forward = arguments(s, logits, target, weight, ws);
  args.d_loss = d_loss.bytes();
  if (d_logits) *d_logits = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
  if (d_target) *d_target = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
  args.d_logits = d_logits ? d_logits->bytes() : nullptr;
  args.d_target_probability = d_target ? d_target->bytes() : nullptr;
  PYDL_LAUNCH(logits.device(), logits.count() * 8, cross_entropy_backward, args);
}

void composed_gradient(const Setting& s, const Tensor& logits, const Tensor& target, const Tensor& weight,
                       const Workspace& ws, const Tensor& d_loss, Tensor* d_logits, Tensor* d_target) {
  Tensor g = s.reduction == Reduction::none ? expand_dims(d_loss, s.axis) : d_loss;
  const double divisor = item(ws.divisor).f;
  if (divisor != 1) g = multiply(g, number(divisor == 0 ? 0 : 1 / divisor, g));
  const Tensor log_p = log_softmax(logits, s.axis);
  if (d_logits) {
    const Tensor q = target_distribution(s, logits, target, weight);
    *d_logits = (g * (exp(log_p) * sum(q, {s.axis}, true) - q)).tensor();
  }
  if (d_target) {
    const Tensor w = weight_along(weight, logits, s.axis);
    *d_target = (g * log_p * Expr(s.smoothing - 1)).tensor();
    if (w.defined()) *d_target = multiply(*d_target, w);
  }
}

void check(const Tensor& logits, const Tensor& target, const Tensor& weight, double smoothing) {
  constexpr const char* op = "[cross_entropy] ";
  require_floating("cross_entropy", logits.dtype());
  same_device("cross_entropy", logits, target, weight);
  if (logits.ndim() == 0)
    throw ValueError(text(op, "got logits of shape (), expected (C,), (N, C) or (N, C, d1, ...), C classes"));
  const int axis = logits.ndim() == 1 ? 0 : 1;
  const int64_t classes = logits.size(axis);
  if (classes == 0) throw ValueError(text(op, "got logits of shape ", logits.shape(), ", expected at least one class"));
  if (target.dtype() == DType::boolean)
    throw TypeError(
        text(op, "got a bool target, expected class indices (integers) or probabilities; convert with astype"));
  if (is_float(target.dtype())) {
    if (target.shape() != logits.shape())
      throw ValueError(text(op, "got a ", target.dtype(), " target of shape ", target.shape(), ", expected ",
                            logits.shape(), ", as probabilities; for class indices convert with astype(int64)"));
  } else if (const Dims expected = without_axis(logits.shape(), axis); target.shape() != expected) {
    throw ValueError(text(op, "got class indices of shape ", target.shape(), " for logits of shape ", logits.shape(),
                          ", expected ", expected,
                          target.shape() == logits.shape() ? "; probabilities must be floating" : ""));
  }
  if (weight.defined()) {
    if (weight.shape() != Dims{classes})
      throw ValueError(
          text(op, "got a weight of shape ", weight.shape(), ", expected ", Dims{classes}, ", one per class"));
    require_floating("cross_entropy", weight.dtype());
    if (autograd::recording({&weight}))
      throw ValueError(text(op, "the weight can't require a gradient, expected a constant; pass weight.detach()"));
  }
  if (!(smoothing >= 0 && smoothing <= 1))
    throw ValueError(text(op, "got label_smoothing ", smoothing, ", expected a number from 0 to 1"));
}

}  // namespace

Tensor cross_entropy(const Tensor& logits0, const Tensor& target0, const Tensor& weight0, int64_t ignore_index,
                     Reduction reduction, double label_smoothing) {
  check(logits0, target0, weight0, label_smoothing);
  if (is_half(logits0.dtype()))
    return cast(
        cross_entropy(cast(logits0, DType::float32), target0, weight0, ignore_index, reduction, label_smoothing),
        logits0.dtype());
  const Setting s{reduction, ignore_index, label_smoothing, logits0.ndim() == 1 ? 0 : 1, is_float(target0.dtype())};
  const Tensor logits = contiguous(logits0);
  const Tensor target = contiguous(cast(target0, s.probabilities ? logits.dtype() : DType::int64));
  const Tensor weight = weight0.defined() ? contiguous(cast(detach(weight0), logits.dtype())) : weight0;
  const Dims places = without_axis(logits.shape(), s.axis);
  const Workspace ws{Tensor::empty({2, element_count(places)}, logits.dtype(), logits.device()),
                     Tensor::empty({}, DType::float64, logits.device())};
  Tensor loss = Tensor::empty(reduction == Reduction::none ? places : Dims(), logits.dtype(), logits.device());
  int64_t first_bad = -1;
  CrossEntropyArgs args = arguments(s, logits, target, weight, ws);
  args.loss = loss.bytes();
  args.first_bad = &first_bad;
  {
    CapturedLaunch captured;
    if (captured && !s.probabilities)
      captured.check("[cross_entropy] the target at position ",
                     text(" is out of range for ", logits.size(s.axis), " classes, in one of the replayed steps"));
    PYDL_LAUNCH(logits.device(), logits.count() * 8, cross_entropy, args);
  }
  if (first_bad >= 0)
    throw IndexError(text("[cross_entropy] target ", on_host(target).data<int64_t>()[first_bad], " at position ",
                          first_bad, " is out of range for ", logits.size(s.axis),
                          " classes; targets that equal ignore_index (", ignore_index, ") are skipped"));
  if (autograd::recording({&logits, &target}))
    autograd::record("cross_entropy", {&logits, &target}, {&loss},
                     [s, ws, sl = Saved(logits), st = Saved(target), sw = Saved(weight)](
                         Node& node, const Tensor* d_out, Tensor* d_in) {
                       const auto gradient = autograd::grad_enabled() ? composed_gradient : fused_gradient;
                       gradient(s, sl.get(node), st.get(node), sw.get(node), ws, d_out[0],
                                node.wants(0) ? &d_in[0] : nullptr, node.wants(1) ? &d_in[1] : nullptr);
                     });
  return loss;
}

}  // namespace pydl::ops
