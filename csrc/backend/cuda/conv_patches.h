// The loaders of implicit products: a convolution's patches, never written to memory, as a side of a tile. Pixels and
// taps are counted along with the inner axis, so that no division is made on the way.
#pragma once
#include "backend/conv_gather.h"
#include "backend/cuda/gemm_tile.h"

namespace pydl {
namespace {

// Destination pixel p of a gather, counted through the batch.
struct PixelPlace {
  int64_t n;
  int d, h, w;

  template <class T>
  __device__ PixelPlace(const Gather<T>& g, int64_t p) {
    w = static_cast<int>(p % g.axis[2].count);
    p /= g.axis[2].count;
    h = static_cast<int>(p % g.axis[1].count);
    p /= g.axis[1].count;
    d = static_cast<int>(p % g.axis[0].count);
    n = p / g.axis[0].count;
  }
  template <class T>
  __device__ __forceinline__ void advance(const Gather<T>& g, int pixels) {
    w += pixels;
    while (w >= g.axis[2].count) {
      w -= static_cast<int>(g.axis[2].count);
      if (++h < g.axis[1].count) continue;
      h = 0;
      if (++d < g.axis[0].count) continue;
      d = 0;
      ++n;
    }
  }
};

// Tap j of a gather along the three axes, and a channel of it.
struct TapPlace {
  int jd, jh, jw, c;

  template <class T>
  __device__ TapPlace(const Gather<T>& g, int64_t k) {
    c = static_cast<int>(k % g.src_channels);
    int64_t t = k / g.src_channels;
    jw = static_cast<int>(t % g.axis[2].taps);
    t /= g.axis[2].taps;
    jh = static_cast<int>(t % g.axis[1].taps);
    jd = static_cast<int>(t / g.axis[1].taps);
  }
  template <class T>
  __device__ __forceinline__ void advance(const Gather<T>& g, int steps) {
    c += steps;
    while (c >= g.src_channels) {
      c -= static_cast<int>(g.src_channels);
      if (++jw < g.axis[2].taps) continue;
      jw = 0;
      if (++jh < g.axis[1].taps) continue;
      jh = 0;
      ++jd;
    }
  }
};

// What the source's element is, given the first source pixel of a patch and the offsets of a tap.
template <class T>
__device__ __forceinline__ bool inside(const Gather<T>& g, int sd, int sh, int sw) {
  return sd >= 0 && sd < g.axis[0].src_size && sh >= 0 && sh < g.axis[1].src_size && sw >= 0 && sw < g.axis[2].src_size;
}
template <class T>
__device__ __forceinline__ int64_t pixel_offset(const Gather<T>& g, int sd, int sh, int sw) {
  return ((sd * g.axis[1].src_size + sh) * g.axis[2].src_size + sw) * g.src_pixel;
}

// A row of a tile: where its patch begins in the source, and where its pixel lies in the destination.
struct PatchRow {
  int64_t src, dst;
  int d, h, w;  // the patch's first source pixel; far outside for rows past the end
};

template <class T>
__device__ inline PatchRow patch_row(const Gather<T>& g, int64_t pixel, int64_t pixels) {
  constexpr int kNowhere = -(1 << 30);
  if (pixel >= pixels) return {0, 0, kNowhere, kNowhere, kNowhere};
  const PixelPlace at(g, pixel);
  PatchRow row;
  row.d = static_cast<int>(at.d * g.axis[0].step + g.axis[0].first);
  row.h = static_cast<int>(at.h * g.axis[1].step + g.axis[1].first);
  row.w = static_cast<int>(at.w * g.axis[2].step + g.axis[2].first);
  row.src = at.n * g.src_batch + pixel_offset(g, row.d, row.h, row.w);
  const int64_t dd = g.axis[0].dst_first + at.d * g.axis[0].dst_step;
  const int64_t dh = g.axis[1].dst_first + at.h * g.axis[1].dst_step;
  const int64_t dw = g.axis[2].dst_first + at.w * g.axis[2].dst_step;
  row.dst = (((at.n * g.axis[0].dst_size + dd) * g.axis[1].dst_size + dh) * g.axis[2].dst_size + dw) * g.dst_pixel();
  return row;
}

// Side: the pixels of `rows`; inner axis: (tap, channel).
template <class T>
struct PatchLoader {
  const Gather<T>& g;
  const PatchRow* rows;
  const T* src;  // at the group's first channel
  TapPlace tap;
  int64_t end;
  static constexpr bool along_depth = true;

