// Bindings: creation, conversion and copies.
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

DType dtype_of(const ops::Number& n) {
  return n.kind == ops::Number::boolean   ? DType::boolean
         : n.kind == ops::Number::integer ? DType::int64
                                          : ops::default_dtype();
}

}  // namespace

void bind_creation(py::module_& m) {
  m.def(
      "empty",
      [](const Dims& shape, DType dtype, const py::object& device) {
        for (int64_t n : shape)
          if (n < 0) throw ValueError(text("[empty] sizes must not be negative, got ", shape));
        return Tensor::empty(shape, dtype, as_device(device));
      },
      "shape"_a, "dtype"_a, "device"_a = py::none());
  m.def(
      "full",
      [](const Dims& shape, const ops::Number& value, const py::object& dtype, const py::object& device) {
        const DType t = dtype.is_none() ? dtype_of(value) : as_dtype(dtype);
        check_fits("full", value, t);
        return ops::full(shape, value, t, as_device(device));
      },
      "shape"_a, "fill_value"_a, "dtype"_a = py::none(), "device"_a = py::none());
  m.def(
      "arange",
      [](const ops::Number& start, const ops::Number& stop, const ops::Number& step, const py::object& dtype,
         const py::object& device) {
        const bool floating = start.kind == ops::Number::floating || stop.kind == ops::Number::floating ||
                              step.kind == ops::Number::floating;
        return ops::arange(start, stop, step,
                           !dtype.is_none() ? as_dtype(dtype)
                           : floating       ? ops::default_dtype()
                                            : DType::int64,
                           as_device(device));
      },
      "start"_a, "stop"_a, "step"_a, "dtype"_a = py::none(), "device"_a = py::none());
  m.def(
      "linspace",
      [](double start, double stop, int64_t num, bool endpoint, DType dtype, const py::object& device) {
        return ops::linspace(start, stop, num, endpoint, dtype, as_device(device));
      },
      "start"_a, "stop"_a, "num"_a, "endpoint"_a, "dtype"_a, "device"_a = py::none());
  m.def(
      "eye",
      [](int64_t rows, int64_t columns, int64_t k, DType dtype, const py::object& device) {
        if (rows < 0 || columns < 0)
          throw ValueError(text("[eye] sizes must not be negative, got ", rows, " and ", columns));
        return ops::eye(rows, columns, k, dtype, as_device(device));
      },
      "n_rows"_a, "n_cols"_a, "k"_a, "dtype"_a, "device"_a = py::none());
  m.def(
      "to_device", [](const Tensor& x, const py::object& device) { return ops::to_device(x, as_device(device)); },
      "x"_a, "device"_a);
  m.def("astype", &ops::cast, "x"_a, "dtype"_a);
  m.def("clone", &ops::clone, "x"_a);
  m.def("contiguous", &ops::contiguous, "x"_a);
  m.def("copy_", &ops::copy_, "dst"_a, "src"_a);
  m.def(
      "fill_",
      [](const Tensor& dst, const ops::Number& value) {
        check_fits("fill_", value, dst.dtype());
        ops::fill_(dst, value);
      },
      "dst"_a, "value"_a);
  m.def("default_dtype", &ops::default_dtype);
  m.def("set_default_dtype", &ops::set_default_dtype, "dtype"_a);
  m.def("result_type", [](const py::args& args) {
    if (args.empty()) throw ValueError("[result_type] needs at least one argument");
    bool first = true;
    DType dtype = DType::boolean;
    for (py::handle arg : args) {
      ops::Number n;
      if (!is_tensor(arg.ptr()) && as_number(arg.ptr(), &n)) continue;
      const DType t = is_tensor(arg.ptr()) ? unwrap(arg.ptr()).dtype() : as_dtype(arg);
      dtype = first ? t : ops::promote("result_type", dtype, t);
      first = false;
    }
    for (py::handle arg : args) {
      ops::Number n;
      if (!is_tensor(arg.ptr()) && as_number(arg.ptr(), &n)) dtype = first ? dtype_of(n) : ops::promote(dtype, n);
    }
    return dtype;
  });
}

}  // namespace pydl::python
