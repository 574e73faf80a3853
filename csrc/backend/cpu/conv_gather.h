// A convolution as a gather: which source pixel meets which tap of the kernel at each destination pixel. The forward
// pass is one gather; the gradient of the input is one for each residue of its pixels modulo the stride, a stride-1
// convolution of the outputs' gradient with some of the taps. Also here: packing of patches and weights for gemm tiles.
#pragma once
#include "backend/cpu/gemm_kernel.h"

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

  int64_t taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }
  int64_t depth() const { return taps() * src_channels; }
  int64_t pixels() const { return batch * axis[0].count * axis[1].count * axis[2].count; }
  int64_t dst_pixel() const { return groups * dst_channels; }
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
  a.count = residue < s.in[i] ? ceil_div(s.in[i] - residue, stride) : 0;
  a.step = 1;
  a.kernel_size = s.kernel[i];
  int64_t first_tap = 0;
  while (first_tap < period && (residue + s.padding[i] - first_tap * dilation) % stride != 0) ++first_tap;
  a.taps = first_tap < period && first_tap < s.kernel[i] ? ceil_div(s.kernel[i] - first_tap, period) : 0;
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

// The inner axis of the product, (tap, channel), in parts of at most kTileDepth: whole taps where one has fewer
// channels, parts of one tap's channels otherwise. The same parts for every group.
struct DepthPart {
  int64_t tap, taps, channel, channels;
  int64_t depth() const { return taps * channels; }
};
class DepthParts {
 public:
  DepthParts(int64_t taps, int64_t channels) : taps_(taps), channels_(channels) {
    if (taps <= 0 || channels <= 0) return;
    slices_ = ceil_div(channels, kTileDepth);
    const int64_t most = slices_ > 1 ? 1 : kTileDepth / channels;
    taps_each_ = ceil_div(taps, ceil_div(taps, most));
    count_ = ceil_div(taps, taps_each_) * slices_;
  }
  int64_t count() const { return count_; }
  int64_t max_depth() const { return count_ == 0 ? 0 : taps_each_ * ceil_div(channels_, slices_); }
  DepthPart operator[](int64_t i) const {
    DepthPart part;
    part.tap = i / slices_ * taps_each_;
    part.taps = taps_ - part.tap < taps_each_ ? taps_ - part.tap : taps_each_;
    const int64_t slice = i % slices_;
    part.channel = channels_ * slice / slices_;
    part.channels = channels_ * (slice + 1) / slices_ - part.channel;
    return part;
  }
  int64_t depth_before(const DepthPart& part) const { return part.tap * channels_ + part.channel * part.taps; }

 private:
  int64_t taps_, channels_, slices_ = 1, taps_each_ = 0, count_ = 0;
};

template <class T>
PYDL_INLINE void copy_run(const T* src, int64_t n, T* dst) {
  using V = Vec<T>;
  int64_t i = 0;
  for (; i + V::size <= n; i += V::size) V::load(src + i).store(dst + i);
  if (i == n) return;
  if (n >= V::size) {
    V::load(src + n - V::size).store(dst + n - V::size);
  } else {
    for (; i < n; ++i) dst[i] = src[i];
  }
}
template <class T>
PYDL_INLINE void zero_run(int64_t n, T* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = T(0);
}

// Pixel number p of a gather, counted through the batch.
struct PixelCursor {
  int64_t n, d, h, w;
  template <class T>
  PixelCursor(const Gather<T>& g, int64_t p) {
    w = p % g.axis[2].count;
    p /= g.axis[2].count;
    h = p % g.axis[1].count;
    p /= g.axis[1].count;
    d = p % g.axis[0].count;
    n = p / g.axis[0].count;
  }
  template <class T>
  void next_row(const Gather<T>& g) {
    w = 0;
    if (++h < g.axis[1].count) return;
    h = 0;
    if (++d < g.axis[0].count) return;
    d = 0;
    ++n;
  }
};

