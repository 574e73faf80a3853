// Whole recurrent networks: layers and directions over the whole-sequence kernels, with dropout between layers. One
// node on the tape for the stack: its backward walks the grid of layers and directions in reverse.
#include <memory>

#include "autograd/engine.h"
#include "core/capture.h"
#include "ops/iteration.h"
#include "ops/ops.h"
#include "ops/recurrent_composed.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

struct CellInfo {
  const char* name;
  int64_t gates;
  bool has_cell;
};
CellInfo info(Cell cell) {
  switch (cell) {
    case Cell::lstm:
      return {"lstm", 4, true};
    case Cell::gru:
      return {"gru", 3, false};
    default:
      return {"rnn", 1, false};
  }
}

void launch_forward(Cell cell, Device device, const RecurrentForwardArgs& args) {
  const int64_t gates = info(cell).gates;
  const int64_t work = args.steps * args.batch * gates * args.hidden_size * (args.hidden_size + args.input_size);
  switch (cell) {
    case Cell::lstm:
      PYDL_LAUNCH(device, work, lstm_forward, args);
      break;
    case Cell::gru:
      PYDL_LAUNCH(device, work, gru_forward, args);
      break;
    default:
      PYDL_LAUNCH(device, work, rnn_forward, args);
  }
}
void launch_backward(Cell cell, Device device, const RecurrentBackwardArgs& args) {
  const RecurrentForwardArgs& f = args.forward;
  const int64_t work = f.steps * f.batch * info(cell).gates * f.hidden_size * (f.hidden_size + f.input_size);
  switch (cell) {
    case Cell::lstm:
      PYDL_LAUNCH(device, work, lstm_backward, args);
      break;
    case Cell::gru:
      PYDL_LAUNCH(device, work, gru_backward, args);
      break;
    default:
      PYDL_LAUNCH(device, work, rnn_backward, args);
  }
}

// What one call works with, checked; lives on in the node for backward.
struct Stack {
  RecurrentOptions options;
  CellInfo cell;
  DType dtype, state_dtype;  // of x and the weights; of all else, while the layers run
  Device device;
  int64_t steps, batch, hidden, directions, per_layer;  // per_layer: weights of one layer and direction, 2 or 4
  Tensor lengths;                                       // int64 (B) or undefined
  const PickedRows* rows = nullptr;  // of the first layer's input, where that pays; inputs[0] owns it
  std::vector<Tensor> inputs;        // of each layer, after dropout
  std::vector<Tensor> outputs;       // of each layer, before dropout
  std::vector<Tensor> gates, cells;  // workspaces by layer and direction
  std::vector<uint64_t> dropout_position;
  uint64_t dropout_seed = 0;

  int time_axis() const { return options.batch_first ? 1 : 0; }
  Dims sequence(int64_t features) const {
    return options.batch_first ? Dims{batch, steps, features} : Dims{steps, batch, features};
  }
  void* slot(const Tensor& states, size_t i) const {
    return states.defined() ? states.bytes() + static_cast<int64_t>(i) * batch * hidden *
                                                   static_cast<int64_t>(item_size(state_dtype))
                            : nullptr;
  }
  void* part(const Tensor& y, int64_t direction) const {
    return y.defined() ? y.bytes() + direction * hidden * static_cast<int64_t>(item_size(state_dtype)) : nullptr;
  }

  RecurrentForwardArgs args(const Tensor& x, const Tensor& y, size_t i, const std::vector<Tensor>& weights,
                            const Tensor& h0, const Tensor& c0, const Tensor& h_n, const Tensor& c_n,
                            bool by_rows) const {
    RecurrentForwardArgs a{};
    const size_t w = i * static_cast<size_t>(per_layer);
    const bool biases = per_layer == 4;
    a.dtype = dtype;
    a.steps = steps;
    a.batch = batch;
    a.input_size = x.size(2);
    a.hidden_size = hidden;
    a.reverse = i % static_cast<size_t>(directions) == 1;
    a.relu = options.cell == Cell::rnn_relu;
    if (by_rows && i < static_cast<size_t>(directions)) {
      a.x = rows->table.bytes();
      a.x_count = rows->table.size(0);
      a.x_rows = rows->index.data<int64_t>();
      a.x_rows_step = rows->index.stride(time_axis());
      a.x_rows_batch = rows->index.stride(1 - time_axis());
    } else {
      a.x = x.bytes();
      a.x_step = x.stride(time_axis());
      a.x_batch = x.stride(1 - time_axis());
    }
    a.h0 = slot(h0, i);
    a.c0 = slot(c0, i);
    a.w_ih = weights[w].bytes();
    a.w_hh = weights[w + 1].bytes();
    a.b_ih = biases ? weights[w + 2].bytes() : nullptr;
    a.b_hh = biases ? weights[w + 3].bytes() : nullptr;
    a.lengths = lengths.defined() ? lengths.data<int64_t>() : nullptr;
    a.y = part(y, static_cast<int64_t>(i) % directions);
    a.y_step = y.stride(time_axis());
    a.y_batch = y.stride(1 - time_axis());
    a.h_n = slot(h_n, i);
    a.c_n = slot(c_n, i);
    if (i < gates.size()) a.ws_gates = gates[i].defined() ? gates[i].bytes() : nullptr;
    if (i < cells.size()) a.ws_cell = cells[i].defined() ? cells[i].bytes() : nullptr;
    return a;
  }

