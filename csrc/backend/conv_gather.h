// A convolution as a gather: which source pixel meets which tap of the kernel at each destination pixel. The forward
// pass is one gather; the gradient of the input is one for each residue of its pixels modulo the stride, a stride-1
// convolution of the outputs' gradient with some of the taps. And the products that a pointwise convolution is. For
// every device: host code, but for what is a formula.
#pragma once
#include "backend/formulas/formula.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

// Along one axis: destination i (of count), which lies at dst_first + i * dst_step, meets source i * step + first + j *
// tap_step at tap j (of taps), which is tap kernel_first + j * kernel_step of the weight.
struct GatherAxis {
  int64_t src_size, dst_size;
  int64_t count, step, first;
  int64_t taps, tap_step;
  int64_t kernel_size, kernel_first, kernel_step;
  int64_t dst_first, dst_step;
};

template <class T>
struct Gather {
  GatherAxis axis[3];
  int64_t batch, groups;
  int64_t src_channels, dst_channels;  // of one group
  const T* src;
  int64_t src_batch, src_pixel;  // strides; that of channels is 1
  T* dst;                        // (batch, dst_size..., groups * dst_channels) contiguous
  const T* weight;
  int64_t w_src, w_dst, w_group;  // strides of the weight along source channels, destination channels and groups
  const T* bias;                  // (groups * dst_channels) or null
  bool relu;
  bool pairs = false;  // on a CPU: src and weight are pairs of bfloat16 along the channels, which src_channels counts

  PYDL_FORMULA int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  PYDL_FORMULA int64_t depth() const { return taps() * src_channels; }
  PYDL_FORMULA int64_t pixels() const { return batch * axis[0].count * axis[1].count * axis[2].count; }
  PYDL_FORMULA int64_t dst_pixel() const { return groups * dst_channels; }
  // Whether destination pixels follow each other in memory.
  bool dense() const {
    for (const GatherAxis& a : axis) {
      if (a.count != a.dst_size) return false;
    }
    return true;
  }
};

inline int64_t gcd(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

inline GatherAxis forward_axis(const ConvShape& s, int i) {
  return {s.in[i], s.out[i], s.out[i], s.stride[i], -s.padding[i], s.kernel[i], s.dilation[i], s.kernel[i], 0, 1, 0, 1};
}

// The inputs at residue, residue + stride, ...: their taps have (residue + padding - j * dilation) % stride == 0.
inline GatherAxis backward_axis(const ConvShape& s, int i, int64_t residue) {
  const int64_t stride = s.stride[i], dilation = s.dilation[i], period = stride / gcd(stride, dilation);
  GatherAxis a;
  a.src_size = s.out[i];
  a.dst_size = s.in[i];
  a.count = residue < s.in[i] ? (s.in[i] - residue + stride - 1) / stride : 0;
  a.step = 1;
  a.kernel_size = s.kernel[i];
  int64_t first_tap = 0;
  while (first_tap < period && (residue + s.padding[i] - first_tap * dilation) % stride != 0) ++first_tap;
  a.taps = first_tap < period && first_tap < s.kernel[i] ? (s.kernel[i] - first_tap + period - 1) / period : 0;
  // The last tap first, so that sources ascend.
  a.kernel_first = first_tap + (a.taps - 1) * period;
  a.kernel_step = -period;
  a.tap_step = period * dilation / stride;
  a.first = a.taps > 0 ? (residue + s.padding[i] - a.kernel_first * dilation) / stride : 0;
  a.dst_first = residue;
  a.dst_step = stride;
  return a;
}

template <class T>
Gather<T> forward_gather(const ConvForwardArgs& a) {
  const ConvShape& s = a.shape;
  Gather<T> g;
  for (int i = 0; i < 3; ++i) g.axis[i] = forward_axis(s, i);
  g.batch = s.batch;
  g.groups = s.groups;
  g.src_channels = s.in_channels / s.groups;
  g.dst_channels = s.out_channels / s.groups;
  g.src = static_cast<const T*>(a.x);
  g.src_batch = a.x_layout.batch;
  g.src_pixel = a.x_layout.pixel;
  g.dst = static_cast<T*>(a.y);
  g.weight = static_cast<const T*>(a.weight);
  g.w_src = s.kernel[0] * s.kernel[1] * s.kernel[2];
  g.w_dst = g.src_channels * g.w_src;
  g.w_group = g.dst_channels * g.w_dst;
  g.bias = static_cast<const T*>(a.bias);
  g.relu = a.relu;
  return g;
}

template <class T>
Gather<T> backward_gather(const ConvBackwardInputArgs& a, int64_t residue_d, int64_t residue_h, int64_t residue_w) {
  const ConvShape& s = a.shape;
  Gather<T> g;
  g.axis[0] = backward_axis(s, 0, residue_d);
  g.axis[1] = backward_axis(s, 1, residue_h);
  g.axis[2] = backward_axis(s, 2, residue_w);
  g.batch = s.batch;
  g.groups = s.groups;
  g.src_channels = s.out_channels / s.groups;
  g.dst_channels = s.in_channels / s.groups;
  g.src = static_cast<const T*>(a.d_y);
  g.src_batch = a.d_y_layout.batch;
  g.src_pixel = a.d_y_layout.pixel;
  g.dst = static_cast<T*>(a.d_x);
  g.weight = static_cast<const T*>(a.weight);
  g.w_dst = s.kernel[0] * s.kernel[1] * s.kernel[2];
  g.w_src = g.dst_channels * g.w_dst;
  g.w_group = g.src_channels * g.w_src;
  g.bias = static_cast<const T*>(a.bias);
  g.relu = false;
  return g;
}

template <class T, class F>
void each_backward_gather(const ConvBackwardInputArgs& a, F body) {
  for (int64_t d = 0; d < a.shape.stride[0] && d < a.shape.in[0]; ++d) {
    for (int64_t h = 0; h < a.shape.stride[1] && h < a.shape.in[1]; ++h) {
      for (int64_t w = 0; w < a.shape.stride[2] && w < a.shape.in[2]; ++w) body(backward_gather<T>(a, d, h, w));
    }
  }
}

// Where the tap t of a gather stands in the weight.
template <class T>
PYDL_FORMULA int64_t weight_tap(const Gather<T>& g, int64_t t) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t jw = t % aw.taps, jh = t / aw.taps % ah.taps, jd = t / aw.taps / ah.taps;
  const int64_t kd = ad.kernel_first + jd * ad.kernel_step, kh = ah.kernel_first + jh * ah.kernel_step;
  return (kd * ah.kernel_size + kh) * aw.kernel_size + aw.kernel_first + jw * aw.kernel_step;
}

