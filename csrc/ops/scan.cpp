// Running sums, products and extremes along an axis.
#include <limits>

#include "backend/registry.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;
using Kernel = void (*KernelTable::*)(const ScanArgs&, Exec&) noexcept;

Tensor scan(const char* name, Kernel kernel, const Tensor& x, int axis, bool reverse) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  ScanArgs args;
  set_lanes(args, lanes(x, axis));
  args.dtype = x.dtype();
  args.reverse = reverse;
  args.dst = y.bytes();
  const KernelTable& table = table_for(x.device(), name);
  launch(x.device(), table, table.*kernel, name, x.count() * 2, args);
  return y;
}

// Contiguous and of a dtype that can hold a sum: integers in 64 bits.
Tensor prepared(const Tensor& x) {
  const DType t = x.dtype();
  if (is_float(t)) return contiguous(x);
  return contiguous(cast(x, is_unsigned(t) ? DType::uint64 : DType::int64));
}

Tensor running_sum(const Tensor& x, int axis, bool reverse) {
  if (is_half(x.dtype())) return cast(running_sum(cast(x, DType::float32), axis, reverse), x.dtype());
  const Tensor src = prepared(x);
  Tensor y = scan("cumulative_sum", &KernelTable::cumulative_sum, src, axis, reverse);
  if (autograd::recording({&src}))
    autograd::record("cumulative_sum", {&src}, {&y}, [axis, reverse](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = running_sum(d_out[0], axis, !reverse);
    });
  return y;
}

// d y[j] / d x[k] is the product of x[0 ... j] without x[k]: y[j] / x[k] before the first zero; at the first zero the
// product of the others; 0 behind it.
Tensor product_gradient(const Tensor& g, const Tensor& x, const Tensor& y, int axis) {
  if (item(all(x, {}, false)).i) return (running_sum((g * y).tensor(), axis, true) / x).tensor();
  const Tensor zero = scalar(Number::of(0.0), x.dtype()), one = scalar(Number::of(1.0), x.dtype());
  const Tensor is_zero = equal(x, zero);
  const Tensor seen = running_sum(is_zero, axis, false);  // zeros up to and with this element
  const Tensor first = logical_and(is_zero, equal(seen, scalar(Number::of(int64_t{1}), seen.dtype())));
  const Tensor before = logical_not(seen);
  const Tensor without = cumulative_prod(where(first, one, x), axis);
  const Tensor at_first = running_sum((g * without).tensor(), axis, true);
  const Tensor early = divide(running_sum((g * y).tensor(), axis, true), where(before, x, one));
  return where(before, early, where(first, at_first, zero));
}

// The same where it is to be differentiated again: d x[k] = (x[0] ... x[k - 1]) s[k], s[k] = g[k] + x[k + 1] s[k + 1],
// which holds around zeros too. One small op after the other.
Tensor product_gradient_by_steps(const Tensor& g, const Tensor& x, int axis) {
  const int64_t n = x.size(axis);
  std::vector<Tensor> tails(static_cast<size_t>(n));
  for (int64_t k = n - 1; k >= 0; --k) {
    Tensor s = select(g, axis, k);
    if (k + 1 < n) s = add(s, multiply(select(x, axis, k + 1), tails[static_cast<size_t>(k + 1)]));
    tails[static_cast<size_t>(k)] = s;
  }
  Dims first = x.shape();
  first[axis] = 1;
  const Tensor before = concat(
      {full(first, Number::of(1.0), x.dtype(), x.device()), cumulative_prod(slice(x, axis, 0, n - 1, 1), axis)}, axis);
  return multiply(before, stack(tails, axis));
}

}  // namespace

Tensor cumulative_sum(const Tensor& x, int64_t axis) {
  return running_sum(x, normalize_axis("cumulative_sum", axis, x.ndim()), false);
}

Tensor cumulative_prod(const Tensor& x, int64_t axis0) {
  const int axis = normalize_axis("cumulative_prod", axis0, x.ndim());
  if (is_half(x.dtype())) return cast(cumulative_prod(cast(x, DType::float32), axis), x.dtype());
  const Tensor src = prepared(x);
  Tensor y = scan("cumulative_prod", &KernelTable::cumulative_prod, src, axis, false);
  if (autograd::recording({&src}))
    autograd::record("cumulative_prod", {&src}, {&y},
                     [axis, sx = Saved(src), sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor x = sx.get(node), y = sy.get(node), &g = d_out[0];
                       if (x.ndim() == 0 || x.count() == 0)
                         d_in[0] = g;
                       else if (autograd::grad_enabled() && !item(all(x, {}, false)).i)
                         d_in[0] = product_gradient_by_steps(g, x, axis);
                       else
                         d_in[0] = product_gradient(g, x, y, axis);
                     });
  return y;
}

std::pair<Tensor, Tensor> cumulative_extreme(const Tensor& x, int64_t axis0, bool greatest) {
  const char* const name = greatest ? "cummax" : "cummin";
  const int axis = normalize_axis(name, axis0, x.ndim());
  const DType kept = x.dtype(), wide = is_half(kept) ? DType::float32 : is_float(kept) ? kept : DType::int64;
  if (kept != wide) {  // exact, there and back; uint64 with its halves changed over
    const bool turns = kept == DType::uint64;
    const auto turned = [&](const Tensor& t) {
      return turns ? bitwise_xor(t, scalar(Number::of(std::numeric_limits<int64_t>::min()), DType::int64)) : t;
    };
    const auto [value, index] = cumulative_extreme(turned(cast(x, wide)), axis, greatest);
    return {cast(turned(value), kept), index};
  }
  if (x.ndim() == 0) return {clone(x), full({}, Number::of(int64_t{0}), DType::int64, x.device())};
  const Tensor src = contiguous(x);
  Tensor value = Tensor::empty(x.shape(), wide, x.device()), index = Tensor::empty(x.shape(), DType::int64, x.device());
  CumulativeExtremeArgs args;
  set_lanes(args, lanes(src, axis));
  args.dtype = wide;
  args.max = greatest;
  args.value = value.bytes();
  args.index = index.data<int64_t>();
  PYDL_LAUNCH(x.device(), x.count() * 2, cumulative_extreme, args);
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&value, &index},
                     [axis, shape = x.shape(), si = Saved(index)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor& g = d_out[0];
                       d_in[0] = scatter_add(zeros(shape, g.dtype(), g.device()), axis, si.get(node), g);
                     });
  return {value, index};
}

}  // namespace pydl::ops
