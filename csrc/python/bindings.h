// One function per binding file; module.cpp calls them all.
#pragma once
#include <pybind11/pybind11.h>

namespace pydl::python {

namespace py = pybind11;

void bind_types(py::module_& m);        // dtype, device, errors
void bind_tensor_type(py::module_& m);  // TensorBase
void bind_elementwise(py::module_& m);
void bind_creation(py::module_& m);
void bind_shape(py::module_& m);
void bind_reduce(py::module_& m);
void bind_index(py::module_& m);
void bind_network(py::module_& m);  // linear, softmax, losses, embedding, dropout, recurrent
void bind_convolution(py::module_& m);
void bind_normalization(py::module_& m);
void bind_pooling(py::module_& m);  // and interpolation
void bind_loss(py::module_& m);     // losses, borders
void bind_random(py::module_& m);
void bind_optimizer(py::module_& m);
void bind_autograd(py::module_& m);
void bind_interop(py::module_& m);
void bind_backend(py::module_& m);

}  // namespace pydl::python
