// Convolutions of larger kernels and strides by Winograd's transforms: the pixels that a part of the kernel (see
// backend/winograd_parts.h) meets first become channels, (part along y, part along x, c) of pixel (Y, X), and so do the
// taps of the weight, with zeros where the kernel ends. What remains is a convolution of stride 1 and as many taps as a
// part has. A kernel of 7 and stride 2 is one of 4 taps and 4 times the channels then. One group, no depth.
#pragma once
#include "backend/cpu/conv_winograd_weight.h"
#include "backend/winograd_parts.h"

namespace pydl {
namespace {

constexpr int64_t kPhaseGrain = 16384;        // elements
constexpr int64_t kPhaseElements = 16 << 20;  // of images that are made at a time

// The convolution of stride 1 over phases.
inline ConvShape phase_shape(const ConvShape& s, const WinogradParts& parts) {
  ConvShape p = s;
  for (int i = 1; i < 3; ++i) {
    p.kernel[i] = parts.taps;
    p.in[i] = s.out[i] + parts.taps - 1;
    p.stride[i] = 1;
    p.padding[i] = 0;
  }
  p.in_channels = s.in_channels * parts.count() * parts.count();
  return p;
}
inline ConvLayout phase_layout(const ConvShape& p) { return {pixels_of(p.in) * p.in_channels, 1, p.in_channels}; }
inline int64_t weight_count(const ConvShape& p) { return p.out_channels * p.in_channels * pixels_of(p.kernel); }

// x as phases (N, Y, X, (part, part, c)).
inline void to_phases(const ConvShape& s, const ConvShape& p, const WinogradParts& parts, const float* x,
                      const ConvLayout& layout, float* phases, Exec& exec) {
  const int64_t stride = parts.stride, channels = s.in_channels, line = p.in[2] * p.in_channels;
  parallel_for(exec, s.batch * p.in[1], 1 + kPhaseGrain / line, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* image = x + i / p.in[1] * layout.batch;
      for (int64_t run = 0; run < parts.count() * parts.parts; ++run) {  // parts that follow each other along x
        const int64_t down = run / parts.parts, across = run % parts.parts * stride;
        const int64_t row = i % p.in[1] * stride + parts.first_tap(down) - s.padding[1];
        const bool inside = row >= 0 && row < s.in[1];
        const float* src = image + row * s.in[2] * layout.pixel;
        float* dst = phases + i * line + (down * parts.count() + across) * channels;
        int64_t col = parts.first_tap(across) - s.padding[2];
        for (int64_t left = p.in[2]; left > 0; --left, dst += p.in_channels) {
          if (inside && col >= 0 && col + stride <= s.in[2] && layout.pixel == channels) {
            copy_run(src + col * channels, stride * channels, dst);
            col += stride;
            continue;
          }
          for (int64_t px = 0; px < stride; ++px, ++col) {
            if (inside && col >= 0 && col < s.in[2]) {
              copy_run(src + col * layout.pixel, channels, dst + px * channels);
            } else {
              zero_run(channels, dst + px * channels);
            }
          }
        }
      }
    }
  });
}

inline void add_run(int64_t n, const float* src, float* dst) {
  for (int64_t i = 0; i < n; i += FloatVec::size) {
    const int lanes = static_cast<int>(n - i < FloatVec::size ? n - i : FloatVec::size);
    store_some(load_some<FloatVec>(dst + i, lanes) + load_some<FloatVec>(src + i, lanes), dst + i, lanes);
  }
}

// The transpose of it, to (N, H, W, C), plus a bias (C) or null.
inline void from_phases(const ConvShape& s, const ConvShape& p, const WinogradParts& parts, const float* phases,
                        const float* bias, float* d_x, Exec& exec) {
  const int64_t stride = parts.stride, channels = s.in_channels, line = s.in[2] * channels;
  parallel_for(exec, s.batch * s.in[1], 1 + kPhaseGrain / line, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* dst = d_x + i * line;
      for (int64_t col = 0; col < s.in[2]; ++col, dst += channels) {
        bool written = bias != nullptr;
        if (written) copy_run(bias, channels, dst);
        for (int64_t part = 0; part < parts.parts * parts.parts; ++part) {
          const int64_t down = part / parts.parts * stride, across = part % parts.parts * stride;
          const int64_t h = i % s.in[1] + s.padding[1] - parts.first_tap(down), y = h / stride;
          const int64_t w = col + s.padding[2] - parts.first_tap(across), x = w / stride;
          if (h < 0 || w < 0 || y >= p.in[1] || x >= p.in[2]) continue;
          const float* src = phases + ((i / s.in[1] * p.in[1] + y) * p.in[2] + x) * p.in_channels +
                             ((down + h % stride) * parts.count() + across + w % stride) * channels;
          written ? add_run(channels, src, dst) : copy_run(src, channels, dst);
          written = true;
        }
        if (!written) zero_run(channels, dst);
      }
    }
  });
}

