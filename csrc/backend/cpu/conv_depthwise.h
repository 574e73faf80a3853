// Depthwise convolution: groups of one channel. Vectors run over the channels. Bound by memory, so nothing is packed
// but the weights.
#pragma once
#include "backend/cpu/conv_gather.h"

namespace pydl {
namespace {

constexpr int64_t kDepthwiseGrain = 16 * 1024;  // multiply-adds that are worth a fork
constexpr int kChannelVectors = 2;              // side by side: a cache line of float32 with AVX2
constexpr int kOutputsAtOnce = 4;
constexpr int kTapsAtOnce = 4;  // of a row of the kernel, in the weight's gradient
constexpr int64_t kDepthwiseSegments = 16;
constexpr int64_t kDepthwiseKept = 16 << 20;  // bytes of source and destinations that come soon enough unasked

// [begin, end): the destinations along an axis whose taps [tap, tap + taps) all meet the source.
struct Inside {
  int64_t begin, end;
};
inline Inside inside(const GatherAxis& a, int64_t tap, int64_t taps) {
  const int64_t low = a.first + tap * a.tap_step, high = a.first + (tap + taps - 1) * a.tap_step;
  int64_t begin = low >= 0 ? 0 : ceil_div(-low, a.step);
  int64_t end = a.src_size - high <= 0 ? 0 : ceil_div(a.src_size - high, a.step);
  if (begin > a.count) begin = a.count;
  if (end > a.count) end = a.count;
  return {begin, end < begin ? begin : end};
}

// The weights as (taps, channels).
template <class T>
void pack_depthwise(const Gather<T>& g, T* packed) {
  const int64_t taps = g.taps();
  for (int64_t t = 0; t < taps; ++t) {
    const T* w = g.weight + weight_tap(g, t);
    for (int64_t c = 0; c < g.groups; ++c) *packed++ = w[c * g.w_group];
  }
}

// Loads and stores of up to kChannelVectors vectors from channel c on; `rest` lanes in the last of them.
template <class T, int vectors, bool partial>
struct Channels {
  using V = Vec<T>;
  int rest;
  PYDL_INLINE V load(const T* p, int v) const {
    return partial && v == vectors - 1 ? V::load_partial(p + v * V::size, rest) : V::load(p + v * V::size);
  }
  PYDL_INLINE void store(V x, T* p, int v) const {
    if (partial && v == vectors - 1) {
      x.store_partial(p + v * V::size, rest);
    } else {
      x.store(p + v * V::size);
    }
  }
};

// body(Channels, c) for all channels.
template <class T, class F>
PYDL_INLINE void each_channels(int64_t channels, F body) {
  constexpr int kLanes = Vec<T>::size;
  int64_t c = 0;
  for (; c + kChannelVectors * kLanes <= channels; c += kChannelVectors * kLanes) {
    body(Channels<T, kChannelVectors, false>{0}, c, std::integral_constant<int, kChannelVectors>());
  }
  for (; c + kLanes <= channels; c += kLanes) {
    body(Channels<T, 1, false>{0}, c, std::integral_constant<int, 1>());
  }
  if (c < channels) {
    body(Channels<T, 1, true>{static_cast<int>(channels - c)}, c, std::integral_constant<int, 1>());
  }
}

// Where the taps of the kernel that lie in the source begin and end, for one row of destinations.
struct KernelRows {
  int64_t d0, d1, h0, h1;
  template <class T>
  KernelRows(const Gather<T>& g, const PixelCursor& at) {
    range(g.axis[0], at.d, &d0, &d1);
    range(g.axis[1], at.h, &h0, &h1);
  }

