// Separable resampling of channels-last images, a vector of channels at a time. Its gradient is the same kernel with
// the tables of the transposed map.
#include <type_traits>

#include "backend/cpu/unroll.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kResampleGrain = 8192;  // elements read that are worth a fork
constexpr int64_t kSingly = 2;            // channels that are not worth a vector

template <class T>
void resample_typed(const ResampleArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t channels = args.channels, width = args.in[2] * channels, plane = args.in[1] * width;
  const int64_t reads = args.first[2][args.out[2]] * (args.first[1][args.out[1]] / args.out[1] + 1);
  const int64_t rows = args.batch * args.out[0] * args.out[1];
  parallel_for(exec, rows, 1 + kResampleGrain / (reads * channels + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t d = row / args.out[1] % args.out[0], h = row % args.out[1];
      const T* image = static_cast<const T*>(args.x) + row / (args.out[0] * args.out[1]) * args.in[0] * plane;
      T* dst = static_cast<T*>(args.y) + row * args.out[2] * channels;
      const auto run = [&](auto zero, int64_t w, int64_t c, auto vectors, int lanes) PYDL_LAMBDA {
        using W = decltype(zero);  // a vector or one element
        constexpr int k = decltype(vectors)::value;
        W sum[k];
        for (int64_t ed = args.first[0][d]; ed < args.first[0][d + 1]; ++ed) {
          for (int64_t eh = args.first[1][h]; eh < args.first[1][h + 1]; ++eh) {
            const double outer = args.weight[0][ed] * args.weight[1][eh];
            const T* src = image + args.source[0][ed] * plane + args.source[1][eh] * width + c;
            for (int64_t ew = args.first[2][w]; ew < args.first[2][w + 1]; ++ew) {
              const W weight(static_cast<T>(outer * args.weight[2][ew]));
              const T* place = src + args.source[2][ew] * channels;
              for (int j = 0; j < k; ++j) {
                const T* p = place + j * W::size;
                sum[j] = fma(lanes == W::size ? W::load(p) : W::load_partial(p, lanes), weight, sum[j]);
              }
            }
          }
        }
        for (int j = 0; j < k; ++j) {
          T* p = dst + w * channels + c + j * W::size;
          lanes == W::size ? sum[j].store(p) : sum[j].store_partial(p, lanes);
        }
      };
      if (channels <= kSingly) {
        for (int64_t w = 0; w < args.out[2]; ++w)
          for (int64_t c = 0; c < channels; ++c) run(Scalar<T>(), w, c, std::integral_constant<int, 1>(), 1);
        continue;
      }
      for (int64_t w = 0; w < args.out[2]; ++w) {
        int64_t c = 0;
        for (; c + 4 * V::size <= channels; c += 4 * V::size) run(V(), w, c, std::integral_constant<int, 4>(), V::size);
        for (; c < channels; c += V::size)
          run(V(), w, c, std::integral_constant<int, 1>(),
              channels - c < V::size ? static_cast<int>(channels - c) : V::size);
      }
    }
  });
}

void resample_kernel(const ResampleArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? resample_typed<double>(args, exec) : resample_typed<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(interpolate) { table.resample = pydl::resample_kernel; }
