// Optimizer steps and gradient clipping: in place, over many tensors in one call, never recorded.
#include <cmath>
#include <limits>

#include "backend/registry.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using Tensors = std::vector<Tensor>;
using Group = std::vector<size_t>;  // places in the lists

DType compute_dtype(DType t) { return is_half(t) ? DType::float32 : t; }

// Some of a list's tensors as the kernels want them: contiguous, float32 or float64. The others go through a copy.
class Staged {
 public:
  Staged(const Tensors& tensors, const Group& group, DType dtype) {
    if (tensors.empty()) return;
    for (size_t i : group) {
      const Tensor& t = tensors[i];
      originals_.push_back(t);
      staged_.push_back(contiguous(cast(t, dtype)));
      pointers_.push_back(staged_.back().bytes());
    }
  }
  void* const* pointers() const { return pointers_.empty() ? nullptr : pointers_.data(); }
  void write_back() const {  // what the kernel changed
    for (size_t i = 0; i < staged_.size(); ++i) {
      if (staged_[i].impl() == originals_[i].impl())
        autograd::note_inplace(originals_[i]);
      else
        copy_into(originals_[i], staged_[i]);
    }
  }

 private:
  Tensors originals_, staged_;
  std::vector<void*> pointers_;
};

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

// `others` go with params one by one.
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

// f(dtype, group, sizes, elements in all) for the float32 tensors, half ones among them, and for the float64 ones.
template <class F>
void for_each_dtype(const Tensors& tensors, F f) {
  for (DType dtype : {DType::float32, DType::float64}) {
    Group group;
    std::vector<int64_t> sizes;
    int64_t total = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (compute_dtype(tensors[i].dtype()) != dtype || tensors[i].count() == 0) continue;
      group.push_back(i);
      sizes.push_back(tensors[i].count());
      total += sizes.back();
    }
    if (!group.empty()) f(dtype, group, sizes, total);
  }
}

}  // namespace

void sgd_step(const Tensors& params, const Tensors& grads, const Tensors& momentum, bool first,
              const SgdOptions& options) {
  constexpr const char* op = "sgd_step";
  autograd::GradMode off(false);
  check_floating(op, "param", params);
  check_like_params(op, "grad", params, grads);
  if (options.momentum != 0) check_like_params(op, "momentum buffer", params, momentum);
  check_writable(op, params);
  check_writable(op, momentum);
  for_each_dtype(params, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t total) {
    const Staged p(params, group, dtype), g(grads, group, dtype);
    const Staged m(options.momentum != 0 ? momentum : Tensors(), group, dtype);
    SgdArgs args;
    args.dtype = dtype;
    args.tensors = static_cast<int>(group.size());
    args.sizes = sizes.data();
    args.params = p.pointers();
    args.grads = g.pointers();
    args.buffers = m.pointers();
    args.lr = options.lr;
    args.momentum = options.momentum;
    args.dampening = options.dampening;
    args.weight_decay = options.weight_decay;
    args.nesterov = options.nesterov;
    args.maximize = options.maximize;
    args.first = first;
    PYDL_LAUNCH(params[group[0]].device(), total * 2, sgd_step, args);
    p.write_back();
    m.write_back();
  });
}

