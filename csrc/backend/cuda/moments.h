// Moments of many outputs: what a lane of reduction.h or a thread of rows.h does. Eight elements at a time are gone
// over twice in registers, mean first, and joined to what came before.
#pragma once
#include "backend/cuda/launch.h"
#include "backend/cuda/scalar.h"
#include "backend/formulas/moments.h"

namespace pydl {
namespace {

constexpr int kMomentsAtOnce = 8;

// Elements first, first + step, ... below end; load(k) as double.
template <class F>
__device__ void add_moments(Moments& acc, int64_t first, int64_t end, int64_t step, F load) {
  int64_t k = first;
  while (k < end) {
    double x[kMomentsAtOnce], total = 0.0, squares = 0.0;
    int count = 0;
#pragma unroll
    for (int i = 0; i < kMomentsAtOnce; ++i, k += step) {
      x[i] = k < end ? load(k) : 0.0;
      total += x[i];
      count += k < end ? 1 : 0;
    }
    const double mean = total / count;
#pragma unroll
    for (int i = 0; i < kMomentsAtOnce; ++i) squares += i < count ? (x[i] - mean) * (x[i] - mean) : 0.0;
    acc.join({static_cast<double>(count), mean, squares});
  }
}
__device__ inline Moments no_moments() { return {0.0, 0.0, 0.0}; }
__device__ inline Moments joined(Moments a, const Moments& b) {
  a.join(b);
  return a;
}
// Never below 0, but NaN stays.
__device__ inline double squares_of(const Moments& m) { return m.m2 > 0.0 || m.m2 != m.m2 ? m.m2 : 0.0; }
__device__ inline double variance_of(const Moments& m) { return squares_of(m) / m.count; }

}  // namespace
}  // namespace pydl
