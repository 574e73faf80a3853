// Convolution and transposed convolution of 1 to 3 spatial axes. Three products of the same three tensors, each the
// gradient of the others: y of (x, weight), x's of (d_y, weight) and weight's of (x, d_y). All are recorded, so
// gradients have gradients of any order; a transposed convolution is the second of them.
#include <algorithm>
#include <optional>

#include "backend/registry.h"
#include "backend/winograd_parts.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

// One convolution: x (N, C, *in) and weight (O, C / groups, *kernel) to y (N, O, *out).
struct Geometry {
  const char* op;
  int rank;
  ConvShape shape;  // dtype and algorithm are set for each product
  std::optional<ConvAlgorithm> forced;
  bool relu;
  bool products = false;  // of groups whose planes are matrices: by matmul, without another layout
};

enum class Pass { forward, backward_input, backward_weight };

// In phases (backend/cpu/conv_phases.h) only of one group, without depth.
bool winograd_possible(const Geometry& g, DType dtype) {
  const ConvShape& s = g.shape;
  if (dtype != DType::float32 || s.kernel[0] != 1 || s.padding[0] != 0 || s.in[0] != s.out[0] || s.stride[0] != 1 ||
      s.stride[1] != s.stride[2] || s.dilation[1] * s.dilation[2] != 1 || s.kernel[1] * s.kernel[2] == 1)
    return false;
  const WinogradParts parts = winograd_parts(s);
  return is_one_part(s, parts) || (s.groups == 1 && s.in[0] == 1 && parts.parts <= 4);  // 16 times the image at most
}

bool narrow_possible(const Geometry& g, Pass pass) {
  const ConvShape& s = g.shape;
  const bool plain_stride = s.stride[0] == 1 && s.stride[1] == 1 && s.stride[2] == 1;
  return pass == Pass::backward_input || (pass == Pass::forward && plain_stride);
}

int64_t sixteens(int64_t n) { return (n + 15) / 16 * 16; }

// What a product costs for each pixel and tap, measured in multiplications of full tiles: channels of results are made
// 16 by 16, but for a narrow one's. A gradient of the input at a stride has short runs to gather.
double plain_cost(int64_t from, int64_t to) { return static_cast<double>(from * (sixteens(to) + 4)); }
double narrow_cost(int64_t from, int64_t to) {
  return static_cast<double>(to + 2) * (1.2 * static_cast<double>(from) + 52);
}
bool narrow_pays(const Geometry& g, Pass pass, int64_t from, int64_t to) {
  const bool gathers_runs = pass == Pass::backward_input && g.shape.stride[1] * g.shape.stride[2] > 1;
  return narrow_possible(g, pass) && to <= 8 && narrow_cost(from, to) < plain_cost(from, to) * (gathers_runs ? 1.8 : 1);
}

// Whether Winograd's way is the cheapest, in the same unit: the products, the transforms of a tile's channels, weights
// that leave L2, phases of images and weights (backend/cpu/conv_phases.h), and a weight's transform against its
// packing.
bool winograd_pays(const Geometry& g, Pass pass, int64_t from, int64_t to) {
  constexpr double kTile = 500, kManyWeights = 1.3, kPhase = 15, kMoved = 100, kPacked = 20;
  const ConvShape& s = g.shape;
  const WinogradParts parts = winograd_parts(s);
  const int64_t taps = parts.taps, out = 7 - taps, phases = parts.count() * parts.count();
  const int64_t images = s.batch * s.out[0], down = (s.out[1] + out - 1) / out, across = (s.out[2] + out - 1) / out;
  const bool back = pass == Pass::backward_input;
  const int64_t from_phases = back ? from : from * phases, to_phases = back ? to * phases : to;
  const double pairs = plain_cost(from_phases, to_phases);
  const double many = phases > 1 && from_phases * to_phases > 64 * 64 ? kManyWeights : 1;
  const double transformed = taps == 3 ? 9 : 26;
  double cost = 36 * pairs * (static_cast<double>(images * down * across) * many + transformed) +
                kTile * static_cast<double>(images * down * across * (sixteens(from_phases) + sixteens(to_phases)));
  if (!is_one_part(s, parts)) {
    const int64_t pixels = images * (s.out[1] + taps - 1) * (s.out[2] + taps - 1);
    cost += kPhase * static_cast<double>(parts.stride * (back ? to_phases : from_phases) * pixels) +
            kMoved * static_cast<double>(from_phases * to_phases * taps * taps);
  }
  const auto kernel = static_cast<double>(s.kernel[1] * s.kernel[2]);
  const auto pixels = static_cast<double>(images * s.out[1] * s.out[2]);
  double other = kernel * plain_cost(from, to) * (pixels + kPacked);
  if (narrow_pays(g, pass, from, to)) other = kernel * narrow_cost(from, to) * pixels;
  return cost < (pass == Pass::backward_weight ? 1.2 : 0.95) * other;
}