  Tensor dropped(const Tensor& x, size_t layer) const {
    Tensor y = Tensor::empty(x.shape(), dtype, device);
    DropoutArgs a{dtype, x.count(), x.bytes(), y.bytes(), options.dropout, dropout_seed, dropout_position[layer]};
    CapturedLaunch captured;
    captured.random(dropout_seed, dropout_position[layer]);
    PYDL_LAUNCH(device, a.count, dropout, a);
    return y;
  }
};

void check_state(const CellInfo& cell, const char* name, const Tensor& state, const Dims& expected, DType dtype) {
  if (!state.defined()) return;
  if (state.shape() != expected || state.dtype() != dtype)
    throw ValueError(text("[", cell.name, "] got ", name, " of shape ", state.shape(), " and dtype ", state.dtype(),
                          ", expected ", expected, " (layers * directions, batch, hidden) of ", dtype));
}

void check_weights(const CellInfo& cell, const std::vector<Tensor>& weights, int64_t per_layer, int64_t directions,
                   int64_t input, int64_t hidden, DType dtype) {
  for (size_t i = 0; i < weights.size(); ++i) {
    const int64_t layer = static_cast<int64_t>(i) / (per_layer * directions);
    const int64_t in = layer == 0 ? input : hidden * directions;
    const int64_t which = static_cast<int64_t>(i) % per_layer;
    const Dims expected = which == 0   ? Dims{cell.gates * hidden, in}
                          : which == 1 ? Dims{cell.gates * hidden, hidden}
                                       : Dims{cell.gates * hidden};
    if (weights[i].shape() != expected || weights[i].dtype() != dtype)
      throw ValueError(
          text("[", cell.name, "] weight ", which, " of layer ", layer, " has shape ", weights[i].shape(),
               " and dtype ", weights[i].dtype(), ", expected ", expected, " of ", dtype,
               which == 0 && layer == 0 ? "; does the input have the size that the layer was made for?" : ""));
  }
}

// x under another name on the tape: the gradient for one input must not count the way to it through another.
Tensor renamed(const Tensor& x) {
  if (!x.defined()) return x;
  Tensor y = x.alias();
  if (autograd::recording({&x}))
    autograd::record("alias", {&x}, {&y}, [](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = d_out[0]; });
  return y;
}

// The gradient where it is to be differentiated again: that of the same network made of ops.
void composed_backward(const Node& node, const Stack& s, std::vector<Tensor> inputs, const Tensor* d_out,
                       Tensor* d_in) {
  for (Tensor& input : inputs) input = renamed(input);
  const std::vector<Tensor> weights(inputs.begin() + 3, inputs.end());
  const RecurrentResult again = composed_recurrent(
      s.options, inputs[0], inputs[1], inputs[2], weights, s.per_layer, s.lengths, [&](const Tensor& x, size_t layer) {
        const bool drops = !s.dropout_position.empty();
        return drops ? dropout_at(x, s.options.dropout, s.dropout_seed, s.dropout_position[layer]) : x;
      });
  std::vector<Tensor> roots, grads, targets;
  const Tensor* results[] = {&again.y, &again.h_n, &again.c_n};
  for (size_t i = 0; i < 3; ++i) {
    if (!results[i]->defined() || !d_out[i].defined() || !autograd::requires_grad(*results[i])) continue;
    roots.push_back(*results[i]);
    grads.push_back(d_out[i]);
  }
  std::vector<size_t> places;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!node.wants(i)) continue;
    places.push_back(i);
    targets.push_back(inputs[i]);
  }
  const std::vector<Tensor> found = autograd::grad(roots, grads, targets, {true, true});
  for (size_t i = 0; i < places.size(); ++i) d_in[places[i]] = found[i];
}

