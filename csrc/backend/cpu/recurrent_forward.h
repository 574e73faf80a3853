// The forward pass of a recurrent layer over a whole sequence, for any cell. See recurrent_sequence.h.
#pragma once
#include "backend/cpu/convert.h"
#include "backend/cpu/recurrent_sequence.h"

namespace pydl {
namespace {

// What a cell's forward sees of one row at one step: pointers to unit 0 of the row.
template <class T>
struct ForwardRow {
  T* gates;         // (G*H) before activation; activated in place where keep_gates
  const T* h_prev;  // (H)
  T* h_next;        // (H)
  T* y;             // (H)
  T* c;             // (H) LSTM: the state, replaced
  T* cell;          // (H) LSTM: where c_t is kept, or null. GRU: W_hn h + b_hn
  int64_t hidden;
  bool keep_gates, relu;
};

template <class T, class Cell>
class ForwardPass {
 public:
  ForwardPass(const RecurrentForwardArgs& args, Exec& exec) : s_(args, Cell::kGates), exec_(exec) {}

  void run() {
    const Share share = choose_share<T>(exec_, s_.steps, s_.batch, s_.input, s_.hidden, Cell::kGates);
    const bool in_place = s_.batch <= 4 && s_.steps * s_.batch < 8;
    const int64_t states = s_.batch * s_.hidden;
    const int64_t rows = share == Share::kRows ? ceil_div(s_.batch, int64_t{exec_.threads}) : s_.batch;
    chunk_ = s_.steps_at_once(rows);
    Scratch<T> packed_ih(exec_, in_place ? 0 : packed_size<T>(Cell::kGates, s_.input, s_.hidden));
    Scratch<T> packed_hh(exec_, in_place ? 0 : packed_size<T>(Cell::kGates, s_.depth, s_.hidden));
    Scratch<uint16_t> rounded(exec_, s_.pairs ? 2 * states : 0);
    Scratch<T> state(exec_, 3 * states);
    Scratch<T> bias(exec_, s_.width);
    Scratch<T> projected(exec_, s_.x_rows != nullptr ? s_.x_count * s_.width : 0);
    Scratch<T> gates(exec_, s_.ws_gates != nullptr ? 0 : chunk_ * s_.batch * s_.width);
    Scratch<T> recurrent_part(exec_, Cell::kSplitsLast && s_.ws_cell == nullptr ? states : 0);
    h_[0] = state;
    h_[1] = state + states;
    c_ = state + 2 * states;
    gates_ = s_.ws_gates != nullptr ? s_.ws_gates : gates.get();
    recurrent_part_ = Cell::kSplitsLast ? recurrent_part.get() : nullptr;
    copy_or_zero(states, s_.h0, h_[0]);
    if (Cell::kHasCell) copy_or_zero(states, s_.c0, c_);
    add_biases(bias);
    w_ih_ = load_weights(in_place, s_.input, s_.w_ih, packed_ih);
    w_hh_ = load_weights(in_place, s_.depth, s_.w_hh, packed_hh);
    rounded_[0] = rounded;
    rounded_[1] = rounded + states;
    if (s_.pairs) round_units(0, states, h_[0], rounded_[0]);
    const int64_t panels = w_hh_.panels;
    projected_ = projected;
    if (s_.x_rows != nullptr) project_table(projected);
    if (share == Share::kUnits) {
      for (int64_t step = 0; step < s_.steps; ++step) {
        parallel_for(exec_, panels, 1,
                     [&](int64_t begin, int64_t end) { run_range(step, step + 1, 0, s_.batch, begin, end); });
      }
    } else {
      const int64_t parts = share == Share::kRows ? ceil_div(s_.batch, rows) : 1;
      parallel_for(exec_, parts, 1, [&](int64_t begin, int64_t end) {
        run_range(0, s_.steps, s_.batch * begin / parts, s_.batch * end / parts, 0, panels);
      });
    }
    copy_units(0, states, h_[s_.steps % 2], s_.h_n);
    if (Cell::kHasCell) copy_units(0, states, c_, s_.c_n);
  }