// body(place in the phases of a weight (O, (part, part, c), taps, taps), place of the same tap in (O, C, KH, KW)), or
// -1 where the kernel has none.
template <class F>
void each_tap(const ConvShape& s, const ConvShape& p, const WinogradParts& parts, Exec& exec, F body) {
  const int64_t row = p.in_channels * pixels_of(p.kernel);
  parallel_for(exec, s.out_channels, 1 + kPhaseGrain / row, [&](int64_t begin, int64_t end) {
    int64_t to = begin * row;
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < p.in_channels; ++i) {
        const int64_t c = i % s.in_channels, part = i / s.in_channels;
        const int64_t first = (o * s.in_channels + c) * pixels_of(s.kernel);
        int64_t kh = parts.first_tap(part / parts.count());
        for (int64_t a = 0; a < parts.taps; ++a, kh += parts.stride) {
          int64_t kw = parts.first_tap(part % parts.count());
          for (int64_t b = 0; b < parts.taps; ++b, kw += parts.stride, ++to)
            body(to, kh < s.kernel[1] && kw < s.kernel[2] ? first + kh * s.kernel[2] + kw : -1);
        }
      }
    }
  });
}
inline void phase_weight(const ConvShape& s, const ConvShape& p, const WinogradParts& parts, const void* weight,
                         float* phases, Exec& exec) {
  const float* src = static_cast<const float*>(weight);
  each_tap(s, p, parts, exec, [&](int64_t to, int64_t from) { phases[to] = from < 0 ? 0 : src[from]; });
}

// run(args of some images, the first of them) for as many images at a time as scratch memory is taken for; false where
// one returns false.
template <class Args, class F>
bool each_batch(const Args& a, const ConvShape& p, F run) {
  const int64_t fit = kPhaseElements / phase_layout(p).batch, most = fit < 1 ? 1 : fit;
  for (int64_t first = 0; first < a.shape.batch; first += most) {
    Args some = a;
    some.shape.batch = a.shape.batch - first < most ? a.shape.batch - first : most;
    if (!run(some, first)) return false;
  }
  return true;
}

// Convolutions by Winograd's transforms, as they are or by phases. As winograd() and winograd_weight(), false where
// something is not finite.
inline bool winograd_forward(const ConvForwardArgs& a, Exec& exec) {
  const WinogradParts parts = winograd_parts(a.shape);
  if (is_one_part(a.shape, parts)) return winograd(forward_gather<float>(a), exec);
  ConvShape p = phase_shape(a.shape, parts);
  const ConvLayout layout = phase_layout(p);
  Scratch<float> weight(exec, weight_count(p));
  phase_weight(a.shape, p, parts, a.weight, weight, exec);
  return each_batch(a, p, [&](const ConvForwardArgs& some, int64_t first) {
    p.batch = some.shape.batch;
    Scratch<float> x(exec, p.batch * layout.batch);
    const float* images = static_cast<const float*>(a.x) + first * a.x_layout.batch;
    to_phases(some.shape, p, parts, images, a.x_layout, x, exec);
    float* y = static_cast<float*>(a.y) + first * pixels_of(p.out) * p.out_channels;
    return winograd(forward_gather<float>({p, x, weight, a.bias, y, layout, a.relu}), exec);
  });
}

inline bool winograd_backward_input(const ConvBackwardInputArgs& a, Exec& exec) {
  const WinogradParts parts = winograd_parts(a.shape);
  if (is_one_part(a.shape, parts)) return winograd(backward_gather<float>(a, 0, 0, 0), exec);
  ConvShape p = phase_shape(a.shape, parts);
  Scratch<float> weight(exec, weight_count(p));
  phase_weight(a.shape, p, parts, a.weight, weight, exec);
  return each_batch(a, p, [&](const ConvBackwardInputArgs& some, int64_t first) {
    p.batch = some.shape.batch;
    Scratch<float> phases(exec, p.batch * phase_layout(p).batch);
    const float* d_y = static_cast<const float*>(a.d_y) + first * a.d_y_layout.batch;
    const ConvBackwardInputArgs of_phases{p, d_y, weight, nullptr, phases, a.d_y_layout};
    if (!winograd(backward_gather<float>(of_phases, 0, 0, 0), exec)) return false;
    float* d_x = static_cast<float*>(a.d_x) + first * pixels_of(a.shape.in) * a.shape.in_channels;
    from_phases(some.shape, p, parts, phases, static_cast<const float*>(a.bias), d_x, exec);
    return true;
  });
}

inline bool winograd_backward_weight(const ConvBackwardWeightArgs& a, Exec& exec) {
  const WinogradParts parts = winograd_parts(a.shape);
  const auto gradient = [&](const ConvShape& s, const float* x, const ConvLayout& layout, int64_t first, float* dst) {
    const float* d_y = static_cast<const float*>(a.d_y) + first * a.d_y_layout.batch;
    return winograd_weight(forward_gather<float>({s, x, nullptr, nullptr, nullptr, layout, false}), d_y,
                           a.d_y_layout.batch, a.d_y_layout.pixel, dst, exec);
  };
  float* d_weight = static_cast<float*>(a.d_weight);
  if (is_one_part(a.shape, parts)) return gradient(a.shape, static_cast<const float*>(a.x), a.x_layout, 0, d_weight);
  ConvShape p = phase_shape(a.shape, parts);
  const ConvLayout layout = phase_layout(p);
  Scratch<float> d_phases(exec, weight_count(p));
  return each_batch(a, p, [&](const ConvBackwardWeightArgs& some, int64_t first) {
    p.batch = some.shape.batch;
    Scratch<float> x(exec, p.batch * layout.batch);
    const float* images = static_cast<const float*>(a.x) + first * a.x_layout.batch;
    to_phases(some.shape, p, parts, images, a.x_layout, x, exec);
    if (!gradient(p, x, layout, first, d_phases)) return false;
    each_tap(a.shape, p, parts, exec, [&](int64_t from, int64_t to) {
      if (to >= 0) d_weight[to] = d_phases[from] + (first == 0 ? 0 : d_weight[to]);
    });
    return true;
  });
}

}  // namespace
}  // namespace pydl
