// Bindings: losses and borders.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

using LossFunction = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Reduction, double);

void def_loss(py::module_& m, const char* name, LossFunction function) {
  m.def(
      name,
      [name, function](const Tensor& x, const Tensor& target, const std::string& reduction, double p,
                       const std::optional<Tensor>& weight, const std::optional<Tensor>& pos_weight) {
        return function(x, target, or_undefined(weight), or_undefined(pos_weight), as_reduction(name, reduction), p);
      },
      "input"_a, "target"_a, "reduction"_a = "mean", "p"_a = 0.0, "weight"_a = py::none(), "pos_weight"_a = py::none());
}

Tensor pad_border(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& widths, const std::string& mode) {
  if (mode == "reflect") return ops::pad_border(x, widths, ops::Border::reflect);
  if (mode == "replicate") return ops::pad_border(x, widths, ops::Border::replicate);
  if (mode == "circular") return ops::pad_border(x, widths, ops::Border::circular);
  throw ValueError(text("[pad] got mode '", mode, "', expected 'constant', 'reflect', 'replicate' or 'circular'"));
}

}  // namespace

void bind_loss(py::module_& m) {
#define LOSS(name, loss, d_x, d_t) def_loss(m, #name, &ops::name);
#include "ops/losses.def"
#undef LOSS
  m.def(
      "nll_loss",
      [](const Tensor& x, const Tensor& target, const std::optional<Tensor>& weight, int64_t ignore_index,
         const std::string& reduction) {
        return ops::nll_loss(x, target, or_undefined(weight), ignore_index, as_reduction("nll_loss", reduction));
      },
      "input"_a, "target"_a, "weight"_a = py::none(), "ignore_index"_a = -100, "reduction"_a = "mean");
  m.def("ctc_loss", &ops::ctc_loss, "log_probs"_a, "targets"_a, "input_lengths"_a, "target_lengths"_a, "blank"_a = 0,
        "zero_infinity"_a = false);
  m.def("pad_border", &pad_border, "x"_a, "widths"_a, "mode"_a);
}

}  // namespace pydl::python
