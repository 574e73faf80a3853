#include "ops/lanes.h"

#include "backend/registry.h"

namespace pydl::ops {
namespace {

// True where `axes` lie together in x's memory and the others keep their order: then *out needs no copy.
bool find_lanes(const Tensor& x, const Dims& axes, Lanes* out) {
  bool reduce[kMaxRank] = {};
  for (int64_t axis : axes) reduce[axis] = true;
  int order[kMaxRank];  // the axes of more than one element, outermost in memory first
  int m = 0;
  for (int d = 0; d < x.ndim(); ++d) {
    if (x.size(d) == 1) continue;
    int at = m++;
    for (; at > 0 && x.stride(order[at - 1]) < x.stride(d); --at) order[at] = order[at - 1];
    order[at] = d;
  }
  int64_t step = 1;
  for (int i = m - 1; i >= 0; --i) {
    if (x.stride(order[i]) != step) return false;
    step *= x.size(order[i]);
  }
  int last_kept = -1, groups = 0;
  bool inside = false;
  *out = {x, 1, 1, 1};
  for (int i = 0; i < m; ++i) {
    const int d = order[i];
    if (reduce[d]) {
      if (!inside && ++groups > 1) return false;
      out->n *= x.size(d);
    } else {
      if (d < last_kept) return false;
      last_kept = d;
      (groups ? out->inner : out->outer) *= x.size(d);
    }
    inside = reduce[d];
  }
  return true;
}

ReduceOp second_stage(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum_abs:
    case ReduceOp::sum_squares:
    case ReduceOp::count_nonzero:
      return ReduceOp::sum;
    case ReduceOp::max_abs:
      return ReduceOp::max;
    case ReduceOp::min_abs:
      return ReduceOp::min;
    default:
      return op;
  }
}

}  // namespace

Reduced reduced(const char* op, const Tensor& x, const Dims& axes, bool keepdims) {
  Reduced r;
  bool reduce[kMaxRank] = {};
  for (int64_t axis : normalize_axes(op, axes, x.ndim())) reduce[axis] = true;
  r.expanded = x.shape();
  for (int d = 0; d < x.ndim(); ++d) {
    if (axes.empty() || reduce[d]) {
      r.axes.push_back(d);
      r.n *= x.size(d);
      r.expanded[d] = 1;
      if (keepdims) r.shape.push_back(1);
    } else {
      r.shape.push_back(x.size(d));
    }
  }
  return r;
}

Tensor expand(const Tensor& y, const Reduced& r) { return y.shape() == r.expanded ? y : reshape(y, r.expanded); }

Lanes lanes(const Tensor& x, const Dims& axes) {
  Lanes out;
  if (x.count() > 0 && find_lanes(x, axes, &out)) return out;
  Dims order, shape, strides;
  out = Lanes();
  for (int d = 0, a = 0; d < x.ndim(); ++d) {
    if (a < axes.size() && axes[a] == d) {
      ++a;
    } else {
      order.push_back(d);
      out.outer *= x.size(d);
    }
  }
  for (int64_t axis : axes) {
    order.push_back(axis);
    out.n *= x.size(static_cast<int>(axis));
  }
  for (int64_t axis : order) {
    shape.push_back(x.shape()[static_cast<int>(axis)]);
    strides.push_back(x.strides()[static_cast<int>(axis)]);
  }
  out.x = contiguous(x.view(shape, strides, x.offset()));
  return out;
}

Lanes lanes(const Tensor& x, int axis) {
  Lanes out;
  out.x = x;
  for (int d = 0; d < x.ndim(); ++d) (d < axis ? out.outer : d == axis ? out.n : out.inner) *= x.size(d);
  return out;
}

Tensor reduce_raw(ReduceOp op, const Tensor& x, const Reduced& r, DType dtype, double scale) {
  Lanes found;
  if (x.count() > 0 && x.contiguous() && !find_lanes(x, r.axes, &found)) {
    Reduced inner, rest = r;  // the last axes that lie together, then the rest of them
    int at = r.axes.size() - 1;
    while (at > 0 && r.axes[at - 1] == r.axes[at] - 1) --at;
    inner.expanded = x.shape();
    rest.axes = Dims();
    for (int i = 0; i < r.axes.size(); ++i) {
      const int axis = static_cast<int>(r.axes[i]);
      (i < at ? rest.axes : inner.axes).push_back(axis);
      if (i >= at) inner.expanded[axis] = 1;
    }
    inner.shape = inner.expanded;
    if (at > 0) return reduce_raw(second_stage(op), reduce_raw(op, x, inner, dtype), rest, dtype, scale);
  }
  const Lanes l = found.x.defined() ? found : lanes(x, r.axes);
  Tensor y = Tensor::empty(r.shape, dtype, x.device());
  ReduceArgs args;
  set_lanes(args, l);
  args.op = op;
  args.src_dtype = x.dtype();
  args.dst_dtype = dtype;
  args.dst = y.bytes();
  args.scale = scale;
  PYDL_LAUNCH(x.device(), x.count(), reduce, args);
  return y;
}

void require_floating(const char* op, DType dtype) {
  if (!is_float(dtype))
    throw TypeError(text("[", op, "] got ", dtype, ", expected a floating dtype; convert with astype(float32) first"));
}

}  // namespace pydl::ops
