// Order along an axis: sort and topk. The gradient goes back to where each value came from.
#include "backend/registry.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

void record_scatter(const char* name, const Tensor& x, int axis, const Tensor& values, const Tensor& indices) {
  if (!autograd::recording({&x})) return;
  autograd::record(name, {&x}, {&values, &indices},
                   [axis, shape = x.shape(), si = autograd::Saved(indices)](autograd::Node& node, const Tensor* d_out,
                                                                            Tensor* d_in) {
                     const Tensor& g = d_out[0];
                     d_in[0] = shape.empty() ? sum_to(g, shape)
                                             : scatter_add(zeros(shape, g.dtype(), g.device()), axis, si.get(node), g);
                   });
}

}  // namespace

std::pair<Tensor, Tensor> sort(const Tensor& x0, int64_t axis0, bool descending) {
  const int axis = normalize_axis("sort", axis0, x0.ndim());
  const Tensor x = contiguous(x0);
  const Tensor values = Tensor::empty(x.shape(), x.dtype(), x.device()),
               indices = Tensor::empty(x.shape(), DType::int64, x.device());
  SortArgs args;
  set_lanes(args, lanes(x, axis));
  args.dtype = x.dtype();
  args.descending = descending;
  args.values = values.bytes();
  args.indices = indices.data<int64_t>();
  PYDL_LAUNCH(x.device(), x.count() * 16, sort, args);
  record_scatter("sort", x, axis, values, indices);
  return {values, indices};
}

std::pair<Tensor, Tensor> topk(const Tensor& x0, int64_t k, int64_t axis0, bool largest) {
  const int axis = normalize_axis("topk", axis0, x0.ndim());
  const int64_t n = x0.ndim() ? x0.size(axis) : 1;
  if (k < 0 || k > n)
    throw ValueError(
        text("[topk] got k = ", k, ", expected 0 to ", n, ", the size of axis ", axis0, " of shape ", x0.shape()));
  const Tensor x = contiguous(x0);
  Dims shape = x.shape();
  if (x.ndim())
    shape[axis] = k;
  else if (k == 0)
    shape = {0};
  const Tensor values = Tensor::empty(shape, x.dtype(), x.device()),
               indices = Tensor::empty(shape, DType::int64, x.device());
  TopKArgs args;
  set_lanes(args, lanes(x, axis));
  args.dtype = x.dtype();
  args.largest = largest;
  args.k = k;
  args.values = values.bytes();
  args.indices = indices.data<int64_t>();
  PYDL_LAUNCH(x.device(), x.count() * 4, topk, args);
  record_scatter("topk", x, axis, values, indices);
  return {values, indices};
}

}  // namespace pydl::ops
