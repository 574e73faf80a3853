// The Elman cell over rows of units. The formulas are in formulas/gates.h.
#pragma once
#include "backend/cpu/recurrent_backward.h"
#include "backend/cpu/recurrent_forward.h"
#include "backend/cpu/vec_math.h"
#include "backend/formulas/gates.h"

namespace pydl {
namespace {

template <class T>
struct RnnCell {
  static constexpr int kGates = 1;
  static constexpr bool kHasCell = false, kSplitsLast = false;
  using V = Vec<T>;

  static void forward(const ForwardRow<T>& r, int64_t begin, int64_t end) {
    for_units<T>(begin, end, [&](auto io, int64_t u) {
      const V h = rnn_step(io.load(r.gates + u), r.relu);
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
      io.store(r.d_gates + u, rnn_step_gradient(h, d_h, r.relu));
      io.store(r.d_h + u, V(T(0)));
    });
  }
};

}  // namespace
}  // namespace pydl
