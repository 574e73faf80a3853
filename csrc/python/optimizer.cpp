// Bindings: fused optimizer steps, and what else is done with many tensors at once.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

using Tensors = std::vector<Tensor>;

struct ScalarName {
  PyObject* name;  // interned, so that one comparison of pointers finds almost every key
  double UpdateScalars::*field;
};

const std::vector<ScalarName>& scalar_names() {
  static const std::vector<ScalarName> names = {
#define SCALAR(field, initial) {PyUnicode_InternFromString(#field), &UpdateScalars::field},
      PYDL_UPDATE_SCALARS(SCALAR)
#undef SCALAR
  };
  return names;
}

UpdateScalars scalars_of(const py::dict& given) {
  UpdateScalars scalars;
  for (const auto& [key, value] : given) {
    const ScalarName* found = nullptr;
    for (const ScalarName& known : scalar_names())
      if (known.name == key.ptr()) found = &known;
    if (found == nullptr)
      for (const ScalarName& known : scalar_names())
        if (PyUnicode_Check(key.ptr()) && PyUnicode_Compare(known.name, key.ptr()) == 0) found = &known;
    if (found == nullptr)
      throw TypeError(text("[optimizer_step] got an unknown scalar ", py::cast<std::string>(py::str(key))));
    scalars.*(found->field) = py::cast<double>(value);
  }
  return scalars;
}

}  // namespace

void bind_optimizer(py::module_& m) {
  m.def(
      "optimizer_step",
      [](const std::string& rule, Tensors params, Tensors grads, std::vector<Tensors> states, const py::dict& scalars,
         bool maximize, bool lazy_rows) {
        ops::optimizer_step(
            {rule, std::move(params), std::move(grads), std::move(states), scalars_of(scalars), maximize, lazy_rows});
      },
      "rule"_a, "params"_a, "grads"_a, "states"_a, "scalars"_a, "maximize"_a = false, "lazy_rows"_a = false);
  m.def(
      "adafactor_step",
      [](Tensors params, Tensors grads, Tensors row_vars, Tensors col_vars, Tensors variances,
         std::optional<double> eps1, double eps2, double weight, double rate, double d, double kept, bool maximize) {
        ops::adafactor_step({std::move(params), std::move(grads), std::move(row_vars), std::move(col_vars),
                             std::move(variances), eps1, weight, rate, eps2, d, kept, maximize});
      },
      "params"_a, "grads"_a, "row_vars"_a, "col_vars"_a, "variances"_a, "eps1"_a, "eps2"_a, "weight"_a, "rate"_a, "d"_a,
      "kept"_a, "maximize"_a = false);
  m.def("clip_grad_norm", &ops::clip_grad_norm, "grads"_a, "max_norm"_a, "norm_type"_a = 2.0);
  m.def("clip_grad_value", &ops::clip_grad_value, "grads"_a, "value"_a);
  m.def("clip_many_", &ops::clip_many_, "tensors"_a, "low"_a, "high"_a);
  m.def("soft_threshold_", &ops::soft_threshold_, "tensors"_a, "threshold"_a);
  m.def("blend_", &ops::blend_, "data"_a, "others"_a, "weight"_a);
  m.def("penalty", &ops::penalty, "tensors"_a, "l1"_a, "l2"_a);
}

}  // namespace pydl::python
