// The losses of losses.def brought to tensors, and the negative log-likelihood of classes. Each is one kernel forward
// and one backward; a gradient that is to be differentiated again is made of ops.
#include "backend/registry.h"
#include "core/capture.h"
#include "ops/channels.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

struct LossOp {
  const char* name;
  void (*KernelTable::*forward)(const LossArgs&, Exec&) noexcept;
  void (*KernelTable::*backward)(const LossBackwardArgs&, Exec&) noexcept;
  Expr (*d_x)(const Expr& x, const Expr& t, const Expr& v, const Expr& p);
  Expr (*d_t)(const Expr& x, const Expr& t, const Expr& v, const Expr& p);
};

struct LossSetting {
  const LossOp* op;
  Reduction reduction;
  double p;
};

template <class Args>
void run(const LossSetting& s, void (*KernelTable::*kernel)(const Args&, Exec&) noexcept, const Tensor& x,
         const Args& args) {
  const KernelTable& table = table_for(x.device(), s.op->name);
  launch(x.device(), table, table.*kernel, s.op->name, x.count() * 8, args);
}

LossArgs arguments(const LossSetting& s, const Tensor& x, const Tensor& target, const Tensor& weight,
                   const Tensor& positive) {
  LossArgs args;
  args.dtype = x.dtype();
  args.reduction = s.reduction;
  args.count = x.count();
  args.x = x.bytes();
  args.target = target.bytes();
  args.weight = weight.defined() ? weight.bytes() : nullptr;
  args.positive = positive.defined() ? positive.bytes() : nullptr;
  args.p = s.p;
  args.scale = s.reduction == Reduction::mean ? 1.0 / static_cast<double>(x.count()) : 1.0;
  args.loss = nullptr;
  return args;
}

// t in x's memory layout.
Tensor laid(const Tensor& x, const Tensor& t) { return x.channels_last() ? channels_last(t) : contiguous(t); }

// A constant factor of the elements: in the losses' dtype, spread over their shape.
Tensor factor(const char* op, const char* what, const Tensor& w, const Tensor& x) {
  if (!w.defined()) return w;
  if (autograd::recording({&w}))
    throw ValueError(
        text("[", op, "] the ", what, " can't require a gradient, expected a constant; pass ", what, ".detach()"));
  if (broadcast_shapes(op, w.shape(), x.shape()) != x.shape())
    throw ValueError(text("[", op, "] got a ", what, " of shape ", w.shape(), " for input of shape ", x.shape(),
                          ", expected one that broadcasts to it"));
  return laid(x, broadcast_to(cast(w, x.dtype()), x.shape()));
}

void check_probabilities(const char* op, const Tensor& x) {
  if (x.count() == 0) return;
  autograd::GradMode off(false);
  const double low = item(min(x, {}, false)).f, high = item(max(x, {}, false)).f;
  if (low < 0 || high > 1)
    throw ValueError(text("[", op, "] got input from ", low, " to ", high,
                          ", expected probabilities from 0 to 1; for logits use binary_cross_entropy_with_logits"));
}

