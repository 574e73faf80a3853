// Batch, layer, RMS and group normalization. Forward and backward are fused kernels; backward is made of ops where it
// is to be differentiated again.
#include "backend/registry.h"
#include "ops/channels.h"
#include "ops/expr.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

// A vector of one number per channel, converted to x's dtype; undefined stays so.
Tensor per_channel(const char* op, const char* what, const Tensor& v, const Tensor& x) {
  if (!v.defined()) return v;
  if (v.shape() != Dims{x.size(1)})
    throw ValueError(text("[", op, "] got ", what, " of shape ", v.shape(), " for an input of shape ", x.shape(),
                          ", expected ", Dims{x.size(1)}, ", one number per channel (axis 1)"));
  require_floating(op, v.dtype());
  return contiguous(cast(v, x.dtype()));
}

void* bytes_or_null(const Tensor& t) { return t.defined() ? t.bytes() : nullptr; }

// Axes but the one of the channels, and a vector of channels in a shape that broadcasts.
Dims all_but_channels(const Tensor& x) {
  Dims axes;
  for (int d = 0; d < x.ndim(); ++d)
    if (d != 1) axes.push_back(d);
  return axes;
}
Tensor along_channels(const Tensor& v, const Tensor& x) {
  Dims shape = Dims::filled(x.ndim(), 1);
  shape[1] = v.count();
  return reshape(v, shape);
}

struct BatchNormSaved {
  BatchNormOptions options;
  Channels x;  // as the kernel saw it, without history
  Tensor ws;   // (2, C): mean and 1 / standard deviation
};

BatchNormArgs arguments(const BatchNormSaved& s, const Tensor& weight, const Tensor& bias) {
  BatchNormArgs args{};
  args.dtype = s.x.x.dtype();
  args.batch_statistics = s.options.batch_statistics;
  args.relu = s.options.relu;
  args.outer = s.x.outer;
  args.channels = s.x.channels;
  args.inner = s.x.inner;
  args.x = s.x.x.bytes();
  args.weight = bytes_or_null(weight);
  args.bias = bytes_or_null(bias);
  args.eps = s.options.eps;
  args.ws_mean = s.ws.bytes();
  args.ws_invstd = s.ws.bytes() + s.x.channels * static_cast<int64_t>(item_size(args.dtype));
  return args;
}

void fused_gradient(const BatchNormSaved& s, const Tensor& weight, const Tensor& bias, const Tensor& g0, Node& node,
                    Tensor* d_in) {
  const DType dtype = s.x.x.dtype();
  const Tensor g = laid_as(s.x, cast(g0, dtype));
  BatchNormBackwardArgs args;
  args.forward = arguments(s, weight, bias);
  args.d_y = g.bytes();
  for (size_t i = 0; i < 3; ++i)
    if (node.wants(i)) d_in[i] = i == 0 ? empty_as(s.x) : Tensor::empty({s.x.channels}, dtype, g.device());
  args.d_x = bytes_or_null(d_in[0]);
  args.d_weight = bytes_or_null(d_in[1]);
  args.d_bias = bytes_or_null(d_in[2]);
  PYDL_LAUNCH(g.device(), g.count() * 4, batch_norm_backward, args);
}

void composed_gradient(const BatchNormSaved& s, const Tensor& x, const Tensor& weight, const Tensor& bias,
                       const Tensor& g0, Node& node, Tensor* d_in) {
  const Dims axes = all_but_channels(x);
  const auto mean_of = [&](const Expr& e) { return Expr(mean(e.tensor(), axes, true)); };
  const auto constant = [&](int64_t row) { return along_channels(select(s.ws, 0, row), x); };
  Expr centered(x - Expr(constant(0))), invstd(constant(1));
  if (s.options.batch_statistics) {
    centered = Expr(x) - mean_of(Expr(x));
    invstd = Expr(pow_scalar((mean_of(centered * centered) + Expr(s.options.eps)).tensor(), -0.5));
  }
  const Expr normal = centered * invstd;
  const Expr w = weight.defined() ? Expr(along_channels(weight, x)) : Expr(1.0);
  Expr g(g0);
  if (s.options.relu) {
    Expr y = normal * w;
    if (bias.defined()) y = y + Expr(along_channels(bias, x));
    g = select(y > Expr(0.0), g, Expr(0.0) * g);
  }
  if (node.wants(0)) {
    const Expr gw = g * w;
    d_in[0] = (s.options.batch_statistics ? invstd * (gw - mean_of(gw) - normal * mean_of(gw * normal)) : invstd * gw)
                  .tensor();
  }
  if (node.wants(1)) d_in[1] = sum((g * normal).tensor(), axes, false);
  if (node.wants(2)) d_in[2] = sum(g.tensor(), axes, false);
}

