// Running extremes along an axis, with their places: a thread runs down each column or row.
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock) extreme_columns(CumulativeExtremeArgs args) {
  PYDL_CUDA_LOOP(row, args.outer * args.inner) {
    const int64_t first = row / args.inner * args.n * args.inner + row % args.inner;
    T best = static_cast<const T*>(args.src)[first];
    int64_t place = 0;
    for (int64_t k = 0; k < args.n; ++k) {
      const int64_t at = first + k * args.inner;
      const T x = static_cast<const T*>(args.src)[at];
      if ((args.max ? x >= best : x <= best) || x != x) {
        best = x;
        place = k;
      }
      static_cast<T*>(args.value)[at] = best;
      args.index[at] = place;
    }
  }
}

template <class T>
void cumulative_extreme(const CumulativeExtremeArgs& args, Exec& exec) {
  const int64_t rows = args.outer * args.inner;
  if (rows <= 0 || args.n <= 0) return;
  PYDL_CUDA_LAUNCH((extreme_columns<T>), grid_for(rows), kBlock, 0, exec, args);
}

void cumulative_extreme_kernel(const CumulativeExtremeArgs& args, Exec& exec) noexcept {
  switch (args.dtype) {
    case DType::float32:
      return cumulative_extreme<float>(args, exec);
    case DType::float64:
      return cumulative_extreme<double>(args, exec);
    default:
      return cumulative_extreme<int64_t>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(cumulative_extreme) { table.cumulative_extreme = pydl::cumulative_extreme_kernel; }