void adam_step(const Tensors& params, const Tensors& grads, const Tensors& exp_avg, const Tensors& exp_avg_sq,
               const Tensors& max_exp_avg_sq, const AdamOptions& options) {
  constexpr const char* op = "adam_step";
  autograd::GradMode off(false);
  check_floating(op, "param", params);
  check_like_params(op, "grad", params, grads);
  check_like_params(op, "exp_avg", params, exp_avg);
  check_like_params(op, "exp_avg_sq", params, exp_avg_sq);
  if (options.amsgrad) check_like_params(op, "max_exp_avg_sq", params, max_exp_avg_sq);
  if (options.step < 1) throw ValueError(text("[adam_step] got step ", options.step, ", expected 1 at the first call"));
  for (const Tensors* list : {&params, &exp_avg, &exp_avg_sq, &max_exp_avg_sq}) check_writable(op, *list);
  for_each_dtype(params, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t total) {
    const Staged p(params, group, dtype), g(grads, group, dtype);
    const Staged m(exp_avg, group, dtype), v(exp_avg_sq, group, dtype);
    const Staged v_max(options.amsgrad ? max_exp_avg_sq : Tensors(), group, dtype);
    AdamArgs args;
    args.dtype = dtype;
    args.tensors = static_cast<int>(group.size());
    args.sizes = sizes.data();
    args.params = p.pointers();
    args.grads = g.pointers();
    args.exp_avgs = m.pointers();
    args.exp_avg_sqs = v.pointers();
    args.max_exp_avg_sqs = v_max.pointers();
    args.step = static_cast<double>(options.step);
    args.lr = options.lr;
    args.beta1 = options.beta1;
    args.beta2 = options.beta2;
    args.eps = options.eps;
    args.weight_decay = options.weight_decay;
    args.decoupled = options.decoupled;
    args.maximize = options.maximize;
    PYDL_LAUNCH(params[group[0]].device(), total * 4, adam_step, args);
    for (const Staged* written : {&p, &m, &v, &v_max}) written->write_back();
  });
}

Tensor clip_grad_norm(const Tensors& grads, double max_norm, double norm_type) {
  constexpr const char* op = "clip_grad_norm";
  if (!(norm_type > 0))
    throw ValueError(text("[", op, "] got norm_type ", norm_type, ", expected a number above 0, or inf"));
  if (!(max_norm >= 0)) throw ValueError(text("[", op, "] got max_norm ", max_norm, ", expected 0 or more"));
  autograd::GradMode off(false);
  check_floating(op, "grad", grads);
  check_writable(op, grads);
  double norms[2] = {0, 0};  // of the float32 and the float64 ones
  bool wide = false;
  for_each_dtype(grads, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t total) {
    const Staged g(grads, group, dtype);
    NormArgs args;
    args.dtype = dtype;
    args.tensors = static_cast<int>(group.size());
    args.sizes = sizes.data();
    args.data = g.pointers();
    args.order = norm_type;
    args.result = &norms[dtype == DType::float64];
    PYDL_LAUNCH(grads[group[0]].device(), total, total_norm, args);
    wide = wide || dtype == DType::float64;
  });
  double total = norms[0];
  if (norms[1] != 0) {
    const double top = std::fmax(norms[0], norms[1]);
    if (std::isnan(norms[0] + norms[1]))
      total = std::numeric_limits<double>::quiet_NaN();
    else if (std::isinf(norm_type) || std::isinf(top))
      total = top;
    else
      total = top * std::pow(std::pow(norms[0] / top, norm_type) + std::pow(norms[1] / top, norm_type), 1 / norm_type);
  }
  const double scale = max_norm / (total + 1e-6);
  if (!std::isinf(max_norm) && !(scale >= 1))  // a NaN spreads to all gradients, as in PyTorch
    for_each_dtype(grads, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t count) {
      const Staged g(grads, group, dtype);
      const ManyArgs args{dtype, static_cast<int>(group.size()), sizes.data(), g.pointers(), scale, 0};
      PYDL_LAUNCH(grads[group[0]].device(), count, scale_many, args);
      g.write_back();
    });
  return scalar(Number::of(total), wide ? DType::float64 : DType::float32);
}

void clip_grad_value(const Tensors& grads, double value) {
  constexpr const char* op = "clip_grad_value";
  if (!(value >= 0)) throw ValueError(text("[", op, "] got clip_value ", value, ", expected 0 or more"));
  autograd::GradMode off(false);
  check_floating(op, "grad", grads);
  check_writable(op, grads);
  for_each_dtype(grads, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t count) {
    const Staged g(grads, group, dtype);
    const ManyArgs args{dtype, static_cast<int>(group.size()), sizes.data(), g.pointers(), -value, value};
    PYDL_LAUNCH(grads[group[0]].device(), count, clip_many, args);
    g.write_back();
  });
}

}  // namespace pydl::ops
