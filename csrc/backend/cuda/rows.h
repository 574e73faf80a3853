// Kernels that go over a row of (outer, n, inner) more than once: a team of threads shares a row, reduces over it, and
// every thread gets the result.
//
// Rows whose elements are adjacent (inner == 1) have a warp each up to 1024 elements, a block beyond that. Else 32
// neighbouring rows lie side by side in a block, with eight threads each, so that reads stay coalesced. The second pass
// over a row finds it in cache.
#pragma once
#include "backend/cuda/real.h"

namespace pydl {
namespace {

enum class TeamKind { warp, block, columns };

constexpr int64_t kWarpRow = 1024;  // elements that a warp still takes

// A block is 256 threads. All of them, and so all rows of a block, must come to each reduce().
template <TeamKind kind>
struct Team {
  static constexpr int kLanes = kind == TeamKind::warp ? 32 : kind == TeamKind::block ? kBlock : 8;
  static constexpr int kRows = kBlock / kLanes;
  int lane, slot;  // within the row; which of the block's rows
  int64_t row, n, inner;
  bool valid;

  __device__ Team(int64_t rows, int64_t n_, int64_t inner_) : n(n_), inner(inner_) {
    const int thread = static_cast<int>(threadIdx.x);
    lane = kind == TeamKind::columns ? thread / kRows : thread % kLanes;
    slot = kind == TeamKind::columns ? thread % kRows : thread / kLanes;
    row = static_cast<int64_t>(blockIdx.x) * kRows + slot;
    valid = row < rows;
  }
  // The row's first element, and how far apart its elements are.
  __device__ int64_t start() const {
    return kind == TeamKind::columns ? row / inner * n * inner + row % inner : row * n;
  }
  __device__ int64_t step() const { return kind == TeamKind::columns ? inner : 1; }
  // body(place of element k, k) for this thread's elements.
  template <class F>
  __device__ void each(F body) const {
    if (!valid) return;
    const int64_t first = start(), apart = step();
    for (int64_t k = lane; k < n; k += kLanes) body(first + k * apart, k);
  }
  // combine over the row's threads, in a fixed order.
  template <class A, class F>
  __device__ A reduce(A value, F combine) const {
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (kind == TeamKind::warp) {
      __shared__ A lanes_of_all[kBlock];
      A* const lanes = lanes_of_all + slot * kLanes;
      lanes[lane] = value;
      __syncwarp();
      for (int half = kLanes / 2; half > 0; half /= 2) {
        if (lane < half) lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        __syncwarp();
      }
      value = lanes[0];
      __syncwarp();
      return value;
    } else {
      __shared__ A shared[kBlock];
      constexpr int stride = kind == TeamKind::columns ? kRows : 1;
      shared[thread] = value;
      __syncthreads();
      for (int half = kLanes / 2; half > 0; half /= 2) {
        if (lane < half) shared[thread] = combine(shared[thread], shared[thread + half * stride]);
        __syncthreads();
      }
      value = shared[kind == TeamKind::columns ? slot : 0];
      __syncthreads();
      return value;
    }
  }
  template <class A>
  __device__ A sum(A value) const {
    return reduce(value, [](A a, A b) { return a + b; });
  }
};

// launch(kind as a constant, blocks): the team that fits rows of adjacent elements.
template <class F>
void with_adjacent_team(int64_t rows, int64_t n, F launch) {
  if (rows <= 0) return;
  if (n <= kWarpRow)
    launch(std::integral_constant<TeamKind, TeamKind::warp>(),
           static_cast<unsigned>((rows + Team<TeamKind::warp>::kRows - 1) / Team<TeamKind::warp>::kRows));
  else
    launch(std::integral_constant<TeamKind, TeamKind::block>(), static_cast<unsigned>(rows));
}
// The same of (outer, n, inner).
template <class F>
void with_team(int64_t outer, int64_t n, int64_t inner, F launch) {
  constexpr int in_block = Team<TeamKind::columns>::kRows;
  if (inner <= 1) return with_adjacent_team(outer * inner, n, launch);
  if (outer > 0)
    launch(std::integral_constant<TeamKind, TeamKind::columns>(),
           static_cast<unsigned>((outer * inner + in_block - 1) / in_block));
}

// The largest element of a row and the sum of exp(x - largest), in one pass: the sum is scaled when a larger one comes.
// NaN where there is one, and where there is +inf; of -inf alone the sum is 0.
template <class T>
struct Exponentials {
  T largest;
  double sum;
};

template <TeamKind kind, class T>
__device__ Exponentials<T> exponentials_of(const Team<kind>& team, const T* x) {
  const T lowest = -static_cast<T>(__builtin_inf());
  T largest = lowest;
  double sum = 0.0;  // a thread adds up hundreds of terms: float32 would lose their last bits one after the other
  team.each([&](int64_t at, int64_t) {
    const T v = x[at];
    if (v > largest || v != v) {
      sum = sum * static_cast<double>(real_exp(largest - v)) + static_cast<double>(v - v + T(1));
      largest = v;
    } else if (v > lowest) {
      sum += static_cast<double>(real_exp(v - largest));
    }
  });
  const Exponentials<T> mine{largest, sum};
  return team.reduce(mine, [](const Exponentials<T>& a, const Exponentials<T>& b) {
    const T m = real_max(a.largest, b.largest);
    if (m == -static_cast<T>(__builtin_inf())) return Exponentials<T>{m, 0.0};
    return Exponentials<T>{
        m, a.sum * static_cast<double>(real_exp(a.largest - m)) + b.sum * static_cast<double>(real_exp(b.largest - m))};
  });
}

}  // namespace
}  // namespace pydl
