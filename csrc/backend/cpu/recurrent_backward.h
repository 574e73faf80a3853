// The backward pass of a recurrent layer over a whole sequence, for any cell. See recurrent_sequence.h.
//
// First the steps in reverse: gradients of the gates are kept for all of them (B rows of G*H per step), and each step's
// product with w_hh gives the gradient of the state before it. Where threads have rows of their own, the product that
// gives d_x follows after some steps, while these gradients are near; else over all steps at once, as do the weights'
// gradients; for them the rows of a ragged batch are gathered first, so that padding is neither paid for nor read.
#pragma once
#include "backend/cpu/recurrent_sequence.h"

namespace pydl {
namespace {

// What a cell's backward sees of one row at one step: pointers to unit 0 of the row.
template <class T>
struct BackwardRow {
  const T* gates;   // (G*H) activated
  const T* cell;    // (H) LSTM: c_t. GRU: W_hn h + b_hn
  const T* c_prev;  // (H) LSTM, or null
  const T* h_prev;  // (H) GRU, or null
  const T* y;       // (H)
  const T* d_y;     // (H) or null
  T* d_gates;       // (G*H) out: with respect to the sums before activation
  T* d_last;        // (H) out, GRU: with respect to W_hn h + b_hn
  T* d_h;           // (H) in: from the step after; out: what reaches the state before, but for the product with w_hh
  T* d_c;           // (H) LSTM, likewise
  int64_t hidden;
  bool relu;
};

template <class T, class Cell>
class BackwardPass {
 public:
  BackwardPass(const RecurrentBackwardArgs& args, Exec& exec)
      : args_(args),
        s_(args.forward, Cell::kGates),
        exec_(exec),
        d_y_(static_cast<const T*>(args.d_y)),
        gate_row_(row_of_width(s_.width)),
        last_row_(row_of_width(s_.hidden)) {}

  void run() {
    const int64_t states = s_.batch * s_.hidden;
    const int64_t rows = s_.steps * s_.batch;
    Scratch<T> d_gates(exec_, rows * gate_row_);
    Scratch<T> d_last(exec_, Cell::kSplitsLast ? rows * last_row_ : 0);
    d_gates_ = d_gates;
    d_last_ = d_last;
    run_steps(states);
    if (s_.x_rows != nullptr) table_gradients();
    if (s_.lengths == nullptr) {
      weight_gradients_dense();
    } else {
      weight_gradients_ragged();
    }
  }

 private:
  // The distance of rows of gradients: not such that some columns of many rows would fall into a few sets of a cache.
  static int64_t row_of_width(int64_t width) { return width % (16 * kLine<T>) == 0 ? width + kLine<T> : width; }

  void run_steps(int64_t states) {
    const int64_t plain = Cell::kSplitsLast ? s_.width - s_.hidden : s_.width;
    Scratch<T> packed(exec_, packed_size<T>(1, s_.width, s_.hidden));
    Scratch<T> d_h(exec_, states);
    Scratch<T> d_c(exec_, Cell::kHasCell ? states : 0);
    d_h_ = args_.d_h0 != nullptr ? static_cast<T*>(args_.d_h0) : d_h.get();
    d_c_ = args_.d_c0 != nullptr && Cell::kHasCell ? static_cast<T*>(args_.d_c0) : d_c.get();
    copy_or_zero(states, static_cast<const T*>(args_.d_h_n), d_h_);
    if (Cell::kHasCell) copy_or_zero(states, static_cast<const T*>(args_.d_c_n), d_c_);
    w_hh_ = pack_weights(exec_, 1, plain, s_.hidden, s_.w_hh, 0, s_.hidden, 1, packed.get());
    if (Cell::kSplitsLast) {
      w_last_ = pack_weights(exec_, 1, s_.hidden, s_.hidden, s_.w_hh + plain * s_.hidden, 0, s_.hidden, 1,
                             packed.get() + packed_size<T>(1, plain, s_.hidden));
    }
    const int64_t panels = w_hh_.panels;
    const bool wants_d_x = args_.d_x != nullptr && s_.x_rows == nullptr;
    Scratch<T> packed_ih(exec_, wants_d_x ? packed_size<T>(1, s_.width, s_.input) : 0);
    if (wants_d_x) w_ih_ = pack_weights(exec_, 1, s_.width, s_.input, s_.w_ih, 0, s_.input, 1, packed_ih.get());
    const Share share = choose_share<T>(exec_, s_.steps, s_.batch, 0, s_.hidden, Cell::kGates);
    const bool soon_d_x =
        wants_d_x && (share == Share::kRows || exec_.threads == 1) && weights_fit_core<T>(s_.width, s_.input);
    if (share == Share::kUnits) {
      for (int64_t step = s_.steps - 1; step >= -1; --step) {
        parallel_for(exec_, panels, 1, [&](int64_t begin, int64_t end) { run_step(step, 0, s_.batch, begin, end); });
      }
    } else {
      const int64_t parts = share == Share::kRows ? (exec_.threads < s_.batch ? exec_.threads : s_.batch) : 1;
      const int64_t chunk = s_.steps_at_once(ceil_div(s_.batch, parts));
      parallel_for(exec_, parts, 1, [&](int64_t begin, int64_t end) {
        const int64_t b0 = s_.batch * begin / parts, b1 = s_.batch * end / parts;
        for (int64_t step = s_.steps - 1; step >= -1; --step) {
          run_step(step, b0, b1, 0, panels);
          if (soon_d_x && step >= 0 && step % chunk == 0) input_part(step, chunk, b0, b1);
        }
      });
    }
    if (wants_d_x && !soon_d_x) input_gradient();
  }