  template <int kDepth>
  __device__ static PatchLoader first(const Gather<T>& g, const PatchRow* rows, int64_t group) {
    return {g, rows, g.src + group * g.src_channels, TapPlace(g, threadIdx.x % kDepth), g.depth()};
  }

  template <int kSide, int kDepth, int kEach, class U>
  __device__ __forceinline__ void load(int64_t k0, U (&out)[kEach]) {
    const Share<kSide, kDepth> share(true);
    const int dd = static_cast<int>(tap.jd * g.axis[0].tap_step), dh = static_cast<int>(tap.jh * g.axis[1].tap_step);
    const int dw = static_cast<int>(tap.jw * g.axis[2].tap_step);
    const int64_t offset = pixel_offset(g, dd, dh, dw) + tap.c;
    const bool exists = k0 + share.step < end;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const PatchRow& row = rows[share.place + e * share.place_step];
      out[e] = exists && inside(g, row.d + dd, row.h + dh, row.w + dw) ? widened(src[row.src + offset]) : U(0);
    }
    tap.advance(g, kDepth);
  }
};

// Side: columns (tap, channel); inner axis: pixels.
template <class T>
struct TurnedPatchLoader {
  const Gather<T>& g;
  const T* src;  // at the group's first channel
  PixelPlace pixel;
  int dd, dh, dw;
  int64_t offset, end;
  bool exists;
  static constexpr bool along_depth = false;

  template <int kSide>
  __device__ static TurnedPatchLoader first(const Gather<T>& g, int64_t group, int64_t column, int64_t begin,
                                            int64_t end) {
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t mine = column + thread % kSide;
    const bool exists = mine < g.depth();
    const TapPlace tap(g, exists ? mine : 0);
    const int dd = static_cast<int>(tap.jd * g.axis[0].tap_step), dh = static_cast<int>(tap.jh * g.axis[1].tap_step);
    const int dw = static_cast<int>(tap.jw * g.axis[2].tap_step);
    return {g,
            g.src + group * g.src_channels,
            PixelPlace(g, begin + thread / kSide),
            dd,
            dh,
            dw,
            pixel_offset(g, dd, dh, dw) + tap.c,
            end,
            exists};
  }

  template <int kSide, int kDepth, int kEach, class U>
  __device__ __forceinline__ void load(int64_t k0, U (&out)[kEach]) {
    const Share<kSide, kDepth> share(false);
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int sd = static_cast<int>(pixel.d * g.axis[0].step + g.axis[0].first);
      const int sh = static_cast<int>(pixel.h * g.axis[1].step + g.axis[1].first);
      const int sw = static_cast<int>(pixel.w * g.axis[2].step + g.axis[2].first);
      out[e] = exists && k0 + share.step + e * share.depth_step < end && inside(g, sd + dd, sh + dh, sw + dw)
                   ? widened(src[pixel.n * g.src_batch + pixel_offset(g, sd, sh, sw) + offset])
                   : U(0);
      pixel.advance(g, share.depth_step);
    }
  }
};

// Side: channels of a (N, pixels, channels) tensor; inner axis: pixels of all images.
template <class T>
struct ChannelLoader {
  const T* src;  // at the tile's first channel
  int64_t image_stride, pixel_stride, image_pixels;
  int64_t image, place, end;
  int sides;
  static constexpr bool along_depth = false;

  template <int kSide>
  __device__ static ChannelLoader first(const T* src, int64_t channels, int64_t image_stride, int64_t pixel_stride,
                                        int64_t image_pixels, int64_t begin, int64_t end) {
    const int64_t mine = begin + static_cast<int>(threadIdx.x) / kSide;
    return {src,
            image_stride,
            pixel_stride,
            image_pixels,
            mine / image_pixels,
            mine % image_pixels,
            end,
            static_cast<int>(channels < kSide ? channels : kSide)};
  }

  template <int kSide, int kDepth, int kEach, class U>
  __device__ __forceinline__ void load(int64_t k0, U (&out)[kEach]) {
    const Share<kSide, kDepth> share(false);
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      out[e] = share.place < sides && k0 + share.step + e * share.depth_step < end
                   ? widened(src[image * image_stride + place * pixel_stride + share.place])
                   : U(0);
      place += share.depth_step;
      while (place >= image_pixels) {
        place -= image_pixels;
        ++image;
      }
    }
  }
};

}  // namespace
}  // namespace pydl