bool pointwise_possible(const Geometry& g) {
  const ConvShape& s = g.shape;
  for (int i = 0; i < 3; ++i)
    if (s.kernel[i] != 1 || s.stride[i] != 1 || s.padding[i] != 0 || s.in[i] != s.out[i]) return false;
  return true;
}

// One channel to one, with or without groups.
bool is_one_to_one(const ConvShape& s) { return s.in_channels == s.groups && s.out_channels == s.groups; }

// Rows that are worth vectors along them: planes of shorter ones are turned. The pixels of an only channel would be
// vectors of one element.
constexpr int64_t kLeastPlaneWidth = 24, kLeastOnlyWidth = 6;
bool has_long_rows(const Geometry& g) {
  return g.rank <= 2 && g.shape.out[2] >= (g.shape.groups == 1 ? kLeastOnlyWidth : kLeastPlaneWidth);
}

// Groups of few channels; of one, they are what is called depthwise.
bool depthwise_possible(const Geometry& g, Pass pass, DType dtype) {
  const int64_t in = g.shape.in_channels / g.shape.groups, out = g.shape.out_channels / g.shape.groups;
  const int64_t from = pass == Pass::backward_input ? out : in, to = pass == Pass::backward_input ? in : out;
  return from <= 16 && from <= 4 * to && to <= (dtype == DType::float32 ? 16 : 8);
}

ConvAlgorithm algorithm_of(const Geometry& g, Pass pass, DType dtype) {
  const ConvShape& s = g.shape;
  if (g.forced) {  // a product that it cannot do is done by the one that can do all
    const bool possible = *g.forced == ConvAlgorithm::narrow      ? narrow_possible(g, pass)
                          : *g.forced == ConvAlgorithm::depthwise ? depthwise_possible(g, pass, dtype)
                                                                  : true;
    return possible ? *g.forced : ConvAlgorithm::gemm;
  }
  if (pointwise_possible(g) && s.groups == 1) return ConvAlgorithm::pointwise;
  const int64_t in = s.in_channels / s.groups, out = s.out_channels / s.groups;
  const bool back = pass == Pass::backward_input;
  const int64_t from = back ? out : in, to = back ? in : out;
  if (s.in_channels == 1 && s.out_channels == 1 && (has_long_rows(g) || dtype == DType::float64))
    return ConvAlgorithm::depthwise;
  if (winograd_possible(g, dtype) && (s.groups == 1 || (in >= 16 && out >= 16)) && winograd_pays(g, pass, from, to))
    return ConvAlgorithm::winograd;
  if (s.groups > 1 && depthwise_possible(g, pass, dtype)) return ConvAlgorithm::depthwise;
  if (narrow_pays(g, pass, from, to)) return ConvAlgorithm::narrow;
  if (back) {
    // Where the input has many pixels more than the output, gathering would mostly multiply with zeros around it.
    int64_t gathered = 2, scattered = 3;
    for (int i = 0; i < 3; ++i) gathered *= (s.in[i] + s.stride[i] - 1) / s.stride[i], scattered *= s.out[i];
    if (gathered > scattered) return ConvAlgorithm::narrow;
  }
  return ConvAlgorithm::gemm;
}

Dims spatial(const int64_t (&sizes)[3], int rank) {
  Dims out;
  for (int i = 3 - rank; i < 3; ++i) out.push_back(sizes[i]);
  return out;
}
Dims with_channels(int64_t batch, int64_t channels, const Dims& sizes) {
  Dims out{batch, channels};
  for (int64_t size : sizes) out.push_back(size);
  return out;
}
Dims x_shape(const Geometry& g) {
  return with_channels(g.shape.batch, g.shape.in_channels, spatial(g.shape.in, g.rank));
}
Dims y_shape(const Geometry& g) {
  return with_channels(g.shape.batch, g.shape.out_channels, spatial(g.shape.out, g.rank));
}
Dims weight_shape(const Geometry& g) {
  return with_channels(g.shape.out_channels, g.shape.in_channels / g.shape.groups, spatial(g.shape.kernel, g.rank));
}