  // Step -1 only finishes the gradient of the first state.
  void run_step(int64_t step, int64_t b0, int64_t b1, int64_t q0, int64_t q1) const {
    if (b0 >= b1 || q0 >= q1 || (step < 0 && args_.d_h0 == nullptr)) return;
    if (step + 1 < s_.steps) {
      const int64_t at = s_.time(step + 1) * s_.batch + b0;
      const RowSet rows{b1 - b0, 1, gate_row_, 0, s_.hidden, 0};
      T* d_h = d_h_ + b0 * s_.hidden;
      const T* no_bias = nullptr;
      const Soon soon = q0 == 0 && q1 == w_hh_.panels ? rows_of_step(step, b0, b1) : Soon{};
      multiply_weights(exec_, w_hh_, 0, q0, q1, rows, static_cast<const T*>(d_gates_ + at * gate_row_), d_h, T(1),
                       no_bias, soon);
      if constexpr (Cell::kSplitsLast) {
        const RowSet last_rows{b1 - b0, 1, last_row_, 0, s_.hidden, 0};
        multiply_weights(exec_, w_last_, 0, q0, q1, last_rows, static_cast<const T*>(d_last_ + at * last_row_), d_h,
                         T(1), no_bias);
      }
    }
    if (step < 0) return;
    const int64_t u0 = q0 * GemmTile<T>::kCols;
    const int64_t u1 = s_.hidden < q1 * GemmTile<T>::kCols ? s_.hidden : q1 * GemmTile<T>::kCols;
    const int64_t t = s_.time(step);
    for (int64_t b = b0; b < b1; ++b) {
      const int64_t at = t * s_.batch + b;
      T* d_gates = d_gates_ + at * gate_row_;
      if (!s_.valid(t, b)) {  // the state passed through, and so does its gradient
        for (int64_t g = 0; g < Cell::kGates; ++g) zero_units(u0, u1, d_gates + g * s_.hidden);
        if (Cell::kSplitsLast) zero_units(u0, u1, d_last_ + at * last_row_);
        continue;
      }
      const BackwardRow<T> row{offset(static_cast<const T*>(s_.ws_gates), at * s_.width),
                               offset(static_cast<const T*>(s_.ws_cell), at * s_.hidden),
                               Cell::kHasCell ? c_before(t, b) : nullptr,
                               s_.h_before(t, b),
                               s_.y + t * s_.y_step + b * s_.y_batch,
                               offset(d_y_, t * args_.d_y_step + b * args_.d_y_batch),
                               d_gates,
                               d_last_ + at * last_row_,
                               d_h_ + b * s_.hidden,
                               Cell::kHasCell ? d_c_ + b * s_.hidden : nullptr,
                               s_.hidden,
                               s_.relu};
      Cell::backward(row, u0, u1);
    }
  }