void count_batch(const Tensor& batches) {
  if (batches.device().is_cpu()) {
    ++*batches.data<int64_t>();
  } else {
    const Tensor one = full({}, Number::of(int64_t{1}), DType::int64, batches.device());
    PYDL_LAUNCH(batches.device(), 1, accumulate, (AccumulateArgs{DType::int64, 1, one.bytes(), batches.bytes(), 1.0}));
  }
  autograd::note_inplace(batches);
}

// The running statistics in the kernel's dtype, and back where that was a copy.
struct InDType {
  Tensor original, used;
  InDType(const char* op, const char* what, const Tensor& t, const Tensor& x)
      : original(t), used(t.defined() ? per_channel(op, what, detach(t), x) : t) {}
  void write_back() const {
    if (!original.defined()) return;
    if (used.bytes() == original.bytes())
      autograd::note_inplace(original);
    else
      copy_into(original, used);
  }
};

// --- layer and RMS norm, over the last axes

struct LayerNormSaved {
  bool rms;
  double eps;
  int64_t rows, n;
  Tensor ws;  // (2, rows): mean and 1 / standard deviation
};

LayerNormArgs arguments(const LayerNormSaved& s, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  LayerNormArgs args{};
  args.dtype = x.dtype();
  args.rms = s.rms;
  args.rows = s.rows;
  args.n = s.n;
  args.x = x.bytes();
  args.weight = bytes_or_null(weight);
  args.bias = bytes_or_null(bias);
  args.eps = s.eps;
  args.ws_mean = s.ws.bytes();
  args.ws_invstd = s.ws.bytes() + s.rows * static_cast<int64_t>(item_size(args.dtype));
  return args;
}

// The gradient of a normalization, made of ops: normal(x) * weight + bias, normal's mean and variance over `axes`.
void composed_gradient(const Expr& centered, const Expr& invstd, const Tensor& weight, const Dims& axes,
                       const Dims& parameter_shape, bool rms, const Tensor& g0, Node& node, Tensor* d_in) {
  const auto mean_of = [&](const Expr& e) { return Expr(mean(e.tensor(), axes, true)); };
  const Expr normal = centered * invstd, g(g0);
  if (node.wants(0)) {
    const Expr h = weight.defined() ? g * Expr(weight) : g;
    const Expr rest = normal * mean_of(h * normal);
    d_in[0] = (invstd * (rms ? h - rest : h - mean_of(h) - rest)).tensor();
  }
  if (node.wants(1)) d_in[1] = reshape(sum_to((g * normal).tensor(), parameter_shape), parameter_shape);
  if (node.edges.size() > 2 && node.wants(2)) d_in[2] = sum_to(g0, parameter_shape);
}

Expr inverse_deviation(const Expr& centered, const Dims& axes, double eps) {
  return Expr(pow_scalar((Expr(mean((centered * centered).tensor(), axes, true)) + Expr(eps)).tensor(), -0.5));
}