// True, and the layout, where all pixels of an image are equally far apart.
bool uniform_layout(const Tensor& x, ConvLayout* layout) {
  int64_t pixels = 1, step = 0;
  bool uniform = true;
  for (int i = x.ndim() - 1; i >= 2; --i) {
    if (x.size(i) == 1) continue;
    if (pixels == 1)
      step = x.stride(i);
    else
      uniform = uniform && x.stride(i) == step * pixels;
    pixels *= x.size(i);
  }
  const int64_t channels = x.size(1);
  if (pixels == 1) step = channels;
  *layout = {x.size(0) == 1 ? step * pixels : x.stride(0), channels == 1 ? 1 : x.stride(1), step};
  return uniform;
}

bool is_channels_last(const Tensor& x) {
  ConvLayout layout;
  return uniform_layout(x, &layout) && layout.channel == 1 && layout.pixel >= x.size(1) && layout.batch >= 0;
}

// Whether a depthwise convolution leaves an image that lies plane by plane as it is.
bool stays_in_planes(const Geometry& g, const Tensor& x) {
  const ConvShape& s = g.shape;
  return x.device().is_cpu() && x.dtype() == DType::float32 && is_one_to_one(s) && has_long_rows(g) &&
         (x.contiguous() || s.groups == 1) && algorithm_of(g, Pass::forward, x.dtype()) == ConvAlgorithm::depthwise;
}

constexpr int64_t kLeastPlane = 128;     // pixels of a plane that is worth a product of its own
constexpr int64_t kMostGroupRows = 128;  // channels of its group, of which an image's gradient is a matrix

// Whether pixels lie plane by plane and groups are small matrices of them: then each is one product, and planes stay.
bool is_product_of_planes(const Geometry& g, const Tensor& x) {
  const ConvShape& s = g.shape;
  return x.device().is_cpu() && s.groups > 1 && !g.forced && pointwise_possible(g) && x.contiguous() &&
         s.out[0] * s.out[1] * s.out[2] >= kLeastPlane && s.in_channels <= kMostGroupRows * s.groups &&
         s.out_channels <= kMostGroupRows * s.groups;
}

// x as the algorithm takes it: itself where its layout serves, else a copy. With `together`, one image's pixels have to
// follow the other's.
Tensor prepared(const Geometry& g, const Tensor& x, ConvAlgorithm algorithm, bool together = false) {
  if (g.shape.planes || g.products) return contiguous(detach(x));
  ConvLayout layout;
  const bool uniform = uniform_layout(x, &layout);
  if (algorithm == ConvAlgorithm::pointwise) {
    if (uniform && layout.pixel > 0 && layout.channel > 0) return detach(x);
  } else if (is_channels_last(x)) {
    const bool follow = x.size(0) <= 1 || layout.batch == x.count() / (x.size(0) * x.size(1)) * layout.pixel;
    if (follow || !together) return detach(x);
  }
  Tensor copy = Tensor::empty_channels_last(x.shape(), x.dtype(), x.device());
  copy_into(copy, detach(x));
  return copy;
}

ConvLayout layout_of(const Tensor& x) {
  ConvLayout layout;
  if (!uniform_layout(x, &layout)) throw InternalError("[convolution] a tensor that was not prepared");
  return layout;
}

// A result of the layout that the kernels write.
Tensor empty_result(const Geometry& g, const Dims& shape, DType dtype, Device device) {
  return g.shape.planes ? Tensor::empty(shape, dtype, device) : Tensor::empty_channels_last(shape, dtype, device);
}

ConvShape shape_for(const Geometry& g, DType dtype, ConvAlgorithm algorithm) {
  ConvShape s = g.shape;
  s.dtype = dtype;
  s.algorithm = algorithm;
  return s;
}

int64_t work_of(const Geometry& g) {
  const ConvShape& s = g.shape;
  return s.batch * s.out_channels * (s.in_channels / s.groups) * s.out[0] * s.out[1] * s.out[2] * s.kernel[0] *
         s.kernel[1] * s.kernel[2];
}

Tensor plain(const Tensor& t) { return t.defined() ? contiguous(detach(t)) : t; }

// For bfloat16 Winograd's transforms pay only where they save most, kernels of 3x3.
ConvAlgorithm native_algorithm(const Geometry& g) {
  const ConvAlgorithm algorithm = algorithm_of(g, Pass::forward, DType::float32);
  const ConvShape& s = g.shape;
  const bool three = s.kernel[1] == 3 && s.kernel[2] == 3 && s.stride[1] == 1;
  return algorithm == ConvAlgorithm::winograd && !three && !g.forced ? ConvAlgorithm::gemm : algorithm;
}