  // Rows [b0, b1) of most of what a step reads and writes, unless the weights, which would not stay in L2, matter more.
  Soon rows_of_step(int64_t step, int64_t b0, int64_t b1) const {
    Soon soon;
    if (step < 0 || !weights_fit_core<T>(s_.width, s_.hidden)) return soon;
    const int64_t t = s_.time(step), rows = b1 - b0, first = t * s_.batch + b0, item = static_cast<int64_t>(sizeof(T));
    soon.add(offset(static_cast<const T*>(s_.ws_gates), first * s_.width), rows * s_.width * item);
    soon.add(d_gates_ + first * gate_row_, rows * gate_row_ * item);
    if (Cell::kHasCell && step > 0) {
      soon.add(s_.ws_cell + (s_.time(step - 1) * s_.batch + b0) * s_.hidden, rows * s_.hidden * item);
    } else if (!Cell::kHasCell && s_.ws_cell != nullptr) {
      soon.add(s_.ws_cell + first * s_.hidden, rows * s_.hidden * item);
    }
    if (args_.d_y_batch == s_.hidden)
      soon.add(offset(d_y_, t * args_.d_y_step + b0 * s_.hidden), rows * s_.hidden * item);
    return soon;
  }

  const T* c_before(int64_t t, int64_t b) const {
    if (s_.first(t, b)) return s_.c0 == nullptr ? nullptr : s_.c0 + b * s_.hidden;
    return s_.ws_cell + ((s_.reverse ? t + 1 : t - 1) * s_.batch + b) * s_.hidden;
  }

  // d_x = d_gates @ w_ih for rows [b0, b1) of steps [step, step + chunk).
  __attribute__((noinline)) void input_part(int64_t step, int64_t chunk, int64_t b0, int64_t b1) const {
    const int64_t steps = s_.steps - step < chunk ? s_.steps - step : chunk;
    const int64_t d_step = s_.direction() * s_.batch * gate_row_;
    const RowSet rows =
        longer_first({b1 - b0, steps, gate_row_, d_step, args_.d_x_batch, s_.direction() * args_.d_x_step});
    multiply_weights(exec_, w_ih_, 0, 0, w_ih_.panels, rows,
                     static_cast<const T*>(d_gates_ + (s_.time(step) * s_.batch + b0) * gate_row_),
                     static_cast<T*>(args_.d_x) + s_.time(step) * args_.d_x_step + b0 * args_.d_x_batch, T(0),
                     static_cast<const T*>(nullptr));
  }

  void input_gradient() {
    const int64_t chunk = ceil_div(128, s_.batch + 1);
    const int64_t parts = ceil_div(s_.steps, chunk);
    const int64_t grain = 1 + kSharedWork / (4 * (chunk * s_.batch * s_.width * s_.input + 1));
    parallel_for(exec_, parts, grain, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) input_part(part * chunk, chunk, 0, s_.batch);
    });
  }

  // The gradients that come by way of the table's rows: d_gates added up by row, in the order of time and batch.
  void table_gradients() {
    if (args_.d_x == nullptr && args_.d_w_ih == nullptr) return;
    constexpr int64_t kBlock = 128;
    Scratch<T> d_rows(exec_, s_.x_count * s_.width);
    T* sums = d_rows;
    const int64_t grain = 1 + 65536 / (s_.steps * s_.batch * kBlock + 1);
    parallel_for(exec_, ceil_div(s_.width, kBlock), grain, [&](int64_t begin, int64_t end) {
      const int64_t j0 = begin * kBlock, j1 = s_.width < end * kBlock ? s_.width : end * kBlock;
      for (int64_t row = 0; row < s_.x_count; ++row) zero_units(j0, j1, sums + row * s_.width);
      for (int64_t t = 0; t < s_.steps; ++t) {
        for (int64_t b = 0; b < s_.batch; ++b) {
          if (!s_.valid(t, b)) continue;
          const T* src = d_gates_ + (t * s_.batch + b) * gate_row_;
          T* dst = sums + s_.row_of(t, b) * s_.width;
          for_units<T>(j0, j1, [&](auto io, int64_t j) { io.store(dst + j, io.load(dst + j) + io.load(src + j)); });
        }
      }
    });
    if (s_.x_count < s_.steps * s_.batch) shared_bias_gradient(s_.x_count, sums, s_.width);
    if (args_.d_w_ih != nullptr)
      outer_products(s_.x_count, s_.width, s_.input, sums, s_.width, s_.x, s_.input, static_cast<T*>(args_.d_w_ih),
                     false);
    if (args_.d_x == nullptr) return;
    GemmArgs g{};
    g.dtype = args_.forward.dtype;
    g.m = s_.x_count;
    g.n = s_.input;
    g.k = s_.width;
    g.batch = 1;
    g.a = sums;
    g.a_row = s_.width;
    g.a_col = 1;
    g.b = s_.w_ih;
    g.b_row = s_.input;
    g.b_col = 1;
    g.dst = args_.d_x;
    g.dst_row = s_.input;
    g.alpha = 1;
    exec_.table->gemm(g, exec_);
  }

