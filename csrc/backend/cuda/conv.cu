// Convolution: forward, gradient of the input, gradient of the weight, as implicit products: patches are gathered on
// their way into a tile's shared memory (conv_patches.h). Channels-last, so neighbouring threads read neighbouring
// channels. Pointwise convolutions are products of the table's gemm; many narrow groups are summed directly
// (conv_direct.h). All others are cuDNN's where it is found and takes them (conv_library.h). The algorithm that the CPU
// was to take is of interest only there. 16-bit elements are added up in float.
//
// The weight's gradient sums over all pixels: they are split between blocks, and the parts are added in order.
#include "backend/cuda/conv_direct.h"
#include "backend/cuda/conv_library.h"
#include "backend/cuda/runtime.h"

namespace pydl {
namespace {

constexpr int64_t kNarrowGroup = 8;

int64_t tiles_along(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

bool narrow_groups(const ConvShape& s) {
  return s.groups > 1 && s.in_channels / s.groups <= kNarrowGroup && s.out_channels / s.groups <= kNarrowGroup;
}

// packed: (groups, taps * source channels, destination channels)
template <class T, int TM, int TN>
__global__ void __launch_bounds__(256) gather_tiles(Gather<T> g, const T* packed, int64_t tiles_n) {
  using Block = Tile<SumType<T>, TM, TN>;
  __shared__ typename Block::Shared shared;
  __shared__ PatchRow rows[Block::kRows];
  const int64_t pixels = g.pixels(), depth = g.depth();
  const int64_t i0 = blockIdx.x / tiles_n * Block::kRows, j0 = blockIdx.x % tiles_n * Block::kCols;
  for (int i = static_cast<int>(threadIdx.x); i < Block::kRows; i += 256) rows[i] = patch_row(g, i0 + i, pixels);
  __syncthreads();
  for (int64_t group = blockIdx.y; group < g.groups; group += gridDim.y) {
    auto a = PatchLoader<T>::template first<Block::kDepth>(g, rows, group);
    StridedLoader<T> b(packed + group * depth * g.dst_channels, j0, g.dst_channels, 1, g.dst_channels, depth);
    b.along_depth = false;
    Block block;
    block.clear();
    block.multiply(shared, a, b, 0, depth);
#pragma unroll
    for (int c = 0; c < TN; ++c) {
      const int64_t j = j0 + Block::col(c);
      if (j >= g.dst_channels) continue;
      const int64_t o = group * g.dst_channels + j;
      const SumType<T> bias = g.bias == nullptr ? SumType<T>(0) : widened(g.bias[o]);
#pragma unroll
      for (int r = 0; r < TM; ++r) {
        const int row = Block::row(r);
        if (i0 + row >= pixels) continue;
        const Scalar<SumType<T>> y = block.sum[r][c] + bias;
        g.dst[rows[row].dst + o] = narrowed<T>((g.relu ? max(y, Scalar<SumType<T>>(0)) : y).raw);
      }
    }
  }
}

template <class T, int TM, int TN>
void run_tiles(const Gather<T>& g, const T* packed, Exec& exec) {
  using Block = Tile<SumType<T>, TM, TN>;
  const int64_t tiles_n = tiles_along(g.dst_channels, Block::kCols);
  const dim3 grid(static_cast<unsigned>(tiles_along(g.pixels(), Block::kRows) * tiles_n),
                  static_cast<unsigned>(g.groups < 65535 ? g.groups : 65535));
  PYDL_CUDA_LAUNCH((gather_tiles<T, TM, TN>), grid, dim3(256), 0, exec, g, packed, tiles_n);
}

template <class T>
void run_gather(const Gather<T>& g, bool narrow, Exec& exec) {
  if (g.pixels() <= 0) return;
  const int64_t weights = g.groups * g.depth() * g.dst_channels;
  DeviceScratch<T> packed(exec, weights);
  if (!packed) return;
  const int64_t k_step = narrow ? g.dst_pixel() : g.dst_channels;
  const int64_t group_step = narrow ? g.dst_channels : g.depth() * g.dst_channels;
  if (weights > 0)
    PYDL_CUDA_LAUNCH((pack_weights<T>), dim3(grid_for(weights)), dim3(kBlock), 0, exec, g, k_step, group_step,
                     packed.get());
  if (narrow) {
    PYDL_CUDA_LAUNCH((direct_outputs<T>), dim3(grid_for(g.pixels() * g.dst_pixel())), dim3(kBlock), 0, exec, g,
                     packed.get());
    return;
  }
  const int64_t large = tiles_along(g.pixels(), 128) * tiles_along(g.dst_channels, 128) * g.groups;
  constexpr int kLarge = sizeof(SumType<T>) == 4 ? 8 : 4;
  if (g.dst_channels <= 16) return run_tiles<T, 8, 1>(g, packed.get(), exec);
  if (g.dst_channels > 64 && large >= 96) return run_tiles<T, kLarge, kLarge>(g, packed.get(), exec);
  run_tiles<T, 4, 4>(g, packed.get(), exec);
}

// parts (splits, groups, destination channels, taps * source channels)
template <class T, int TM, int TN>
__global__ void __launch_bounds__(256) weight_tiles(Gather<T> g, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel,
                                                    int64_t tiles_n, int64_t splits, SumType<T>* parts) {
  using Block = Tile<SumType<T>, TM, TN>;
  __shared__ typename Block::Shared shared;
  const int64_t pixels = g.pixels(), depth = g.depth(), each = split_length(pixels, splits);
  const int64_t i0 = blockIdx.x / tiles_n * Block::kRows, j0 = blockIdx.x % tiles_n * Block::kCols;
  const int64_t begin = each * blockIdx.z, end = begin + each < pixels ? begin + each : pixels;
  const int64_t image = g.axis[0].count * g.axis[1].count * g.axis[2].count;
  for (int64_t group = blockIdx.y; group < g.groups; group += gridDim.y) {
    auto a = ChannelLoader<T>::template first<Block::kRows>(d_y + group * g.dst_channels + i0, g.dst_channels - i0,
                                                            d_y_batch, d_y_pixel, image, begin, end);
    auto b = TurnedPatchLoader<T>::template first<Block::kCols>(g, group, j0, begin, end);
    Block block;
    block.clear();
    block.multiply(shared, a, b, begin, end);
#pragma unroll
    for (int r = 0; r < TM; ++r) {
      const int64_t i = i0 + Block::row(r);
      if (i >= g.dst_channels) continue;
#pragma unroll
      for (int c = 0; c < TN; ++c) {
        const int64_t j = j0 + Block::col(c);
        if (j < depth) parts[((blockIdx.z * g.groups + group) * g.dst_channels + i) * depth + j] = block.sum[r][c];
      }
    }
  }
}

// d_weight (O, C / groups, taps) from parts (splits, O, taps * C / groups) in order.
template <class T>
__global__ void weight_from_parts(Gather<T> g, int64_t splits, const SumType<T>* parts, T* d_weight) {
  const int64_t depth = g.depth(), taps = g.taps(), all = g.dst_pixel() * depth;
  PYDL_CUDA_LOOP(i, all) {
    const int64_t o = i / depth, c = i % depth / taps, tap = i % taps, at = o * depth + tap * g.src_channels + c;
    SumType<T> sum = 0;
    for (int64_t s = 0; s < splits; ++s) sum += parts[s * all + at];
    d_weight[i] = narrowed<T>(sum);
  }
}

template <class T, int TM, int TN>
void run_weight_tiles(const Gather<T>& g, const ConvBackwardWeightArgs& a, Exec& exec) {
  using Block = Tile<SumType<T>, TM, TN>;
  const int64_t tiles_n = tiles_along(g.depth(), Block::kCols);
  const int64_t tiles = tiles_along(g.dst_channels, Block::kRows) * tiles_n;
  const int64_t splits = choose_splits(tiles * g.groups, g.pixels()), count = g.dst_pixel() * g.depth();
  DeviceScratch<SumType<T>> parts(exec, splits * count);
  if (!parts) return;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(g.groups < 65535 ? g.groups : 65535),
                  static_cast<unsigned>(splits));
  PYDL_CUDA_LAUNCH((weight_tiles<T, TM, TN>), grid, dim3(256), 0, exec, g, static_cast<const T*>(a.d_y),
                   a.d_y_layout.batch, a.d_y_layout.pixel, tiles_n, splits, parts.get());
  PYDL_CUDA_LAUNCH((weight_from_parts<T>), dim3(grid_for(count)), dim3(kBlock), 0, exec, g, splits, parts.get(),
                   static_cast<T*>(a.d_weight));
}

template <class T>
void narrow_weight_gradient(const Gather<T>& g, const ConvBackwardWeightArgs& a, Exec& exec) {
  const int64_t blocks = tiles_along(g.dst_pixel(), kDirectCols), depth = g.depth() < 65535 ? g.depth() : 65535;
  int64_t splits = 1024 / (blocks * depth);
  if (splits > g.pixels() / 256) splits = g.pixels() / 256;
  splits = splits < 1 ? 1 : splits;
  const int64_t each = tiles_along(g.pixels(), splits);
  DeviceScratch<SumType<T>> parts(exec, splits * g.depth() * g.dst_pixel());
  if (!parts) return;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(depth), static_cast<unsigned>(splits));
  PYDL_CUDA_LAUNCH((direct_weight_parts<T>), grid, dim3(kDirectCols, kDirectLanes), 0, exec, g,
                   static_cast<const T*>(a.d_y), a.d_y_layout.batch, a.d_y_layout.pixel, each, parts.get());
  PYDL_CUDA_LAUNCH((direct_weight<T>), dim3(grid_for(g.depth() * g.dst_pixel())), dim3(kBlock), 0, exec, g, splits,
                   parts.get(), static_cast<T*>(a.d_weight));
}

template <class T>
void forward_typed(const ConvForwardArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  if (s.algorithm == ConvAlgorithm::pointwise)
    return pointwise_product<T>(s, a.x, a.x_layout, s.in_channels, a.weight, 1, s.in_channels / s.groups,
                                s.out_channels, a.y, s.out_channels, a.bias, a.relu, exec);
  const bool narrow = narrow_groups(s);
  if (!narrow && library_forward<T>(a, exec)) return;
  run_gather(forward_gather<T>(a), narrow, exec);
}

template <class T>
void backward_input_typed(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  if (s.algorithm == ConvAlgorithm::pointwise)
    return pointwise_product<T>(s, a.d_y, a.d_y_layout, s.out_channels, a.weight, s.in_channels / s.groups, 1,
                                s.in_channels, a.d_x, s.in_channels, a.bias, false, exec);
  const bool narrow = narrow_groups(s);
  if (!narrow && library_backward_input<T>(a, exec)) return;
  each_backward_gather<T>(a, [&](const Gather<T>& g) { run_gather(g, narrow, exec); });
}

template <class T>
void backward_weight_typed(const ConvBackwardWeightArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const int64_t pixels = pixels_of(s.in);
  // One product for all images, or one for each, added up in d_weight: 16 bits are too few for that.
  const bool one = joined(a.x_layout, pixels, s.batch) && joined(a.d_y_layout, pixels, s.batch);
  if (s.algorithm == ConvAlgorithm::pointwise && (one || sizeof(T) > 2)) return pointwise_weight<T>(a, exec);
  const Gather<T> g = forward_gather<T>({s, a.x, nullptr, nullptr, nullptr, a.x_layout, false});
  if (g.dst_pixel() * g.depth() <= 0) return;
  if (narrow_groups(s)) return narrow_weight_gradient(g, a, exec);
  if (library_backward_weight<T>(a, exec)) return;
  constexpr int kLarge = sizeof(SumType<T>) == 4 ? 8 : 4;
  if (g.dst_channels > 64 && g.depth() > 64) return run_weight_tiles<T, kLarge, kLarge>(g, a, exec);
  run_weight_tiles<T, 4, 4>(g, a, exec);
}

// f(T{}) with the type of an element.
template <class F>
void dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float64:
      return f(double{});
    case DType::float16:
      return f(Half{});
    case DType::bfloat16:
      return f(BFloat16{});
    default:
      return f(float{});
  }
}

void conv_forward(const ConvForwardArgs& args, Exec& exec) noexcept {
  dispatch(args.shape.dtype, [&](auto zero) { forward_typed<decltype(zero)>(args, exec); });
}
void conv_backward_input(const ConvBackwardInputArgs& args, Exec& exec) noexcept {
  dispatch(args.shape.dtype, [&](auto zero) { backward_input_typed<decltype(zero)>(args, exec); });
}
void conv_backward_weight(const ConvBackwardWeightArgs& args, Exec& exec) noexcept {
  dispatch(args.shape.dtype, [&](auto zero) { backward_weight_typed<decltype(zero)>(args, exec); });
}

}  // namespace

namespace cuda {

const char* convolution_library() noexcept { return Dnn::instance().name(); }
void allow_tf32_convolutions(int on) noexcept { Dnn::instance().allow_tf32(on != 0); }

}  // namespace cuda
}  // namespace pydl

PYDL_FILL(conv) {
  table.conv_forward = pydl::conv_forward;
  table.conv_backward_input = pydl::conv_backward_input;
  table.conv_backward_weight = pydl::conv_backward_weight;
}