// How a convolution of bfloat16 is made by the CPU's own instructions for it, if it is: where it is a plain product,
// forward, of an even number of channels. What has a cheaper way in float32 (Winograd, depthwise) takes that.
std::optional<ConvAlgorithm> native_way(const Geometry& g, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const ConvShape& s = g.shape;
  if (x.dtype() != DType::bfloat16 || weight.dtype() != x.dtype() || (bias.defined() && bias.dtype() != x.dtype()))
    return {};
  if (!x.device().is_cpu() || table_for(x.device(), g.op).gemm_bf16 == nullptr) return {};
  const ConvAlgorithm algorithm = native_algorithm(g);
  if (algorithm == ConvAlgorithm::gemm && s.in_channels / s.groups % 2 == 0) return algorithm;
  if (algorithm == ConvAlgorithm::pointwise) return algorithm;
  return {};
}

// y of a convolution by its native_way.
Tensor run_native(const Geometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& weight,
                  const Tensor& bias) {
  const bool pairs = algorithm != ConvAlgorithm::pointwise;
  const Tensor y = Tensor::empty_channels_last(y_shape(g), pairs ? DType::float32 : x.dtype(), x.device());
  if (y.count() == 0) return cast(y, x.dtype());
  ConvForwardArgs args;
  args.shape = shape_for(g, x.dtype(), algorithm);
  Tensor src = prepared(g, x, algorithm), w = plain(weight), b = plain(bias);
  args.x_layout = layout_of(src);
  if (pairs) {  // channels two by two
    if (args.x_layout.pixel % 2 != 0 || args.x_layout.batch % 2 != 0) src = prepared(g, clone(src), algorithm);
    args.x_layout = layout_of(src);
    const int64_t channels = w.size(1), taps = w.count() / w.size(0) / channels;
    w = contiguous(permute_dims(reshape(w, {w.size(0), channels / 2, 2, taps}), {0, 1, 3, 2}));
    if (b.defined()) b = cast(b, DType::float32);
  }
  args.x = src.bytes();
  args.weight = w.bytes();
  args.bias = b.defined() ? b.bytes() : nullptr;
  args.y = y.bytes();
  args.relu = g.relu;
  PYDL_LAUNCH(x.device(), work_of(g), conv_forward, args);
  return pairs ? cast(y, x.dtype()) : y;
}

// (N, groups, channels of a group, pixels), the planes of a group as the rows of a matrix; and the weight likewise.
Tensor grouped_planes(const Geometry& g, const Tensor& x) {
  const ConvShape& s = g.shape;
  const int64_t pixels = s.out[0] * s.out[1] * s.out[2];
  return reshape(contiguous(detach(x)), {s.batch, s.groups, x.size(1) / s.groups, pixels});
}
Tensor grouped_weight(const Geometry& g, const Tensor& weight) {
  const ConvShape& s = g.shape;
  return reshape(detach(weight), {1, s.groups, s.out_channels / s.groups, s.in_channels / s.groups});
}

// A product of planes as the convolution's result, of that shape.
Tensor finished_planes(const Geometry& g, const Tensor& product, const Dims& shape, const Tensor& bias) {
  const autograd::GradMode off(false);
  Tensor y = reshape(product, shape);
  if (bias.defined()) {
    const Tensor column = reshape(detach(bias), with_channels(1, shape[1], Dims::filled(g.rank, 1)));
    if (!replace("add_", y, column)) y = add(y, column);
  }
  if (g.relu && !replace("relu_", y)) y = relu(y, 0, 0);
  return y;
}

Tensor run_forward(const Geometry& g, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (g.products) return finished_planes(g, matmul(grouped_weight(g, weight), grouped_planes(g, x)), y_shape(g), bias);
  const Tensor y = empty_result(g, y_shape(g), x.dtype(), x.device());
  if (y.count() == 0) return y;
  ConvForwardArgs args;
  args.shape = shape_for(g, x.dtype(), algorithm_of(g, Pass::forward, x.dtype()));
  const Tensor src = prepared(g, x, args.shape.algorithm), w = plain(weight), b = plain(bias);
  args.x = src.bytes();
  args.x_layout = layout_of(src);
  args.weight = w.bytes();
  args.bias = b.defined() ? b.bytes() : nullptr;
  args.y = y.bytes();
  args.relu = g.relu;
  PYDL_LAUNCH(x.device(), work_of(g), conv_forward, args);
  return y;
}