void run_backward(Node& node, const Stack& s, const Tensor& x, const std::vector<Saved>& saved_weights,
                  const Saved& saved_h0, const Saved& saved_c0, const Tensor* d_out, Tensor* d_in) {
  if (autograd::grad_enabled()) {
    std::vector<Tensor> inputs{x, saved_h0.get(node), saved_c0.get(node)};
    for (const Saved& w : saved_weights) inputs.push_back(w.get(node));
    return composed_backward(node, s, std::move(inputs), d_out, d_in);
  }
  const auto dense = [&](const Saved& saved) {
    const Tensor t = saved.get(node);
    return t.defined() ? contiguous(t) : t;
  };
  const Tensor h0 = dense(saved_h0), c0 = dense(saved_c0);
  std::vector<Tensor> weights;
  for (const Saved& w : saved_weights) weights.push_back(contiguous(w.get(node)));
  const Tensor d_h_n = d_out[1].defined() ? contiguous(d_out[1]) : Tensor();
  const Tensor d_c_n = s.cell.has_cell && d_out[2].defined() ? contiguous(d_out[2]) : Tensor();
  const Dims states{s.options.layers * s.directions, s.batch, s.hidden};
  // The rows' table is the last input: its gradient needs no gradient of x, where nobody asks for that one.
  const size_t table_input = 3 + weights.size();
  const bool by_rows = s.rows && s.rows->unchanged() && !autograd::observed(node, 0);
  const Tensor d_h0 = node.wants(1) ? Tensor::empty(states, s.dtype, s.device) : Tensor();
  const Tensor d_c0 = s.cell.has_cell && node.wants(2) ? Tensor::empty(states, s.dtype, s.device) : Tensor();
  d_in[1] = d_h0;
  d_in[2] = d_c0;

  Tensor d_y = d_out[0].defined() ? contiguous(d_out[0]) : Tensor();
  for (int64_t layer = s.options.layers - 1; layer >= 0; --layer) {
    const size_t l = static_cast<size_t>(layer);
    const Tensor& input = s.inputs[l];
    const bool table_first = by_rows && layer == 0;
    const bool wants_x = layer > 0 || node.wants(0);
    Tensor d_x;
    for (int64_t direction = 0; direction < s.directions; ++direction) {
      const size_t i = static_cast<size_t>(layer * s.directions + direction);
      RecurrentBackwardArgs a{};
      a.forward = s.args(input, s.outputs[l], i, weights, h0, c0, Tensor(), Tensor(), by_rows);
      a.d_y = s.part(d_y, direction);
      if (d_y.defined()) {
        a.d_y_step = d_y.stride(s.time_axis());
        a.d_y_batch = d_y.stride(1 - s.time_axis());
      }
      a.d_h_n = s.slot(d_h_n, i);
      a.d_c_n = s.slot(d_c_n, i);
      Tensor d_part;
      if (wants_x) {
        d_part = Tensor::empty(table_first ? s.rows->table.shape() : s.sequence(input.size(2)), s.dtype, s.device);
        a.d_x = d_part.bytes();
        if (!table_first) {
          a.d_x_step = d_part.stride(s.time_axis());
          a.d_x_batch = d_part.stride(1 - s.time_axis());
        }
      }
      a.d_h0 = s.slot(d_h0, i);
      a.d_c0 = s.slot(d_c0, i);
      void** d_weights[] = {&a.d_w_ih, &a.d_w_hh, &a.d_b_ih, &a.d_b_hh};
      for (int64_t k = 0; k < s.per_layer; ++k) {
        const size_t w = i * static_cast<size_t>(s.per_layer) + static_cast<size_t>(k);
        if (!node.wants(3 + w)) continue;
        d_in[3 + w] = Tensor::empty(weights[w].shape(), s.dtype, s.device);
        *d_weights[k] = d_in[3 + w].bytes();
      }
      launch_backward(s.options.cell, s.device, a);
      if (!d_x.defined()) {
        d_x = d_part;
      } else if (d_part.defined()) {
        AccumulateArgs sum{s.dtype, d_x.count(), d_part.bytes(), d_x.bytes(), 1.0};
        PYDL_LAUNCH(s.device, sum.count, accumulate, sum);
      }
    }
    if (layer > 0) {
      d_y = s.dropout_position.empty() ? d_x : s.dropped(d_x, l - 1);
    } else if (node.wants(0)) {
      if (table_first && s.rows->padding_index >= 0) fill_(select(d_x, 0, s.rows->padding_index), Number::of(0.0));
      d_in[table_first ? table_input : 0] = d_x;
    }
  }
}

