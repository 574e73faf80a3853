// Reductions that combine all elements: sums, products, moments, norms, truth. Extremes are in extremes.cpp.
#include <cmath>
#include <limits>

#include "backend/registry.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

// What integers and booleans are added up in.
DType accumulator(DType t) { return is_float(t) ? t : is_unsigned(t) ? DType::uint64 : DType::int64; }

Tensor sum_over(const char* name, const Tensor& x, const Reduced& r, double scale = 1) {
  if (is_half(x.dtype())) return cast(sum_over(name, cast(x, DType::float32), r, scale), x.dtype());
  Tensor y = reduce_raw(ReduceOp::sum, x, r, accumulator(x.dtype()), scale);
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&y}, [r, shape = x.shape(), scale](Node&, const Tensor* d_out, Tensor* d_in) {
      Tensor g = expand(d_out[0], r);
      if (scale != 1) g = multiply(g, scalar(Number::of(scale), g.dtype()));
      d_in[0] = broadcast_to(g, shape);
    });
  return y;
}

// For each element, the product of the others along r.axes, zeros or not.
Tensor product_of_others(const Tensor& x, const Reduced& r) {
  Dims order, flat, permuted, back = Dims::filled(x.ndim(), 0);
  for (int d = 0, a = 0; d < x.ndim(); ++d) {
    if (a < r.axes.size() && r.axes[a] == d) {
      ++a;
    } else {
      order.push_back(d);
      flat.push_back(x.size(d));
    }
  }
  const int last = flat.size();
  for (int64_t axis : r.axes) order.push_back(axis);
  for (int i = 0; i < order.size(); ++i) {
    permuted.push_back(x.size(static_cast<int>(order[i])));
    back[static_cast<int>(order[i])] = i;
  }
  flat.push_back(1);
  const Tensor ones = full(flat, Number::of(1.0), x.dtype(), x.device());
  flat[last] = r.n;
  const Tensor rows = reshape(permute_dims(x, order), flat);
  const auto before = [&](const Tensor& t) {
    return concat({ones, cumulative_prod(slice(t, last, 0, r.n - 1, 1), last)}, last);
  };
  const Tensor others = multiply(before(rows), flip(before(flip(rows, {last})), {last}));
  return permute_dims(reshape(others, permuted), back);
}

Tensor prod_over(const Tensor& x, const Reduced& r) {
  if (is_half(x.dtype())) return cast(prod_over(cast(x, DType::float32), r), x.dtype());
  Tensor y = reduce_raw(ReduceOp::prod, x, r, accumulator(x.dtype()));
  if (autograd::recording({&x}))
    autograd::record("prod", {&x}, {&y},
                     [r, sx = Saved(x), sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor x = sx.get(node), y = sy.get(node), g = expand(d_out[0], r);
                       if (item(all(x, {}, false)).i)
                         d_in[0] = (g * expand(y, r) / x).tensor();
                       else
                         d_in[0] = multiply(g, product_of_others(x, r));
                     });
  return y;
}

// sum and prod in a dtype that the user names.
template <class Over>
Tensor over_as(const Tensor& x, std::optional<DType> dtype, Over over) {
  if (!dtype) return over(x);
  const bool floating = is_float(x.dtype());
  if (floating == is_float(*dtype) && (!floating || item_size(*dtype) <= item_size(x.dtype())))
    return cast(over(x), *dtype);
  return cast(over(cast(x, is_half(*dtype) ? DType::float32 : accumulator(*dtype))), *dtype);
}

Tensor truth(ReduceOp op, const char* name, const Tensor& x, const Dims& axes, bool keepdims) {
  autograd::GradMode off(false);
  const Tensor src = is_half(x.dtype()) ? cast(x, DType::float32) : x;
  return reduce_raw(op, src, reduced(name, src, axes, keepdims), DType::boolean);
}

Tensor zero_like(const Tensor& t) { return scalar(Number::of(0.0), t.dtype()); }
Tensor one_like(const Tensor& t) { return scalar(Number::of(1.0), t.dtype()); }
Tensor is_zero(const Tensor& t) { return equal(t, zero_like(t)); }

// The gradient of a norm of that order; 0 wherever the norm, or the element, has no slope at 0.
Tensor norm_gradient(const Tensor& g, const Tensor& x, const Tensor& y, double order, const Reduced& r) {
  if (order == 0) return zeros(x.shape(), x.dtype(), x.device());
  if (order == 1) return (g * sign(x)).tensor();
  if (std::isinf(order)) {
    const Tensor mask = equal(abs(x), y);
    const Tensor share = divide(g, cast(sum(mask, r.axes, true), g.dtype()));
    return (where(mask, share, zero_like(g)) * sign(x)).tensor();
  }
  const Tensor flat = is_zero(y), slope = where(flat, one_like(y), y);
  if (order == 2) return (x * where(flat, zero_like(g), divide(g, slope))).tensor();
  const Tensor size = where(is_zero(x), one_like(x), abs(x));  // sign(x) is 0 there
  const Tensor part = where(flat, zero_like(g), (g * pow_scalar(slope, 1 - order)).tensor());
  return (sign(x) * pow_scalar(size, order - 1) * part).tensor();
}

}  // namespace

Tensor sum(const Tensor& x, const Dims& axes, bool keepdims, std::optional<DType> dtype) {
  const Reduced r = reduced("sum", x, axes, keepdims);
  return over_as(x, dtype, [&](const Tensor& t) { return sum_over("sum", t, r); });
}

Tensor prod(const Tensor& x, const Dims& axes, bool keepdims, std::optional<DType> dtype) {
  const Reduced r = reduced("prod", x, axes, keepdims);
  return over_as(x, dtype, [&](const Tensor& t) { return prod_over(t, r); });
}