 private:
  Weights<T> load_weights(bool in_place, int64_t k, const T* w, T* packed) const {
    if (in_place)
      return {Cell::kGates, k, s_.hidden, ceil_div(s_.hidden, int64_t{GemmTile<T>::kCols}), w, false, s_.pairs};
    Weights<T> out = pack_weights(exec_, Cell::kGates, k, s_.hidden, w, s_.hidden * k, 1, k, packed);
    out.pairs = s_.pairs;
    return out;
  }

  static void round_units(int64_t begin, int64_t end, const T* src, uint16_t* dst) {
    if constexpr (sizeof(T) == 4) float_run_to_bfloat16(src + begin, dst + begin, end - begin);
  }

  // Both biases belong to the input product, except that GRU's last recurrent one stays with its own part.
  void add_biases(T* bias) {
    const int64_t shared = Cell::kSplitsLast ? s_.width - s_.hidden : s_.width;
    bias_ = s_.b_ih != nullptr || s_.b_hh != nullptr ? bias : nullptr;
    last_bias_ = Cell::kSplitsLast && s_.b_hh != nullptr ? s_.b_hh + shared : nullptr;
    if (bias_ == nullptr) return;
    copy_or_zero(s_.width, s_.b_ih, bias);
    if (s_.b_hh == nullptr) return;
    for (int64_t j = 0; j < shared; ++j) bias[j] += s_.b_hh[j];
  }

  T* gates_at(int64_t step, int64_t b) const {
    const int64_t row = s_.ws_gates != nullptr ? s_.time(step) : step % chunk_;
    return gates_ + (row * s_.batch + b) * s_.width;
  }

  void input_part(int64_t step, int64_t b0, int64_t b1, int64_t q0, int64_t q1) const {
    const int64_t steps = s_.steps - step < chunk_ ? s_.steps - step : chunk_;
    const int64_t gate_step = s_.batch * s_.width * (s_.ws_gates != nullptr ? s_.direction() : 1);
    const RowSet rows = longer_first({b1 - b0, steps, s_.x_batch, s_.direction() * s_.x_step, s_.width, gate_step});
    const T* x = s_.x + s_.time(step) * s_.x_step + b0 * s_.x_batch;
    T* gates = gates_at(step, b0);
    for (int64_t g = 0; g < Cell::kGates; ++g) {
      const T* bias = bias_ == nullptr ? nullptr : bias_ + g * s_.hidden;
      multiply_weights(exec_, w_ih_, g, q0, q1, rows, x, gates + g * s_.hidden, T(0), bias);
    }
  }

  // The table's rows @ w_ih^T + bias, (x_count, G*H).
  void project_table(T* projected) const {
    const int64_t panels = w_ih_.panels;
    const RowSet rows{s_.x_count, 1, s_.input, 0, s_.width, 0};
    const int64_t panel_work = s_.x_count * s_.input * GemmTile<T>::kCols;
    parallel_for(exec_, Cell::kGates * panels, 1 + kSharedWork / (4 * (panel_work + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t g = i / panels, q = i % panels;
                     const T* bias = bias_ == nullptr ? nullptr : bias_ + g * s_.hidden;
                     multiply_weights(exec_, w_ih_, g, q, q + 1, rows, s_.x, projected + g * s_.hidden, T(0), bias);
                   }
                 });
  }

  void pick_rows(int64_t step, int64_t b0, int64_t b1, int64_t u0, int64_t u1) const {
    const int64_t t = s_.time(step);
    for (int64_t b = b0; b < b1; ++b) {
      const T* src = projected_ + s_.row_of(t, b) * s_.width;
      T* dst = gates_at(step, b);
      if (u0 == 0 && u1 == s_.hidden) {
        copy_units(0, s_.width, src, dst);
      } else {
        for (int64_t g = 0; g < Cell::kGates; ++g) copy_units(u0, u1, src + g * s_.hidden, dst + g * s_.hidden);
      }
    }
  }