Tensor last_axes_norm(const char* op, bool rms, const Tensor& x0, const Dims& shape, const Tensor& weight0,
                      const Tensor& bias0, double eps) {
  require_floating(op, x0.dtype());
  same_device(op, x0, weight0, bias0);
  if (is_half(x0.dtype()))
    return cast(last_axes_norm(op, rms, cast(x0, DType::float32), shape, weight0, bias0, eps), x0.dtype());
  const int lead = x0.ndim() - shape.size();
  bool fits = !shape.empty() && lead >= 0;
  for (int d = 0; fits && d < shape.size(); ++d) fits = x0.size(lead + d) == shape[d];
  if (!fits)
    throw ValueError(text("[", op, "] got an input of shape ", x0.shape(), " and normalized_shape ", shape,
                          ", expected an input whose last axes are normalized_shape"));
  const auto parameter = [&](const char* what, const Tensor& p) {
    if (p.defined() && p.shape() != shape)
      throw ValueError(text("[", op, "] got ", what, " of shape ", p.shape(), ", expected normalized_shape, ", shape));
    return p.defined() ? contiguous(cast(p, x0.dtype())) : p;
  };
  const Tensor weight = parameter("a weight", weight0), bias = parameter("a bias", bias0);
  const Tensor x = contiguous(x0);
  LayerNormSaved s{rms, eps, 1, element_count(shape), Tensor()};
  for (int d = 0; d < lead; ++d) s.rows *= x.size(d);
  s.ws = Tensor::empty({2, s.rows}, x.dtype(), x.device());
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.count() > 0) {
    LayerNormArgs args = arguments(s, x, weight, bias);
    args.y = y.bytes();
    PYDL_LAUNCH(x.device(), x.count() * 4, layer_norm, args);
  }
  if (!autograd::recording({&x, &weight, &bias})) return y;
  autograd::record(
      rms ? "rms_norm" : "layer_norm", {&x, &weight, &bias}, {&y},
      [s, shape, sx = Saved(x), sw = Saved(weight), sb = Saved(bias)](Node& node, const Tensor* d_out, Tensor* d_in) {
        const Tensor x = sx.get(node), weight = sw.get(node), bias = sb.get(node);
        if (autograd::grad_enabled()) {
          Dims axes;
          for (int d = x.ndim() - shape.size(); d < x.ndim(); ++d) axes.push_back(d);
          const Expr centered = s.rms ? Expr(x) : Expr(x) - Expr(mean(x, axes, true));
          composed_gradient(centered, inverse_deviation(centered, axes, s.eps), weight, axes, shape, s.rms, d_out[0],
                            node, d_in);
          return;
        }
        if (x.count() == 0) {
          for (size_t i = 0; i < 3; ++i)
            if (node.wants(i)) d_in[i] = zeros(i == 0 ? x.shape() : shape, x.dtype(), x.device());
          return;
        }
        const Tensor g = contiguous(cast(d_out[0], x.dtype()));
        LayerNormBackwardArgs args;
        args.forward = arguments(s, x, weight, bias);
        args.d_y = g.bytes();
        for (size_t i = 0; i < 3; ++i)
          if (node.wants(i)) d_in[i] = Tensor::empty(i == 0 ? x.shape() : shape, x.dtype(), x.device());
        args.d_x = bytes_or_null(d_in[0]);
        args.d_weight = bytes_or_null(d_in[1]);
        args.d_bias = bytes_or_null(d_in[2]);
        PYDL_LAUNCH(x.device(), x.count() * 4, layer_norm_backward, args);
      });
  return y;
}

// --- group norm

struct GroupNormSaved {
  int64_t groups;
  double eps;
  bool last;
  int64_t inner;
  Tensor ws;  // (2, N, groups): mean and 1 / standard deviation
};

GroupNormArgs arguments(const GroupNormSaved& s, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  GroupNormArgs args{};
  args.dtype = x.dtype();
  args.last = s.last;
  args.batch = x.size(0);
  args.channels = x.size(1);
  args.inner = s.inner;
  args.groups = s.groups;
  args.x = x.bytes();
  args.weight = bytes_or_null(weight);
  args.bias = bytes_or_null(bias);
  args.eps = s.eps;
  args.ws_mean = s.ws.bytes();
  args.ws_invstd = s.ws.bytes() + x.size(0) * s.groups * static_cast<int64_t>(item_size(args.dtype));
  return args;
}

}  // namespace