Tensor mean(const Tensor& x, const Dims& axes, bool keepdims) {
  require_floating("mean", x.dtype());
  const Reduced r = reduced("mean", x, axes, keepdims);
  return sum_over("mean", x, r, 1.0 / static_cast<double>(r.n));  // n == 0: 0 * inf
}

Tensor sum_to(const Tensor& x, const Dims& shape) {
  if (x.shape() == shape) return x;
  Reduced r;
  r.expanded = x.shape();
  r.shape = shape;
  const int shift = x.ndim() - shape.size();
  for (int d = 0; d < x.ndim(); ++d) {
    if (d >= shift && (shape[d - shift] != 1 || x.size(d) == 1)) continue;
    r.axes.push_back(d);
    r.n *= x.size(d);
    r.expanded[d] = 1;
  }
  if (shift < 0 || element_count(r.expanded) != element_count(shape))
    throw InternalError(text("[sum_to] shape ", x.shape(), " was not broadcast from ", shape));
  return r.n == 1 ? reshape(x, shape) : sum_over("sum_to", x, r);
}

Tensor any(const Tensor& x, const Dims& axes, bool keepdims) { return truth(ReduceOp::any, "any", x, axes, keepdims); }
Tensor all(const Tensor& x, const Dims& axes, bool keepdims) { return truth(ReduceOp::all, "all", x, axes, keepdims); }

Tensor var(const Tensor& x, const Dims& axes, double correction, bool keepdims) {
  require_floating("var", x.dtype());
  if (is_half(x.dtype())) return cast(var(cast(x, DType::float32), axes, correction, keepdims), x.dtype());
  const Reduced r = reduced("var", x, axes, keepdims);
  const double divisor = std::fmax(0.0, static_cast<double>(r.n) - correction);
  const Tensor average = Tensor::empty(r.expanded, x.dtype(), x.device()),
               m2 = Tensor::empty(r.shape, x.dtype(), x.device());
  MomentsArgs args;
  const Lanes l = lanes(x, r.axes);
  set_lanes(args, l);
  args.dtype = x.dtype();
  args.mean = average.bytes();
  args.m2 = m2.bytes();
  PYDL_LAUNCH(x.device(), x.count() * 2, moments, args);
  Tensor y = divide(m2, scalar(Number::of(divisor), x.dtype()));
  if (autograd::recording({&x}))
    autograd::record("var", {&x}, {&y},
                     [r, sx = Saved(x), average, divisor](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor x = sx.get(node);
                       const Tensor center = autograd::grad_enabled() ? mean(x, r.axes, true) : average;
                       d_in[0] = ((expand(d_out[0], r) * Expr(2 / divisor)) * (x - center)).tensor();
                     });
  return y;
}

Tensor logsumexp(const Tensor& x, const Dims& axes, bool keepdims) {
  require_floating("logsumexp", x.dtype());
  if (is_half(x.dtype())) return cast(logsumexp(cast(x, DType::float32), axes, keepdims), x.dtype());
  const Reduced r = reduced("logsumexp", x, axes, keepdims);
  Tensor y = Tensor::empty(r.shape, x.dtype(), x.device());
  LogSumExpArgs args;
  const Lanes l = lanes(x, r.axes);
  set_lanes(args, l);
  args.dtype = x.dtype();
  args.dst = y.bytes();
  PYDL_LAUNCH(x.device(), x.count() * 8, logsumexp, args);
  if (autograd::recording({&x}))
    autograd::record("logsumexp", {&x}, {&y},
                     [r, sx = Saved(x), sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor x = sx.get(node), y = expand(sy.get(node), r);
                       const Tensor lowest = scalar(Number::of(-std::numeric_limits<double>::infinity()), y.dtype());
                       const Tensor base = where(equal(y, lowest), zero_like(y), y);  // exp(-inf) is 0, not NaN
                       d_in[0] = (expand(d_out[0], r) * exp(x - base)).tensor();
                     });
  return y;
}

Tensor norm(const Tensor& x, double order, const Dims& axes, bool keepdims) {
  require_floating("norm", x.dtype());
  if (std::isnan(order)) throw ValueError("[norm] got the order nan, expected a number, inf or -inf");
  if (is_half(x.dtype())) return cast(norm(cast(x, DType::float32), order, axes, keepdims), x.dtype());
  const Reduced r = reduced("norm", x, axes, keepdims);
  if (r.n == 0 && (order < 0 || std::isinf(order)))
    throw ValueError(text("[norm] can't reduce an axis of size 0 with the order ", order, ": got shape ", x.shape()));
  const DType dtype = x.dtype();
  Tensor y;
  {
    autograd::GradMode off(false);
    if (order == 0)
      y = cast(reduce_raw(ReduceOp::count_nonzero, x, r, DType::int64), dtype);
    else if (order == 1)
      y = reduce_raw(ReduceOp::sum_abs, x, r, dtype);
    else if (order == 2)
      y = sqrt(reduce_raw(ReduceOp::sum_squares, x, r, dtype));
    else if (std::isinf(order))
      y = reduce_raw(order > 0 ? ReduceOp::max_abs : ReduceOp::min_abs, x, r, dtype);
    else
      y = pow_scalar(reduce_raw(ReduceOp::sum, pow_scalar(abs(x), order), r, dtype), 1 / order);
  }
  if (autograd::recording({&x}))
    autograd::record("norm", {&x}, {&y},
                     [r, order, sx = Saved(x), sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor x = sx.get(node), y = expand(sy.get(node), r);
                       d_in[0] = norm_gradient(expand(d_out[0], r), x, y, order, r);
                     });
  return y;
}

}  // namespace pydl::ops
