#include "ops/channels.h"

namespace pydl::ops {
bool is_channels_last(const Tensor& x) {
  if (x.ndim() < 3) return x.contiguous();
  const Dims strides = channels_last_strides(x.shape());
  for (int d = 0; d < x.ndim(); ++d)
    if (x.size(d) != 1 && x.stride(d) != strides[d]) return x.count() == 0;
  return true;
}

Tensor channels_last(const Tensor& x) {
  if (is_channels_last(x)) return x;
  const Tensor y = Tensor::empty_channels_last(x.shape(), x.dtype(), x.device());
  copy_into(y, x);
  if (autograd::recording({&x}))
    autograd::record("clone", {&x}, {&y},
                     [](autograd::Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = d_out[0]; });
  return y;
}

Channels channels_of(const Tensor& x0) {
  Channels out;
  out.last = x0.channels_last();
  out.x = out.last ? x0 : contiguous(x0);
  const Tensor& x = out.x;
  out.outer = x.size(0);
  out.channels = x.size(1);
  for (int d = 2; d < x.ndim(); ++d) (out.last ? out.outer : out.inner) *= x.size(d);
  return out;
}

Tensor empty_as(const Channels& like) {
  return like.last ? Tensor::empty_channels_last(like.x.shape(), like.x.dtype(), like.x.device())
                   : Tensor::empty(like.x.shape(), like.x.dtype(), like.x.device());
}

Tensor laid_as(const Channels& like, const Tensor& x) {
  if (like.last ? is_channels_last(x) : x.contiguous()) return x;
  const Tensor y = empty_as(like);
  copy_into(y, x);
  return y;
}

}  // namespace pydl::ops