// A pointwise product of planes (N, O, pixels) that stays in them: to read them as pixels would be to transpose them.
Tensor pointwise_planes(const Geometry& g, const Tensor& d_y, const Tensor& weight) {
  const ConvShape& s = g.shape;
  const Tensor w = reshape(detach(weight), {s.out_channels, s.in_channels});
  return reshape(matmul(swap_axes(w, 0, 1), reshape(detach(d_y), {s.batch, s.out_channels, -1})), x_shape(g));
}

Tensor run_backward_input(const Geometry& g, const Tensor& d_y, const Tensor& weight, const Tensor& bias) {
  if (g.products) {
    const Tensor turned = swap_axes(grouped_weight(g, weight), 2, 3);
    return finished_planes(g, matmul(turned, grouped_planes(g, d_y)), x_shape(g), bias);
  }
  const ConvAlgorithm algorithm = algorithm_of(g, Pass::backward_input, d_y.dtype());
  const bool planes = algorithm == ConvAlgorithm::pointwise && d_y.contiguous() && g.shape.groups == 1 &&
                      d_y.stride(1) >= 64 && !bias.defined() && d_y.count() > 0;
  if (planes) return pointwise_planes(g, d_y, weight);
  const Tensor d_x = empty_result(g, x_shape(g), d_y.dtype(), d_y.device());
  if (d_x.count() == 0) return d_x;
  ConvBackwardInputArgs args;
  args.shape = shape_for(g, d_y.dtype(), algorithm);
  const Tensor src = prepared(g, d_y, args.shape.algorithm), w = plain(weight), b = plain(bias);
  args.d_y = src.bytes();
  args.d_y_layout = layout_of(src);
  args.weight = w.bytes();
  args.bias = b.defined() ? b.bytes() : nullptr;
  args.d_x = d_x.bytes();
  PYDL_LAUNCH(d_y.device(), work_of(g), conv_backward_input, args);
  return d_x;
}

Tensor run_backward_weight(const Geometry& g, const Tensor& x, const Tensor& d_y) {
  if (x.count() == 0 || d_y.count() == 0) return zeros(weight_shape(g), x.dtype(), x.device());
  if (g.products) {
    const Tensor each = matmul(grouped_planes(g, d_y), swap_axes(grouped_planes(g, x), 2, 3));
    return reshape(sum(each, {0}, false), weight_shape(g));
  }
  const Tensor d_weight = Tensor::empty(weight_shape(g), x.dtype(), x.device());
  ConvBackwardWeightArgs args;
  args.shape = shape_for(g, x.dtype(), algorithm_of(g, Pass::backward_weight, x.dtype()));
  // Of images that are not one matrix, 16-bit types can't be added up one product after the other.
  const ConvAlgorithm layout = is_half(x.dtype()) ? ConvAlgorithm::gemm : args.shape.algorithm;
  const Tensor src = prepared(g, x, layout), up = prepared(g, d_y, layout, true);
  args.x = src.bytes();
  args.x_layout = layout_of(src);
  args.d_y = up.bytes();
  args.d_y_layout = layout_of(up);
  args.d_weight = d_weight.bytes();
  PYDL_LAUNCH(x.device(), work_of(g), conv_backward_weight, args);
  return d_weight;
}

// The sum over everything but channels; channels-last memory is summed as the matrix it is.
Tensor channel_sum(const Tensor& g) {
  Dims axes;
  for (int i = 0; i < g.ndim(); ++i) axes.push_back(i);
  axes.erase(1);
  axes.push_back(1);
  const Tensor last = permute_dims(g, axes);
  if (last.contiguous() && g.count() > 0) return sum(reshape(last, {-1, g.size(1)}), {0}, false);
  axes.pop_back();
  for (int i = 1; i < axes.size(); ++i) axes[i] = i + 1;
  return sum(g, axes, false);
}

Tensor forward_product(const Geometry& g, const Tensor& x, const Tensor& weight, const Tensor& bias);
Tensor input_product(const Geometry& g, const Tensor& d_y, const Tensor& weight, const Tensor& bias);
Tensor weight_product(const Geometry& g, const Tensor& x, const Tensor& d_y);

// g once channels-last where several products will read it so and nobody records them.
Tensor shared_layout(const Geometry& g, Pass first, Pass second, const Node& node, const Tensor& t) {
  if (autograd::grad_enabled() || !node.wants(0) || !node.wants(1)) return t;
  const ConvAlgorithm a = algorithm_of(g, first, t.dtype()), b = algorithm_of(g, second, t.dtype());
  return prepared(g, t, a == ConvAlgorithm::pointwise ? b : a);
}

