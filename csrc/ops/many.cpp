// Gradient clipping, shrinking, blending and penalties: many tensors in one call. All but the penalty change their
// tensors in place and are never recorded.
#include <cmath>
#include <limits>

#include "core/capture.h"
#include "ops/expr.h"
#include "ops/tensor_lists.h"

namespace pydl::ops {

using autograd::Node;
using autograd::Saved;

void check_floating(const char* op, const char* role, const Tensors& tensors) {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (!is_float(tensors[i].dtype()))
      throw TypeError(text("[", op, "] ", role, " ", i, " is ", tensors[i].dtype(),
                           ", expected a floating dtype; integers "
                           "can't be trained: leave it out or convert it with astype(float32)"));
}

void check_writable(const char* op, const Tensors& tensors) {
  for (const Tensor& t : tensors) autograd::check_inplace(op, t, false);
}

void check_like_params(const char* op, const char* role, const Tensors& params, const Tensors& others) {
  if (others.size() != params.size())
    throw ValueError(
        text("[", op, "] got ", others.size(), " ", role, "s for ", params.size(), " params, expected one each"));
  for (size_t i = 0; i < params.size(); ++i) {
    if (others[i].shape() != params[i].shape())
      throw ValueError(text("[", op, "] ", role, " ", i, " has shape ", others[i].shape(), ", expected ",
                            params[i].shape(), ", its param's"));
    if (others[i].dtype() != params[i].dtype())
      throw TypeError(text("[", op, "] ", role, " ", i, " is ", others[i].dtype(), ", expected ", params[i].dtype(),
                           ", its param's dtype; convert it with astype"));
    if (others[i].device() != params[i].device())
      throw ValueError(text("[", op, "] ", role, " ", i, " is on ", others[i].device(), ", expected ",
                            params[i].device(), ", where its param is"));
  }
}

namespace {

// Whether a step is captured on the tensors' device, where results stay. They must be one launch's then.
bool captured_on_device(const char* op, const Tensors& tensors) {
  if (tensors.empty() || tensors[0].device().is_cpu() || !Graph::current()) return false;
  for (const Tensor& t : tensors)
    if (compute_dtype(t.dtype()) != compute_dtype(tensors[0].dtype()) || t.device() != tensors[0].device())
      refuse_while_capturing(op, "joins numbers of several dtypes or devices");
  return true;
}

// Runs one of the kernels that change each element by itself.
template <class Kernel>
void change_many(const char* op, const Tensors& tensors, double low, double high, Kernel kernel) {
  autograd::GradMode off(false);
  check_floating(op, "tensor", tensors);
  check_writable(op, tensors);
  for_each_dtype(tensors, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t count) {
    const Staged data(tensors, group, dtype);
    ManyArgs args = args_of<ManyArgs>(dtype, sizes);
    args.data = data.pointers();
    args.low = low;
    args.high = high;
    kernel(tensors[group[0]].device(), count, args);
    data.write_back();
  });
}
#define PYDL_CHANGE(kernel) \
  [](Device device, int64_t count, const ManyArgs& args) { PYDL_LAUNCH(device, count, kernel, args); }

double joined_norm(double a, double b, double order) {
  if (a == 0 || b == 0) return a + b;
  const double top = std::fmax(a, b);
  if (std::isnan(a + b)) return std::numeric_limits<double>::quiet_NaN();
  if (std::isinf(order) || std::isinf(top)) return top;
  return top * std::pow(std::pow(a / top, order) + std::pow(b / top, order), 1 / order);
}

double total_norm(const char* op, const Tensors& tensors, double order, bool* wide) {
  check_floating(op, "grad", tensors);
  double norm = 0;  // of those so far
  for_each_dtype(tensors, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t total) {
    const Staged data(tensors, group, dtype);
    NormArgs args = args_of<NormArgs>(dtype, sizes);
    args.data = data.pointers();
    args.order = order;
    double part = 0;
    args.result = &part;
    PYDL_LAUNCH(tensors[group[0]].device(), total, total_norm, args);
    norm = joined_norm(norm, part, order);
    *wide = *wide || dtype == DType::float64;
  });
  return norm;
}