// Whether products of bfloat16 are made by the CPU's own instructions for them, which take two elements at a time.
bool has_native_products(const RecurrentOptions& options, const Tensor& x, const Tensor& h0, const Tensor& c0,
                         const std::vector<Tensor>& weights) {
  if (x.dtype() != DType::bfloat16 || !x.device().is_cpu() ||
      table_for(x.device(), "recurrent").gemm_block_bf16 == nullptr)
    return false;
  if ((options.training && options.dropout > 0) || autograd::recording({&x, &h0, &c0}) || x.size(2) % 2 != 0)
    return false;
  for (const Tensor* state : {&h0, &c0}) {
    if (state->defined() && state->dtype() != x.dtype()) return false;
  }
  for (const Tensor& w : weights) {
    if (w.dtype() != x.dtype() || autograd::recording({&w}) || (w.ndim() == 2 && w.size(1) % 2 != 0)) return false;
  }
  return true;
}

// Picked rows are projected before they are picked where the table is small beside the number of picks. Not so where x
// became a leaf of its own.
const PickedRows* rows_worth_it(const Tensor& x, int64_t picks) {
  const PickedRows* rows = picked_rows(x);
  if (!rows || rows->table.dtype() != x.dtype() || rows->table.size(0) * 2 > picks) return nullptr;
  if (rows->index.ndim() != 2 || (autograd::requires_grad(x) && autograd::is_leaf(x))) return nullptr;
  return rows;
}

}  // namespace

