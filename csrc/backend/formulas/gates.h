// The cells of the recurrent networks: gates, states and their gradients, over a generic value V. A gate's argument is
// the sum before activation; d_ of it the gradient for that sum. h_prev and c_prev are the states before the step.
//
// Elman: h = tanh(a), or relu.
// LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000): c' = f c + i g, h' = o tanh(c').
// GRU (Cho et al. 2014, in the form whose reset gate acts after the recurrent product): n = tanh(W_in x + b_in +
// r (W_hn h + b_hn)), h' = n + z (h - n). `last` is W_hn h + b_hn.
#pragma once
#include "backend/formulas/formula.h"

namespace pydl {
namespace {

template <class V>
PYDL_FORMULA V rnn_step(V a, bool use_relu) {
  return use_relu ? max(a, V(0.0)) : tanh(a);
}
template <class V>
PYDL_FORMULA V rnn_step_gradient(V h, V d_h, bool use_relu) {
  return use_relu ? select(h > V(0.0), d_h, V(0.0)) : d_h * (V(1.0) - h * h);
}

template <class V>
struct LstmValues {
  V i, f, g, o, c, h;
};
template <class V>
PYDL_FORMULA LstmValues<V> lstm_step(V a_i, V a_f, V a_g, V a_o, V c_prev) {
  LstmValues<V> s;
  s.i = sigmoid(a_i);
  s.f = sigmoid(a_f);
  s.g = tanh(a_g);
  s.o = sigmoid(a_o);
  s.c = fma(s.f, c_prev, s.i * s.g);
  s.h = s.o * tanh(s.c);
  return s;
}

template <class V>
struct LstmGradients {
  V d_i, d_f, d_g, d_o, d_c_prev;
};
// d_c: what comes from the step after.
template <class V>
PYDL_FORMULA LstmGradients<V> lstm_step_gradient(V i, V f, V g, V o, V c, V c_prev, V d_h, V d_c_next) {
  const V one(1.0);
  const V t = tanh(c);
  const V d_c = fma(d_h * o, one - t * t, d_c_next);
  LstmGradients<V> d;
  d.d_i = d_c * g * i * (one - i);
  d.d_f = d_c * c_prev * f * (one - f);
  d.d_g = d_c * i * (one - g * g);
  d.d_o = d_h * t * o * (one - o);
  d.d_c_prev = d_c * f;
  return d;
}

template <class V>
struct GruValues {
  V r, z, n, h;
};
template <class V>
PYDL_FORMULA GruValues<V> gru_step(V a_r, V a_z, V a_n, V last, V h_prev) {
  GruValues<V> s;
  s.r = sigmoid(a_r);
  s.z = sigmoid(a_z);
  s.n = tanh(fma(s.r, last, a_n));
  s.h = fma(s.z, h_prev - s.n, s.n);
  return s;
}

template <class V>
struct GruGradients {
  V d_r, d_z, d_n, d_last, d_h_prev;  // d_h_prev: but for the product with w_hh
};
template <class V>
PYDL_FORMULA GruGradients<V> gru_step_gradient(V r, V z, V n, V last, V h_prev, V d_h) {
  const V one(1.0);
  GruGradients<V> d;
  d.d_n = d_h * (one - z) * (one - n * n);
  d.d_r = d.d_n * last * r * (one - r);
  d.d_z = d_h * (h_prev - n) * z * (one - z);
  d.d_last = d.d_n * r;
  d.d_h_prev = d_h * z;
  return d;
}

}  // namespace
}  // namespace pydl
