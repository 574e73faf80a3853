// Moving elements: copies between any two layouts and types, filling, adding up. Bound by memory.
//
// A copy takes one of three ways. Both contiguous and of one type: the copy engine. Contiguous along different axes (a
// transpose): tiles of 32 by 32 turned in shared memory, so that both sides are read and written in whole lines.
// Anything else: element by element, each thread finding its places.
#include "backend/cuda/convert.h"
#include "backend/cuda/elementwise_loop.h"

namespace pydl {
namespace {

template <class From, class To>
__device__ inline To converted(From value) {
  if constexpr (std::is_same<From, To>::value)
    return value;
  else
    return from_float<To>(to_float(value));
}

// From and To: of one width, which moves bits; or two of float, Half and BFloat16.
template <class From, class To>
__global__ void __launch_bounds__(kBlock) copy_kernel(To* dst, const From* src, const ElementwiseArgs walk, bool flat) {
  PYDL_CUDA_LOOP(i, walk.count) {
    int64_t at[2] = {i, i};
    if (!flat) places_of(walk, i, at);
    dst[at[0]] = converted<From, To>(src[at[1]]);
  }
}

template <class To>
__global__ void __launch_bounds__(kBlock)
    convert_kernel(To* dst, const void* src, DType src_dtype, const ElementwiseArgs walk, bool flat) {
  PYDL_CUDA_LOOP(i, walk.count) {
    int64_t at[2] = {i, i};
    if (!flat) places_of(walk, i, at);
    dst[at[0]] = narrow<To>(load_wide(src_dtype, src, at[1]));
  }
}

// walk without the axes a, along which dst is contiguous, and b, along which src is. Blocks of 32 by 8 threads.
constexpr int kTile = 32, kTileRows = 8;
template <class T>
__global__ void transpose_kernel(T* dst, const T* src, const ElementwiseArgs walk, int64_t size_a, int64_t size_b,
                                 int64_t dst_row, int64_t src_row, int64_t tiles_a, int64_t tiles_b, int64_t tiles) {
  __shared__ T tile[kTile][kTile + 1];
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t b0 = t % tiles_b * kTile, a0 = t / tiles_b % tiles_a * kTile;
    int64_t at[2];
    places_of(walk, t / tiles_b / tiles_a, at);
    const int x = static_cast<int>(threadIdx.x);
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows)
      if (a0 + y < size_a && b0 + x < size_b) tile[y][x] = src[at[1] + (a0 + y) * src_row + b0 + x];
    __syncthreads();
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows)
      if (b0 + y < size_b && a0 + x < size_a) dst[at[0] + (b0 + y) * dst_row + a0 + x] = tile[x][y];
    __syncthreads();
  }
}

void transpose(const CopyArgs& args, int axis_a, int axis_b, Exec& exec) {
  ElementwiseArgs walk;
  walk.ndim = 0;
  walk.count = 1;
  for (int d = 0; d < args.ndim; ++d) {
    if (d == axis_a || d == axis_b) continue;
    walk.shape[walk.ndim] = args.shape[d];
    walk.stride[0][walk.ndim] = args.dst_stride[d];
    walk.stride[1][walk.ndim++] = args.src_stride[d];
    walk.count *= args.shape[d];
  }
  if (walk.ndim == 0) {
    walk.shape[0] = 1;
    walk.stride[0][0] = walk.stride[1][0] = 0;
    walk.ndim = 1;
  }
  const int64_t size_a = args.shape[axis_a], size_b = args.shape[axis_b];
  const int64_t tiles_a = (size_a + kTile - 1) / kTile, tiles_b = (size_b + kTile - 1) / kTile;
  const int64_t tiles = walk.count * tiles_a * tiles_b;
  dispatch_width(item_size(args.src_dtype), [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((transpose_kernel<T>), grid_for(tiles, 1), dim3(kTile, kTileRows), 0, exec,
                     reinterpret_cast<T*>(args.dst), reinterpret_cast<const T*>(args.src), walk, size_a, size_b,
                     args.dst_stride[axis_b], args.src_stride[axis_a], tiles_a, tiles_b, tiles);
  });
}

bool is_near_float(DType t) { return t == DType::float32 || t == DType::float16 || t == DType::bfloat16; }

