// Convolutions of many narrow groups (depthwise ones): a thread makes one output, a column of threads one element of
// the weight's gradient. Bound by memory: each source pixel is read once for each tap, mostly from cache.
#pragma once
#include "backend/cuda/conv_patches.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

// packed[k * k_step + group * group_step + o] = the weight of (tap, channel) k of a gather.
template <class T>
__global__ void pack_weights(Gather<T> g, int64_t k_step, int64_t group_step, T* packed) {
  const int64_t depth = g.depth(), per_group = depth * g.dst_channels;
  PYDL_CUDA_LOOP(i, g.groups * per_group) {
    const int64_t group = i / per_group, k = i % per_group / g.dst_channels, o = i % g.dst_channels;
    packed[k * k_step + group * group_step + o] =
        g.weight[group * g.w_group + weight_tap(g, k / g.src_channels) + k % g.src_channels * g.w_src + o * g.w_dst];
  }
}

// packed: (taps, source channels of a group, destination channels of all groups)
template <class T>
__global__ void direct_outputs(Gather<T> g, const T* packed) {
  using Sum = SumType<T>;
  const int64_t all = g.dst_pixel(), pixels = g.pixels();
  PYDL_CUDA_LOOP(i, pixels * all) {
    const int64_t o = i % all, group = o / g.dst_channels;
    const PatchRow row = patch_row(g, i / all, pixels);
    const T* src = g.src + row.src + group * g.src_channels;
    const T* w = packed + o;
    Sum sum = g.bias == nullptr ? Sum(0) : widened(g.bias[o]);
    for (int jd = 0; jd < g.axis[0].taps; ++jd) {
      for (int jh = 0; jh < g.axis[1].taps; ++jh) {
        for (int jw = 0; jw < g.axis[2].taps; ++jw, w += g.src_channels * all) {
          const int dd = static_cast<int>(jd * g.axis[0].tap_step), dh = static_cast<int>(jh * g.axis[1].tap_step);
          const int dw = static_cast<int>(jw * g.axis[2].tap_step);
          if (!inside(g, row.d + dd, row.h + dh, row.w + dw)) continue;
          const T* x = src + pixel_offset(g, dd, dh, dw);
          for (int c = 0; c < g.src_channels; ++c) sum += widened(x[c]) * widened(w[c * all]);
        }
      }
    }
    g.dst[row.dst + o] = narrowed<T>(g.relu ? max(Scalar<Sum>(sum), Scalar<Sum>(0)).raw : sum);
  }
}

constexpr int kDirectCols = 32, kDirectLanes = 8;

// parts (gridDim.z, taps * source channels of a group, destination channels of all groups): sums over gridDim.z
// stretches of the pixels. A lane takes every kDirectLanes-th pixel; lanes are added in order.
template <class T>
__global__ void __launch_bounds__(kDirectCols* kDirectLanes)
    direct_weight_parts(Gather<T> g, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel, int64_t each,
                        SumType<T>* parts) {
  __shared__ SumType<T> shared[kDirectLanes][kDirectCols];
  const int column = static_cast<int>(threadIdx.x), lane = static_cast<int>(threadIdx.y);
  const int64_t all = g.dst_pixel(), o = int64_t{blockIdx.x} * kDirectCols + column, pixels = g.pixels();
  const int64_t begin = each * blockIdx.z, end = begin + each < pixels ? begin + each : pixels;
  const int64_t image = g.axis[0].count * g.axis[1].count * g.axis[2].count;
  for (int64_t k = blockIdx.y; k < g.depth(); k += gridDim.y) {
    SumType<T> sum = 0;
    if (o < all && begin + lane < end) {
      const TapPlace tap(g, k);
      const int dd = static_cast<int>(tap.jd * g.axis[0].tap_step), dh = static_cast<int>(tap.jh * g.axis[1].tap_step);
      const int dw = static_cast<int>(tap.jw * g.axis[2].tap_step);
      const T* src = g.src + o / g.dst_channels * g.src_channels + tap.c + pixel_offset(g, dd, dh, dw);
      PixelPlace at(g, begin + lane);
      for (int64_t p = begin + lane; p < end; p += kDirectLanes, at.advance(g, kDirectLanes)) {
        const int sd = static_cast<int>(at.d * g.axis[0].step + g.axis[0].first);
        const int sh = static_cast<int>(at.h * g.axis[1].step + g.axis[1].first);
        const int sw = static_cast<int>(at.w * g.axis[2].step + g.axis[2].first);
        if (!inside(g, sd + dd, sh + dh, sw + dw)) continue;
        sum += widened(src[at.n * g.src_batch + pixel_offset(g, sd, sh, sw)]) *
               widened(d_y[at.n * d_y_batch + (p - at.n * image) * d_y_pixel + o]);
      }
    }
    shared[lane][column] = sum;
    __syncthreads();
    if (lane == 0 && o < all) {
      for (int i = 1; i < kDirectLanes; ++i) sum += shared[i][column];
      parts[(blockIdx.z * g.depth() + k) * all + o] = sum;
    }
    __syncthreads();
  }
}

// d_weight (O, C / groups, taps) from parts (splits, taps * C / groups, O) in order.
template <class T>
__global__ void direct_weight(Gather<T> g, int64_t splits, const SumType<T>* parts, T* d_weight) {
  const int64_t all = g.dst_pixel(), depth = g.depth(), taps = g.taps();
  PYDL_CUDA_LOOP(i, all * depth) {
    const int64_t o = i / depth, c = i % depth / taps, tap = i % taps;
    SumType<T> sum = 0;
    for (int64_t s = 0; s < splits; ++s) sum += parts[(s * depth + tap * g.src_channels + c) * all + o];
    d_weight[i] = narrowed<T>(sum);
  }
}

}  // namespace
}  // namespace pydl
