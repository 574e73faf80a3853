// Copies: between layouts, dtypes and broadcast shapes; new memory and memory in place.
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {

void copy_into(const Tensor& dst, const Tensor& src) {
  if (dst.count() == 0) return;
  const Dims joined = broadcast_shapes("copy", dst.shape(), src.shape());
  if (joined != dst.shape())
    throw ValueError(text("[copy] shape ", src.shape(), " does not broadcast to ", dst.shape()));
  if (dst.device() != src.device()) {
    Tensor here = src, there = dst;
    meet("copy", there, here);
    return copy_into(dst, here);
  }
  const ElementwiseArgs e = elementwise_args(dst.dtype(), {&dst, &src});
  CopyArgs args;
  args.src_dtype = src.dtype();
  args.dst_dtype = dst.dtype();
  args.ndim = e.ndim;
  args.count = e.count;
  args.dst = e.ptr[0];
  args.src = e.ptr[1];
  for (int i = 0; i < e.ndim; ++i) {
    args.shape[i] = e.shape[i];
    args.dst_stride[i] = e.stride[0][i];
    args.src_stride[i] = e.stride[1][i];
  }
  PYDL_LAUNCH(dst.device(), args.count, copy, args);
  autograd::note_inplace(dst);
}

Tensor clone(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  copy_into(y, x);
  if (autograd::recording({&x}))
    autograd::record("clone", {&x}, {&y},
                     [](autograd::Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = d_out[0]; });
  return y;
}

Tensor contiguous(const Tensor& x) { return x.contiguous() ? x : clone(x); }

Tensor detach(const Tensor& x) { return x.alias(); }

void copy_(const Tensor& dst, const Tensor& src0) {
  const Tensor src = src0.device() == dst.device() ? src0 : to_device(src0, dst.device());
  if (autograd::recording({&src})) {
    const Tensor value = cast(broadcast_to(src, dst.shape()), dst.dtype());
    assign("copy_", dst, &value.storage() == &src.storage() ? clone(value) : value);
    return;
  }
  autograd::check_inplace("copy_", dst, false);
  copy_into(dst, share_memory(src, dst) ? clone(detach(src)) : src);
  if (autograd::grad_enabled() && autograd::requires_grad(dst)) {
    autograd::drop_history(dst);  // overwritten: nothing flows back to what it was
    dst.impl()->rebased = ++dst.storage().rebased;
  }
}

void fill_(const Tensor& dst, Number value) { copy_(dst, scalar(value, dst.dtype())); }

}  // namespace pydl::ops
