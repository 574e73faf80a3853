// Mean and sum of squared deviations of a piece of memory; formulas/moments.h says how pieces join.
#pragma once
#include "backend/cpu/rows.h"
#include "backend/formulas/moments.h"

namespace pydl {
namespace {

constexpr int64_t kMomentPiece = 4096;  // elements that are gone over twice (mean, then deviations) while in cache

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
