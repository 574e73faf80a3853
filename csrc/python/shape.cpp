// Bindings: views and the ops that put tensors together.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

void bind_shape(py::module_& m) {
  m.def("reshape", &ops::reshape, "x"_a, "shape"_a);
  m.def("view", &ops::view, "x"_a, "shape"_a);
  m.def("permute_dims", &ops::permute_dims, "x"_a, "axes"_a);
  m.def("swap_axes", &ops::swap_axes, "x"_a, "axis1"_a, "axis2"_a);
  m.def("expand_dims", &ops::expand_dims, "x"_a, "axis"_a);
  m.def("squeeze", &ops::squeeze, "x"_a, "axes"_a, "all"_a);
  m.def("broadcast_to", &ops::broadcast_to, "x"_a, "shape"_a);
  m.def("broadcast_shapes", [](const Dims& a, const Dims& b) { return broadcast_shapes("broadcast_shapes", a, b); });
  m.def(
      "slice",
      [](const Tensor& x, int64_t axis, int64_t start, int64_t length, int64_t step) {
        const int a = normalize_axis("slice", axis, x.ndim());
        if (x.ndim() == 0 || start < 0 || length < 0 || step < 1 ||
            (length > 0 && (start >= x.size(a) || length - 1 > (x.size(a) - 1 - start) / step)))
          throw IndexError(text("[slice] ", length, " elements from ", start, " by ", step, " leave axis ", axis,
                                " of shape ", x.shape()));
        return ops::slice(x, a, start, length, step);
      },
      "x"_a, "axis"_a, "start"_a, "length"_a, "step"_a = 1);
  m.def(
      "select",
      [](const Tensor& x, int64_t axis, int64_t index) {
        if (x.ndim() == 0) throw IndexError("[select] a zero-dimensional tensor has no axis to select from");
        return ops::select(x, normalize_axis("select", axis, x.ndim()), index);
      },
      "x"_a, "axis"_a, "index"_a);
  m.def("flip", &ops::flip, "x"_a, "axis"_a);
  m.def("diagonal", &ops::diagonal, "x"_a, "offset"_a = 0, "axis1"_a = -2, "axis2"_a = -1);
  m.def("unfold", &ops::unfold, "x"_a, "axis"_a, "size"_a, "step"_a);
  m.def("concat", &ops::concat, "arrays"_a, "axis"_a);
  m.def("split", &ops::split, "x"_a, "axis"_a, "sizes"_a);
  m.def("stack", &ops::stack, "arrays"_a, "axis"_a);
  m.def("tile", &ops::repeat, "x"_a, "repetitions"_a);
  m.def("roll", &ops::roll, "x"_a, "shift"_a, "axis"_a);
  m.def("pad", &ops::pad, "x"_a, "widths"_a, "value"_a);
  m.def("tril", &ops::tril, "x"_a, "k"_a = 0);
  m.def("triu", &ops::triu, "x"_a, "k"_a = 0);
}

}  // namespace pydl::python
