// Bindings: gathering and scattering.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/indexing.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

// A list of tuples.
py::list take_batches(const std::vector<Tensor>& sources, const Tensor& order, const std::vector<int64_t>& stops) {
  py::list out;
  for (const std::vector<Tensor>& fields : ops::take_batches(sources, order, stops)) {
    py::tuple batch(fields.size());
    for (size_t k = 0; k < fields.size(); ++k)
      PyTuple_SET_ITEM(batch.ptr(), static_cast<Py_ssize_t>(k), wrap(fields[k]));
    out.append(std::move(batch));
  }
  return out;
}

}  // namespace

void bind_index(py::module_& m) {
  m.def("take_batches", &take_batches, "sources"_a, "order"_a, "stops"_a);
  m.def("take", &ops::take, "x"_a, "indices"_a, "axis"_a);
  m.def("take_along_axis", &ops::take_along_axis, "x"_a, "indices"_a, "axis"_a = -1);
  m.def("gather", &ops::gather, "x"_a, "axis"_a, "indices"_a);
  m.def("scatter_add", &ops::scatter_add, "x"_a, "axis"_a, "indices"_a, "src"_a, "in_place"_a = false);
  m.def("scatter", &ops::scatter, "x"_a, "axis"_a, "indices"_a, "src"_a, "in_place"_a = false);
  m.def(
      "scatter_joined",
      [](const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, const std::string& how, bool in_place) {
        const ScatterJoin join = how == "prod"   ? ScatterJoin::multiply
                                 : how == "amax" ? ScatterJoin::largest
                                                 : ScatterJoin::smallest;
        return ops::scatter_joined(x, axis, index, src, join, in_place);
      },
      "x"_a, "axis"_a, "indices"_a, "src"_a, "how"_a, "in_place"_a);
  // A copy of x with x[index] = value, or x itself.
  m.def(
      "index_put",
      [](const Tensor& x, const py::object& index, const Tensor& value, bool accumulate, bool in_place) {
        if (!in_place) return ops::index_put(x, parse_index(index.ptr()), value, accumulate);
        ops::setitem(x, parse_index(index.ptr()), value, accumulate);
        return x;
      },
      "x"_a, "index"_a, "value"_a, "accumulate"_a, "in_place"_a = false);
  m.def("nonzero", &ops::nonzero, "x"_a);
  m.def("masked_fill", &ops::masked_fill, "x"_a, "mask"_a, "value"_a);
}

}  // namespace pydl::python
