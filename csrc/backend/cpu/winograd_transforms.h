// The transforms of Winograd's minimal filtering F(m x m, r x r) with tiles of 6x6 inputs: m outputs and r taps along
// an axis, m + r = 7, r of 3 to 5, by 36 multiplications instead of m * m * r * r (Lavin & Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2016). All have the same interpolation points and with them the same transform
// of the inputs.
//
// The points are 0, +-5/8, +-3/2 and infinity instead of the usual 0, +-1, +-2: their products are exact in float32 and
// the error is four times smaller. For standard normal data and 64 channels the largest error is 7e-6 of the result's
// standard deviation, that of a plain sum 4e-6 to 5e-6. (With 2 taps it would be 1.1e-5, and gain little.)
#pragma once
#include "backend/cpu/unroll.h"

namespace pydl {
namespace {

constexpr int kTileIn = 6, kPlanes = kTileIn * kTileIn;

// The points' powers, and what follows from them.
constexpr float kA = 5.0f / 8, kB = 3.0f / 2;
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB, kA4 = kA2 * kA2, kB4 = kB2 * kB2;
constexpr float kA2B2 = kA2 * kB2, kSum2 = kA2 + kB2;

using FloatVec = Vec<float>;

// Along one axis, 6 inputs to 6: the rows are the coefficients of the products over all points but one.
struct TransformInput {
  PYDL_INLINE void operator()(const FloatVec (&d)[6], FloatVec (&r)[6]) const {
    const FloatVec even_a = fma(FloatVec(-kB2), d[2], d[4]), even_b = fma(FloatVec(-kA2), d[2], d[4]);
    const FloatVec odd_a = FloatVec(kA) * fma(FloatVec(-kB2), d[1], d[3]);
    const FloatVec odd_b = FloatVec(kB) * fma(FloatVec(-kA2), d[1], d[3]);
    r[0] = fma(FloatVec(kA2B2), d[0], fma(FloatVec(-kSum2), d[2], d[4]));
    r[1] = even_a + odd_a;
    r[2] = even_a - odd_a;
    r[3] = even_b + odd_b;
    r[4] = even_b - odd_b;
    r[5] = fma(FloatVec(kA2B2), d[1], fma(FloatVec(-kSum2), d[3], d[5]));
  }
};

// 6 products to `n` outputs: the sum of the products times their points' powers.
template <int n>
struct TransformOutput {
  PYDL_INLINE void operator()(const FloatVec (&p)[6], FloatVec (&y)[n]) const {
    const FloatVec sum_a = p[1] + p[2], diff_a = p[1] - p[2], sum_b = p[3] + p[4], diff_b = p[3] - p[4];
    const auto last = [&](int k, FloatVec v) PYDL_LAMBDA { return k == n - 1 ? v + p[5] : v; };
    y[0] = p[0] + (sum_a + sum_b);
    if constexpr (n > 1) y[1] = last(1, fma(FloatVec(kA), diff_a, FloatVec(kB) * diff_b));
    if constexpr (n > 2) y[2] = last(2, fma(FloatVec(kA2), sum_a, FloatVec(kB2) * sum_b));
    if constexpr (n > 3) y[3] = last(3, fma(FloatVec(kA3), diff_a, FloatVec(kB3) * diff_b));
    if constexpr (n > 4) y[4] = last(4, fma(FloatVec(kA4), sum_a, FloatVec(kB4) * sum_b));
  }
};

// The transpose of it: `n` gradients of outputs to 6.
template <int n>
struct TransformGradient {
  PYDL_INLINE void operator()(const FloatVec (&g)[n], FloatVec (&w)[6]) const {
    FloatVec even_a = g[0], even_b = g[0], odd_a = FloatVec(kA) * g[1], odd_b = FloatVec(kB) * g[1];
    if constexpr (n > 2) even_a = fma(FloatVec(kA2), g[2], even_a), even_b = fma(FloatVec(kB2), g[2], even_b);
    if constexpr (n > 3) odd_a = fma(FloatVec(kA3), g[3], odd_a), odd_b = fma(FloatVec(kB3), g[3], odd_b);
    if constexpr (n > 4) even_a = fma(FloatVec(kA4), g[4], even_a), even_b = fma(FloatVec(kB4), g[4], even_b);
    w[0] = g[0];
    w[1] = even_a + odd_a;
    w[2] = even_a - odd_a;
    w[3] = even_b + odd_b;
    w[4] = even_b - odd_b;
    w[5] = g[n - 1];
  }
};

// One over the product of a point's distances from the others.
constexpr float kScale0 = 1 / kA2B2, kScaleA = 1 / (2 * kA2 * (kA2 - kB2)), kScaleB = 1 / (2 * kB2 * (kB2 - kA2));
PYDL_INLINE void scale_points(FloatVec (&w)[6]) {
  w[0] = FloatVec(kScale0) * w[0];
  w[1] = FloatVec(kScaleA) * w[1];
  w[2] = FloatVec(kScaleA) * w[2];
  w[3] = FloatVec(kScaleB) * w[3];
  w[4] = FloatVec(kScaleB) * w[4];
}

// `r` weights to 6: the polynomial's value at each point, scaled.
template <int r>
struct TransformWeight {
  PYDL_INLINE void operator()(const FloatVec (&g)[r], FloatVec (&u)[6]) const {
    TransformGradient<r>{}(g, u);
    scale_points(u);
  }
};

// The transpose of it: 6 sums to the gradients of `r` weights.
template <int r>
struct TransformWeightGradient {
  PYDL_INLINE void operator()(const FloatVec (&u)[6], FloatVec (&g)[r]) const {
    FloatVec scaled[6];
    repeat<6>([&](auto i) PYDL_LAMBDA { scaled[i] = u[i]; });
    scale_points(scaled);
    TransformOutput<r>{}(scaled, g);
  }
};

// Whether a transform stays in registers if it is unrolled: there are 32 of them.
#if defined(__AVX512F__)
constexpr bool kUnrolls = true;
#else
constexpr bool kUnrolls = false;
#endif

// `from` x `from` values load(i, j) through the same transform along both axes, each result to store(i, j, value). As
// loops it is a sixth of the code.
template <int from, int to, bool unrolled, class Load, class Transform, class Store>
PYDL_INLINE void transform_square(Load load, Transform transform, Store store) {
  Unset<FloatVec[from], to> half;
  const auto column = [&](auto j) PYDL_LAMBDA {
    Unset<FloatVec, from> in;
    Unset<FloatVec, to> out;
    repeat<from>([&](auto i) PYDL_LAMBDA { in[i] = load(i, j); });
    transform(in.at, out.at);
    repeat<to>([&](auto i) PYDL_LAMBDA { half[i][j] = out[i]; });
  };
  const auto row = [&](auto i) PYDL_LAMBDA {
    Unset<FloatVec, to> out;
    transform(half[i], out.at);
    repeat<to>([&](auto j) PYDL_LAMBDA { store(i, j, out[j]); });
  };
  if constexpr (unrolled) {
    repeat<from>(column);
    repeat<to>(row);
  } else {
#pragma GCC unroll 1
    for (int j = 0; j < from; ++j) column(j);
#pragma GCC unroll 1
    for (int i = 0; i < to; ++i) row(i);
  }
}

// body(std::integral_constant<int, taps>) of 3 to 5 taps.
template <class F>
PYDL_INLINE void with_taps(int64_t taps, F body) {
  if (taps == 3) return body(std::integral_constant<int, 3>());
  if (taps == 4) return body(std::integral_constant<int, 4>());
  body(std::integral_constant<int, 5>());
}

}  // namespace
}  // namespace pydl
