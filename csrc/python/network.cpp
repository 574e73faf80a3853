// Bindings: what layers are made of.
#include <pybind11/stl.h>

#include "backend/registry.h"
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

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

py::tuple recurrent(const std::string& mode, const Tensor& x, const std::optional<Tensor>& h0,
                    const std::optional<Tensor>& c0, const std::vector<Tensor>& weights, int64_t num_layers,
                    bool bidirectional, bool batch_first, double dropout, bool training,
                    const std::optional<Tensor>& lengths, const py::object& generator) {
  ops::RecurrentOptions options;
  options.cell = as_cell(mode);
  options.layers = num_layers;
  options.bidirectional = bidirectional;
  options.batch_first = batch_first;
  options.dropout = dropout;
  options.training = training;
  const ops::RecurrentResult r = ops::recurrent(options, x, or_undefined(h0), or_undefined(c0), weights,
                                                or_undefined(lengths), &generator_of(generator));
  return py::make_tuple(r.y, r.h_n, r.c_n);
}

// One step: the whole-sequence kernels with T = 1.
py::tuple recurrent_cell(const std::string& mode, const Tensor& x, const std::optional<Tensor>& h,
                         const std::optional<Tensor>& c, const Tensor& w_ih, const Tensor& w_hh,
                         const std::optional<Tensor>& b_ih, const std::optional<Tensor>& b_hh) {
  if (x.ndim() != 2)
    throw ValueError(text("[", mode, " cell] the input must be (batch, features), got shape ", x.shape()));
  ops::RecurrentOptions options;
  options.cell = as_cell(mode);
  std::vector<Tensor> weights{w_ih, w_hh};
  if (b_ih.has_value() != b_hh.has_value()) throw ValueError(text("[", mode, " cell] give both biases or none"));
  if (b_ih) {
    weights.push_back(*b_ih);
    weights.push_back(*b_hh);
  }
  const auto outer = [](const std::optional<Tensor>& t) { return t ? ops::expand_dims(*t, 0) : Tensor(); };
  const ops::RecurrentResult r = ops::recurrent(options, outer(x), outer(h), outer(c), weights, Tensor(), nullptr);
  const auto inner = [](const Tensor& t) { return t.defined() ? ops::select(t, 0, 0) : t; };
  return py::make_tuple(inner(r.h_n), inner(r.c_n));
}

// The Elman kernel by itself, for backpropagation through time by hand. All contiguous, time-major, one dtype.
RecurrentForwardArgs elman_args(const Tensor& x, const Tensor& h0, const Tensor& w_ih, const Tensor& w_hh,
                                const Tensor& b_ih, const Tensor& b_hh, const Tensor& y) {
  if (x.ndim() != 3 || h0.ndim() != 2) throw ValueError("[rnn_forward] expected x (T, B, D) and h0 (B, H)");
  const int64_t h = h0.size(1);
  const std::pair<const Tensor*, Dims> expected[] = {{&h0, {x.size(1), h}}, {&w_ih, {h, x.size(2)}},
                                                     {&w_hh, {h, h}},       {&b_ih, {h}},
                                                     {&b_hh, {h}},          {&y, {x.size(0), x.size(1), h}}};
  for (const auto& [t, shape] : expected)
    if (t->shape() != shape || t->dtype() != x.dtype() || !t->contiguous())
      throw ValueError(text("[rnn_forward] got an argument of shape ", t->shape(), " and dtype ", t->dtype(),
                            ", expected a contiguous ", shape, " of ", x.dtype()));
  if ((x.dtype() != DType::float32 && x.dtype() != DType::float64) || !x.contiguous())
    throw TypeError("[rnn_forward] x must be contiguous float32 or float64");
  RecurrentForwardArgs a{};
  a.dtype = x.dtype();
  a.steps = x.size(0);
  a.batch = x.size(1);
  a.input_size = x.size(2);
  a.hidden_size = h;
  a.x = x.bytes();
  a.x_step = x.stride(0);
  a.x_batch = x.stride(1);
  a.h0 = h0.bytes();
  a.w_ih = w_ih.bytes();
  a.w_hh = w_hh.bytes();
  a.b_ih = b_ih.bytes();
  a.b_hh = b_hh.bytes();
  a.y = y.bytes();
  a.y_step = y.stride(0);
  a.y_batch = y.stride(1);
  return a;
}

py::tuple rnn_forward(const Tensor& x, const Tensor& h0, const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih,
                      const Tensor& b_hh) {
  if (x.ndim() != 3 || h0.ndim() != 2) throw ValueError("[rnn_forward] expected x (T, B, D) and h0 (B, H)");
  const Tensor y = Tensor::empty({x.size(0), x.size(1), h0.size(1)}, x.dtype(), x.device());
  const Tensor h_n = Tensor::empty({x.size(1), h0.size(1)}, x.dtype(), x.device());
  RecurrentForwardArgs a = elman_args(x, h0, w_ih, w_hh, b_ih, b_hh, y);
  a.h_n = h_n.bytes();
  PYDL_LAUNCH(x.device(), y.count() * (a.input_size + a.hidden_size), rnn_forward, a);
  return py::make_tuple(y, h_n);
}

