// Mean and sum of squared deviations of a piece, and how pieces join: Chan, Golub and LeVeque, "Updating formulae and a
// pairwise algorithm for computing sample variances" (1979), in float64. The backend's header, which defines
// PYDL_INLINE, comes first.
#pragma once

namespace pydl {
namespace {

struct Moments {
  double count, mean, m2;
  PYDL_INLINE void join(const Moments& b) {
    const double total = count + b.count, delta = b.mean - mean;
    if (b.count == 0.0) return;
    mean += delta * (b.count / total);
    m2 += b.m2 + delta * delta * (count * b.count / total);
    count = total;
  }
};

}  // namespace
}  // namespace pydl