  // dst (m, n) = beta * dst + left^T @ right, over `rows` rows of left (m) and right (n).
  void outer_products(int64_t rows, int64_t m, int64_t n, const T* left, int64_t left_row, const T* right,
                      int64_t right_row, T* dst, bool add) {
    GemmArgs g{};
    g.dtype = args_.forward.dtype;
    g.m = m;
    g.n = n;
    g.k = rows;
    g.batch = 1;
    g.a = left;
    g.a_row = 1;
    g.a_col = left_row;
    g.b = right;
    g.b_row = right_row;
    g.b_col = 1;
    g.dst = dst;
    g.dst_row = n;
    g.alpha = 1;
    g.beta = add ? 1 : 0;
    exec_.table->gemm(g, exec_);
  }

  void recurrent_weight_gradient(int64_t rows, const T* d_gates, const T* d_last, const T* h, int64_t h_row, bool add) {
    T* dst = static_cast<T*>(args_.d_w_hh);
    const int64_t plain = Cell::kSplitsLast ? s_.width - s_.hidden : s_.width;
    outer_products(rows, plain, s_.hidden, d_gates, gate_row_, h, h_row, dst, add);
    if (Cell::kSplitsLast)
      outer_products(rows, s_.hidden, s_.hidden, d_last, last_row_, h, h_row, dst + plain * s_.hidden, add);
  }

  void weight_gradients_dense() {
    const int64_t rows = s_.steps * s_.batch;
    if (args_.d_w_ih != nullptr && s_.x_rows == nullptr) {
      const bool uniform = s_.x_step == s_.batch * s_.x_batch || s_.steps <= 1;
      Scratch<T> x(exec_, uniform ? 0 : rows * s_.input);
      if (!uniform)
        gather(s_.input, s_.input, x, [&](int64_t t, int64_t b) { return s_.x + t * s_.x_step + b * s_.x_batch; });
      outer_products(rows, s_.width, s_.input, d_gates_, gate_row_, uniform ? s_.x : x.get(),
                     uniform ? s_.x_batch : s_.input, static_cast<T*>(args_.d_w_ih), false);
    }
    if (args_.d_w_hh != nullptr) {
      const bool uniform = s_.y_step == s_.batch * s_.y_batch;
      if (uniform && s_.steps > 1) {  // rows of y, a step apart from those of d_gates, and h0
        const int64_t later = s_.reverse ? 0 : s_.batch, earlier = s_.reverse ? rows - s_.batch : 0;
        const T* h = s_.y + (s_.reverse ? s_.y_step : 0);
        recurrent_weight_gradient(rows - s_.batch, d_gates_ + later * gate_row_, d_last_ + later * last_row_, h,
                                  s_.y_batch, false);
        if (s_.h0 != nullptr) {
          recurrent_weight_gradient(s_.batch, d_gates_ + earlier * gate_row_, d_last_ + earlier * last_row_, s_.h0,
                                    s_.hidden, true);
        }
      } else {
        Scratch<T> h(exec_, rows * s_.hidden);
        gather(s_.hidden, s_.hidden, h, [&](int64_t t, int64_t b) { return s_.h_before(t, b); });
        recurrent_weight_gradient(rows, d_gates_, d_last_, h, s_.hidden, false);
      }
    }
    bias_gradients(rows, d_gates_, d_last_);
  }

