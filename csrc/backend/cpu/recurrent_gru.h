// The GRU cell (Cho et al. 2014, in the form whose reset gate acts after the recurrent product). Gates r, z, n:
// n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = n + z (h - n).
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"

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
      const V r = sigmoid(io.load(gr + u)), z = sigmoid(io.load(gz + u));
      const V n = tanh(fma(r, io.load(row.cell + u), io.load(gn + u)));
      const V h = fma(z, io.load(row.h_prev + u) - n, n);
      if (row.keep_gates) {
        io.store(gr + u, r);
        io.store(gz + u, z);
        io.store(gn + u, n);
      }
      io.store(row.y + u, h);
      io.store(row.h_next + u, h);
    });
  }

  static void backward(const BackwardRow<T>& row, int64_t begin, int64_t end) {
    const T *gr = row.gates, *gz = gr + row.hidden, *gn = gz + row.hidden;
    T *dr = row.d_gates, *dz = dr + row.hidden, *dn = dz + row.hidden;
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V one(T(1));
      const V r = io.load(gr + u), z = io.load(gz + u), n = io.load(gn + u);
      const V h_prev = row.h_prev == nullptr ? V(T(0)) : io.load(row.h_prev + u);
      V d_h = io.load(row.d_h + u);
      if (row.d_y != nullptr) d_h = d_h + io.load(row.d_y + u);
      const V d_n = d_h * (one - z) * (one - n * n);
      io.store(dr + u, d_n * io.load(row.cell + u) * r * (one - r));
      io.store(dz + u, d_h * (h_prev - n) * z * (one - z));
      io.store(dn + u, d_n);
      io.store(row.d_last + u, d_n * r);
      io.store(row.d_h + u, d_h * z);
    });
  }
};

}  // namespace
}  // namespace pydl
