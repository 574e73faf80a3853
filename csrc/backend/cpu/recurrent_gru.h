// The GRU cell over rows of units: gates r, z, n. The formulas are in formulas/gates.h.
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"
#include "backend/formulas/gates.h"

namespace pydl {
namespace {

template <class T>
struct GruCell {
  static constexpr int kGates = 3;
  static constexpr bool kHasCell = false, kSplitsLast = true;
  using V = Vec<T>;

  static void forward(const ForwardRow<T>& row, int64_t begin, int64_t end) {
    T *gr = row.gates, *gz = gr + row.hidden, *gn = gz + row.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const GruValues<V> s =
          gru_step(io.load(gr + u), io.load(gz + u), io.load(gn + u), io.load(row.cell + u), io.load(row.h_prev + u));
      if (row.keep_gates) {
        io.store(gr + u, s.r);
        io.store(gz + u, s.z);
        io.store(gn + u, s.n);
      }
      io.store(row.y + u, s.h);
      io.store(row.h_next + u, s.h);
    });
  }

  static void backward(const BackwardRow<T>& row, int64_t begin, int64_t end) {
    const T *gr = row.gates, *gz = gr + row.hidden, *gn = gz + row.hidden;
    T *dr = row.d_gates, *dz = dr + row.hidden, *dn = dz + row.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V h_prev = row.h_prev == nullptr ? V(T(0)) : io.load(row.h_prev + u);
      V d_h = io.load(row.d_h + u);
      if (row.d_y != nullptr) d_h = d_h + io.load(row.d_y + u);
      const GruGradients<V> d =
          gru_step_gradient(io.load(gr + u), io.load(gz + u), io.load(gn + u), io.load(row.cell + u), h_prev, d_h);
      io.store(dr + u, d.d_r);
      io.store(dz + u, d.d_z);
      io.store(dn + u, d.d_n);
      io.store(row.d_last + u, d.d_last);
      io.store(row.d_h + u, d.d_h_prev);
    });
  }
};

}  // namespace
}  // namespace pydl