// y = x * weight + bias
Tensor forward_product(const Geometry& g, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const bool wants_weight = autograd::grad_enabled() && autograd::requires_grad(weight);
  // Converted once for this product and the weight's gradient.
  const Tensor src = wants_weight ? prepared(g, x, algorithm_of(g, Pass::backward_weight, x.dtype())) : Tensor();
  const bool reused = src.defined() && !(src.strides() == x.strides());
  const Tensor y = run_forward(g, reused ? src : x, weight, bias);
  if (autograd::recording({&x, &weight, &bias}))
    autograd::record(
        g.op, {&x, &weight, &bias}, {&y},
        [g, sx = wants_weight ? Saved(x) : Saved(), src = reused ? src : Tensor(),
         sw = autograd::requires_grad(x) ? Saved(weight) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor d_y = shared_layout(g, Pass::backward_input, Pass::backward_weight, node, d_out[0]);
          if (node.wants(0)) d_in[0] = input_product(g, d_y, sw.get(node), Tensor());
          if (node.wants(1)) {
            const Tensor x = sx.get(node);
            d_in[1] = weight_product(g, src.defined() && !autograd::grad_enabled() ? src : x, d_y);
          }
          if (node.wants(2)) d_in[2] = channel_sum(d_y);
        });
  return y;
}

// d_x of d_y and weight, + bias of a transposed convolution
Tensor input_product(const Geometry& g, const Tensor& d_y, const Tensor& weight, const Tensor& bias) {
  const Tensor d_x = run_backward_input(g, d_y, weight, bias);
  if (autograd::recording({&d_y, &weight, &bias}))
    autograd::record(
        g.op, {&d_y, &weight, &bias}, {&d_x},
        [g, sy = autograd::requires_grad(weight) ? Saved(d_y) : Saved(),
         sw = autograd::requires_grad(d_y) ? Saved(weight) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor up = shared_layout(g, Pass::forward, Pass::backward_weight, node, d_out[0]);
          if (node.wants(0)) d_in[0] = forward_product(g, up, sw.get(node), Tensor());
          if (node.wants(1)) d_in[1] = weight_product(g, up, sy.get(node));
          if (node.wants(2)) d_in[2] = channel_sum(up);
        });
  return d_x;
}

// d_weight of x and d_y
Tensor weight_product(const Geometry& g, const Tensor& x, const Tensor& d_y) {
  const Tensor d_weight = run_backward_weight(g, x, d_y);
  if (autograd::recording({&x, &d_y}))
    autograd::record(
        g.op, {&x, &d_y}, {&d_weight},
        [g, sx = autograd::requires_grad(d_y) ? Saved(x) : Saved(),
         sy = autograd::requires_grad(x) ? Saved(d_y) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
          if (node.wants(0)) d_in[0] = input_product(g, sy.get(node), d_out[0], Tensor());
          if (node.wants(1)) d_in[1] = forward_product(g, sx.get(node), d_out[0], Tensor());
        });
  return d_weight;
}

// ---- arguments

int64_t entry(const Dims& values, int i) { return values.size() == 1 ? values[0] : values[i]; }

Dims spread(const char* op, const char* name, const Dims& values, int rank, int64_t least) {
  if (values.size() != 1 && values.size() != rank)
    throw ValueError(text("[", op, "] got ", name, " with ", values.size(), " numbers, expected one or ", rank));
  Dims out;
  for (int i = 0; i < rank; ++i) {
    if (entry(values, i) < least)
      throw ValueError(text("[", op, "] got ", name, " ", values, ", expected ", least, " or more"));
    if (entry(values, i) > (int64_t{1} << 31))
      throw ValueError(text("[", op, "] got ", name, " ", values, ", which is too large"));
    out.push_back(entry(values, i));
  }
  return out;
}

DType common_type(const char* op, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  same_device(op, x, weight, bias);
  for (const Tensor* t : {&x, &weight, &bias})
    if (t->defined() && !is_float(t->dtype()))
      throw TypeError(text("[", op, "] got dtype ", t->dtype(), ", expected a floating one; convert with astype"));
  DType dtype = promote(op, x.dtype(), weight.dtype());
  if (bias.defined()) dtype = promote(op, dtype, bias.dtype());
  return dtype;
}

