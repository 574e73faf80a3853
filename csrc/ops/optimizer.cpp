// Optimizer steps: in place, over many tensors in one call, never recorded.
#include <algorithm>
#include <limits>

#include "core/capture.h"
#include "ops/tensor_lists.h"

namespace pydl::ops {
namespace {

struct Rule {
  const char* name;
  UpdateRule rule;
  int required;  // of its states; the others are options
  const char* states[kMaxOptimizerStates];
};

// The list of rules, as Python names them, and of their states, as PyTorch does.
constexpr Rule kRules[] = {
    {"sgd", UpdateRule::sgd, 0, {"momentum_buffer"}},
    {"adam", UpdateRule::adam, 2, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}},
    {"nadam", UpdateRule::nadam, 2, {"exp_avg", "exp_avg_sq"}},
    {"unadapted_adam", UpdateRule::unadapted_adam, 2, {"exp_avg", "exp_avg_sq"}},
    {"adamax", UpdateRule::adamax, 2, {"exp_avg", "exp_inf"}},
    {"adagrad", UpdateRule::adagrad, 1, {"sum"}},
    {"adadelta", UpdateRule::adadelta, 2, {"square_avg", "acc_delta"}},
    {"rmsprop", UpdateRule::rmsprop, 1, {"square_avg", "momentum_buffer"}},
    {"centered_rmsprop", UpdateRule::centered_rmsprop, 2, {"square_avg", "grad_avg", "momentum_buffer"}},
    {"rprop", UpdateRule::rprop, 2, {"prev", "step_size"}},
    {"asgd", UpdateRule::asgd, 1, {"ax"}},
    {"lion", UpdateRule::lion, 1, {"exp_avg"}},
};

const Rule& rule_of(const OptimizerStep& step) {
  for (const Rule& rule : kRules) {
    if (step.rule != rule.name) continue;
    const size_t known = static_cast<size_t>(std::count_if(rule.states, rule.states + kMaxOptimizerStates,
                                                           [](const char* name) { return name != nullptr; }));
    if (step.states.size() < static_cast<size_t>(rule.required) || step.states.size() > known)
      throw ValueError(text("[optimizer_step] got ", step.states.size(), " lists of states for ", rule.name,
                            ", expected ", rule.required, " to ", known));
    return rule;
  }
  throw ValueError(text("[optimizer_step] got the rule ", step.rule, ", which there is not"));
}

// Elements of a row where rows may be left out: of matrices and what has more axes. Of others, all.
int64_t row_size(const Tensor& t) { return t.ndim() < 2 ? t.count() : t.count() / t.size(0); }

// Whether rows without gradient stay as they are: by choice, or because the rule makes nothing of a gradient of 0.
bool leaves_rows(const OptimizerStep& step) {
  return step.lazy_rows ||
         (step.rule == "sgd" && step.states.empty() && step.scalars.decay == 0 && step.scalars.kept == 1);
}

// The arguments of a step with the touched rows of sparse gradients in the place of their tensors.
class Pieces {
 public:
  // False where no gradient says which rows it touches: args stay as they are.
  bool split(const OptimizerStep& step, const Group& group, OptimizerArgs* args) {
    bool any = false;
    for (size_t t = 0; t < group.size(); ++t) any = any || rows_in(step, group[t], *args, t);
    if (!any) return false;
    for (size_t t = 0; t < group.size(); ++t) {
      const Tensor& param = step.params[group[t]];
      const std::vector<int64_t>* rows = rows_in(step, group[t], *args, t);
      if (!rows) {
        add(*args, t, 0, args->sizes[t], args->row_sizes ? args->row_sizes[t] : 0);
        continue;
      }
      const int64_t row = row_size(param), bytes = row * static_cast<int64_t>(item_size(param.dtype()));
      for (int64_t r : *rows) add(*args, t, r * bytes, row, row);
    }
    args->tensors = static_cast<int>(sizes_.size());
    args->sizes = sizes_.data();
    if (args->row_sizes) args->row_sizes = row_sizes_.data();
    args->params = params_.data();
    args->grads = grads_.data();
    for (int k = 0; k < kMaxOptimizerStates; ++k)
      if (args->states[k]) args->states[k] = states_[k].data();
    return true;
  }
  int64_t total() const { return total_; }

 private:
  // Of tensors that the kernel sees themselves, not a copy of.
  static const std::vector<int64_t>* rows_in(const OptimizerStep& step, size_t i, const OptimizerArgs& args, size_t t) {
    const Tensor& grad = step.grads[i];
    if (!grad.impl()->origin || args.grads[t] != grad.bytes() || grad.ndim() < 2) return nullptr;
    return touched_rows(grad);
  }
  void add(const OptimizerArgs& args, size_t t, int64_t at, int64_t size, int64_t row_size) {
    sizes_.push_back(size);
    row_sizes_.push_back(row_size);
    params_.push_back(static_cast<char*>(args.params[t]) + at);
    grads_.push_back(static_cast<const char*>(args.grads[t]) + at);
    for (int k = 0; k < kMaxOptimizerStates; ++k)
      if (args.states[k]) states_[k].push_back(static_cast<char*>(args.states[k][t]) + at);
    total_ += size;
  }

  std::vector<int64_t> sizes_, row_sizes_;
  std::vector<void*> params_, states_[kMaxOptimizerStates];
  std::vector<const void*> grads_;
  int64_t total_ = 0;
};

// What may not change from a captured step to its replays.
std::string captured_key(const OptimizerStep& step) {
  const auto first = [](const Tensors& list) -> const void* { return list.empty() ? nullptr : list[0].impl(); };
  return text(step.rule, " of ", step.params.size(), " tensors from ", first(step.params), ", states from ",
              step.states.empty() ? nullptr : first(step.states[0]), step.maximize ? ", maximizing" : "");
}

}  // namespace

