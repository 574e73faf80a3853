// Convolution: forward, gradient of the input, gradient of the weight. The caller has chosen the algorithm; here each
// is started. The arithmetic is in the headers named after them.
#include "backend/cpu/conv_depthwise.h"
#include "backend/cpu/conv_gemm.h"
#include "backend/cpu/conv_narrow.h"
#include "backend/cpu/conv_winograd.h"

namespace pydl {
namespace {

int64_t pixels_of(const int64_t (&sizes)[3]) { return sizes[0] * sizes[1] * sizes[2]; }

// Whether the images of a batch follow each other, so that all of it is one matrix (pixels, channels).
bool joined(const ConvLayout& layout, int64_t pixels, int64_t batch) {
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
    exec.table->gemm(g, exec);
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

template <class T>
void forward_typed(const ConvForwardArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  switch (s.algorithm) {
    case ConvAlgorithm::pointwise:
      return pointwise_product<T>(s, a.x, a.x_layout, s.in_channels, a.weight, 1, s.in_channels / s.groups,
                                  s.out_channels, a.y, s.out_channels, a.bias, a.relu, exec);
    case ConvAlgorithm::depthwise: {
      const Gather<T> g = forward_gather<T>(a);
      if (!with_width<T>(g.src_channels, [&](auto width) { depthwise<width>(g, exec); })) run_gather(g, exec);
      return;
    }
    case ConvAlgorithm::narrow:
      return narrow(narrow_forward<T>(a), exec);
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) return winograd(forward_gather<T>(a), exec);
      return;
    default:
      return run_gather(forward_gather<T>(a), exec);
  }
}

template <class T>
void backward_input_typed(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  switch (s.algorithm) {
    case ConvAlgorithm::pointwise:
      return pointwise_product<T>(s, a.d_y, a.d_y_layout, s.out_channels, a.weight, s.in_channels / s.groups, 1,
                                  s.in_channels, a.d_x, s.in_channels, a.bias, false, exec);
    case ConvAlgorithm::depthwise:
      return each_backward_gather<T>(a, [&](const Gather<T>& g) {
        if (!with_width<T>(g.src_channels, [&](auto width) { depthwise<width>(g, exec); })) run_gather(g, exec);
      });
    case ConvAlgorithm::narrow:
      return narrow(narrow_backward<T>(a), exec);
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) return winograd(backward_gather<T>(a, 0, 0, 0), exec);
      return;
    default:
      return each_backward_gather<T>(a, [&](const Gather<T>& g) { run_gather(g, exec); });
  }
}

template <class T>
void backward_weight_typed(const ConvBackwardWeightArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const Gather<T> gather = forward_gather<T>({s, a.x, nullptr, nullptr, nullptr, a.x_layout, false});
  const T* d_y = static_cast<const T*>(a.d_y);
  T* d_weight = static_cast<T*>(a.d_weight);
  switch (s.algorithm) {
    case ConvAlgorithm::pointwise:
      return pointwise_weight<T>(a, exec);
    case ConvAlgorithm::depthwise: {
      const bool done = with_width<T>(gather.src_channels, [&](auto width) {
        depthwise_weight<width>(gather, d_y, a.d_y_layout.batch, a.d_y_layout.pixel, d_weight, exec);
      });
      if (!done) weight_gradient(gather, d_y, a.d_y_layout.pixel, d_weight, exec);
      return;
    }
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) {
        winograd_weight(gather, d_y, a.d_y_layout.batch, a.d_y_layout.pixel, d_weight, exec);
      }
      return;
    default:
      return weight_gradient(gather, d_y, a.d_y_layout.pixel, d_weight, exec);
  }
}

void conv_forward(const ConvForwardArgs& args, Exec& exec) noexcept {
  if (args.shape.dtype == DType::float64) {
    forward_typed<double>(args, exec);
  } else {
    forward_typed<float>(args, exec);
  }
}
void conv_backward_input(const ConvBackwardInputArgs& args, Exec& exec) noexcept {
  if (args.shape.dtype == DType::float64) {
    backward_input_typed<double>(args, exec);
  } else {
    backward_input_typed<float>(args, exec);
  }
}
void conv_backward_weight(const ConvBackwardWeightArgs& args, Exec& exec) noexcept {
  if (args.shape.dtype == DType::float64) {
    backward_weight_typed<double>(args, exec);
  } else {
    backward_weight_typed<float>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(conv) {
  table.conv_forward = pydl::conv_forward;
  table.conv_backward_input = pydl::conv_backward_input;
  table.conv_backward_weight = pydl::conv_backward_weight;
}
