// Convolutions of stride s by Winograd's transforms, which are of stride 1: pixels (s Y + py, s X + px) of the padded
// image become the s * s channels (py, px, c) of pixel (Y, X), its phases, and so do the taps of the weight, with zeros
// where the kernel ends. A kernel of 7 and stride 2 is one of 4 taps then. One group, no depth.
#pragma once
#include "backend/cpu/conv_winograd_weight.h"

namespace pydl {
namespace {

constexpr int64_t kPhaseGrain = 16384;  // elements

// The convolution of stride 1 over phases.
inline ConvShape phase_shape(const ConvShape& s) {
  ConvShape p = s;
  for (int i = 1; i < 3; ++i) {
    p.kernel[i] = ceil_div(s.kernel[i], s.stride[i]);
    p.in[i] = s.out[i] + p.kernel[i] - 1;
    p.stride[i] = 1;
    p.padding[i] = 0;
  }
  p.in_channels = s.in_channels * s.stride[1] * s.stride[2];
  return p;
}
inline ConvLayout phase_layout(const ConvShape& p) { return {pixels_of(p.in) * p.in_channels, 1, p.in_channels}; }
inline int64_t weight_count(const ConvShape& p) { return p.out_channels * p.in_channels * pixels_of(p.kernel); }

// x as phases (N, Y, X, (py, px, c)).
inline void to_phases(const ConvShape& s, const ConvShape& p, const float* x, const ConvLayout& layout, float* phases,
                      Exec& exec) {
  const int64_t stride = s.stride[1], channels = s.in_channels, line = p.in[2] * p.in_channels;
  parallel_for(exec, s.batch * p.in[1], 1 + kPhaseGrain / line, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* image = x + i / p.in[1] * layout.batch;
      for (int64_t py = 0; py < stride; ++py) {
        const int64_t row = i % p.in[1] * stride + py - s.padding[1];
        const float* src = image + row * s.in[2] * layout.pixel;
        float* dst = phases + i * line + py * stride * channels;
        const bool inside = row >= 0 && row < s.in[1];
        for (int64_t col = -s.padding[2], left = p.in[2]; left > 0; --left, dst += p.in_channels) {
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

// The transpose of it, to (N, H, W, C); `outside`, (C) or null for zeros, where an image reaches beyond its phases.
inline void from_phases(const ConvShape& s, const ConvShape& p, const float* phases, const float* outside, float* d_x,
                        Exec& exec) {
  const int64_t stride = s.stride[1], channels = s.in_channels, line = s.in[2] * channels;
  parallel_for(exec, s.batch * s.in[1], 1 + kPhaseGrain / line, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % s.in[1] + s.padding[1], y = row / stride;
      const float* src = phases + ((i / s.in[1] * p.in[1] + y) * p.in[2] * stride + row % stride) * stride * channels;
      float* dst = d_x + i * line;
      for (int64_t col = s.padding[2]; col < s.in[2] + s.padding[2]; ++col, dst += channels) {
        if (y < p.in[1] && col / stride < p.in[2]) {
          copy_run(src + col / stride * p.in_channels + col % stride * channels, channels, dst);
        } else if (outside != nullptr) {
          copy_run(outside, channels, dst);
        } else {
          zero_run(channels, dst);
        }
      }
    }
  });
}

// body(place in the phases of a weight (O, (py, px, c), kh, kw), place of the same tap in (O, C, KH, KW)), or -1 where
// the kernel has none.
template <class F>
void each_tap(const ConvShape& s, const ConvShape& p, Exec& exec, F body) {
  const int64_t stride = s.stride[1], row = p.in_channels * pixels_of(p.kernel);
  parallel_for(exec, s.out_channels, 1 + kPhaseGrain / row, [&](int64_t begin, int64_t end) {
    int64_t to = begin * row;
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < p.in_channels; ++i) {
        const int64_t c = i % s.in_channels, phase = i / s.in_channels;
        const int64_t first = (o * s.in_channels + c) * pixels_of(s.kernel);
        for (int64_t kh = phase / stride; kh < p.kernel[1] * stride; kh += stride) {
          for (int64_t kw = phase % stride; kw < p.kernel[2] * stride; kw += stride, ++to)
            body(to, kh < s.kernel[1] && kw < s.kernel[2] ? first + kh * s.kernel[2] + kw : -1);
        }
      }
    }
  });
}
inline void phase_weight(const ConvShape& s, const ConvShape& p, const float* weight, float* phases, Exec& exec) {
  each_tap(s, p, exec, [&](int64_t to, int64_t from) { phases[to] = from < 0 ? 0 : weight[from]; });
}

inline bool winograd_phases(const ConvForwardArgs& a, Exec& exec) {
  const ConvShape p = phase_shape(a.shape);
  const ConvLayout layout = phase_layout(p);
  Scratch<float> x(exec, p.batch * layout.batch), weight(exec, weight_count(p));
  to_phases(a.shape, p, static_cast<const float*>(a.x), a.x_layout, x, exec);
  phase_weight(a.shape, p, static_cast<const float*>(a.weight), weight, exec);
  return winograd(forward_gather<float>({p, x, weight, a.bias, a.y, layout, a.relu}), exec);
}

inline bool winograd_phases_input(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const ConvShape p = phase_shape(s);
  const float* bias = static_cast<const float*>(a.bias);
  Scratch<float> d_x(exec, p.batch * pixels_of(p.in) * p.in_channels), weight(exec, weight_count(p)),
      biases(exec, p.in_channels);
  phase_weight(s, p, static_cast<const float*>(a.weight), weight, exec);
  for (int64_t i = 0; bias != nullptr && i < p.in_channels; ++i) biases.get()[i] = bias[i % s.in_channels];
  const ConvBackwardInputArgs of_phases{p, a.d_y, weight, bias == nullptr ? nullptr : biases.get(), d_x, a.d_y_layout};
  if (!winograd(backward_gather<float>(of_phases, 0, 0, 0), exec)) return false;
  from_phases(s, p, d_x, bias, static_cast<float*>(a.d_x), exec);
  return true;
}

inline bool winograd_phases_weight(const ConvBackwardWeightArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const ConvShape p = phase_shape(s);
  const ConvLayout layout = phase_layout(p);
  Scratch<float> x(exec, p.batch * layout.batch), d_phases(exec, weight_count(p));
  to_phases(s, p, static_cast<const float*>(a.x), a.x_layout, x, exec);
  const Gather<float> g = forward_gather<float>({p, x, nullptr, nullptr, nullptr, layout, false});
  const float* d_y = static_cast<const float*>(a.d_y);
  if (!winograd_weight(g, d_y, a.d_y_layout.batch, a.d_y_layout.pixel, d_phases, exec)) return false;
  float* d_weight = static_cast<float*>(a.d_weight);
  each_tap(s, p, exec, [&](int64_t from, int64_t to) {
    if (to >= 0) d_weight[to] = d_phases[from];
  });
  return true;
}

}  // namespace
}  // namespace pydl
