// The cells over one hidden unit of one sequence at one step: loads, the formulas of formulas/gates.h, stores.
#pragma once
#include "backend/cuda/scalar.h"
#include "backend/formulas/gates.h"

namespace pydl {
namespace {

// What a cell's forward sees: pointers to the unit's own element. Gate g stands g * hidden further.
template <class T>
struct ForwardPlace {
  T* gates;  // activated gates are kept there, or null
  T* c;      // LSTM: the state, replaced
  T* cell;   // LSTM: where c_t is kept. GRU: where W_hn h + b_hn is kept. Or null
  T h_prev, last_bias;
  int64_t hidden;
  bool relu;
};

// What a cell's backward sees.
template <class T>
struct BackwardPlace {
  const T* gates;   // activated
  const T* cell;    // LSTM: c_t. GRU: W_hn h + b_hn
  const T* c_prev;  // LSTM, null means zero
  const T* h_prev;  // GRU, null means zero
  const T* y;
  T* d_gates;  // out: with respect to the sums before activation
  T* d_last;   // out, GRU: with respect to W_hn h + b_hn
  T* d_h;      // out: what reaches the state before, but for the product with w_hh
  T* d_c;      // LSTM, in and out
  int64_t hidden;
  bool relu;
};

template <class T>
struct RnnCell {
  static constexpr int kGates = 1;
  static constexpr bool kHasCell = false, kSplitsLast = false;

  __device__ static T forward(const ForwardPlace<T>& at, const T (&in)[1], const T (&sum)[1]) {
    const T h = rnn_step(Scalar<T>(in[0] + sum[0]), at.relu).raw;
    if (at.gates != nullptr) *at.gates = h;
    return h;
  }
  __device__ static void backward(const BackwardPlace<T>& at, T d_h) {
    *at.d_gates = rnn_step_gradient(Scalar<T>(*at.y), Scalar<T>(d_h), at.relu).raw;
    *at.d_h = T(0);
  }
};

template <class T>
struct LstmCell {
  static constexpr int kGates = 4;
  static constexpr bool kHasCell = true, kSplitsLast = false;

  __device__ static T forward(const ForwardPlace<T>& at, const T (&in)[4], const T (&sum)[4]) {
    using V = Scalar<T>;
    const LstmValues<V> s =
        lstm_step(V(in[0] + sum[0]), V(in[1] + sum[1]), V(in[2] + sum[2]), V(in[3] + sum[3]), V(*at.c));
    if (at.gates != nullptr) {
      at.gates[0] = s.i.raw;
      at.gates[at.hidden] = s.f.raw;
      at.gates[2 * at.hidden] = s.g.raw;
      at.gates[3 * at.hidden] = s.o.raw;
    }
    if (at.cell != nullptr) *at.cell = s.c.raw;
    *at.c = s.c.raw;
    return s.h.raw;
  }
  __device__ static void backward(const BackwardPlace<T>& at, T d_h) {
    using V = Scalar<T>;
    const LstmGradients<V> d = lstm_step_gradient(V(at.gates[0]), V(at.gates[at.hidden]), V(at.gates[2 * at.hidden]),
                                                  V(at.gates[3 * at.hidden]), V(*at.cell),
                                                  V(at.c_prev == nullptr ? T(0) : *at.c_prev), V(d_h), V(*at.d_c));
    at.d_gates[0] = d.d_i.raw;
    at.d_gates[at.hidden] = d.d_f.raw;
    at.d_gates[2 * at.hidden] = d.d_g.raw;
    at.d_gates[3 * at.hidden] = d.d_o.raw;
    *at.d_c = d.d_c_prev.raw;
    *at.d_h = T(0);
  }
};

template <class T>
struct GruCell {
  static constexpr int kGates = 3;
  static constexpr bool kHasCell = false, kSplitsLast = true;

  __device__ static T forward(const ForwardPlace<T>& at, const T (&in)[3], const T (&sum)[3]) {
    using V = Scalar<T>;
    const T last = sum[2] + at.last_bias;
    const GruValues<V> s = gru_step(V(in[0] + sum[0]), V(in[1] + sum[1]), V(in[2]), V(last), V(at.h_prev));
    if (at.gates != nullptr) {
      at.gates[0] = s.r.raw;
      at.gates[at.hidden] = s.z.raw;
      at.gates[2 * at.hidden] = s.n.raw;
    }
    if (at.cell != nullptr) *at.cell = last;
    return s.h.raw;
  }
  __device__ static void backward(const BackwardPlace<T>& at, T d_h) {
    using V = Scalar<T>;
    const GruGradients<V> d = gru_step_gradient(V(at.gates[0]), V(at.gates[at.hidden]), V(at.gates[2 * at.hidden]),
                                                V(*at.cell), V(at.h_prev == nullptr ? T(0) : *at.h_prev), V(d_h));
    at.d_gates[0] = d.d_r.raw;
    at.d_gates[at.hidden] = d.d_z.raw;
    at.d_gates[2 * at.hidden] = d.d_n.raw;
    *at.d_last = d.d_last.raw;
    *at.d_h = d.d_h_prev.raw;
  }
};

}  // namespace
}  // namespace pydl
