#include "ops/iteration.h"

namespace pydl::ops {

Dims broadcast_strides(const Tensor& x, const Dims& shape) {
  Dims out = Dims::filled(shape.size(), 0);
  const int shift = shape.size() - x.ndim();
  for (int i = 0; i < x.ndim(); ++i) out[i + shift] = x.shape()[i] == 1 ? 0 : x.strides()[i];
  return out;
}

// The axes in the order of their strides, the smallest first.
static Dims inner_first(const Dims& strides) {
  Dims axes;
  for (int axis = strides.size() - 1; axis >= 0; --axis) {
    axes.push_back(axis);
    for (int i = axes.size() - 1; i > 0 && strides[static_cast<int>(axes[i - 1])] > strides[axis]; --i)
      std::swap(axes[i], axes[i - 1]);
  }
  return axes;
}

ElementwiseArgs elementwise_args(DType dtype, std::initializer_list<const Tensor*> operands, double p, double q) {
  ElementwiseArgs args;
  args.dtype = dtype;
  args.p = p;
  args.q = q;
  const Tensor& dst = **operands.begin();
  args.count = dst.count();
  int o = 0;
  bool flat = true;
  for (const Tensor* t : operands) {
    args.ptr[o++] = t->bytes();
    flat = flat && t->contiguous() && (t == &dst || t->shape() == dst.shape());
  }
  if (flat) {
    args.ndim = 1;
    args.shape[0] = args.count;
    for (int i = 0; i < o; ++i) args.stride[i][0] = 1;
    return args;
  }
  Dims strides[kMaxOperands];
  o = 0;
  for (const Tensor* t : operands) strides[o++] = broadcast_strides(*t, dst.shape());
  // Innermost in dst's memory first; an axis joins the one inside it where every operand steps over it evenly.
  int n = 0;
  for (const int64_t axis : inner_first(dst.strides())) {
    const int d = static_cast<int>(axis);
    const int64_t size = dst.shape()[d];
    if (size == 1) continue;
    bool merge = n > 0;
    for (int i = 0; merge && i < o; ++i) merge = strides[i][d] == args.stride[i][n - 1] * args.shape[n - 1];
    if (merge) {
      args.shape[n - 1] *= size;
    } else {
      args.shape[n] = size;
      for (int i = 0; i < o; ++i) args.stride[i][n] = strides[i][d];
      ++n;
    }
  }
  if (n == 0) {
    args.shape[0] = args.count;
    for (int i = 0; i < o; ++i) args.stride[i][0] = 1;
    n = 1;
  }
  args.ndim = n;
  return args;
}

void run_elementwise(const char* name, ElementwiseKernel kernel, DType dtype, int cost,
                     std::initializer_list<const Tensor*> operands, double p, double q) {
  const Tensor& dst = **operands.begin();
  if (dst.count() == 0) return;
  const KernelTable& table = table_for(dst.device(), name);
  launch(dst.device(), table, table.*kernel, name, dst.count() * cost, elementwise_args(dtype, operands, p, q));
}

}  // namespace pydl::ops
