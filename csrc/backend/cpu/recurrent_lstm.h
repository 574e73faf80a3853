// The LSTM cell over rows of units: gates i, f, g, o. The formulas are in formulas/gates.h.
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"
#include "backend/formulas/gates.h"

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
      const LstmValues<V> s =
          lstm_step(io.load(gi + u), io.load(gf + u), io.load(gg + u), io.load(go + u), io.load(r.c + u));
      if (r.keep_gates) {
        io.store(gi + u, s.i);
        io.store(gf + u, s.f);
        io.store(gg + u, s.g);
        io.store(go + u, s.o);
      }
      if (r.cell != nullptr) io.store(r.cell + u, s.c);
      io.store(r.c + u, s.c);
      io.store(r.y + u, s.h);
      io.store(r.h_next + u, s.h);
    });
  }

  static void backward(const BackwardRow<T>& r, int64_t begin, int64_t end) {
    const T *gi = r.gates, *gf = gi + r.hidden, *gg = gf + r.hidden, *go = gg + r.hidden;
    T *di = r.d_gates, *df = di + r.hidden, *dg = df + r.hidden, *d_o = dg + r.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V c_prev = r.c_prev == nullptr ? V(T(0)) : io.load(r.c_prev + u);
      V d_h = io.load(r.d_h + u);
      if (r.d_y != nullptr) d_h = d_h + io.load(r.d_y + u);
      const LstmGradients<V> d = lstm_step_gradient(io.load(gi + u), io.load(gf + u), io.load(gg + u), io.load(go + u),
                                                    io.load(r.cell + u), c_prev, d_h, io.load(r.d_c + u));
      io.store(di + u, d.d_i);
      io.store(df + u, d.d_f);
      io.store(dg + u, d.d_g);
      io.store(d_o + u, d.d_o);
      io.store(r.d_c + u, d.d_c_prev);
      io.store(r.d_h + u, V(T(0)));
    });
  }
};

}  // namespace
}  // namespace pydl
