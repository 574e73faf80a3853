// Bindings: normalization.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

void bind_normalization(py::module_& m) {
  m.def(
      "batch_norm",
      [](const Tensor& x, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
         const std::optional<Tensor>& running_mean, const std::optional<Tensor>& running_var,
         const std::optional<Tensor>& num_batches_tracked, bool training, std::optional<double> momentum, double eps,
         const char* layer, bool relu) {
        ops::BatchNormOptions options;
        options.layer = layer;
        options.batch_statistics = training;
        options.relu = relu;
        options.eps = eps;
        options.momentum = momentum;
        return ops::batch_norm(
            x, or_undefined(weight), or_undefined(bias),
            {or_undefined(running_mean), or_undefined(running_var), or_undefined(num_batches_tracked)}, options);
      },
      "input"_a, "weight"_a, "bias"_a, "running_mean"_a, "running_var"_a, "num_batches_tracked"_a, "training"_a,
      "momentum"_a, "eps"_a, "layer"_a = "batch_norm", "relu"_a = false);
  m.def(
      "layer_norm",
      [](const Tensor& x, const Dims& shape, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
         double eps) { return ops::layer_norm(x, shape, or_undefined(weight), or_undefined(bias), eps); },
      "input"_a, "normalized_shape"_a, "weight"_a, "bias"_a, "eps"_a);
  m.def(
      "rms_norm",
      [](const Tensor& x, const Dims& shape, const std::optional<Tensor>& weight, std::optional<double> eps) {
        return ops::rms_norm(x, shape, or_undefined(weight), eps);
      },
      "input"_a, "normalized_shape"_a, "weight"_a, "eps"_a);
  m.def(
      "group_norm",
      [](const Tensor& x, int64_t groups, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
         double eps,
         const char* op) { return ops::group_norm(op, x, groups, or_undefined(weight), or_undefined(bias), eps); },
      "input"_a, "num_groups"_a, "weight"_a, "bias"_a, "eps"_a, "op"_a = "group_norm");
}

}  // namespace pydl::python
