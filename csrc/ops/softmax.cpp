// softmax and log_softmax along an axis.
#include "backend/registry.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

Tensor fused_gradient(bool log, const Tensor& y, const Tensor& g0, int axis) {
  const Tensor g = contiguous(cast(g0, y.dtype()));
  Tensor d_x = Tensor::empty(y.shape(), y.dtype(), y.device());
  const Lanes l = lanes(y, axis);
  SoftmaxBackwardArgs args;
  args.dtype = y.dtype();
  args.log = log;
  args.outer = l.outer;
  args.n = l.n;
  args.inner = l.inner;
  args.y = y.bytes();
  args.d_y = g.bytes();
  args.d_x = d_x.bytes();
  PYDL_LAUNCH(y.device(), y.count() * (log ? 8 : 4), softmax_backward, args);
  return d_x;
}

Tensor softmax_op(const char* name, bool log, const Tensor& x0, int64_t axis0) {
  require_floating(name, x0.dtype());
  const int axis = normalize_axis(name, axis0, x0.ndim());
  if (is_half(x0.dtype())) return cast(softmax_op(name, log, cast(x0, DType::float32), axis), x0.dtype());
  const Tensor x = contiguous(x0);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  SoftmaxArgs args;
  set_lanes(args, lanes(x, axis));
  args.dtype = x.dtype();
  args.log = log;
  args.dst = y.bytes();
  PYDL_LAUNCH(x.device(), x.count() * 8, softmax, args);
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&y},
                     [log, axis, sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor y = sy.get(node), &g = d_out[0];
                       const auto total = [&](const Tensor& t) { return sum(t, {axis}, true); };
                       if (!autograd::grad_enabled())
                         d_in[0] = fused_gradient(log, y, g, axis);
                       else if (log)
                         d_in[0] = (g - exp(y) * total(g)).tensor();
                       else
                         d_in[0] = (y * (g - total((g * y).tensor()))).tensor();
                     });
  return y;
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t axis) { return softmax_op("softmax", false, x, axis); }
Tensor log_softmax(const Tensor& x, int64_t axis) { return softmax_op("log_softmax", true, x, axis); }

}  // namespace pydl::ops
