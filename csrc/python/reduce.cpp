// Bindings: reductions, scans, sorting.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

std::optional<DType> optional_dtype(const py::object& dtype) {
  if (dtype.is_none()) return std::nullopt;
  return as_dtype(dtype);
}

}  // namespace

void bind_reduce(py::module_& m) {
  m.def(
      "sum",
      [](const Tensor& x, const Dims& axis, bool keepdims, const py::object& dtype) {
        return ops::sum(x, axis, keepdims, optional_dtype(dtype));
      },
      "x"_a, "axis"_a = py::none(), "keepdims"_a = false, "dtype"_a = py::none());
  m.def(
      "prod",
      [](const Tensor& x, const Dims& axis, bool keepdims, const py::object& dtype) {
        return ops::prod(x, axis, keepdims, optional_dtype(dtype));
      },
      "x"_a, "axis"_a = py::none(), "keepdims"_a = false, "dtype"_a = py::none());
#define PYDL_REDUCE(name) m.def(#name, &ops::name, "x"_a, "axis"_a = py::none(), "keepdims"_a = false);
  PYDL_REDUCE(mean)
  PYDL_REDUCE(max)
  PYDL_REDUCE(min)
  PYDL_REDUCE(any)
  PYDL_REDUCE(all)
  PYDL_REDUCE(logsumexp)
#undef PYDL_REDUCE
  m.def("var", &ops::var, "x"_a, "axis"_a = py::none(), "correction"_a = 0.0, "keepdims"_a = false);
  m.def("norm", &ops::norm, "x"_a, "order"_a = 2.0, "axis"_a = py::none(), "keepdims"_a = false);
  m.def("argmax", &ops::argmax, "x"_a, "axis"_a = py::none(), "keepdims"_a = false);
  m.def("argmin", &ops::argmin, "x"_a, "axis"_a = py::none(), "keepdims"_a = false);
  m.def("max_with_index", &ops::max_with_index, "x"_a, "axis"_a, "keepdims"_a = false);
  m.def("min_with_index", &ops::min_with_index, "x"_a, "axis"_a, "keepdims"_a = false);
  m.def("cumulative_sum", &ops::cumulative_sum, "x"_a, "axis"_a);
  m.def("cumulative_prod", &ops::cumulative_prod, "x"_a, "axis"_a);
  m.def("cumulative_extreme", &ops::cumulative_extreme, "x"_a, "axis"_a, "greatest"_a);
  m.def("sort", &ops::sort, "x"_a, "axis"_a = -1, "descending"_a = false);
  m.def("topk", &ops::topk, "x"_a, "k"_a, "axis"_a = -1, "largest"_a = true);
}

}  // namespace pydl::python