Tensor loss(const LossOp& op, const Tensor& x0, const Tensor& target0, const Tensor& weight0, const Tensor& positive0,
            Reduction reduction, double p) {
  if (x0.shape() != target0.shape())
    throw ValueError(text("[", op.name, "] got input of shape ", x0.shape(), " and target of shape ", target0.shape(),
                          ", expected the same; reshape one of them"));
  same_device(op.name, x0, target0, weight0, positive0);
  const DType dtype = promote(op.name, x0.dtype(), target0.dtype());
  require_floating(op.name, dtype);
  if (is_half(dtype))
    return cast(loss(op, cast(x0, DType::float32), cast(target0, DType::float32), weight0, positive0, reduction, p),
                dtype);
  const Tensor given = cast(x0, dtype), x = given.channels_last() ? given : contiguous(given);
  const Tensor target = laid(x, cast(target0, dtype));
  const Tensor weight = factor(op.name, "weight", weight0, x), positive = factor(op.name, "pos_weight", positive0, x);
  if (op.forward == &KernelTable::binary_cross_entropy) check_probabilities(op.name, x);
  Tensor y = reduction == Reduction::none ? Tensor::empty_like(x, dtype) : Tensor::empty({}, dtype, x.device());
  const LossSetting s{&op, reduction, p};
  LossArgs args = arguments(s, x, target, weight, positive);
  args.loss = y.bytes();
  run(s, op.forward, x, args);
  if (autograd::recording({&x, &target}))
    autograd::record(
        op.name, {&x, &target}, {&y},
        [s, sx = Saved(x), st = Saved(target), weight, positive](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor x = sx.get(node), target = st.get(node);
          LossBackwardArgs args;
          args.forward = arguments(s, x, target, weight, positive);
          if (autograd::grad_enabled()) {
            Expr g = d_out[0] * Expr(args.forward.scale);
            if (weight.defined()) g = g * weight;
            const Expr v = positive.defined() ? Expr(positive) : Expr(1.0);
            if (node.wants(0)) d_in[0] = broadcast_to((g * s.op->d_x(x, target, v, s.p)).tensor(), x.shape());
            if (node.wants(1)) d_in[1] = broadcast_to((g * s.op->d_t(x, target, v, s.p)).tensor(), x.shape());
            return;
          }
          const bool each = s.reduction == Reduction::none;
          const Tensor raw = cast(d_out[0], x.dtype()), g = each ? laid(x, raw) : contiguous(raw);
          args.d_loss = g.bytes();
          for (size_t i = 0; i < 2; ++i)
            if (node.wants(i)) d_in[i] = Tensor::empty_like(x, x.dtype());
          args.d_x = node.wants(0) ? d_in[0].bytes() : nullptr;
          args.d_target = node.wants(1) ? d_in[1].bytes() : nullptr;
          run(s, s.op->backward, x, args);
        });
  return y;
}

#define LOSS(name, loss, derivative_x, derivative_t)                                                         \
  struct name##_formulas {                                                                                   \
    using V = Expr;                                                                                          \
    static Expr d_x([[maybe_unused]] const V& x, const V& t, [[maybe_unused]] const V& v,                    \
                    [[maybe_unused]] const V& p) {                                                           \
      return V(derivative_x);                                                                                \
    }                                                                                                        \
    static Expr d_t([[maybe_unused]] const V& x, [[maybe_unused]] const V& t, [[maybe_unused]] const V& v,   \
                    [[maybe_unused]] const V& p) {                                                           \
      return V(derivative_t);                                                                                \
    }                                                                                                        \
  };                                                                                                         \
  constexpr LossOp name##_op{#name, &KernelTable::name, &KernelTable::name##_backward, name##_formulas::d_x, \
                             name##_formulas::d_t};
#include "ops/losses.def"
#undef LOSS

struct NllSetting {
  Reduction reduction;
  int64_t ignore_index;
  int axis;  // of the classes
  Dims shape;
  DType dtype;
};

NllArgs arguments(const NllSetting& s, const Tensor& target, const Tensor& weight, const Tensor& divisor) {
  NllArgs args;
  args.dtype = s.dtype;
  args.reduction = s.reduction;
  args.outer = s.axis == 0 ? 1 : s.shape[0];
  args.classes = s.shape[s.axis];
  args.inner = 1;
  for (int i = s.axis + 1; i < s.shape.size(); ++i) args.inner *= s.shape[i];
  args.x = nullptr;
  args.target = target.data<int64_t>();
  args.weight = weight.defined() ? weight.bytes() : nullptr;
  args.ignore_index = s.ignore_index;
  args.loss = nullptr;
  args.ws_divisor = divisor.data<double>();
  args.first_bad = nullptr;
  return args;
}

Tensor fused_gradient(const NllSetting& s, const Tensor& target, const Tensor& weight, const Tensor& divisor,
                      const Tensor& d_loss0) {
  const Tensor d_loss = contiguous(cast(d_loss0, s.dtype));
  const Tensor d_x = Tensor::empty(s.shape, s.dtype, d_loss.device());
  NllBackwardArgs args;
  args.forward = arguments(s, target, weight, divisor);
  args.d_loss = d_loss.bytes();
  args.d_x = d_x.bytes();
  PYDL_LAUNCH(d_x.device(), d_x.count(), nll_loss_backward, args);
  return d_x;
}