void optimizer_step(const OptimizerStep& step) {
  const Rule& rule = rule_of(step);
  if (Graph* graph = Graph::renewing()) {  // the launches have been captured
    graph->scalars(captured_key(step), &step.scalars, sizeof step.scalars);
    return;
  }
  const std::string op = step.rule + "_step";
  autograd::GradMode off(false);
  check_floating(op.c_str(), "param", step.params);
  check_like_params(op.c_str(), "grad", step.params, step.grads);
  check_writable(op.c_str(), step.params);
  for (size_t k = 0; k < step.states.size(); ++k) {
    check_like_params(op.c_str(), rule.states[k], step.params, step.states[k]);
    check_writable(op.c_str(), step.states[k]);
  }
  Graph* graph = Graph::current();
  const void* scalars = graph ? graph->scalars(captured_key(step), &step.scalars, sizeof step.scalars) : nullptr;
  for_each_dtype(step.params, [&](DType dtype, const Group& group, const std::vector<int64_t>& sizes, int64_t total) {
    const Staged params(step.params, group, dtype), grads(step.grads, group, dtype);
    Staged states[kMaxOptimizerStates];
    OptimizerArgs args = args_of<OptimizerArgs>(dtype, sizes);
    args.rule = rule.rule;
    args.maximize = step.maximize;
    args.scalars = step.scalars;
    args.params = params.pointers();
    args.grads = grads.pointers();
    for (size_t k = 0; k < step.states.size(); ++k) {
      states[k] = Staged(step.states[k], group, dtype);
      args.states[k] = states[k].pointers();
    }
    std::vector<int64_t> row_sizes;
    if (step.lazy_rows) {
      for (size_t i : group) row_sizes.push_back(row_size(step.params[i]));
      args.row_sizes = row_sizes.data();
    }
    Pieces pieces;
    if (leaves_rows(step) && pieces.split(step, group, &args)) total = pieces.total();
    CapturedLaunch captured;
    if (captured) captured.graph().values().scalars = scalars;
    PYDL_LAUNCH(step.params[group[0]].device(), total * static_cast<int64_t>(2 + step.states.size()), optimizer_step,
                args);
    params.write_back();
    for (const Staged& state : states) state.write_back();
  });
}

void adafactor_step(const AdafactorStep& step) {
  constexpr const char* op = "adafactor_step";
  refuse_while_capturing(op, "takes rates that change from step to step");
  autograd::GradMode off(false);
  check_floating(op, "param", step.params);
  check_like_params(op, "grad", step.params, step.grads);
  for (const Tensors* list : {&step.params, &step.row_vars, &step.col_vars, &step.variances}) check_writable(op, *list);
  size_t matrices = 0, vectors = 0;
  for (const Tensor& p : step.params) ++(p.ndim() > 1 ? matrices : vectors);
  if (step.row_vars.size() != matrices || step.col_vars.size() != matrices || step.variances.size() != vectors)
    throw ValueError(text("[", op, "] got ", step.row_vars.size(), " row_vars, ", step.col_vars.size(),
                          " col_vars and ", step.variances.size(), " variances, expected ", matrices, ", ", matrices,
                          " and ", vectors));
  const Tensor* row_var = step.row_vars.data();
  const Tensor* col_var = step.col_vars.data();
  const Tensor* variance = step.variances.data();
  for (size_t i = 0; i < step.params.size(); ++i) {
    const Tensor& p = step.params[i];
    const bool factored = p.ndim() > 1;
    const Tensors states = factored ? Tensors{*row_var++, *col_var++} : Tensors{*variance++};
    if (p.count() == 0) continue;
    const DType dtype = compute_dtype(p.dtype());
    AdafactorArgs args{};
    args.dtype = dtype;
    args.cols = p.ndim() > 0 ? p.size(-1) : 1;
    args.rows = factored ? p.size(-2) : 1;
    args.batch = p.count() / (args.rows * args.cols);
    const int64_t sizes[] = {factored ? args.batch * args.rows : p.count(), args.batch * args.cols};
    for (size_t k = 0; k < states.size(); ++k)
      if (states[k].count() != sizes[k] || states[k].dtype() != p.dtype())
        throw ValueError(text("[", op, "] param ", i, " of shape ", p.shape(), " and ", p.dtype(), " has a ",
                              factored ? (k == 0 ? "row_var" : "col_var") : "variance", " of shape ", states[k].shape(),
                              " and ", states[k].dtype(), ", expected ", sizes[k], " elements"));
    const Staged param({p}, {0}, dtype), grad({step.grads[i]}, {0}, dtype);
    const Staged state(states, factored ? Group{0, 1} : Group{0}, dtype);
    args.param = param.pointers()[0];
    args.grad = grad.pointers()[0];
    (factored ? args.row_var : args.variance) = state.pointers()[0];
    if (factored) args.col_var = state.pointers()[1];
    args.weight = step.weight;
    args.rate = step.rate;
    // Of the parameter's own dtype, half ones included, as PyTorch takes it.
    args.eps1 = step.eps1.value_or(p.dtype() == DType::float64   ? std::numeric_limits<double>::epsilon()
                                   : p.dtype() == DType::float32 ? std::numeric_limits<float>::epsilon()
                                   : p.dtype() == DType::float16 ? 0x1p-10
                                                                 : 0x1p-7);
    args.eps2 = step.eps2;
    args.d = step.d;
    args.kept = step.kept;
    args.maximize = step.maximize;
    PYDL_LAUNCH(p.device(), p.count() * 8, adafactor_step, args);
    param.write_back();
    state.write_back();
  }
}

}  // namespace pydl::ops
