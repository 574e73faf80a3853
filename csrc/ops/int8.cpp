// The linear layer with weights of 8 bits, for inference: it has no gradient.
#include "backend/registry.h"
#include "ops/ops.h"

namespace pydl::ops {

Tensor int8_linear(const Tensor& x0, const Tensor& weight0, const Tensor& scale0, const Tensor& bias0) {
  if (x0.dtype() != DType::float32)
    throw TypeError(text("[int8_linear] got input of ", x0.dtype(), ", expected float32"));
  if (weight0.dtype() != DType::int8 || weight0.ndim() != 2)
    throw TypeError(text("[int8_linear] got a weight of ", weight0.dtype(), " and shape ", weight0.shape(),
                         ", expected int8 of shape (out, in)"));
  if (x0.ndim() < 1 || x0.size(-1) != weight0.size(1))
    throw ValueError(text("[int8_linear] got input of shape ", x0.shape(), " and a weight of shape ", weight0.shape(),
                          ", expected the last sizes to be equal"));
  for (const Tensor* t : {&scale0, &bias0}) {
    if (t->defined() && (t->dtype() != DType::float32 || t->shape() != Dims{weight0.size(0)}))
      throw ValueError(text("[int8_linear] got scale or bias of ", t->dtype(), " and shape ", t->shape(),
                            ", expected float32 of shape (", weight0.size(0), ")"));
  }
  if (autograd::recording({&x0}))
    throw ValueError("[int8_linear] has no gradient, and the input requires one; use no_grad() or detach()");
  const Tensor x = contiguous(x0), weight = contiguous(weight0), scale = contiguous(scale0);
  const Tensor bias = bias0.defined() ? contiguous(bias0) : Tensor();
  Dims shape = x.shape();
  shape[shape.size() - 1] = weight.size(0);
  Tensor y = Tensor::empty(shape, DType::float32, common_device("int8_linear", {&x, &weight, &scale, &bias}));
  Int8LinearArgs args;
  args.n = weight.size(0);
  args.k = weight.size(1);
  args.rows = args.n > 0 ? y.count() / args.n : 0;
  args.x = x.data<float>();
  args.weight = weight.data<int8_t>();
  args.scale = scale.data<float>();
  args.bias = bias.defined() ? bias.data<float>() : nullptr;
  args.y = y.data<float>();
  PYDL_LAUNCH(y.device(), y.count() * (args.k + 1), int8_linear, args);
  return y;
}

}  // namespace pydl::ops