 private:
  static void range(const GatherAxis& a, int64_t i, int64_t* begin, int64_t* end) {
    const int64_t s = i * a.step + a.first;
    *begin = s >= 0 ? 0 : ceil_div(-s, a.tap_step);
    *end = s >= a.src_size ? 0 : ceil_div(a.src_size - s, a.tap_step);
    if (*end > a.taps) *end = a.taps;
    if (*begin > *end) *begin = *end;
  }
};

template <class T>
PYDL_INLINE const T* source_line(const Gather<T>& g, const PixelCursor& at, int64_t jd, int64_t jh) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1];
  const int64_t sd = at.d * ad.step + ad.first + jd * ad.tap_step, sh = at.h * ah.step + ah.first + jh * ah.tap_step;
  return g.src + at.n * g.src_batch + (sd * ah.src_size + sh) * g.axis[2].src_size * g.src_pixel;
}

// The whole line of destinations, those of other gathers included.
template <class T>
PYDL_INLINE T* destination_line(const Gather<T>& g, const PixelCursor& at) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1];
  const int64_t d = ad.dst_first + at.d * ad.dst_step, h = ah.dst_first + at.h * ah.dst_step;
  return g.dst + ((at.n * ad.dst_size + d) * ah.dst_size + h) * g.axis[2].dst_size * g.dst_pixel();
}

template <class T>
PYDL_INLINE void fetch(const T* p, int64_t n) {
  for (int64_t i = 0; i < n; i += kLine<T>) __builtin_prefetch(p + i, 0, 2);
}

// The next line of destinations and the last line of the source that it reads: asked for bit by bit during this line,
// which begins at dst, unless source and destinations have no more than `kept` bytes.
template <class T>
class NextLine {
 public:
  NextLine(const Gather<T>& g, const PixelCursor& at, const KernelRows& rows, const T* dst, int64_t kept)
      : src_pixels_(g.axis[2].src_size),
        dst_pixels_(g.axis[2].dst_size),
        src_pixel_(g.src_pixel),
        dst_pixel_(g.dst_pixel()) {
    const GatherAxis& ah = g.axis[1];
    const int64_t source = (at.h + 1) * ah.step + ah.first + (rows.h1 - 1) * ah.tap_step;
    const int64_t elements = g.pixels() * (g.src_pixel + g.dst_pixel());
    if (at.h + 1 >= ah.count || rows.d0 >= rows.d1 || rows.h0 >= rows.h1 || source >= ah.src_size) return;
    if (elements * static_cast<int64_t>(sizeof(T)) <= kept) return;
    src_ = source_line(g, at, rows.d1 - 1, rows.h1 - 1) + ah.step * src_pixels_ * src_pixel_;
    dst_ = dst + ah.dst_step * dst_pixels_ * dst_pixel_;
  }
  PYDL_INLINE void fetch_sources(int64_t begin, int64_t end) const {
    if (src_ == nullptr || begin >= src_pixels_) return;
    fetch(src_ + begin * src_pixel_, ((end < src_pixels_ ? end : src_pixels_) - begin) * src_pixel_);
  }
  PYDL_INLINE void fetch_destinations(int64_t begin, int64_t end) const {
    if (src_ == nullptr || begin >= dst_pixels_) return;
    fetch(dst_ + begin * dst_pixel_, ((end < dst_pixels_ ? end : dst_pixels_) - begin) * dst_pixel_);
  }

 private:
  const T *src_ = nullptr, *dst_ = nullptr;
  int64_t src_pixels_, dst_pixels_, src_pixel_, dst_pixel_;
};

