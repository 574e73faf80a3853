// Separable resampling of channels-last images, a thread for each element that is written. Its gradient is the same
// kernel with the tables of the transposed map. Bound by memory; neighbours read the same places, from cache.
#include "backend/cuda/real.h"
#include "backend/cuda/tables.h"

namespace pydl {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock) resample_images(ResampleArgs args, int64_t count) {
  const T* x = static_cast<const T*>(args.x);
  PYDL_CUDA_LOOP(i, count) {
    const int64_t c = i % args.channels, pixel = i / args.channels;
    const int64_t w = pixel % args.out[2], row = pixel / args.out[2];
    const int64_t h = row % args.out[1], slice = row / args.out[1];
    const int64_t d = slice % args.out[0], n = slice / args.out[0];
    T sum = T(0);
    for (int64_t ed = args.first[0][d]; ed < args.first[0][d + 1]; ++ed) {
      for (int64_t eh = args.first[1][h]; eh < args.first[1][h + 1]; ++eh) {
        const double outer = args.weight[0][ed] * args.weight[1][eh];
        const T* src =
            x + ((n * args.in[0] + args.source[0][ed]) * args.in[1] + args.source[1][eh]) * args.in[2] * args.channels;
        for (int64_t ew = args.first[2][w]; ew < args.first[2][w + 1]; ++ew)
          sum = real_fma(src[args.source[2][ew] * args.channels + c], static_cast<T>(outer * args.weight[2][ew]), sum);
      }
    }
    static_cast<T*>(args.y)[i] = sum;
  }
}

void resample_kernel(const ResampleArgs& host, Exec& exec) noexcept {
  ResampleArgs args = host;
  const int64_t count = args.batch * args.channels * args.out[0] * args.out[1] * args.out[2];
  if (count <= 0) return;
  Tables tables(exec);
  for (int a = 0; a < 3; ++a) {
    const int64_t entries = host.first[a][args.out[a]];
    tables.add(&args.first[a], args.out[a] + 1);
    tables.add(&args.source[a], entries);
    tables.add(&args.weight[a], entries);
  }
  if (!tables.upload()) return;
  dispatch_floating(args.dtype, [&](auto zero) {
    PYDL_CUDA_LAUNCH((resample_images<decltype(zero)>), grid_for(count), kBlock, 0, exec, args, count);
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(interpolate) { table.resample = pydl::resample_kernel; }
