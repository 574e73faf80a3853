#include "ops/recurrent_composed.h"

#include <algorithm>

namespace pydl::ops {
namespace {

struct State {
  Tensor h, c;
};

// Gate k of gates (B, G H).
Tensor gate(const Tensor& gates, int64_t k, int64_t hidden) { return slice(gates, 1, k * hidden, hidden, 1); }

// One step from the input's and the state's share of the gates, biases included.
State step(Cell cell, const Tensor& from_x, const Tensor& from_h, const State& before) {
  const int64_t hidden = before.h.size(1);
  if (cell == Cell::rnn_tanh) return {tanh(add(from_x, from_h)), Tensor()};
  if (cell == Cell::rnn_relu) return {relu(add(from_x, from_h)), Tensor()};
  if (cell == Cell::gru) {
    const Tensor r = sigmoid(add(gate(from_x, 0, hidden), gate(from_h, 0, hidden)));
    const Tensor z = sigmoid(add(gate(from_x, 1, hidden), gate(from_h, 1, hidden)));
    const Tensor n = tanh(add(gate(from_x, 2, hidden), multiply(r, gate(from_h, 2, hidden))));
    return {add(n, multiply(z, subtract(before.h, n))), Tensor()};
  }
  const Tensor gates = add(from_x, from_h);
  const Tensor i = sigmoid(gate(gates, 0, hidden)), f = sigmoid(gate(gates, 1, hidden));
  const Tensor g = tanh(gate(gates, 2, hidden)), o = sigmoid(gate(gates, 3, hidden));
  const Tensor c = add(multiply(f, before.c), multiply(i, g));
  return {multiply(o, tanh(c)), c};
}

// One layer in one direction over x (T, B, D): outputs (T, B, H), and the last state.
std::pair<Tensor, State> layer(Cell cell, const Tensor& x, State state, const Tensor* w, int64_t per_layer,
                               const Tensor& lengths, bool reverse) {
  const int64_t steps = x.size(0);
  const Tensor none;
  const Tensor from_x = linear(x, w[0], per_layer == 4 ? w[2] : none);
  std::vector<Tensor> outputs(static_cast<size_t>(steps));
  for (int64_t k = 0; k < steps; ++k) {
    const int64_t t = reverse ? steps - 1 - k : k;
    State next = step(cell, select(from_x, 0, t), linear(state.h, w[1], per_layer == 4 ? w[3] : none), state);
    Tensor y = next.h;
    if (lengths.defined()) {
      const Tensor inside = expand_dims(greater(lengths, scalar(Number::of(t), DType::int64)), 1);
      y = where(inside, next.h, scalar(Number::of(0.0), x.dtype()));
      next.h = where(inside, next.h, state.h);
      if (next.c.defined()) next.c = where(inside, next.c, state.c);
    }
    state = next;
    outputs[static_cast<size_t>(t)] = y;
  }
  return {steps > 0 ? stack(outputs, 0) : zeros({0, x.size(1), state.h.size(1)}, x.dtype(), x.device()), state};
}

}  // namespace

RecurrentResult composed_recurrent(const RecurrentOptions& options, const Tensor& x0, const Tensor& h0,
                                   const Tensor& c0, const std::vector<Tensor>& weights, int64_t per_layer,
                                   const Tensor& lengths, const std::function<Tensor(const Tensor&, size_t)>& dropped) {
  const int64_t directions = options.bidirectional ? 2 : 1, hidden = weights[1].size(1);
  Tensor x = options.batch_first ? swap_axes(x0, 0, 1) : x0;
  const auto first = [&](const Tensor& states, int64_t i) {
    return states.defined() ? select(states, 0, i) : zeros({x.size(1), hidden}, x.dtype(), x.device());
  };
  const bool has_cell = options.cell == Cell::lstm;
  std::vector<Tensor> h_n, c_n;
  for (int64_t l = 0; l < options.layers; ++l) {
    std::vector<Tensor> outputs;
    for (int64_t direction = 0; direction < directions; ++direction) {
      const int64_t i = l * directions + direction;
      const State start{first(h0, i), has_cell ? first(c0, i) : Tensor()};
      const auto [y, last] = layer(options.cell, x, start, &weights[static_cast<size_t>(i * per_layer)], per_layer,
                                   lengths, direction == 1);
      outputs.push_back(y);
      h_n.push_back(last.h);
      if (has_cell) c_n.push_back(last.c);
    }
    x = outputs.size() == 1 ? outputs[0] : concat(outputs, 2);
    if (l + 1 < options.layers) {
      const Tensor y = options.batch_first ? swap_axes(x, 0, 1) : x;
      const Tensor after = dropped(y, static_cast<size_t>(l));
      x = options.batch_first ? swap_axes(after, 0, 1) : after;
    }
  }
  return {options.batch_first ? swap_axes(x, 0, 1) : x, stack(h_n, 0), has_cell ? stack(c_n, 0) : Tensor()};
}

}  // namespace pydl::ops