// The taps [jw, jw + across) of one row of the kernel, for `run` destinations from w on.
template <class T>
void pack_taps(const Gather<T>& g, const T* line, int64_t w, int64_t run, int64_t jw, int64_t across, int64_t channels,
               T* packed, int64_t row) {
  const GatherAxis& aw = g.axis[2];
  const bool joined = aw.tap_step == 1 && channels == g.src_pixel;
  for (int64_t i = 0; i < run; ++i, packed += row) {
    const int64_t s = (w + i) * aw.step + aw.first + jw * aw.tap_step;
    if (joined && s >= 0 && s + across <= aw.src_size) {
      copy_run(line + s * channels, across * channels, packed);
      continue;
    }
    for (int64_t j = 0; j < across; ++j) {
      const int64_t at = s + j * aw.tap_step;
      if (at >= 0 && at < aw.src_size) {
        copy_run(line + at * g.src_pixel, channels, packed + j * channels);
      } else {
        zero_run(channels, packed + j * channels);
      }
    }
  }
}

// Rows p ... p + rows - 1 of the patches' matrix, restricted to one part of their depth: packed[i * row + k].
template <class T>
void pack_patches(const Gather<T>& g, int64_t group, const DepthPart& part, int64_t p, int64_t rows, T* packed,
                  int64_t row) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  PixelCursor at(g, p);
  while (rows > 0) {
    const int64_t run = rows < aw.count - at.w ? rows : aw.count - at.w;
    const T* image = g.src + at.n * g.src_batch + group * g.src_channels + part.channel;
    T* out = packed;
    for (int64_t t = part.tap; t < part.tap + part.taps;) {
      const int64_t jw = t % aw.taps, jh = t / aw.taps % ah.taps, jd = t / aw.taps / ah.taps;
      const int64_t left = part.tap + part.taps - t;
      const int64_t across = aw.taps - jw < left ? aw.taps - jw : left;
      const int64_t sd = at.d * ad.step + ad.first + jd * ad.tap_step;
      const int64_t sh = at.h * ah.step + ah.first + jh * ah.tap_step;
      if (sd < 0 || sd >= ad.src_size || sh < 0 || sh >= ah.src_size) {
        for (int64_t i = 0; i < run; ++i) zero_run(across * part.channels, out + i * row);
      } else {
        pack_taps(g, image + (sd * ah.src_size + sh) * aw.src_size * g.src_pixel, at.w, run, jw, across, part.channels,
                  out, row);
      }
      out += across * part.channels;
      t += across;
    }
    packed += run * row;
    rows -= run;
    at.next_row(g);
  }
}

// Where the tap t of a gather stands in the weight.
template <class T>
PYDL_INLINE int64_t weight_tap(const Gather<T>& g, int64_t t) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t jw = t % aw.taps, jh = t / aw.taps % ah.taps, jd = t / aw.taps / ah.taps;
  const int64_t kd = ad.kernel_first + jd * ad.kernel_step, kh = ah.kernel_first + jh * ah.kernel_step;
  return (kd * ah.kernel_size + kh) * aw.kernel_size + aw.kernel_first + jw * aw.kernel_step;
}

// One panel of destination channels of a group's weights, all parts of the depth: part after part, for each of which
// the panels lie side by side.
template <class T>
void pack_weight_panel(const Gather<T>& g, const DepthParts& parts, int64_t group, int64_t panel, T* packed) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const int64_t width = round_up(g.dst_channels, kCols), left = g.dst_channels - panel * kCols;
  const int cols = static_cast<int>(left < kCols ? left : kCols);
  const T* weight = g.weight + group * g.w_group + panel * kCols * g.w_dst;
  for (int64_t i = 0; i < parts.count(); ++i) {
    const DepthPart part = parts[i];
    T* dst = packed + parts.depth_before(part) * width + panel * part.depth() * kCols;
    for (int64_t t = part.tap; t < part.tap + part.taps; ++t) {
      const T* w = weight + weight_tap(g, t) + part.channel * g.w_src;
      for (int64_t c = 0; c < part.channels; ++c, w += g.w_src, dst += kCols) {
        for (int o = 0; o < cols; ++o) dst[o] = w[o * g.w_dst];
        for (int o = cols; o < kCols; ++o) dst[o] = T(0);
      }
    }
  }
}

}  // namespace
}  // namespace pydl