Tensor composed_gradient(const NllSetting& s, const Tensor& target, const Tensor& weight, const Tensor& divisor,
                         const Tensor& d_loss) {
  const double total = item(divisor).f;
  const Tensor zero = scalar(Number::of(0.0), s.dtype);
  const Tensor valid = not_equal(target, scalar(Number::of(s.ignore_index), DType::int64));
  const Tensor index = where(valid, target, scalar(Number::of(int64_t{0}), DType::int64));
  Tensor share = scalar(Number::of(total == 0 ? 0.0 : -1 / total), s.dtype);
  if (weight.defined()) share = multiply(share, take(weight, index, 0));
  const Tensor g = where(valid, multiply(broadcast_to(d_loss, target.shape()), share), zero);
  return scatter_add(zeros(s.shape, s.dtype, d_loss.device()), s.axis, expand_dims(index, s.axis),
                     expand_dims(g, s.axis));
}

void check(const Tensor& x, const Tensor& target, const Tensor& weight) {
  constexpr const char* op = "[nll_loss] ";
  require_floating("nll_loss", x.dtype());
  same_device("nll_loss", x, target, weight);
  if (x.ndim() == 0)
    throw ValueError(text(op, "got input of shape (), expected (C,), (N, C) or (N, C, d1, ...), C classes"));
  if (is_float(target.dtype()) || target.dtype() == DType::boolean)
    throw TypeError(text(op, "got a ", target.dtype(),
                         " target, expected class indices; convert with astype(int64), or use cross_entropy or kl_div "
                         "for probabilities"));
  Dims expected = x.shape();
  expected.erase(x.ndim() == 1 ? 0 : 1);
  if (target.shape() != expected)
    throw ValueError(text(op, "got class indices of shape ", target.shape(), " for input of shape ", x.shape(),
                          ", expected ", expected));
  const int64_t classes = x.size(x.ndim() == 1 ? 0 : 1);
  if (!weight.defined()) return;
  if (weight.shape() != Dims{classes})
    throw ValueError(
        text(op, "got a weight of shape ", weight.shape(), ", expected ", Dims{classes}, ", one per class"));
  if (autograd::recording({&weight}))
    throw ValueError(text(op, "the weight can't require a gradient, expected a constant; pass weight.detach()"));
}

}  // namespace

#define LOSS(name, formula, derivative_x, derivative_t)                                              \
  Tensor name(const Tensor& x, const Tensor& target, const Tensor& weight, const Tensor& pos_weight, \
              Reduction reduction, double p) {                                                       \
    return loss(name##_op, x, target, weight, pos_weight, reduction, p);                             \
  }
#include "ops/losses.def"
#undef LOSS

Tensor nll_loss(const Tensor& x0, const Tensor& target0, const Tensor& weight0, int64_t ignore_index,
                Reduction reduction) {
  check(x0, target0, weight0);
  if (is_half(x0.dtype()))
    return cast(nll_loss(cast(x0, DType::float32), target0, weight0, ignore_index, reduction), x0.dtype());
  const Tensor x = contiguous(x0), target = contiguous(cast(target0, DType::int64));
  const Tensor weight = weight0.defined() ? contiguous(cast(weight0, x.dtype())) : weight0;
  const NllSetting s{reduction, ignore_index, x.ndim() == 1 ? 0 : 1, x.shape(), x.dtype()};
  const Tensor divisor = Tensor::empty({}, DType::float64, x.device());
  Tensor y = Tensor::empty(reduction == Reduction::none ? target.shape() : Dims(), x.dtype(), x.device());
  int64_t first_bad = -1;
  NllArgs args = arguments(s, target, weight, divisor);
  args.x = x.bytes();
  args.loss = y.bytes();
  args.first_bad = &first_bad;
  {
    CapturedLaunch captured;
    if (captured)
      captured.check("[nll_loss] the target at position ",
                     text(" is out of range for ", args.classes, " classes, in one of the replayed steps"));
    PYDL_LAUNCH(x.device(), target.count() * 4, nll_loss, args);
  }
  if (first_bad >= 0)
    throw IndexError(text("[nll_loss] target ", on_host(target).data<int64_t>()[first_bad], " at position ", first_bad,
                          " is out of range for ", args.classes, " classes; targets that equal ignore_index (",
                          ignore_index, ") are skipped"));
  if (autograd::recording({&x}))
    autograd::record("nll_loss", {&x}, {&y},
                     [s, weight, divisor, st = Saved(target)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const auto gradient = autograd::grad_enabled() ? composed_gradient : fused_gradient;
                       d_in[0] = gradient(s, st.get(node), weight, divisor, d_out[0]);
                     });
  return y;
}

}  // namespace pydl::ops