RecurrentResult recurrent(const RecurrentOptions& options, const Tensor& x, const Tensor& h0, const Tensor& c0,
                          const std::vector<Tensor>& weights, const Tensor& lengths, Generator* generator) {
  const CellInfo cell = info(options.cell);
  if (!x.defined() || x.ndim() != 3)
    throw ValueError(text("[", cell.name, "] the input must have 3 axes, ",
                          options.batch_first ? "(batch, time, features)" : "(time, batch, features)", ", got ",
                          x.defined() ? to_string(x.shape()) : "None"));
  const bool native = has_native_products(options, x, h0, c0, weights);
  if (is_half(x.dtype()) && !native) {
    const auto wide = [](const Tensor& t) { return t.defined() ? cast(t, DType::float32) : t; };
    std::vector<Tensor> wide_weights;
    for (const Tensor& w : weights) wide_weights.push_back(wide(w));
    RecurrentResult r = recurrent(options, wide(x), wide(h0), wide(c0), wide_weights, lengths, generator);
    return {cast(r.y, x.dtype()), cast(r.h_n, x.dtype()), r.c_n.defined() ? cast(r.c_n, x.dtype()) : r.c_n};
  }
  same_device(cell.name, x, h0, c0);
  for (const Tensor& w : weights) same_device(cell.name, x, w);
  if (!is_float(x.dtype())) throw TypeError(text("[", cell.name, "] the input must be floating, got ", x.dtype()));
  if (options.dropout < 0 || options.dropout > 1)
    throw ValueError(text("[", cell.name, "] dropout must be in [0, 1], got ", options.dropout));

  auto stack = std::make_shared<Stack>();
  Stack& s = *stack;
  s.options = options;
  s.cell = cell;
  s.dtype = x.dtype();
  s.state_dtype = native ? DType::float32 : s.dtype;
  s.device = x.device();
  s.steps = x.size(s.time_axis());
  s.batch = x.size(1 - s.time_axis());
  s.directions = options.bidirectional ? 2 : 1;
  const int64_t grid = options.layers * s.directions;
  if (options.layers < 1)
    throw ValueError(text("[", cell.name, "] num_layers must be at least 1, got ", options.layers));
  s.per_layer = static_cast<int64_t>(weights.size()) / grid;
  if (static_cast<int64_t>(weights.size()) % grid != 0 || (s.per_layer != 2 && s.per_layer != 4))
    throw ValueError(text("[", cell.name, "] got ", weights.size(), " weights for ", options.layers, " layers and ",
                          s.directions, " directions, expected 2 (no biases) or 4 for each"));
  if (weights[1].ndim() != 2)
    throw ValueError(text("[", cell.name, "] w_hh must have 2 axes, got ", weights[1].shape()));
  s.hidden = weights[1].size(1);
  check_weights(cell, weights, s.per_layer, s.directions, x.size(2), s.hidden, s.dtype);
  const Dims states{grid, s.batch, s.hidden};
  check_state(cell, "h_0", h0, states, s.dtype);
  check_state(cell, "c_0", c0, states, s.dtype);
  if (lengths.defined()) {
    if (lengths.shape() != Dims{s.batch} || is_float(lengths.dtype()))
      throw ValueError(text("[", cell.name, "] lengths must be (", s.batch, ",) integers, got ", lengths.shape(),
                            " of ", lengths.dtype()));
    s.lengths = contiguous(cast(on_host(lengths), DType::int64));
    for (int64_t b = 0; b < s.batch; ++b)
      if (s.lengths.data<int64_t>()[b] < 0 || s.lengths.data<int64_t>()[b] > s.steps)
        throw ValueError(text("[", cell.name, "] length ", s.lengths.data<int64_t>()[b], " of sequence ", b,
                              " is outside 0 to ", s.steps));
    s.lengths = to_device(s.lengths, s.device);
  }

  bool record = autograd::recording({&x, &h0, &c0});
  for (const Tensor& w : weights) record = record || autograd::recording({&w});
  std::vector<Tensor> packed;
  std::vector<Tensor> tape_inputs{x, h0, c0};
  Tensor input, h, c;
  {
    autograd::GradMode off(false);
    const auto state = [&s](const Tensor& t) {
      return !t.defined() ? t : contiguous(t.dtype() == s.state_dtype ? t : cast(t, s.state_dtype));
    };
    for (const Tensor& w : weights) packed.push_back(w.ndim() == 1 ? state(w) : contiguous(w));
    h = state(h0);
    c = state(c0);
    const bool even = x.stride(0) % 2 == 0 && x.stride(1) % 2 == 0;  // pairs lie at even places
    input = (x.stride(2) == 1 || x.size(2) == 1) && (!native || even) ? x : clone(x);
  }
  s.rows = rows_worth_it(x, s.steps * s.batch);
  const bool by_rows = s.rows != nullptr;
  const bool drops = options.training && options.dropout > 0 && options.layers > 1;
  if (drops) s.dropout_seed = generator->seed();

  RecurrentResult result;
  result.h_n = Tensor::empty(states, s.state_dtype, s.device);
  if (cell.has_cell) result.c_n = Tensor::empty(states, s.state_dtype, s.device);
  for (int64_t layer = 0; layer < options.layers; ++layer) {
    Tensor y = Tensor::empty(s.sequence(s.directions * s.hidden), s.state_dtype, s.device);
    for (int64_t direction = 0; direction < s.directions; ++direction) {
      const size_t i = static_cast<size_t>(layer * s.directions + direction);
      if (record) {
        s.gates.push_back(cell.gates > 1 ? Tensor::empty({s.steps, s.batch, cell.gates * s.hidden}, s.dtype, s.device)
                                         : Tensor());
        s.cells.push_back(cell.gates > 1 ? Tensor::empty({s.steps, s.batch, s.hidden}, s.dtype, s.device) : Tensor());
      }
      launch_forward(options.cell, s.device, s.args(input, y, i, packed, h, c, result.h_n, result.c_n, by_rows));
    }
    if (native) y = cast(y, s.dtype);
    if (record) {
      s.inputs.push_back(layer == 0 && by_rows ? input : input.alias());
      s.outputs.push_back(y.alias());
    }
    if (drops && layer + 1 < options.layers) {
      s.dropout_position.push_back(reserve(*generator, static_cast<uint64_t>((y.count() + 3) / 4)));
      input = s.dropped(y, static_cast<size_t>(layer));
    } else {
      input = y;
    }
    result.y = y;
  }
  if (native) {
    result.h_n = cast(result.h_n, s.dtype);
    if (cell.has_cell) result.c_n = cast(result.c_n, s.dtype);
  }
  if (!record) return result;

  std::vector<Saved> saved;
  for (const Tensor& w : weights) {
    saved.emplace_back(w);
    tape_inputs.push_back(w);
  }
  if (by_rows && autograd::requires_grad(x)) tape_inputs.push_back(s.rows->table);
  // x and the top output are checked for changes in place; what lies between belongs to nobody else.
  autograd::record(cell.name, tape_inputs, {&result.y, &result.h_n, &result.c_n},
                   [stack, saved, sx = Saved(x), sy = Saved::output(result.y), sh = Saved(h0), sc = Saved(c0)](
                       Node& node, const Tensor* d_out, Tensor* d_in) {
                     sy.get(node);
                     run_backward(node, *stack, sx.get(node), saved, sh, sc, d_out, d_in);
                   });
  return result;
}

}  // namespace pydl::ops
