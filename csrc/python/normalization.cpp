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
}

}  // namespace pydl::python