Tensor batch_norm(const Tensor& x0, const Tensor& weight0, const Tensor& bias0, const RunningStatistics& running,
                  const BatchNormOptions& options) {
  const char* op = options.layer;
  require_floating(op, x0.dtype());
  same_device(op, x0, weight0, bias0, running.mean, running.var, running.batches);
  if (x0.ndim() < 2)
    throw ValueError(text("[", op, "] got an input of shape ", x0.shape(), ", expected (N, C) or (N, C, ...)"));
  if (is_half(x0.dtype()))
    return cast(batch_norm(cast(x0, DType::float32), weight0, bias0, running, options), x0.dtype());
  BatchNormSaved s{options, channels_of(x0), Tensor()};
  s.options.layer = "batch_norm";  // the name lives as long as this call
  const Tensor x = s.x.x;
  const Tensor weight = per_channel(op, "a weight", weight0, x), bias = per_channel(op, "a bias", bias0, x);
  const InDType mean(op, "a running mean", running.mean, x), var(op, "a running variance", running.var, x);
  const int64_t n = s.x.outer * s.x.inner;
  if (!options.batch_statistics && (!running.mean.defined() || !running.var.defined()))
    throw ValueError(text("[", op,
                          "] in evaluation the running mean and variance are needed, got None; "
                          "pass them, or training=True"));
  if (options.batch_statistics && n == 1 && x.count() > 0)
    throw ValueError(text("[", op, "] got one value per channel in training, input shape ", x.shape(),
                          ", expected more, for a variance; drop a last batch of one (drop_last=True), call eval(), "
                          "or use GroupNorm or LayerNorm"));
  double momentum = options.momentum.value_or(0);
  if (options.batch_statistics && running.batches.defined()) {
    if (running.batches.dtype() != DType::int64 || running.batches.count() != 1)
      throw TypeError(text("[", op, "] got num_batches_tracked of ", running.batches.dtype(), " and shape ",
                           running.batches.shape(), ", expected one int64"));
    autograd::check_inplace(op, running.batches, false);
    count_batch(running.batches);
    if (!options.momentum) momentum = 1.0 / static_cast<double>(item(running.batches).i);
  }
  const Tensor y = empty_as(s.x);
  s.ws = Tensor::empty({2, s.x.channels}, x.dtype(), x.device());
  if (x.count() > 0) {
    BatchNormArgs args = arguments(s, weight, bias);
    args.running_mean = bytes_or_null(mean.used);
    args.running_var = bytes_or_null(var.used);
    args.momentum = momentum;
    args.y = y.bytes();
    PYDL_LAUNCH(x.device(), x.count() * 4, batch_norm, args);
    if (options.batch_statistics) {
      mean.write_back();
      var.write_back();
    }
  } else {
    fill_(s.ws, Number::of(0.0));
  }
  if (autograd::recording({&x, &weight, &bias})) {
    s.x.x = x.alias();
    autograd::record(
        "batch_norm", {&x, &weight, &bias}, {&y},
        [s, sx = Saved(x), sw = Saved(weight), sb = Saved(bias)](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor x = sx.get(node), w = sw.get(node), b = sb.get(node);
          if (autograd::grad_enabled()) return composed_gradient(s, x, w, b, d_out[0], node, d_in);
          if (x.count() > 0) return fused_gradient(s, w, b, d_out[0], node, d_in);
          for (size_t i = 0; i < 3; ++i)
            if (node.wants(i)) d_in[i] = zeros(i == 0 ? x.shape() : Dims{x.size(1)}, x.dtype(), x.device());
        });
  }
  return y;
}

Tensor layer_norm(const Tensor& x, const Dims& normalized_shape, const Tensor& weight, const Tensor& bias, double eps) {
  return last_axes_norm("layer_norm", false, x, normalized_shape, weight, bias, eps);
}

Tensor rms_norm(const Tensor& x, const Dims& normalized_shape, const Tensor& weight, std::optional<double> eps) {
  const double smallest = x.dtype() == DType::float64    ? 0x1p-52
                          : x.dtype() == DType::float16  ? 0x1p-10
                          : x.dtype() == DType::bfloat16 ? 0x1p-7
                                                         : 0x1p-23;
  return last_axes_norm("rms_norm", true, x, normalized_shape, weight, Tensor(), eps.value_or(smallest));
}

