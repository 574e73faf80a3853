// The greatest and the least, and where they are. Over several axes, ties share the gradient; with an index, the index
// gets it.
#include "backend/registry.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

void require_elements(const char* op, const Tensor& x, int64_t n) {
  if (n == 0)
    throw ValueError(text("[", op, "] can't reduce an axis of size 0: got shape ", x.shape(),
                          ", expected at least one element to choose from"));
}

Tensor extreme(const char* name, bool greatest, const Tensor& x, const Dims& axes, bool keepdims) {
  const Reduced r = reduced(name, x, axes, keepdims);
  require_elements(name, x, r.n);
  if (x.dtype() == DType::boolean) return reduce_raw(greatest ? ReduceOp::any : ReduceOp::all, x, r, DType::boolean);
  if (is_half(x.dtype())) return cast(extreme(name, greatest, cast(x, DType::float32), axes, keepdims), x.dtype());
  Tensor y = reduce_raw(greatest ? ReduceOp::max : ReduceOp::min, x, r, x.dtype());
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&y},
                     [r, sx = Saved(x), sy = Saved::output(y)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor mask = equal(sx.get(node), expand(sy.get(node), r));
                       const Tensor g = expand(d_out[0], r), ties = sum(mask, r.axes, true, g.dtype());
                       d_in[0] = where(mask, divide(g, ties), scalar(Number::of(0.0), g.dtype()));
                     });
  return y;
}

// The index, and the value where that is wanted. Records nothing.
Tensor find(const char* name, bool greatest, const Tensor& x, const Reduced& r, Tensor* value) {
  require_elements(name, x, r.n);
  Tensor index = Tensor::empty(r.shape, DType::int64, x.device());
  if (value) *value = Tensor::empty(r.shape, x.dtype(), x.device());
  ArgReduceArgs args;
  const Lanes l = lanes(x, r.axes);
  set_lanes(args, l);
  args.max = greatest;
  args.dtype = x.dtype() == DType::boolean ? DType::uint8 : x.dtype();
  args.index = index.data<int64_t>();
  args.value = value ? value->bytes() : nullptr;
  PYDL_LAUNCH(x.device(), x.count() * 2, arg_reduce, args);
  return index;
}

Tensor arg_extreme(const char* name, bool greatest, const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  autograd::GradMode off(false);
  const Tensor src = is_half(x.dtype()) ? cast(x, DType::float32) : x;
  if (axis) return find(name, greatest, src, reduced(name, src, {*axis}, keepdims), nullptr);
  return find(name, greatest, contiguous(src), reduced(name, src, {}, keepdims), nullptr);
}

std::pair<Tensor, Tensor> with_index(const char* name, bool greatest, const Tensor& x, int64_t axis, bool keepdims) {
  if (is_half(x.dtype())) {
    const auto [value, index] = with_index(name, greatest, cast(x, DType::float32), axis, keepdims);
    return {cast(value, x.dtype()), index};
  }
  const Reduced r = reduced(name, x, {axis}, keepdims);
  Tensor value;
  const Tensor index = find(name, greatest, x, r, &value);
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&value, &index},
                     [r, shape = x.shape(), si = Saved(index)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor& g = d_out[0];
                       d_in[0] = r.axes.empty() ? g
                                                : scatter_add(zeros(shape, g.dtype(), g.device()), r.axes[0],
                                                              expand(si.get(node), r), expand(g, r));
                     });
  return {value, index};
}

}  // namespace

Tensor max(const Tensor& x, const Dims& axes, bool keepdims) { return extreme("max", true, x, axes, keepdims); }
Tensor min(const Tensor& x, const Dims& axes, bool keepdims) { return extreme("min", false, x, axes, keepdims); }
Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  return arg_extreme("argmax", true, x, axis, keepdims);
}
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdims) {
  return arg_extreme("argmin", false, x, axis, keepdims);
}
std::pair<Tensor, Tensor> max_with_index(const Tensor& x, int64_t axis, bool keepdims) {
  return with_index("max", true, x, axis, keepdims);
}
std::pair<Tensor, Tensor> min_with_index(const Tensor& x, int64_t axis, bool keepdims) {
  return with_index("min", false, x, axis, keepdims);
}

}  // namespace pydl::ops
