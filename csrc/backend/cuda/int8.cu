// Products with weights of 8 bits: each row of x is rounded to integers of up to 16 bits, as on the CPU, so that the
// sums are exact and the bits are the CPU's. A warp makes one output for up to kRowsAtOnce rows of x, reading its row
// of weights once. Bound by reading the weights where x has few rows.
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

constexpr int kRowsAtOnce = 8;
constexpr float kNothing = 1e-30f;  // rows below it count as 0: most / top would overflow

// The largest integer whose products with k weights of at most 127 stay within 32 bits.
int64_t largest_activation(int64_t k) {
  const int64_t most = k > 0 ? 2147483647 / (127 * k) : 32767;
  return most < 32767 ? most : 32767;
}

struct Largest {
  __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};

// A block rounds a row; unit: what an integer 1 stands for, NaN where an element is not finite.
__global__ void __launch_bounds__(kBlock)
    round_rows(int64_t rows, int64_t k, const float* x, float most, int16_t* q, float* unit) {
  __shared__ float slots[32];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float top = 0, bad = 0;
    for (int64_t i = threadIdx.x; i < k; i += kBlock) {
      const float v = x[row * k + i], size = fabsf(v);
      top = size > top ? size : top;
      bad = v - v == 0.0f ? bad : 1.0f;
    }
    top = block_reduce(top, 0.0f, Largest{}, slots);
    const bool finite = block_reduce(bad, 0.0f, Largest{}, slots) == 0.0f;
    const float inverse = finite && top > kNothing ? __fdiv_rn(most, top) : 0.0f;
    for (int64_t i = threadIdx.x; i < k; i += kBlock) {
      const float v = finite ? __fmul_rn(x[row * k + i], inverse) : 0.0f;
      q[row * k + i] = static_cast<int16_t>(static_cast<int32_t>(__fadd_rn(v, v < 0 ? -0.5f : 0.5f)));
    }
    if (threadIdx.x == 0) unit[row] = finite ? __fdiv_rn(top, most) : static_cast<float>(__builtin_nanf(""));
  }
}

__global__ void __launch_bounds__(kBlock) int8_products(Int8LinearArgs args, const int16_t* q, const float* unit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warps = int64_t{gridDim.x} * (kBlock / 32), k = args.k;
  const int64_t first_row = int64_t{blockIdx.y} * kRowsAtOnce;
  const int rows = static_cast<int>(args.rows - first_row < kRowsAtOnce ? args.rows - first_row : kRowsAtOnce);
  for (int64_t j = int64_t{blockIdx.x} * (kBlock / 32) + threadIdx.x / 32; j < args.n; j += warps) {
    int32_t sums[kRowsAtOnce] = {};
    for (int64_t i = lane; i < k; i += 32) {
      const int32_t w = args.weight[j * k + i];
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r) {
        if (r < rows) sums[r] += w * q[(first_row + r) * k + i];
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const int32_t sum = warp_reduce(sums[r], Sum{});
      if (r >= rows || lane != r) continue;
      const float y = __fmul_rn(static_cast<float>(sum), __fmul_rn(unit[first_row + r], args.scale[j]));
      args.y[(first_row + r) * args.n + j] = args.bias == nullptr ? y : __fadd_rn(y, args.bias[j]);
    }
  }
}

void int8_linear(const Int8LinearArgs& args, Exec& exec) noexcept {
  if (args.rows <= 0 || args.n <= 0) return;
  DeviceScratch<int16_t> q(exec, args.rows * args.k);
  DeviceScratch<float> unit(exec, args.rows);
  if (!q || !unit) return;
  const float most = static_cast<float>(largest_activation(args.k));
  const int64_t blocks = (args.n + kBlock / 32 - 1) / (kBlock / 32);
  PYDL_CUDA_LAUNCH(round_rows, dim3(static_cast<unsigned>(args.rows < 65536 ? args.rows : 65536)), dim3(kBlock), 0,
                   exec, args.rows, args.k, args.x, most, q.get(), unit.get());
  // Rows beyond what a grid holds are taken in turns.
  constexpr int64_t kRowsEach = int64_t{65535} * kRowsAtOnce;
  for (int64_t row = 0; row < args.rows; row += kRowsEach) {
    Int8LinearArgs part = args;
    part.rows = args.rows - row < kRowsEach ? args.rows - row : kRowsEach;
    part.y = args.y + row * args.n;
    const dim3 grid(static_cast<unsigned>(blocks < 65536 ? blocks : 65536),
                    static_cast<unsigned>((part.rows + kRowsAtOnce - 1) / kRowsAtOnce));
    PYDL_CUDA_LAUNCH(int8_products, grid, dim3(kBlock), 0, exec, part, q.get() + row * args.k, unit.get() + row);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(int8) { table.int8_linear = pydl::int8_linear; }
