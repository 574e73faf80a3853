// Convolution to few channels, or to many more pixels than it comes from, as the other way round: each source pixel's
// products with all taps are one row of a matrix product, whose columns (tap, channel) fill vectors that the channels
// alone do not; they are then added to the destinations they belong to. Serves the gradient of an input with few
// channels, the transposed convolution to few, and forward at stride 1.
#pragma once
#include "backend/cpu/conv_gather.h"

namespace pydl {
namespace {

constexpr int64_t kNarrowWork = 256 * 1024;  // multiply-adds that are worth a task of their own
constexpr int64_t kFewPixels = 48;           // that are multiplied together, of several images

// Along one axis, source s meets destination s * stride + j * tap_step + first at tap j.
struct ScatterAxis {
  int64_t src_size, dst_size, taps, stride, tap_step, first;
  int64_t dst(int64_t s, int64_t j) const { return s * stride + j * tap_step + first; }
};

template <class T>
struct Scatter {
  ScatterAxis axis[3];
  int64_t batch, groups, src_channels, dst_channels;  // channels of one group
  const T* src;
  int64_t src_batch, src_pixel;
  T* dst;  // (batch, dst_size..., groups * dst_channels) contiguous
  int64_t dst_pixel;
  const T* weight;
  int64_t w_group, w_src, w_dst;
  const T* bias;
  bool relu;
};

template <class T>
Scatter<T> narrow_forward(const ConvForwardArgs& a) {
  const ConvShape& s = a.shape;
  Scatter<T> g;
  for (int i = 0; i < 3; ++i) g.axis[i] = {s.in[i], s.out[i], s.kernel[i], 1, -s.dilation[i], s.padding[i]};
  g.batch = s.batch;
  g.groups = s.groups;
  g.src_channels = s.in_channels / s.groups;
  g.dst_channels = s.out_channels / s.groups;
  g.src = static_cast<const T*>(a.x);
  g.src_batch = a.x_layout.batch;
  g.src_pixel = a.x_layout.pixel;
  g.dst = static_cast<T*>(a.y);
  g.dst_pixel = s.out_channels;
  g.weight = static_cast<const T*>(a.weight);
  g.w_src = s.kernel[0] * s.kernel[1] * s.kernel[2];
  g.w_dst = g.w_src * g.src_channels;
  g.w_group = g.w_dst * g.dst_channels;
  g.bias = static_cast<const T*>(a.bias);
  g.relu = a.relu;
  return g;
}

template <class T>
Scatter<T> narrow_backward(const ConvBackwardInputArgs& a) {
  const ConvShape& s = a.shape;
  Scatter<T> g;
  for (int i = 0; i < 3; ++i) {
    g.axis[i] = {s.out[i], s.in[i], s.kernel[i], s.stride[i], s.dilation[i], -s.padding[i]};
  }
  g.batch = s.batch;
  g.groups = s.groups;
  g.src_channels = s.out_channels / s.groups;
  g.dst_channels = s.in_channels / s.groups;
  g.src = static_cast<const T*>(a.d_y);
  g.src_batch = a.d_y_layout.batch;
  g.src_pixel = a.d_y_layout.pixel;
  g.dst = static_cast<T*>(a.d_x);
  g.dst_pixel = s.in_channels;
  g.weight = static_cast<const T*>(a.weight);
  g.w_dst = s.kernel[0] * s.kernel[1] * s.kernel[2];
  g.w_src = g.w_dst * g.dst_channels;
  g.w_group = g.w_src * g.src_channels;
  g.bias = static_cast<const T*>(a.bias);
  g.relu = false;
  return g;
}

// The products of one row of sources with the taps of one row of the kernel, added to their row of destinations.
template <class T>
void add_products(const ScatterAxis& a, int64_t channels, const T* products, int64_t row, T* line, int64_t pixel) {
  for (int64_t j = 0; j < a.taps; ++j) {
    for (int64_t s = 0; s < a.src_size; ++s) {
      const int64_t at = a.dst(s, j);
      if (at < 0 || at >= a.dst_size) continue;
      const T* from = products + s * row + j * channels;
      T* to = line + at * pixel;
      for (int64_t c = 0; c < channels; ++c) to[c] += from[c];
    }
  }
}

// The products of `rows` source pixels with all taps.
template <class T>
void multiply_narrow(Exec& exec, const Scatter<T>& g, const T* src, int64_t rows, int64_t cols, const T* weights,
                     T* products) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const int64_t full_depth = tile_depth(g.src_channels), width = round_up(cols, kCols);
  for (int64_t p = 0; p < g.src_channels; p += full_depth) {
    const int64_t depth = g.src_channels - p < full_depth ? g.src_channels - p : full_depth;
    const BlockSpec<T> s{depth, g.src_pixel, 1, kCols, depth * kCols, width, T(1), p == 0 ? T(0) : T(1)};
    multiply_block<T>(exec, s, rows, cols, src + p, weights + p * width, products, nullptr);
  }
}

template <class T>
void narrow(const Scatter<T>& g, Exec& exec) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const ScatterAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t taps = ad.taps * ah.taps * aw.taps, cols = taps * g.dst_channels, width = round_up(cols, kCols);
  const int64_t full_depth = tile_depth(g.src_channels);
  if (g.batch * ad.dst_size * ah.dst_size * aw.dst_size == 0) return;
  // (source channel, tap, destination channel) in panels, each part of the depth by itself.
  const int64_t parts = ceil_div(g.src_channels, full_depth);
  const int64_t panels = width / kCols;
  Scratch<T> weights(exec, g.groups * g.src_channels * width);
  parallel_for(exec, g.groups * parts * panels, 1 + 16384 / (full_depth * kCols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / panels / parts, p = i / panels % parts * full_depth, j = i % panels * kCols;
      const int64_t depth = g.src_channels - p < full_depth ? g.src_channels - p : full_depth;
      T* to = weights.get() + (group * g.src_channels + p) * width + j * depth;
      for (int64_t c = p; c < p + depth; ++c) {
        const T* w = g.weight + group * g.w_group + c * g.w_src;
        int64_t t = j / g.dst_channels, o = j % g.dst_channels;
        for (int64_t col = j; col < j + kCols; ++col) {
          *to++ = col < cols ? w[o * g.w_dst + t] : T(0);
          if (++o == g.dst_channels) o = 0, ++t;
        }
      }
    }
  });
  // Blocks of rows of destinations: each computes the rows of sources that meet it, in order.
  const int64_t work = g.batch * ad.src_size * ah.src_size * aw.src_size * g.groups * g.src_channels * cols;
  int64_t blocks = 1;
  if (work > kNarrowWork && g.batch < 2 * exec.threads) {
    blocks = ceil_div(2 * exec.threads, g.batch);
    const int64_t reach = (ah.taps - 1) * (ah.tap_step < 0 ? -ah.tap_step : ah.tap_step) + 1;
    const int64_t most = ah.dst_size / (4 * reach) + 1;
    if (blocks > most) blocks = most;
  }
  const int64_t line_size = aw.dst_size * g.dst_pixel, image = ah.dst_size * line_size;
  // Images of few pixels are multiplied several at a time.
  const int64_t pixels = ad.src_size * ah.src_size * aw.src_size;
  const bool together = pixels <= kFewPixels && (g.batch == 1 || g.src_batch == pixels * g.src_pixel);
  const int64_t images = together ? ceil_div(kFewPixels, pixels) : 1;
  if (together) blocks = 1;
  const int64_t tasks = ceil_div(g.batch, images) * blocks;
  parallel_for(exec, tasks, work > kNarrowWork ? 1 : tasks, [&](int64_t begin, int64_t end) {
    Scratch<T> products(exec, (together ? images * pixels : aw.src_size) * width);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks, first = task / blocks * images;
      const int64_t last = first + images < g.batch ? first + images : g.batch;
      const int64_t h0 = ah.dst_size * block / blocks, h1 = ah.dst_size * (block + 1) / blocks;
      for (int64_t n = first; n < last; ++n) {
        for (int64_t d = 0; d < ad.dst_size; ++d) {
          T* to = g.dst + (n * ad.dst_size + d) * image + h0 * line_size;
          for (int64_t i = 0; i < (h1 - h0) * aw.dst_size; ++i) {
            for (int64_t c = 0; c < g.dst_pixel; ++c) *to++ = g.bias != nullptr ? g.bias[c] : T(0);
          }
        }
      }
      for (int64_t group = 0; group < g.groups; ++group) {
        const T* src = g.src + group * g.src_channels;
        const T* panels = weights.get() + group * g.src_channels * width;
        if (together) {
          multiply_narrow(exec, g, src + first * g.src_batch, (last - first) * pixels, cols, panels, products.get());
        }
        for (int64_t n = first; n < last; ++n) {
          T* dst = g.dst + n * ad.dst_size * image + group * g.dst_channels;
          for (int64_t sd = 0; sd < ad.src_size; ++sd) {
            for (int64_t sh = 0; sh < ah.src_size; ++sh) {
              bool meets = false;
              for (int64_t j = 0; j < ah.taps; ++j) meets = meets || (ah.dst(sh, j) >= h0 && ah.dst(sh, j) < h1);
              if (!meets) continue;
              const int64_t pixel = (sd * ah.src_size + sh) * aw.src_size;
              const T* from = products.get();
              if (together) {
                from += ((n - first) * pixels + pixel) * width;
              } else {
                multiply_narrow(exec, g, src + n * g.src_batch + pixel * g.src_pixel, aw.src_size, cols, panels,
                                products.get());
              }
              for (int64_t jd = 0; jd < ad.taps; ++jd) {
                const int64_t d = ad.dst(sd, jd);
                if (d < 0 || d >= ad.dst_size) continue;
                for (int64_t jh = 0; jh < ah.taps; ++jh) {
                  const int64_t h = ah.dst(sh, jh);
                  if (h < h0 || h >= h1) continue;
                  add_products(aw, g.dst_channels, from + (jd * ah.taps + jh) * aw.taps * g.dst_channels, width,
                               dst + d * image + h * line_size, g.dst_pixel);
                }
              }
            }
          }
        }
      }
      if (!g.relu) continue;
      for (int64_t i = first * ad.dst_size; i < last * ad.dst_size; ++i) {
        relu_rows(int64_t{1}, (h1 - h0) * line_size, g.dst + i * image + h0 * line_size, int64_t{0});
      }
    }
  });
}

}  // namespace
}  // namespace pydl
