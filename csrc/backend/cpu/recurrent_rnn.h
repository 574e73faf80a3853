// The Elman cell: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it.
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

template <class T>
struct RnnCell {
  static constexpr int kGates = 1;
  static constexpr bool kHasCell = false, kSplitsLast = false;
  using V = Vec<T>;

  static void forward(const ForwardRow<T>& r, int64_t begin, int64_t end) {
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V a = io.load(r.gates + u);
      const V h = r.relu ? max(a, V(T(0))) : tanh(a);
      if (r.keep_gates) io.store(r.gates + u, h);
      io.store(r.y + u, h);
      io.store(r.h_next + u, h);
    });
  }

  static void backward(const BackwardRow<T>& r, int64_t begin, int64_t end) {
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V h = io.load(r.y + u);
      V d_h = io.load(r.d_h + u);
      if (r.d_y != nullptr) d_h = d_h + io.load(r.d_y + u);
      const V d_a = r.relu ? select(h > V(T(0)), d_h, V(T(0))) : d_h * (V(T(1)) - h * h);
      io.store(r.d_gates + u, d_a);
      io.store(r.d_h + u, V(T(0)));
    });
  }
};

}  // namespace
}  // namespace pydl
