// Bindings: what layers are made of.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

Reduction as_reduction(const char* op, const std::string& name) {
  if (name == "none") return Reduction::none;
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  throw ValueError(text("[", op, "] reduction must be 'none', 'mean' or 'sum', got '", name, "'"));
}

ops::Cell as_cell(const std::string& mode) {
  if (mode == "lstm") return ops::Cell::lstm;
  if (mode == "gru") return ops::Cell::gru;
  if (mode == "rnn_tanh") return ops::Cell::rnn_tanh;
  if (mode == "rnn_relu") return ops::Cell::rnn_relu;
  throw ValueError(text("[recurrent] mode must be 'lstm', 'gru', 'rnn_tanh' or 'rnn_relu', got '", mode, "'"));
}

Generator& generator_of(const py::object& generator) {
  return generator.is_none() ? default_generator() : generator.cast<Generator&>();
}

py::tuple recurrent(const std::string& mode, const Tensor& x, const Tensor& h0, const Tensor& c0,
                    const std::vector<Tensor>& weights, int64_t num_layers, bool bidirectional, bool batch_first,
                    double dropout, bool training, const Tensor& lengths, const py::object& generator) {
  ops::RecurrentOptions options;
  options.cell = as_cell(mode);
  options.layers = num_layers;
  options.bidirectional = bidirectional;
  options.batch_first = batch_first;
  options.dropout = dropout;
  options.training = training;
  const ops::RecurrentResult r = ops::recurrent(options, x, h0, c0, weights, lengths, &generator_of(generator));
  return py::make_tuple(r.y, r.h_n, r.c_n);
}

// One step: the whole-sequence kernels with T = 1.
py::tuple recurrent_cell(const std::string& mode, const Tensor& x, const Tensor& h, const Tensor& c, const Tensor& w_ih,
                         const Tensor& w_hh, const Tensor& b_ih, const Tensor& b_hh) {
  if (x.ndim() != 2) throw ValueError(text("[", mode, " cell] the input must be (batch, features), got shape ", x.shape()));
  ops::RecurrentOptions options;
  options.cell = as_cell(mode);
  std::vector<Tensor> weights{w_ih, w_hh};
  if (b_ih.defined()) {
    weights.push_back(b_ih);
    weights.push_back(b_hh);
  }
  const auto outer = [](const Tensor& t) { return t.defined() ? ops::expand_dims(t, 0) : t; };
  const ops::RecurrentResult r = ops::recurrent(options, outer(x), outer(h), outer(c), weights, Tensor(), nullptr);
  const auto inner = [](const Tensor& t) { return t.defined() ? ops::select(t, 0, 0) : t; };
  return py::make_tuple(inner(r.h_n), inner(r.c_n));
}

}  // namespace

void bind_network(py::module_& m) {
  m.def("matmul", &ops::matmul, "x1"_a, "x2"_a);
  m.def("linear", &ops::linear, "x"_a, "weight"_a, "bias"_a = py::none());
  m.def("softmax", &ops::softmax, "x"_a, "axis"_a);
  m.def("log_softmax", &ops::log_softmax, "x"_a, "axis"_a);
  m.def("cross_entropy", [](const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                            const std::string& reduction, double label_smoothing) {
    return ops::cross_entropy(logits, target, weight, ignore_index, as_reduction("cross_entropy", reduction), label_smoothing);
  }, "input"_a, "target"_a, "weight"_a = py::none(), "ignore_index"_a = -100, "reduction"_a = "mean", "label_smoothing"_a = 0.0);
  m.def("embedding", &ops::embedding, "indices"_a, "weight"_a, "padding_idx"_a = -1);
  m.def("dropout", [](const Tensor& x, double p, const py::object& generator) {
    return ops::dropout(x, p, generator_of(generator));
  }, "x"_a, "p"_a, "generator"_a = py::none());
  m.def("recurrent", &recurrent, "mode"_a, "x"_a, "h0"_a, "c0"_a, "weights"_a, "num_layers"_a = 1, "bidirectional"_a = false,
        "batch_first"_a = false, "dropout"_a = 0.0, "training"_a = false, "lengths"_a = py::none(), "generator"_a = py::none());
  m.def("recurrent_cell", &recurrent_cell, "mode"_a, "x"_a, "h"_a, "c"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a = py::none(),
        "b_hh"_a = py::none());
}

}  // namespace pydl::python