// `outputs` neighbours from destination w on, all of whose taps lie in the source (or checked one by one).
template <int outputs, bool checked, class T, class C, int vectors>
PYDL_INLINE void depthwise_outputs(const Gather<T>& g, const PixelCursor& at, const KernelRows& rows, int64_t w,
                                   const T* weights, const C& channels, int64_t c, T* dst, int64_t dst_step,
                                   std::integral_constant<int, vectors>) {
  using V = Vec<T>;
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  V sum[outputs][vectors];
  repeat<vectors>([&](auto v) PYDL_LAMBDA {
    const V b = g.bias != nullptr ? channels.load(g.bias + c, v) : V(T(0));
    repeat<outputs>([&](auto i) PYDL_LAMBDA { sum[i][v] = b; });
  });
  const int64_t s = w * aw.step + aw.first, src_step = aw.step * g.src_pixel;
  for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
    for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
      const T* line = source_line(g, at, jd, jh) + s * g.src_pixel + c;
      const T* tap = weights + (jd * ah.taps + jh) * aw.taps * g.dst_pixel() + c;
      for (int64_t jw = 0; jw < aw.taps; ++jw, tap += g.dst_pixel(), line += aw.tap_step * g.src_pixel) {
        if (checked && (s + jw * aw.tap_step < 0 || s + jw * aw.tap_step >= aw.src_size)) continue;
        repeat<vectors>([&](auto v) PYDL_LAMBDA {
          const V k = channels.load(tap, v);
          repeat<outputs>([&](auto o)
                              PYDL_LAMBDA { sum[o][v] = fma(channels.load(line + o * src_step, v), k, sum[o][v]); });
        });
      }
    }
  }
  repeat<outputs>([&](auto i) PYDL_LAMBDA {
    repeat<vectors>([&](auto v) PYDL_LAMBDA {
      channels.store(g.relu ? max(sum[i][v], V(T(0))) : sum[i][v], dst + i * dst_step + c, v);
    });
  });
}

template <class T>
void depthwise(const Gather<T>& g, Exec& exec) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t lines = g.batch * ad.count * ah.count, taps = g.taps();
  if (lines == 0 || aw.count == 0) return;
  const int64_t all = g.dst_pixel();
  Scratch<T> weights(exec, taps * all + 1);
  pack_depthwise(g, weights.get());
  const Inside middle = taps == 0 ? Inside{0, 0} : inside(aw, 0, aw.taps);
  const int64_t dst_step = aw.dst_step * all;
  parallel_for(exec, lines, 1 + kDepthwiseGrain / (aw.count * all * (taps + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const PixelCursor at(g, line * aw.count);
      const KernelRows rows(g, at);
      T* dst = destination_line(g, at);
      const NextLine<T> next(g, at, rows, dst, kDepthwiseKept);
      dst += aw.dst_first * all;
      // Blocks of pixels with all their channels: memory is read in order.
      for (int64_t w = 0; w < aw.count;) {
        const bool whole = w >= middle.begin && w + kOutputsAtOnce <= middle.end;
        const int64_t next_w = w + (whole ? kOutputsAtOnce : 1);
        next.fetch_sources(w * aw.step, next_w * aw.step);
        next.fetch_destinations(w * aw.dst_step, next_w * aw.dst_step);
        each_channels<T>(all, [&](auto channels, int64_t c, auto vectors) PYDL_LAMBDA {
          if (whole) {
            depthwise_outputs<kOutputsAtOnce, false>(g, at, rows, w, weights.get(), channels, c, dst + w * dst_step,
                                                     dst_step, vectors);
          } else {
            depthwise_outputs<1, true>(g, at, rows, w, weights.get(), channels, c, dst + w * dst_step, dst_step,
                                       vectors);
          }
        });
        w = next_w;
      }
    }
  });
}

// sums[tap * channels + c] += d_y * x along one row of destinations, for `taps` neighbouring taps.
template <int taps, class T, class C, int vectors>
PYDL_INLINE void depthwise_taps(const Gather<T>& g, const T* line, const T* up, int64_t up_pixel, int64_t jw,
                                const C& channels, T* sums, std::integral_constant<int, vectors>) {
  using V = Vec<T>;
  const GatherAxis& aw = g.axis[2];
  const int64_t all = g.dst_pixel();
  V sum[taps][vectors];
  repeat<taps>([&](auto t) PYDL_LAMBDA {
    repeat<vectors>([&](auto v) PYDL_LAMBDA { sum[t][v] = channels.load(sums + t * all, v); });
  });
  const Inside inner = inside(aw, jw, taps);
  const T* src = line + (aw.first + jw * aw.tap_step) * g.src_pixel;
  const int64_t src_step = aw.step * g.src_pixel, tap_step = aw.tap_step * g.src_pixel;
  const auto add = [&](auto t, auto v, V u, int64_t w) PYDL_LAMBDA {
    sum[t][v] = fma(u, channels.load(src + w * src_step + t * tap_step, v), sum[t][v]);
  };
  repeat<taps>([&](auto t) PYDL_LAMBDA {  // what some taps have and not all
    const Inside own = inside(aw, jw + t, 1);
    for (int64_t w = own.begin; w < own.end; ++w) {
      if (w >= inner.begin && w < inner.end) w = inner.end;
      if (w >= own.end) break;
      repeat<vectors>([&](auto v) PYDL_LAMBDA { add(t, v, channels.load(up + w * up_pixel, v), w); });
    }
  });
  for (int64_t w = inner.begin; w < inner.end; ++w) {
    repeat<vectors>([&](auto v) PYDL_LAMBDA {
      const V u = channels.load(up + w * up_pixel, v);
      repeat<taps>([&](auto t) PYDL_LAMBDA { add(t, v, u, w); });
    });
  }
  repeat<taps>([&](auto t) PYDL_LAMBDA {
    repeat<vectors>([&](auto v) PYDL_LAMBDA { channels.store(sum[t][v], sums + t * all, v); });
  });
}