void copy_entry(const CopyArgs& args, Exec& exec) noexcept {
  if (args.count <= 0) return;
  const size_t src_item = item_size(args.src_dtype), dst_item = item_size(args.dst_dtype);
  const bool moves = args.src_dtype == args.dst_dtype || (!is_float(args.src_dtype) && !is_float(args.dst_dtype) &&
                                                          src_item == dst_item && args.dst_dtype != DType::boolean);
  ElementwiseArgs walk;
  walk.ndim = args.ndim;
  walk.count = args.count;
  int axis_a = -1, axis_b = -1;
  for (int d = args.ndim - 1; d >= 0; --d) {
    walk.shape[d] = args.shape[d];
    walk.stride[0][d] = args.dst_stride[d];
    walk.stride[1][d] = args.src_stride[d];
    if (args.shape[d] == 1) continue;
    if (args.dst_stride[d] == 1) axis_a = d;
    if (args.src_stride[d] == 1) axis_b = d;
  }
  const bool flat = is_flat(walk, 2);
  if (moves && flat) {
    cuda::keep_error(cudaMemcpyAsync(args.dst, args.src, static_cast<size_t>(args.count) * dst_item,
                                     cudaMemcpyDeviceToDevice, stream_of(exec)),
                     "copy");
    return;
  }
  if (moves && axis_a >= 0 && axis_b >= 0 && axis_a != axis_b) return transpose(args, axis_a, axis_b, exec);
  const unsigned grid = grid_for(args.count);
  if (moves) {
    dispatch_width(src_item, [&](auto zero) {
      using T = decltype(zero);
      PYDL_CUDA_LAUNCH((copy_kernel<T, T>), grid, kBlock, 0, exec, reinterpret_cast<T*>(args.dst),
                       reinterpret_cast<const T*>(args.src), walk, flat);
    });
    return;
  }
  if (is_near_float(args.src_dtype) && is_near_float(args.dst_dtype)) {
    const auto near = [](DType dtype, auto f) {
      dtype == DType::float32 ? f(float{}) : dtype == DType::float16 ? f(Half{}) : f(BFloat16{});
    };
    near(args.src_dtype, [&](auto from) {
      near(args.dst_dtype, [&](auto to) {
        using From = decltype(from);
        using To = decltype(to);
        PYDL_CUDA_LAUNCH((copy_kernel<From, To>), grid, kBlock, 0, exec, reinterpret_cast<To*>(args.dst),
                         reinterpret_cast<const From*>(args.src), walk, flat);
      });
    });
    return;
  }
  dispatch_any(args.dst_dtype, [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((convert_kernel<T>), grid, kBlock, 0, exec, reinterpret_cast<T*>(args.dst),
                     static_cast<const void*>(args.src), args.src_dtype, walk, flat);
  });
}

template <class T>
__global__ void __launch_bounds__(kBlock) fill_kernel(T* dst, int64_t count, Wide value) {
  const T made = narrow<T>(value);
  PYDL_CUDA_LOOP(i, count) dst[i] = made;
}

void fill_entry(const FillArgs& args, Exec& exec) noexcept {
  if (args.count <= 0) return;
  const Wide value{is_float(args.dtype) ? Wide::real : Wide::whole, args.value, args.int_value};
  dispatch_any(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((fill_kernel<T>), grid_for(args.count), kBlock, 0, exec, static_cast<T*>(args.dst), args.count,
                     value);
  });
}

template <class T>
__global__ void __launch_bounds__(kBlock) accumulate_kernel(T* dst, const T* src, int64_t count, double scale) {
  PYDL_CUDA_LOOP(i, count) {
    if constexpr (std::is_same<T, Half>::value || std::is_same<T, BFloat16>::value)
      dst[i] = from_float<T>(to_float(dst[i]) + static_cast<float>(scale) * to_float(src[i]));
    else if constexpr (std::is_floating_point<T>::value)
      dst[i] = dst[i] + (scale == 1 ? src[i] : static_cast<T>(scale) * src[i]);
    else
      dst[i] = (Scalar<T>(dst[i]) + Scalar<T>(src[i])).raw;
  }
}

void accumulate_entry(const AccumulateArgs& args, Exec& exec) noexcept {
  if (args.count <= 0) return;
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((accumulate_kernel<T>), grid_for(args.count), kBlock, 0, exec, static_cast<T*>(args.dst),
                     static_cast<const T*>(args.src), args.count, args.scale);
  };
  if (args.dtype == DType::float16)
    run(Half{});
  else if (args.dtype == DType::bfloat16)
    run(BFloat16{});
  else if (is_float(args.dtype))
    dispatch_floating(args.dtype, run);
  else
    dispatch_integer(args.dtype, run);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(copy) {
  table.copy = pydl::copy_entry;
  table.fill = pydl::fill_entry;
  table.accumulate = pydl::accumulate_entry;
}