Tensor group_norm(const char* op, const Tensor& x0, int64_t groups, const Tensor& weight0, const Tensor& bias0,
                  double eps) {
  require_floating(op, x0.dtype());
  same_device(op, x0, weight0, bias0);
  if (x0.ndim() < 2 || groups < 1 || x0.size(1) % groups != 0)
    throw ValueError(text("[", op, "] got an input of shape ", x0.shape(), " and ", groups,
                          " groups, expected (N, C, ...) with C a multiple of the groups"));
  if (is_half(x0.dtype()))
    return cast(group_norm(op, cast(x0, DType::float32), groups, weight0, bias0, eps), x0.dtype());
  const Channels c = channels_of(x0);
  const Tensor x = c.x;
  const Tensor weight = per_channel(op, "a weight", weight0, x), bias = per_channel(op, "a bias", bias0, x);
  int64_t inner = 1;
  for (int d = 2; d < x.ndim(); ++d) inner *= x.size(d);
  const GroupNormSaved s{groups, eps, c.last || inner == 1, inner,
                         Tensor::empty({2, x.size(0), groups}, x.dtype(), x.device())};
  const Tensor y = empty_as(c);
  if (x.count() > 0) {
    GroupNormArgs args = arguments(s, x, weight, bias);
    args.y = y.bytes();
    PYDL_LAUNCH(x.device(), x.count() * 4, group_norm, args);
  }
  if (!autograd::recording({&x, &weight, &bias})) return y;
  autograd::record("group_norm", {&x, &weight, &bias}, {&y},
                   [s, last = c.last, sx = Saved(x), sw = Saved(weight), sb = Saved(bias)](
                       Node& node, const Tensor* d_out, Tensor* d_in) {
                     const Tensor x = sx.get(node), weight = sw.get(node), bias = sb.get(node);
                     if (autograd::grad_enabled()) {
                       // over (N, groups, C / groups, S), where the parameters are (groups, C / groups, 1)
                       const int64_t size = x.size(1) / s.groups;
                       const Dims grouped{x.size(0), s.groups, size, s.inner}, of_parameters{s.groups, size, 1};
                       const Tensor xg = reshape(x, grouped), gg = reshape(d_out[0], grouped);
                       const Tensor wg = weight.defined() ? reshape(weight, of_parameters) : weight;
                       const Expr centered = Expr(xg) - Expr(mean(xg, {2, 3}, true));
                       composed_gradient(centered, inverse_deviation(centered, {2, 3}, s.eps), wg, {2, 3},
                                         of_parameters, false, gg, node, d_in);
                       if (node.wants(0)) d_in[0] = reshape(d_in[0], x.shape());
                       for (size_t i = 1; i < 3; ++i)
                         if (node.wants(i)) d_in[i] = reshape(d_in[i], {x.size(1)});
                       return;
                     }
                     const Channels like{x, last, 1, x.size(1), 1};
                     for (size_t i = 0; i < 3; ++i)
                       if (node.wants(i))
                         d_in[i] = i == 0 ? empty_as(like) : Tensor::empty({x.size(1)}, x.dtype(), x.device());
                     if (x.count() == 0) {
                       for (size_t i = 0; i < 3; ++i)
                         if (node.wants(i)) fill_(d_in[i], Number::of(0.0));
                       return;
                     }
                     const Tensor g = laid_as(like, cast(d_out[0], x.dtype()));
                     GroupNormBackwardArgs args;
                     args.forward = arguments(s, x, weight, bias);
                     args.d_y = g.bytes();
                     args.d_x = bytes_or_null(d_in[0]);
                     args.d_weight = bytes_or_null(d_in[1]);
                     args.d_bias = bytes_or_null(d_in[2]);
                     PYDL_LAUNCH(x.device(), x.count() * 4, group_norm_backward, args);
                   });
  return y;
}

}  // namespace pydl::ops
