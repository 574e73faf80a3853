// Bindings: fused optimizer steps.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

void bind_optimizer(py::module_& m) {
  m.def(
      "sgd_step",
      [](const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
         const std::optional<std::vector<Tensor>>& momentum_buffers, double lr, double momentum, double dampening,
         double weight_decay, bool nesterov, bool maximize, bool first) {
        ops::sgd_step(params, grads, momentum_buffers.value_or(std::vector<Tensor>()), first,
                      {lr, momentum, dampening, weight_decay, nesterov, maximize});
      },
      "params"_a, "grads"_a, "momentum_buffers"_a, "lr"_a, "momentum"_a = 0.0, "dampening"_a = 0.0,
      "weight_decay"_a = 0.0, "nesterov"_a = false, "maximize"_a = false, "first"_a = false);
  m.def(
      "adam_step",
      [](const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
         const std::vector<Tensor>& exp_avg_sqs, const std::optional<std::vector<Tensor>>& max_exp_avg_sqs,
         int64_t step, double lr, double beta1, double beta2, double eps, double weight_decay, bool amsgrad,
         bool decoupled, bool maximize) {
        ops::AdamOptions options{lr, beta1, beta2, eps, weight_decay, amsgrad, decoupled, maximize, step};
        ops::adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs.value_or(std::vector<Tensor>()), options);
      },
      "params"_a, "grads"_a, "exp_avgs"_a, "exp_avg_sqs"_a, "max_exp_avg_sqs"_a, "step"_a, "lr"_a, "beta1"_a, "beta2"_a,
      "eps"_a, "weight_decay"_a = 0.0, "amsgrad"_a = false, "decoupled"_a = false, "maximize"_a = false);
  m.def("clip_grad_norm", &ops::clip_grad_norm, "grads"_a, "max_norm"_a, "norm_type"_a = 2.0);
  m.def("clip_grad_value", &ops::clip_grad_value, "grads"_a, "value"_a);
}

}  // namespace pydl::python