py::tuple rnn_backward(const Tensor& d_y, const std::optional<Tensor>& d_h_n, const Tensor& x, const Tensor& h0,
                       const Tensor& w_ih, const Tensor& w_hh, const Tensor& b_ih, const Tensor& b_hh,
                       const Tensor& y) {
  RecurrentBackwardArgs a{};
  a.forward = elman_args(x, h0, w_ih, w_hh, b_ih, b_hh, y);
  if (d_y.shape() != y.shape() || d_y.dtype() != y.dtype() ||
      (d_h_n && (d_h_n->shape() != h0.shape() || d_h_n->dtype() != y.dtype())))
    throw ValueError(
        text("[rnn_backward] d_y must be ", y.shape(), " and d_h_n ", h0.shape(), ", both of ", y.dtype()));
  const Tensor g = ops::contiguous(d_y), g_n = d_h_n ? ops::contiguous(*d_h_n) : Tensor();
  a.d_y = g.bytes();
  a.d_y_step = g.stride(0);
  a.d_y_batch = g.stride(1);
  a.d_h_n = g_n.defined() ? g_n.bytes() : nullptr;
  Tensor d[6];
  const Tensor* like[6] = {&x, &h0, &w_ih, &w_hh, &b_ih, &b_hh};
  for (int i = 0; i < 6; ++i) d[i] = Tensor::empty(like[i]->shape(), x.dtype(), x.device());
  a.d_x = d[0].bytes();
  a.d_x_step = d[0].stride(0);
  a.d_x_batch = d[0].stride(1);
  a.d_h0 = d[1].bytes();
  a.d_w_ih = d[2].bytes();
  a.d_w_hh = d[3].bytes();
  a.d_b_ih = d[4].bytes();
  a.d_b_hh = d[5].bytes();
  PYDL_LAUNCH(x.device(), y.count() * 2 * (a.forward.input_size + a.forward.hidden_size), rnn_backward, a);
  return py::make_tuple(d[0], d[1], d[2], d[3], d[4], d[5]);
}

}  // namespace

void bind_network(py::module_& m) {
  m.def("matmul", &ops::matmul, "x1"_a, "x2"_a);
  m.def("addmm", &ops::addmm, "x"_a, "a"_a, "b"_a, "beta"_a, "alpha"_a);
  m.def(
      "linear",
      [](const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
        return ops::linear(x, weight, or_undefined(bias));
      },
      "x"_a, "weight"_a, "bias"_a = py::none());
  m.def("softmax", &ops::softmax, "x"_a, "axis"_a);
  m.def("log_softmax", &ops::log_softmax, "x"_a, "axis"_a);
  m.def(
      "cross_entropy",
      [](const Tensor& logits, const Tensor& target, const std::optional<Tensor>& weight, int64_t ignore_index,
         const std::string& reduction, double label_smoothing) {
        return ops::cross_entropy(logits, target, or_undefined(weight), ignore_index,
                                  as_reduction("cross_entropy", reduction), label_smoothing);
      },
      "input"_a, "target"_a, "weight"_a = py::none(), "ignore_index"_a = -100, "reduction"_a = "mean",
      "label_smoothing"_a = 0.0);
  m.def(
      "int8_linear",
      [](const Tensor& x, const Tensor& weight, const Tensor& scale, const std::optional<Tensor>& bias) {
        return ops::int8_linear(x, weight, scale, or_undefined(bias));
      },
      "x"_a, "weight"_a, "scale"_a, "bias"_a = py::none());
  m.def("embedding", &ops::embedding, "indices"_a, "weight"_a, "padding_idx"_a = -1, "sparse"_a = false);
  m.def(
      "dropout",
      [](const Tensor& x, double p, const py::object& generator) {
        return ops::dropout(x, p, generator_of(generator));
      },
      "x"_a, "p"_a, "generator"_a = py::none());
  m.def("recurrent", &recurrent, "mode"_a, "x"_a, "h0"_a, "c0"_a, "weights"_a, "num_layers"_a = 1,
        "bidirectional"_a = false, "batch_first"_a = false, "dropout"_a = 0.0, "training"_a = false,
        "lengths"_a = py::none(), "generator"_a = py::none());
  m.def("rnn_forward", &rnn_forward, "x"_a, "h0"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a, "b_hh"_a);
  m.def("rnn_backward", &rnn_backward, "d_y"_a, "d_h_n"_a, "x"_a, "h0"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a, "b_hh"_a,
        "y"_a);
  m.def("recurrent_cell", &recurrent_cell, "mode"_a, "x"_a, "h"_a, "c"_a, "w_ih"_a, "w_hh"_a, "b_ih"_a = py::none(),
        "b_hh"_a = py::none());
}

}  // namespace pydl::python