// The norm stays on the device, and so does the factor that follows from it.
Tensor clip_by_captured_norm(const char* op, const Tensors& grads, double max_norm, double norm_type) {
  const Tensor norm = full({}, Number::of(0.0), DType::float64, grads[0].device());
  bool wide = false;
  {
    CapturedLaunch captured;
    captured.graph().values().result = norm.data<double>();
    total_norm(op, grads, norm_type, &wide);
  }
  if (!std::isinf(max_norm)) {
    CapturedLaunch captured;
    captured.graph().values().factor = norm.data<double>();
    change_many(op, grads, max_norm, 0, PYDL_CHANGE(scale_many));
  }
  return wide ? norm : cast(norm, DType::float32);
}

}  // namespace

Tensor clip_grad_norm(const Tensors& grads, double max_norm, double norm_type) {
  constexpr const char* op = "clip_grad_norm";
  if (!(norm_type > 0))
    throw ValueError(text("[", op, "] got norm_type ", norm_type, ", expected a number above 0, or inf"));
  if (!(max_norm >= 0)) throw ValueError(text("[", op, "] got max_norm ", max_norm, ", expected 0 or more"));
  autograd::GradMode off(false);
  check_writable(op, grads);
  if (captured_on_device(op, grads)) return clip_by_captured_norm(op, grads, max_norm, norm_type);
  bool wide = false;
  const double total = total_norm(op, grads, norm_type, &wide);
  const double scale = max_norm / (total + 1e-6);
  if (!std::isinf(max_norm) && !(scale >= 1))  // a NaN spreads to all gradients, as in PyTorch
    change_many(op, grads, scale, 0, PYDL_CHANGE(scale_many));
  return scalar(Number::of(total), wide ? DType::float64 : DType::float32);
}

void clip_grad_value(const Tensors& grads, double value) {
  constexpr const char* op = "clip_grad_value";
  if (!(value >= 0)) throw ValueError(text("[", op, "] got clip_value ", value, ", expected 0 or more"));
  change_many(op, grads, -value, value, PYDL_CHANGE(clip_many));
}

void clip_many_(const Tensors& tensors, double low, double high) {
  change_many("clip_many_", tensors, low, high, PYDL_CHANGE(clip_many));
}

void soft_threshold_(const Tensors& tensors, double threshold) {
  constexpr const char* op = "soft_threshold_";
  if (!(threshold >= 0)) throw ValueError(text("[", op, "] got threshold ", threshold, ", expected 0 or more"));
  change_many(op, tensors, threshold, 0, PYDL_CHANGE(soft_threshold_many));
}

void blend_(const Tensors& data, const Tensors& others, double weight) {
  constexpr const char* op = "blend_";
  autograd::GradMode off(false);
  check_floating(op, "tensor", data);
  check_like_params(op, "other", data, others);
  check_writable(op, data);
  for_each_dtype(data, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t count) {
    const Staged to(data, group, dtype), from(others, group, dtype);
    BlendArgs args = args_of<BlendArgs>(dtype, sizes);
    args.data = to.pointers();
    args.others = from.pointers();
    args.weight = weight;
    PYDL_LAUNCH(data[group[0]].device(), count, blend_many, args);
    to.write_back();
  });
}

