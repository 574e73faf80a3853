#include "python/bindings.h"

PYBIND11_MODULE(_C, m) {
  using namespace pydl::python;
  m.doc() = "pydl's compiled part: tensors, automatic differentiation and kernels. Use it through the package pydl.";
  m.attr("__version__") = PYDL_VERSION;
  bind_types(m);
  bind_tensor_type(m);
  bind_elementwise(m);
  bind_creation(m);
  bind_shape(m);
  bind_reduce(m);
  bind_index(m);
  bind_network(m);
  bind_convolution(m);
  bind_normalization(m);
  bind_pooling(m);
  bind_loss(m);
  bind_random(m);
  bind_optimizer(m);
  bind_autograd(m);
  bind_interop(m);
  bind_backend(m);
}
