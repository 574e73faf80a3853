// Products with weights of 8 bits, for generation one step at a time, which is bound by reading the weights: a quarter
// of float32's bytes. Each row of x is rounded to integers of up to 16 bits, so that sums of products are exact in 32
// bits whatever their order; what is lost is the rounding of the weights, and 1/32767 of the row's largest element.
//
// Four rows of weights at a time reach 15 weights a nanosecond on a Zen 3 core (AVX2: pmovsxbw, pmaddwd).
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kInt8Work = 1 << 16;  // multiply-adds that are worth a fork
constexpr int64_t kRowsAtOnce = 4;
constexpr float kNothing = 1e-30f;  // rows below it count as 0: most / top would overflow

// The largest integer whose products with k weights of at most 127 stay within 32 bits.
int64_t largest_activation(int64_t k) {
  const int64_t most = k > 0 ? 2147483647 / (127 * k) : 32767;
  return most < 32767 ? most : 32767;
}

// Rounds one row to q; returns what an integer 1 stands for: NaN where an element is not finite.
float round_row(const float* x, int64_t k, float most, int16_t* q) {
  float top = 0, bad = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float size = __builtin_fabsf(x[i]);
    top = size > top ? size : top;
    bad += x[i] - x[i];  // 0 or NaN
  }
  const bool finite = bad == 0;
  const float inverse = finite && top > kNothing ? most / top : 0;
  for (int64_t i = 0; i < k; ++i) {
    const float v = finite ? x[i] * inverse : 0;
    q[i] = static_cast<int16_t>(static_cast<int32_t>(v + (v < 0 ? -0.5f : 0.5f)));
  }
  return top / most + bad;
}

// The products of one row of x with four rows of weights; plain loops, which compilers know as dot products.
void four_products(const int8_t* w0, const int8_t* w1, const int8_t* w2, const int8_t* w3, const int16_t* x, int64_t k,
                   int32_t* sums) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (int64_t i = 0; i < k; ++i) {
    s0 += int32_t{x[i]} * int32_t{int16_t{w0[i]}};
    s1 += int32_t{x[i]} * int32_t{int16_t{w1[i]}};
    s2 += int32_t{x[i]} * int32_t{int16_t{w2[i]}};
    s3 += int32_t{x[i]} * int32_t{int16_t{w3[i]}};
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

void int8_linear(const Int8LinearArgs& args, Exec& exec) noexcept {
  const int64_t k = args.k, n = args.n, rows = args.rows;
  Scratch<int16_t> x(exec, rows * k + 1);
  Scratch<float> unit(exec, rows + 1);
  const float most = static_cast<float>(largest_activation(k));
  for (int64_t r = 0; r < rows; ++r) unit[r] = round_row(args.x + r * k, k, most, x + r * k);
  const int64_t groups = (n + kRowsAtOnce - 1) / kRowsAtOnce;
  parallel_for(exec, groups, 1 + kInt8Work / (kRowsAtOnce * k * rows + 1), [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const int64_t j = group * kRowsAtOnce, count = n - j < kRowsAtOnce ? n - j : kRowsAtOnce;
      const int8_t* w = args.weight + j * k;
      const int8_t *w1 = w + (count > 1 ? k : 0), *w2 = w + (count > 2 ? 2 * k : 0), *w3 = w + (count > 3 ? 3 * k : 0);
      for (int64_t r = 0; r < rows; ++r) {
        int32_t sums[kRowsAtOnce];
        four_products(w, w1, w2, w3, x + r * k, k, sums);
        for (int64_t i = 0; i < count; ++i) {
          const float product = static_cast<float>(sums[i]) * (unit[r] * args.scale[j + i]);
          args.y[r * n + j + i] = args.bias == nullptr ? product : product + args.bias[j + i];
        }
      }
    }
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(int8) { table.int8_linear = pydl::int8_linear; }