  // Rows [b0, b1) of what a step writes, unless the weights, which would not stay in L2, matter more.
  Soon rows_of_step(int64_t step, int64_t b0, int64_t b1) const {
    Soon soon;
    if (step >= s_.steps || !weights_fit_core<T>(s_.width, s_.hidden)) return soon;
    const int64_t t = s_.time(step), rows = b1 - b0, item = static_cast<int64_t>(sizeof(T));
    if (s_.x_rows != nullptr && s_.ws_gates != nullptr) soon.add(gates_at(step, b0), rows * s_.width * item);
    soon.add(offset(s_.ws_cell, (t * s_.batch + b0) * s_.hidden), rows * s_.hidden * item);
    if (s_.y_batch == s_.hidden) soon.add(s_.y + t * s_.y_step + b0 * s_.hidden, rows * s_.hidden * item);
    return soon;
  }

  void run_range(int64_t step0, int64_t step1, int64_t b0, int64_t b1, int64_t q0, int64_t q1) const {
    if (b0 >= b1 || q0 >= q1) return;
    const int64_t u0 = q0 * GemmTile<T>::kCols;
    const int64_t u1 = s_.hidden < q1 * GemmTile<T>::kCols ? s_.hidden : q1 * GemmTile<T>::kCols;
    const int64_t plain_gates = Cell::kSplitsLast ? Cell::kGates - 1 : Cell::kGates;
    for (int64_t step = step0; step < step1; ++step) {
      if (s_.x_rows != nullptr) {
        pick_rows(step, b0, b1, u0, u1);
      } else if (step % chunk_ == 0) {
        input_part(step, b0, b1, q0, q1);
      }
      const int64_t t = s_.time(step);
      const T* h_prev = h_[step % 2];
      T* gates = gates_at(step, b0);
      const T* operand = s_.pairs ? reinterpret_cast<const T*>(rounded_[step % 2]) : h_prev;
      operand += b0 * s_.depth;
      const Soon soon = q0 == 0 && q1 == w_hh_.panels ? rows_of_step(step + 1, b0, b1) : Soon{};
      const RowSet rows{b1 - b0, 1, s_.depth, 0, s_.width, 0};
      for (int64_t g = 0; g < plain_gates; ++g) {
        multiply_weights(exec_, w_hh_, g, q0, q1, rows, operand, gates + g * s_.hidden, T(1),
                         static_cast<const T*>(nullptr), soon.part(g, 1, plain_gates));
      }
      T* cell = s_.ws_cell != nullptr ? s_.ws_cell + t * s_.batch * s_.hidden : recurrent_part_;
      if constexpr (Cell::kSplitsLast) {
        const RowSet last_rows{b1 - b0, 1, s_.depth, 0, s_.hidden, 0};
        multiply_weights(exec_, w_hh_, plain_gates, q0, q1, last_rows, operand, cell + b0 * s_.hidden, T(0),
                         last_bias_);
      }
      for (int64_t b = b0; b < b1; ++b) {
        const int64_t at = b * s_.hidden;
        const ForwardRow<T> row{gates_at(step, b),
                                h_prev + at,
                                h_[(step + 1) % 2] + at,
                                s_.y + t * s_.y_step + b * s_.y_batch,
                                c_ + at,
                                cell == nullptr ? nullptr : cell + at,
                                s_.hidden,
                                s_.ws_gates != nullptr,
                                s_.relu};
        if (s_.valid(t, b)) {
          Cell::forward(row, u0, u1);
        } else {  // the state stays as it is
          zero_units(u0, u1, row.y);
          copy_units(u0, u1, row.h_prev, row.h_next);
          if (Cell::kHasCell && row.cell != nullptr) copy_units(u0, u1, static_cast<const T*>(row.c), row.cell);
        }
        if (s_.pairs) round_units(u0, u1, row.h_next, rounded_[(step + 1) % 2] + at);
      }
    }
  }

  Sequence<T> s_;
  Exec& exec_;
  int64_t chunk_;
  Weights<T> w_ih_, w_hh_;
  const T *bias_, *last_bias_;
  T* h_[2];               // (B, H) before and after a step, by the step's parity
  uint16_t* rounded_[2];  // the same in bfloat16, for products of pairs
  T* c_;                  // (B, H)
  T* gates_;
  const T* projected_;  // (x_count, G*H)
  T* recurrent_part_;   // (B, H) GRU in inference
};

}  // namespace
}  // namespace pydl
