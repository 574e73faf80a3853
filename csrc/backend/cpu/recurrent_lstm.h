// The LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000). Gates i, f, g, o:
// c' = f c + i g, h' = o tanh(c').
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class T>
struct LstmCell {
  static constexpr int kGates = 4;
  static constexpr bool kHasCell = true, kSplitsLast = false;
  using V = Vec<T>;

  static void forward(const ForwardRow<T>& r, int64_t begin, int64_t end) {
    T *gi = r.gates, *gf = gi + r.hidden, *gg = gf + r.hidden, *go = gg + r.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V i = sigmoid(io.load(gi + u)), f = sigmoid(io.load(gf + u));
      const V g = tanh(io.load(gg + u)), o = sigmoid(io.load(go + u));
      const V c = fma(f, io.load(r.c + u), i * g);
      const V h = o * tanh(c);
      if (r.keep_gates) {
        io.store(gi + u, i);
        io.store(gf + u, f);
        io.store(gg + u, g);
        io.store(go + u, o);
      }
      if (r.cell != nullptr) io.store(r.cell + u, c);
      io.store(r.c + u, c);
      io.store(r.y + u, h);
      io.store(r.h_next + u, h);
    });
  }

  static void backward(const BackwardRow<T>& r, int64_t begin, int64_t end) {
    const T *gi = r.gates, *gf = gi + r.hidden, *gg = gf + r.hidden, *go = gg + r.hidden;
    T *di = r.d_gates, *df = di + r.hidden, *dg = df + r.hidden, *d_o = dg + r.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V one(T(1));
      const V i = io.load(gi + u), f = io.load(gf + u), g = io.load(gg + u), o = io.load(go + u);
      const V c_prev = r.c_prev == nullptr ? V(T(0)) : io.load(r.c_prev + u);
      const V t = tanh(io.load(r.cell + u));
      V d_h = io.load(r.d_h + u);
      if (r.d_y != nullptr) d_h = d_h + io.load(r.d_y + u);
      const V d_c = fma(d_h * o, one - t * t, io.load(r.d_c + u));
      io.store(di + u, d_c * g * i * (one - i));
      io.store(df + u, d_c * c_prev * f * (one - f));
      io.store(dg + u, d_c * i * (one - g * g));
      io.store(d_o + u, d_h * t * o * (one - o));
      io.store(r.d_c + u, d_c * f);
      io.store(r.d_h + u, V(T(0)));
    });
  }
};

}  // namespace
}  // namespace pydl
