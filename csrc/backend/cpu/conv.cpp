// Convolution: forward, gradient of the input, gradient of the weight. The caller has chosen the algorithm; here each
// is started. The arithmetic is in the headers named after them.
#include "backend/cpu/conv_gemm.h"
#include "backend/cpu/conv_groups.h"
#include "backend/cpu/conv_narrow.h"
#include "backend/cpu/conv_phases.h"
#include "backend/cpu/conv_planes.h"

namespace pydl {
namespace {

// Groups of few channels; depthwise is one of one.
template <class T>
void run_groups(const Gather<T>& g, Exec& exec) {
  if (g.src_channels == 1 && g.dst_channels == 1) return depthwise(g, exec);
  if constexpr (kPicksLanes<T>) {
    if (fills_lanes(g)) return grouped(g, exec);
  }
  run_gather(g, exec);
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
      if constexpr (sizeof(T) == 4) {
        if (s.planes) return depthwise_planes<1>(&g, exec);
      }
      return run_groups(g, exec);
    }
    case ConvAlgorithm::narrow:
      return narrow(narrow_forward<T>(a), exec);
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) {
        if (winograd_forward(a, exec)) return;
      }
      [[fallthrough]];
    default:
      return run_gather(forward_gather<T>(a), exec);
  }
}

// Products of bfloat16 by the CPU's instructions for them.
void forward_pairs(const ConvForwardArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  if (s.algorithm == ConvAlgorithm::pointwise) {
    return pointwise_product<uint16_t>(s, a.x, a.x_layout, s.in_channels, a.weight, 1, s.in_channels / s.groups,
                                       s.out_channels, a.y, s.out_channels, a.bias, a.relu, exec);
  }
  Gather<float> g = forward_gather<float>(a);
  g.pairs = true;
  g.src_channels /= 2;
  g.src_batch /= 2;
  g.src_pixel /= 2;
  g.w_dst /= 2;
  g.w_group /= 2;
  run_gather(g, exec);
}

template <class T>
void backward_input_typed(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  switch (s.algorithm) {
    case ConvAlgorithm::pointwise:
      return pointwise_product<T>(s, a.d_y, a.d_y_layout, s.out_channels, a.weight, s.in_channels / s.groups, 1,
                                  s.in_channels, a.d_x, s.in_channels, a.bias, false, exec);
    case ConvAlgorithm::depthwise:
      if constexpr (sizeof(T) == 4) {
        if (s.planes) return depthwise_planes_input<T>(a, exec);
      }
      return each_backward_gather<T>(a, [&](const Gather<T>& g) { run_groups(g, exec); });
    case ConvAlgorithm::narrow:
      return narrow(narrow_backward<T>(a), exec);
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) {
        if (winograd_backward_input(a, exec)) return;
      }
      [[fallthrough]];
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
      if constexpr (sizeof(T) == 4) {
        if (s.planes) return depthwise_planes_weight(gather, d_y, d_weight, exec);
      }
      const int64_t up_batch = a.d_y_layout.batch, up_pixel = a.d_y_layout.pixel;
      if (gather.src_channels == 1 && gather.dst_channels == 1)
        return depthwise_weight(gather, d_y, up_batch, up_pixel, d_weight, exec);
      if constexpr (kPicksLanes<T>) {
        if (fills_lanes(gather)) return grouped_weight(gather, d_y, up_batch, up_pixel, d_weight, exec);
      }
      return weight_gradient(gather, d_y, up_pixel, d_weight, exec);
    }
    case ConvAlgorithm::winograd:
      if constexpr (sizeof(T) == 4) {
        if (winograd_backward_weight(a, exec)) return;
      }
      [[fallthrough]];
    default:
      return weight_gradient(gather, d_y, a.d_y_layout.pixel, d_weight, exec);
  }
}

void conv_forward(const ConvForwardArgs& args, Exec& exec) noexcept {
  if (args.shape.dtype == DType::float64) {
    forward_typed<double>(args, exec);
  } else if (args.shape.dtype == DType::bfloat16) {
    forward_pairs(args, exec);
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