// Rows of destinations are cut into segments by size alone, whose sums are added in order.
inline int64_t depthwise_segments(int64_t lines, int64_t work) {
  int64_t segments = 1 + work / kDepthwiseGrain / 4;
  if (segments > kDepthwiseSegments) segments = kDepthwiseSegments;
  if (segments > lines) segments = lines;
  return segments < 1 ? 1 : segments;
}

// g is the forward gather.
template <class T>
void depthwise_weight(const Gather<T>& g, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel, T* d_weight, Exec& exec) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t lines = g.batch * ad.count * ah.count, taps = g.taps();
  const int64_t all = g.dst_pixel(), plane = taps * all;
  const int64_t segments = depthwise_segments(lines, lines * aw.count * plane);
  Scratch<T> sums(exec, segments * plane);
  parallel_for(exec, segments, 1, [&](int64_t begin, int64_t end) {
    for (int64_t segment = begin; segment < end; ++segment) {
      T* total = sums.get() + segment * plane;
      zero_run(plane, total);
      for (int64_t line = lines * segment / segments; line < lines * (segment + 1) / segments; ++line) {
        const PixelCursor at(g, line * aw.count);
        const KernelRows rows(g, at);
        const T* up = d_y + at.n * d_y_batch + (at.d * ah.count + at.h) * aw.count * d_y_pixel;
        for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
          for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
            const T* src = source_line(g, at, jd, jh);
            if (jh + 1 == rows.h1) {  // the one row that is new: channels are taken a few at a time, so fetch it first
              fetch(src, aw.src_size * g.src_pixel);
            }
            if (jh == rows.h0) fetch(up, aw.count * d_y_pixel);
          }
        }
        each_channels<T>(all, [&](auto channels, int64_t c, auto vectors) PYDL_LAMBDA {
          for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
            for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
              const T* src = source_line(g, at, jd, jh) + c;
              T* to = total + (jd * ah.taps + jh) * aw.taps * all + c;
              int64_t jw = 0;
              for (; jw + kTapsAtOnce <= aw.taps; jw += kTapsAtOnce, to += kTapsAtOnce * all) {
                depthwise_taps<kTapsAtOnce>(g, src, up + c, d_y_pixel, jw, channels, to, vectors);
              }
              const int64_t rest = aw.taps - jw;
              if (rest == 3) depthwise_taps<3>(g, src, up + c, d_y_pixel, jw, channels, to, vectors);
              if (rest == 2) depthwise_taps<2>(g, src, up + c, d_y_pixel, jw, channels, to, vectors);
              if (rest == 1) depthwise_taps<1>(g, src, up + c, d_y_pixel, jw, channels, to, vectors);
            }
          }
        });
      }
    }
  });
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < all; ++c) {
      T total = sums[t * all + c];
      for (int64_t s = 1; s < segments; ++s) total += sums[s * plane + t * all + c];
      d_weight[c * g.w_group + weight_tap(g, t)] = total;
    }
  }
}

}  // namespace
}  // namespace pydl