void check_shapes(const char* op, int rank, const Tensor& x, const Tensor& weight, const Tensor& bias,
                  const ConvolutionOptions& o) {
  if (x.ndim() != rank + 2)
    throw ValueError(text("[", op, "] got an input of shape ", x.shape(), ", expected ", rank + 2,
                          " axes (N, C, ...) or ", rank + 1, " (C, ...)"));
  if (weight.ndim() != rank + 2)
    throw ValueError(text("[", op, "] got a weight of shape ", weight.shape(), ", expected ", rank + 2, " axes ",
                          o.transposed ? "(C, O / groups, ...)" : "(O, C / groups, ...)"));
  if (o.groups < 1) throw ValueError(text("[", op, "] got groups ", o.groups, ", expected 1 or more"));
  const int64_t channels = x.size(1), first = weight.size(0);
  if (first % o.groups != 0 || first == 0)
    throw ValueError(text("[", op, "] got a weight of shape ", weight.shape(), ", whose first axis is no multiple of ",
                          o.groups, " groups"));
  const int64_t wanted = o.transposed ? first : weight.size(1) * o.groups;
  if (channels != wanted || channels == 0)
    throw ValueError(text("[", op, "] got an input of shape ", x.shape(), " with ", channels, " channels, expected ",
                          wanted, " for a weight of shape ", weight.shape(), " and ", o.groups, " groups"));
  for (int i = 1; i < weight.ndim(); ++i)
    if (weight.size(i) == 0)
      throw ValueError(text("[", op, "] got a weight of shape ", weight.shape(), ", expected no axis of size 0"));
  const int64_t out = o.transposed ? weight.size(1) * o.groups : first;
  if (bias.defined() && bias.shape() != Dims{out})
    throw ValueError(text("[", op, "] got a bias of shape ", bias.shape(), ", expected (", out, ",)"));
}

// The padding before and behind each axis.
void resolve_padding(const char* op, int rank, const Tensor& weight, const ConvolutionOptions& o, const Dims& stride,
                     const Dims& dilation, Dims* before, Dims* behind) {
  *before = *behind = Dims::filled(rank, 0);
  if (o.padding_mode == ConvolutionOptions::valid) return;
  if (o.padding_mode == ConvolutionOptions::numbers) {
    *before = *behind = spread(op, "padding", o.padding, rank, 0);
    return;
  }
  for (int i = 0; i < rank; ++i) {
    if (stride[i] != 1)
      throw ValueError(text("[", op, "] padding='same' needs stride 1, got ", stride, "; give the padding as numbers"));
    const int64_t total = dilation[i] * (weight.size(i + 2) - 1);
    (*before)[i] = total / 2;
    (*behind)[i] = total - total / 2;
  }
}

Geometry geometry(const char* op, int rank, const Tensor& x, const Tensor& weight, const ConvolutionOptions& o) {
  const Dims stride = spread(op, "stride", o.stride, rank, 1), dilation = spread(op, "dilation", o.dilation, rank, 1);
  const Dims extra = spread(op, "output_padding", o.output_padding, rank, 0);
  Dims before, behind;
  resolve_padding(op, rank, weight, o, stride, dilation, &before, &behind);
  Geometry g;
  g.op = op;
  g.rank = rank;
  g.forced = o.algorithm;
  g.relu = o.relu;
  ConvShape& s = g.shape;
  s.batch = x.size(0);
  s.groups = o.groups;
  s.planes = false;
  s.out_channels = weight.size(0);
  s.in_channels = weight.size(1) * o.groups;
  for (int i = 0; i < 3; ++i) s.in[i] = s.out[i] = s.kernel[i] = s.stride[i] = s.dilation[i] = 1, s.padding[i] = 0;
  for (int i = 0; i < rank; ++i) {
    const int a = 3 - rank + i;
    s.kernel[a] = weight.size(i + 2);
    s.stride[a] = stride[i];
    s.dilation[a] = dilation[i];
    s.padding[a] = before[i];
    const int64_t size = x.size(i + 2), reach = s.dilation[a] * (s.kernel[a] - 1) + 1;
    if (!o.transposed) {
      const int64_t padded = size + before[i] + behind[i];
      if (size == 0 || padded < reach)
        throw ValueError(text("[", op, "] the kernel reaches over ", reach, " of axis ", i + 2, ", which has ", padded,
                              " with its padding: got an input of shape ", x.shape(), " and a weight of shape ",
                              weight.shape(), "; pad more or use a smaller kernel"));
      s.in[a] = size;
      s.out[a] = (padded - reach) / stride[i] + 1;
    } else {
      if (extra[i] >= std::max(stride[i], dilation[i]))
        throw ValueError(text("[", op, "] got output_padding ", extra, ", expected less than stride ", stride,
                              " or dilation ", dilation));
      const int64_t out = (size - 1) * stride[i] - before[i] - behind[i] + reach + extra[i];
      if (size == 0 || out < 1)
        throw ValueError(text("[", op, "] the output would have size ", out, " along axis ", i + 2,
                              ": got an input of shape ", x.shape(), " and a weight of shape ", weight.shape(),
                              "; use less padding or a larger kernel"));
      s.in[a] = out;
      s.out[a] = size;
    }
  }
  return g;
}

