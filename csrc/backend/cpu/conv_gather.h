// Packing of patches and weights for gemm tiles, where a convolution is a gather (backend/conv_gather.h).
#pragma once
#include "backend/conv_gather.h"
#include "backend/cpu/gemm_kernel.h"

namespace pydl {
namespace {

// The inner axis of the product, (tap, channel), in parts of at most kTileDepth: whole taps where one has fewer
// channels, parts of one tap's channels otherwise. The same parts for every group.
struct DepthPart {
  int64_t tap, taps, channel, channels;
  int64_t depth() const { return taps * channels; }
};
class DepthParts {
 public:
  DepthParts(int64_t taps, int64_t channels, int64_t depth = kTileDepth) : taps_(taps), channels_(channels) {
    if (taps <= 0 || channels <= 0) return;
    slices_ = ceil_div(channels, depth);
    const int64_t most = slices_ > 1 ? 1 : depth / channels;
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
  // The part that has tap t of channel c.
  DepthPart of(int64_t t, int64_t c) const {
    int64_t slice = c * slices_ / channels_;
    if (channels_ * (slice + 1) / slices_ <= c) ++slice;
    return (*this)[t / taps_each_ * slices_ + slice];
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

// Weights are turned while they are near: those of some channels to (channel, place in the kernel, destination
// channel).
constexpr int64_t kTurnedWeights = 8192;  // elements, unless one channel has more
template <class T>
struct TurnedWeights {
  int64_t kernel, channels;  // places of a kernel; channels that are turned together
  TurnedWeights(const Gather<T>& g, int64_t cols)
      : kernel(g.axis[0].kernel_size * g.axis[1].kernel_size * g.axis[2].kernel_size),
        channels(1 + kTurnedWeights / (kernel * cols)) {}
};

// Where the weights of a panel of a group's destination channels stand, and how many of them there are.
template <class T>
struct WeightPanel {
  static constexpr int64_t kCols = GemmTile<T>::kCols;
  const T* weight;
  int64_t cols;
  WeightPanel(const Gather<T>& g, int64_t group, int64_t panel)
      : weight(g.weight + group * g.w_group + panel * kCols * g.w_dst),
        cols(g.dst_channels - panel * kCols < kCols ? g.dst_channels - panel * kCols : kCols) {}

  // Channels [first, first + count), of `kernel` places each, to (count, kernel, kCols): zeros beside few columns.
  __attribute__((noinline)) void turn(const Gather<T>& g, int64_t kernel, int64_t first, int64_t count,
                                      T* turned) const {
    if (cols < kCols) zero_run(count * kernel * kCols, turned);
    const int64_t run = g.w_src == kernel ? count : 1;  // channels whose weights follow each other
    for (int64_t c = 0; c < count; c += run)
      transpose_copy(cols, run * kernel, weight + (first + c) * g.w_src, g.w_dst, turned + c * kernel * kCols, kCols);
  }
};

// body(part, t, c, count, row) for each tap t and the channels [first, first + channels): `count` of them from c on lie
// in one part of the depth, from its row `row` on.
template <class T, class F>
void each_run_of_depth(const Gather<T>& g, const DepthParts& parts, int64_t first, int64_t channels, F body) {
  for (int64_t t = 0; t < g.taps(); ++t) {
    for (int64_t c = first; c < first + channels;) {
      const DepthPart part = parts.of(t, c);
      const int64_t end =
          part.channel + part.channels < first + channels ? part.channel + part.channels : first + channels;
      body(part, t, c, end - c, (t - part.tap) * part.channels + c - part.channel);
      c = end;
    }
  }
}

// One panel of destination channels of a group's weights: part after part of the depth, for each of which the panels
// lie side by side, (depth, kCols).
template <class T>
void pack_weight_panel(const Gather<T>& g, const DepthParts& parts, int64_t group, int64_t panel, T* packed,
                       Exec& exec) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const int64_t width = round_up(g.dst_channels, kCols);
  const TurnedWeights<T> block(g, kCols);
  const WeightPanel<T> weights(g, group, panel);
  const auto place = [&](const DepthPart& part, int64_t row) {
    return packed + parts.depth_before(part) * width + (panel * part.depth() + row) * kCols;
  };
  if (8 * g.taps() < block.kernel) {  // few of the places in the kernel
    each_run_of_depth(g, parts, 0, g.src_channels,
                      [&](const DepthPart& part, int64_t t, int64_t c, int64_t channels, int64_t row) {
                        const T* src = weights.weight + c * g.w_src + weight_tap(g, t);
                        T* dst = place(part, row);
                        for (int64_t i = 0; i < channels; ++i, src += g.w_src, dst += kCols) {
                          for (int64_t o = 0; o < weights.cols; ++o) dst[o] = src[o * g.w_dst];
                          zero_run(kCols - weights.cols, dst + weights.cols);
                        }
                      });
    return;
  }
  Scratch<T> turned(exec, block.channels * block.kernel * kCols);
  for (int64_t first = 0; first < g.src_channels; first += block.channels) {
    const int64_t count = g.src_channels - first < block.channels ? g.src_channels - first : block.channels;
    weights.turn(g, block.kernel, first, count, turned);
    each_run_of_depth(g, parts, first, count,
                      [&](const DepthPart& part, int64_t t, int64_t c, int64_t channels, int64_t row) {
                        const T* src = turned + ((c - first) * block.kernel + weight_tap(g, t)) * kCols;
                        T* dst = place(part, row);
                        for (int64_t i = 0; i < channels; ++i, src += block.kernel * kCols, dst += kCols)
                          copy_run(src, kCols, dst);
                      });
  }
}

constexpr int64_t kConvSerialWork = 256 * 1024;  // multiply-adds below which a fork does not pay

template <class T>
void relu_rows(int64_t rows, int64_t cols, T* dst, int64_t dst_row) {
  using V = Vec<T>;
  for (int64_t i = 0; i < rows; ++i, dst += dst_row) {
    each_vector<T>(cols, [&](int64_t j, int lanes)
                             PYDL_LAMBDA { store_some(max(load_some<V>(dst + j, lanes), V(T(0))), dst + j, lanes); });
  }
}

}  // namespace
}  // namespace pydl