namespace {

struct Rates {
  std::vector<double> l1, l2;
};

PenaltyArgs penalty_args(DType dtype, const std::vector<int64_t>& sizes, const Staged& data, const Rates& rates) {
  PenaltyArgs args = args_of<PenaltyArgs>(dtype, sizes);
  args.data = data.pointers();
  args.l1 = rates.l1.data();
  args.l2 = rates.l2.data();
  return args;
}

Rates rates_of(const Rates& all, const Group& group) {
  Rates rates;
  for (size_t i : group) {
    rates.l1.push_back(all.l1[i]);
    rates.l2.push_back(all.l2[i]);
  }
  return rates;
}

// upstream: in float64, on the device, where a step is captured; else undefined.
void fused_gradients(const Tensors& tensors, const Rates& all, double slope, const Tensor& upstream, const Node& node,
                     Tensor* d_in) {
  Tensors wanted(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    if (node.wants(i))
      d_in[i] = wanted[i] = Tensor::empty(tensors[i].shape(), compute_dtype(tensors[i].dtype()), tensors[i].device());
  for_each_dtype(tensors, [&](DType dtype, const Group& whole, const std::vector<int64_t>&, int64_t count) {
    Group group;
    std::vector<int64_t> sizes;
    for (size_t i : whole) {
      if (!wanted[i].defined()) continue;
      group.push_back(i);
      sizes.push_back(tensors[i].count());
    }
    if (group.empty()) return;
    const Staged data(tensors, group, dtype), gradients(wanted, group, dtype);
    const Rates rates = rates_of(all, group);
    PenaltyBackwardArgs args{penalty_args(dtype, sizes, data, rates), slope, gradients.pointers()};
    CapturedLaunch captured;
    if (upstream.defined()) captured.graph().values().factor = upstream.data<double>();
    PYDL_LAUNCH(tensors[group[0]].device(), count, penalty_backward, args);
  });
}

}  // namespace

Tensor penalty(const Tensors& tensors, const std::vector<double>& l1, const std::vector<double>& l2) {
  constexpr const char* op = "penalty";
  check_floating(op, "tensor", tensors);
  if (l1.size() != tensors.size() || l2.size() != tensors.size())
    throw ValueError(text("[", op, "] got ", l1.size(), " l1 and ", l2.size(), " l2 for ", tensors.size(),
                          " tensors, expected one each"));
  const Rates all{l1, l2};
  double total = 0;
  const bool stays = captured_on_device(op, tensors);
  const Tensor sum = stays ? full({}, Number::of(0.0), DType::float64, tensors[0].device()) : Tensor();
  DType result = tensors.empty() ? default_dtype() : tensors[0].dtype();
  for (const Tensor& t : tensors) result = promote(op, result, t.dtype());
  for_each_dtype(tensors, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t count) {
    const Staged data(tensors, group, dtype);
    const Rates rates = rates_of(all, group);
    double part = 0;
    PenaltyArgs args = penalty_args(dtype, sizes, data, rates);
    args.result = &part;
    CapturedLaunch captured;
    if (stays) captured.graph().values().result = sum.data<double>();
    PYDL_LAUNCH(tensors[group[0]].device(), count * 2, penalty, args);
    total += part;
  });
  Tensor y = stays ? cast(sum, result) : full({}, Number::of(total), result, common_device(op, tensors));
  bool recording = false;
  for (const Tensor& t : tensors) recording = recording || autograd::recording({&t});
  if (!recording) return y;
  std::vector<Saved> saved;
  for (const Tensor& t : tensors) saved.emplace_back(t);
  autograd::record(op, tensors, {&y}, [all, saved](Node& node, const Tensor* d_out, Tensor* d_in) {
    Tensors tensors;
    for (const Saved& s : saved) tensors.push_back(s.get(node));
    if (!autograd::grad_enabled()) {
      const bool stays = captured_on_device("penalty", tensors);
      return fused_gradients(tensors, all, stays ? 0 : item(d_out[0]).f,
                             stays ? cast(d_out[0], DType::float64) : Tensor(), node, d_in);
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!node.wants(i)) continue;
      const Tensor slope = (sign(tensors[i]) * all.l1[i] + tensors[i] * (2.0 * all.l2[i])).tensor();
      d_in[i] = (d_out[0] * slope).tensor();
    }
  });
  return y;
}

}  // namespace pydl::ops