  void weight_gradients_ragged() {
    Scratch<int64_t> first_row(exec_, s_.steps + 1);
    first_row_ = first_row;
    first_row[0] = 0;
    for (int64_t t = 0; t < s_.steps; ++t) {
      int64_t count = 0;
      for (int64_t b = 0; b < s_.batch; ++b) count += s_.valid(t, b) ? 1 : 0;
      first_row[t + 1] = first_row[t] + count;
    }
    const int64_t rows = first_row[s_.steps];
    Scratch<T> d_gates(exec_, rows * gate_row_);
    Scratch<T> d_last(exec_, Cell::kSplitsLast ? rows * last_row_ : 0);
    gather(s_.width, gate_row_, d_gates,
           [&](int64_t t, int64_t b) { return d_gates_ + (t * s_.batch + b) * gate_row_; });
    if (Cell::kSplitsLast)
      gather(s_.hidden, last_row_, d_last,
             [&](int64_t t, int64_t b) { return d_last_ + (t * s_.batch + b) * last_row_; });
    if (args_.d_w_ih != nullptr && s_.x_rows == nullptr) {
      Scratch<T> x(exec_, rows * s_.input);
      gather(s_.input, s_.input, x, [&](int64_t t, int64_t b) { return s_.x + t * s_.x_step + b * s_.x_batch; });
      outer_products(rows, s_.width, s_.input, d_gates, gate_row_, x, s_.input, static_cast<T*>(args_.d_w_ih), false);
    }
    if (args_.d_w_hh != nullptr) {
      Scratch<T> h(exec_, rows * s_.hidden);
      gather(s_.hidden, s_.hidden, h, [&](int64_t t, int64_t b) { return s_.h_before(t, b); });
      recurrent_weight_gradient(rows, d_gates, d_last, h, s_.hidden, false);
    }
    bias_gradients(rows, d_gates, d_last);
  }

  // The rows that are valid, in the order of time and batch, dst_row apart; a null row is zeros.
  template <class Row>
  void gather(int64_t cols, int64_t dst_row, T* dst, Row row) {
    const int64_t grain = 1 + 16384 / (s_.batch * cols + 1);
    parallel_for(exec_, s_.steps, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        T* out = dst + (s_.lengths == nullptr ? t * s_.batch : first_row_[t]) * dst_row;
        for (int64_t b = 0; b < s_.batch; ++b) {
          if (!s_.valid(t, b)) continue;
          copy_or_zero(cols, static_cast<const T*>(row(t, b)), out);
          out += dst_row;
        }
      }
    });
  }

  void bias_gradients(int64_t rows, const T* d_gates, const T* d_last) {
    T* d_b_hh = static_cast<T*>(args_.d_b_hh);
    if (!has_shared_bias_) shared_bias_gradient(rows, d_gates, gate_row_);
    if (Cell::kSplitsLast && d_b_hh != nullptr)
      column_sums(rows, s_.hidden, d_last, last_row_, d_b_hh + s_.width - s_.hidden);
  }

  // Of both biases, from all rows of d_gates or from their sums by row of the table.
  void shared_bias_gradient(int64_t rows, const T* d_gates, int64_t row) {
    T* d_b_ih = static_cast<T*>(args_.d_b_ih);
    T* d_b_hh = static_cast<T*>(args_.d_b_hh);
    T* first = d_b_ih != nullptr ? d_b_ih : d_b_hh;
    if (first != nullptr) column_sums(rows, s_.width, d_gates, row, first);
    if (d_b_ih != nullptr && d_b_hh != nullptr) copy_units(0, s_.width, first, d_b_hh);
    has_shared_bias_ = true;
  }

  // Columns in fixed blocks, rows four by four.
  void column_sums(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst) {
    constexpr int64_t kBlock = 128;
    parallel_for(exec_, ceil_div(cols, kBlock), 1 + 65536 / (rows * kBlock + 1), [&](int64_t begin, int64_t end) {
      const int64_t j0 = begin * kBlock, j1 = cols < end * kBlock ? cols : end * kBlock;
      zero_units(j0, j1, dst);
      int64_t i = 0;
      for (; i + 4 <= rows; i += 4) {
        const T* r = src + i * src_row;
        for_units<T>(j0, j1, [&](auto io, int64_t j) {
          const Vec<T> a = io.load(r + j) + io.load(r + src_row + j),
                       b = io.load(r + 2 * src_row + j) + io.load(r + 3 * src_row + j);
          io.store(dst + j, io.load(dst + j) + (a + b));
        });
      }
      for (; i < rows; ++i) {
        const T* r = src + i * src_row;
        for_units<T>(j0, j1, [&](auto io, int64_t j) { io.store(dst + j, io.load(dst + j) + io.load(r + j)); });
      }
    });
  }

  const RecurrentBackwardArgs& args_;
  Sequence<T> s_;
  Exec& exec_;
  const T* d_y_;
  const int64_t gate_row_, last_row_;  // the distance of their rows
  T* d_gates_;                         // (T, B, G*H)
  T* d_last_;                          // (T, B, H) GRU
  T *d_h_, *d_c_;                      // (B, H)
  Weights<T> w_ih_, w_hh_, w_last_;
  bool has_shared_bias_ = false;
  const int64_t* first_row_ = nullptr;  // (T + 1) of the gathered rows of a ragged batch
};

}  // namespace
}  // namespace pydl