void check_forced(const Geometry& g, Pass pass, DType dtype) {
  if (!g.forced) return;
  const ConvAlgorithm a = *g.forced;
  const bool possible = a == ConvAlgorithm::gemm        ? true
                        : a == ConvAlgorithm::pointwise ? pointwise_possible(g)
                        : a == ConvAlgorithm::depthwise ? depthwise_possible(g, pass, dtype)
                        : a == ConvAlgorithm::narrow    ? narrow_possible(g, Pass::backward_input)
                                                        : winograd_possible(g, dtype);
  if (!possible) throw ValueError(text("[", g.op, "] the algorithm that was asked for cannot do this convolution"));
}

}  // namespace

Tensor convolution(const char* op, int rank, const Tensor& x0, const Tensor& weight0, const Tensor& bias0,
                   const ConvolutionOptions& options) {
  const DType dtype = common_type(op, x0, weight0, bias0);
  if (is_half(dtype) && x0.device().is_cpu()) {
    if (!options.transposed && !options.algorithm && !autograd::recording({&x0, &weight0, &bias0})) {
      const bool single = x0.ndim() == rank + 1;
      const Tensor x = single ? expand_dims(x0, 0) : x0;
      check_shapes(op, rank, x, weight0, bias0, options);
      const Geometry g = geometry(op, rank, x, weight0, options);
      if (const auto algorithm = native_way(g, x, weight0, bias0)) {
        const Tensor y = run_native(g, *algorithm, x, weight0, bias0);
        return single ? select(y, 0, 0) : y;
      }
    }
    const auto wide = [](const Tensor& t) { return t.defined() ? cast(t, DType::float32) : t; };
    return cast(convolution(op, rank, wide(x0), wide(weight0), wide(bias0), options), dtype);
  }
  const auto typed = [dtype](const Tensor& t) { return t.defined() && t.dtype() != dtype ? cast(t, dtype) : t; };
  const Tensor weight = typed(weight0), bias = typed(bias0);
  const bool single = x0.ndim() == rank + 1;
  const Tensor x = single ? expand_dims(typed(x0), 0) : typed(x0);
  check_shapes(op, rank, x, weight, bias, options);
  Geometry g = geometry(op, rank, x, weight, options);
  check_forced(g, options.transposed ? Pass::backward_input : Pass::forward, dtype);
  g.products = is_product_of_planes(g, x);
  g.shape.planes = !g.products && stays_in_planes(g, x);
  if (options.relu && (options.transposed || autograd::recording({&x, &weight, &bias})))
    throw ValueError(text("[", op, "] relu=True has no gradient and no transposed form; use no_grad() or relu()"));
  const Tensor y = options.transposed ? input_product(g, x, weight, bias) : forward_product(g, x, weight, bias);
  return single ? select(y, 0, 0) : y;
}

std::vector<ConvAlgorithm> convolution_algorithms(const char* op, int rank, const Tensor& x0, const Tensor& weight,
                                                  const ConvolutionOptions& options) {
  const DType dtype = common_type(op, x0, weight, Tensor());
  const Tensor x = x0.ndim() == rank + 1 ? expand_dims(x0, 0) : x0;
  check_shapes(op, rank, x, weight, Tensor(), options);
  const DType used = is_half(dtype) ? DType::float32 : dtype;
  const Geometry g = geometry(op, rank, x, weight, options);
  const Pass passes[] = {options.transposed ? Pass::backward_input : Pass::forward,
                         options.transposed ? Pass::forward : Pass::backward_input, Pass::backward_weight};
  std::vector<ConvAlgorithm> out;
  const bool products = is_product_of_planes(g, x);
  for (Pass pass : passes) out.push_back(products ? ConvAlgorithm::pointwise : algorithm_of(g, pass, used));
  return out;
}

}  // namespace pydl::ops