inline int64_t pixels_of(const int64_t (&sizes)[3]) { return sizes[0] * sizes[1] * sizes[2]; }

// Whether the images of a batch follow each other, so that all of it is one matrix (pixels, channels).
inline bool joined(const ConvLayout& layout, int64_t pixels, int64_t batch) {
  return batch == 1 || layout.batch == pixels * layout.pixel;
}

// dst (batch, pixels, n), contiguous but for dst_pixel, = activation(src (batch, pixels, k) @ weight (k, n) + bias).
template <class T>
void pointwise_product(const ConvShape& s, const void* src, const ConvLayout& layout, int64_t k, const void* weight,
                       int64_t w_row, int64_t w_col, int64_t n, void* dst, int64_t dst_pixel, const void* bias,
                       bool relu, Exec& exec) {
  const int64_t pixels = pixels_of(s.in);
  const bool one = joined(layout, pixels, s.batch);
  GemmArgs g{};
  g.dtype = s.dtype;
  g.batch = one ? 1 : s.batch;
  g.m = one ? s.batch * pixels : pixels;
  g.n = n / s.groups;
  g.k = k / s.groups;
  g.a_batch = layout.batch;
  g.a_row = layout.pixel;
  g.a_col = layout.channel;
  g.b_row = w_row;
  g.b_col = w_col;
  g.dst_batch = pixels * dst_pixel;
  g.dst_row = dst_pixel;
  g.alpha = 1;
  g.activation = relu ? 1 : 0;
  for (int64_t group = 0; group < s.groups; ++group) {
    g.a = static_cast<const T*>(src) + group * g.k * layout.channel;
    g.b = static_cast<const T*>(weight) + group * g.n * g.k;
    g.dst = static_cast<T*>(dst) + group * g.n;
    g.bias = bias == nullptr ? nullptr : static_cast<const T*>(bias) + group * g.n;
    (sizeof(T) == 2 ? exec.table->gemm_bf16 : exec.table->gemm)(g, exec);
  }
}

template <class T>
void pointwise_weight(const ConvBackwardWeightArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const int64_t pixels = pixels_of(s.in);
  const bool one = joined(a.x_layout, pixels, s.batch) && joined(a.d_y_layout, pixels, s.batch);
  GemmArgs g{};
  g.dtype = s.dtype;
  g.batch = 1;
  g.m = s.out_channels / s.groups;
  g.n = s.in_channels / s.groups;
  g.k = one ? s.batch * pixels : pixels;
  g.a_row = a.d_y_layout.channel;
  g.a_col = a.d_y_layout.pixel;
  g.b_row = a.x_layout.pixel;
  g.b_col = a.x_layout.channel;
  g.dst_row = g.n;
  g.alpha = 1;
  for (int64_t group = 0; group < s.groups; ++group) {
    g.dst = static_cast<T*>(a.d_weight) + group * g.m * g.n;
    for (int64_t n = 0; n < (one ? 1 : s.batch); ++n) {
      g.a = static_cast<const T*>(a.d_y) + n * a.d_y_layout.batch + group * g.m * g.a_row;
      g.b = static_cast<const T*>(a.x) + n * a.x_layout.batch + group * g.n * g.b_col;
      g.beta = n == 0 ? 0 : 1;
      exec.table->gemm(g, exec);
    }
  }
}

}  // namespace
}  // namespace pydl
