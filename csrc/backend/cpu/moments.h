// Mean and sum of squared deviations of a piece of memory, and how pieces join: Chan, Golub and LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances" (1979), in float64.
#pragma once
#include "backend/cpu/rows.h"

namespace pydl {
namespace {

constexpr int64_t kMomentPiece = 4096;  // elements that are gone over twice (mean, then deviations) while in cache

struct Moments {
  double count, mean, m2;
  void join(const Moments& b) {
    const double total = count + b.count, delta = b.mean - mean;
    if (b.count == 0.0) return;
    mean += delta * (b.count / total);
    m2 += b.m2 + delta * delta * (count * b.count / total);
    count = total;
  }
};

template <class T>
Moments moments_of(const T* x, int64_t n) {
  using V = Vec<T>;
  const double count = static_cast<double>(n);
  const double mean = row_sum<T>(n, [&](int64_t, auto load) { return load(x); }) / count;
  const V center(mean);
  const double m2 = row_sum<T>(n, [&](int64_t, auto load) {
    const V d = load(x) - center;
    return d * d;
  });
  const double off = mean - static_cast<double>(static_cast<T>(mean));  // the center was rounded
  return {count, mean, m2 - count * off * off};
}

}  // namespace
}  // namespace pydl
