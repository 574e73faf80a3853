// Element-wise optimizer steps over many tensors in one pass. Each rule is its formula: it changes a parameter p and
// its state s, given the gradient g. The scalars, bias corrections included, come from the caller.
#include "backend/cpu/many.h"

namespace pydl {
namespace {

// torch.optim's formulas, for one vector V of a dtype. `first`: s holds nothing yet.
template <class V, bool momentum>
struct Sgd {
  static constexpr int states = momentum ? 1 : 0;  // momentum_buffer
  V lr, beta, undamped;
  bool nesterov, first;
  explicit Sgd(const UpdateScalars& u)
      : lr(u.lr), beta(u.beta1), undamped(u.undamped), nesterov(u.nesterov != 0.0), first(u.first != 0.0) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    if constexpr (momentum) {
      s[0] = first ? g : fma(beta, s[0], undamped * g);
      g = nesterov ? fma(beta, s[0], g) : s[0];
    }
    p -= lr * g;
  }
};

enum class Adaptation { second_moment, largest, nesterov, none };

// Adam, AMSGrad (largest), NAdam (nesterov), and RAdam: plain Adam, or `none` while its variance can't be told.
template <class V, Adaptation kind>
struct Adam {
  static constexpr int states = kind == Adaptation::largest ? 3 : 2;  // exp_avg, exp_avg_sq, max_exp_avg_sq
  V lr, grad_lr, rest1, beta2, rest2, eps, root_scale;
  explicit Adam(const UpdateScalars& u)
      : lr(u.lr),
        grad_lr(u.grad_lr),
        rest1(1.0 - u.beta1),
        beta2(u.beta2),
        rest2(1.0 - u.beta2),
        eps(u.eps),
        root_scale(u.root_scale) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    V m = s[0] = fma(rest1, g - s[0], s[0]);
    V v = s[1] = fma(rest2 * g, g, beta2 * s[1]);
    if constexpr (kind == Adaptation::largest) v = s[2] = max(s[2], v);
    m = lr * m;
    if constexpr (kind == Adaptation::nesterov) m = fma(grad_lr, g, m);
    p -= kind == Adaptation::none ? m : m / fma(sqrt(v), root_scale, eps);
  }
};

template <class V>
struct Adamax {
  static constexpr int states = 2;  // exp_avg, exp_inf
  V lr, rest1, beta2, eps;
  explicit Adamax(const UpdateScalars& u) : lr(u.lr), rest1(1.0 - u.beta1), beta2(u.beta2), eps(u.eps) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    s[0] = fma(rest1, g - s[0], s[0]);
    s[1] = max(beta2 * s[1], abs(g) + eps);
    p -= lr * s[0] / s[1];
  }
};

template <class V>
struct Adagrad {
  static constexpr int states = 1;  // sum
  V lr, eps;
  explicit Adagrad(const UpdateScalars& u) : lr(u.lr), eps(u.eps) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    s[0] = fma(g, g, s[0]);
    p -= lr * g / (sqrt(s[0]) + eps);
  }
};

template <class V>
struct Adadelta {
  static constexpr int states = 2;  // square_avg, acc_delta
  V lr, rho, rest, eps;
  explicit Adadelta(const UpdateScalars& u) : lr(u.lr), rho(u.beta2), rest(1.0 - u.beta2), eps(u.eps) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    s[0] = fma(rest * g, g, rho * s[0]);
    const V delta = sqrt(s[1] + eps) / sqrt(s[0] + eps) * g;
    s[1] = fma(rest * delta, delta, rho * s[1]);
    p -= lr * delta;
  }
};

template <class V, bool centered, bool momentum>
struct RmsProp {
  static constexpr int states = 1 + centered + momentum;  // square_avg, grad_avg, momentum_buffer
  V lr, alpha, rest, eps, beta;
  explicit RmsProp(const UpdateScalars& u) : lr(u.lr), alpha(u.beta2), rest(1.0 - u.beta2), eps(u.eps), beta(u.beta1) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    V square = s[0] = fma(rest * g, g, alpha * s[0]);
    if constexpr (centered) {
      s[1] = fma(rest, g - s[1], s[1]);
      square = max(fma(-s[1], s[1], square), V(0.0));
    }
    g = g / (sqrt(square) + eps);
    if constexpr (momentum) g = s[1 + centered] = fma(beta, s[1 + centered], g);
    p -= lr * g;
  }
};

template <class V>
struct Rprop {
  static constexpr int states = 2;  // prev, step_size
  V smaller, larger, shortest, longest;
  explicit Rprop(const UpdateScalars& u)
      : smaller(u.eta_minus), larger(u.eta_plus), shortest(u.shortest), longest(u.longest) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    const V zero(0.0), agrees = g * s[0];
    const V factor = select(agrees > zero, larger, select(agrees < zero, smaller, V(1.0)));
    s[1] = min(max(s[1] * factor, shortest), longest);
    g = select(agrees < zero, zero, g);
    p -= select(g > zero, s[1], select(g < zero, -s[1], g * s[1]));
    s[0] = g;
  }
};

template <class V>
struct Asgd {
  static constexpr int states = 1;  // ax
  V lr, share;
  bool whole;  // p itself, without rounding
  explicit Asgd(const UpdateScalars& u) : lr(u.lr), share(u.share), whole(u.share == 1.0) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    p -= lr * g;
    s[0] = whole ? p : fma(share, p - s[0], s[0]);
  }
};

template <class V>
struct Lion {
  static constexpr int states = 1;  // exp_avg
  V lr, rest1, rest2;
  explicit Lion(const UpdateScalars& u) : lr(u.lr), rest1(1.0 - u.beta1), rest2(1.0 - u.beta2) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    const V zero(0.0), direction = fma(rest1, g - s[0], s[0]);
    p -= select(direction > zero, lr, select(direction < zero, -lr, lr * direction));
    s[0] = fma(rest2, g - s[0], s[0]);
  }
};

template <class T>
bool all_zero(const T* x, int64_t n) {
  Mask<T> found(false);
  each_place<T>(0, n, [&](auto load, auto) { found = found | !(load(x) == Vec<T>(0.0)); });
  return !any(found);
}

template <class T, class Rule>
void run(const OptimizerArgs& args, Exec& exec) {
  using V = Vec<T>;
  const UpdateScalars& u = args.scalars;
  const Rule rule(u);
  const V sign(args.maximize ? -1.0 : 1.0), decay(u.decay), kept(u.kept);
  const bool decays = u.decay != 0.0, shrinks = u.kept != 1.0;
  const auto piece = [&](int t, int64_t begin, int64_t end) __attribute__((noinline)) {  // used thrice, some 2 KB each
    void* param = args.params[t];
    const void* grad = args.grads[t];
    void* state[Rule::states + 1];
    for (int k = 0; k < Rule::states; ++k) state[k] = args.states[k][t];
    each_place<T>(
        begin, end, [&](auto load, auto store) __attribute__((always_inline)) {
          V p = load(param), g = sign * load(grad), s[Rule::states + 1];
          for (int k = 0; k < Rule::states; ++k) s[k] = load(state[k]);
          if (decays) g = fma(decay, p, g);
          if (shrinks) p *= kept;
          rule(p, g, s);
          for (int k = 0; k < Rule::states; ++k) store(s[k], state[k]);
          store(p, param);
        });
  };
  if (args.row_sizes == nullptr) return over_many(args.tensors, args.sizes, exec, piece);
  for (int t = 0; t < args.tensors; ++t) {
    const int64_t row = args.row_sizes[t];
    const T* grad = static_cast<const T*>(args.grads[t]);
    parallel_for(exec, args.sizes[t] / row, 1 + kManyGrain / row, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r)
        if (!all_zero(grad + r * row, row)) piece(t, r * row, (r + 1) * row);
    });
  }
}

template <class T>
void update(const OptimizerArgs& args, Exec& exec) {
  using V = Vec<T>;
  const bool has_second = args.states[1] != nullptr, has_third = args.states[2] != nullptr;
  switch (args.rule) {
    case UpdateRule::sgd:
      return args.states[0] != nullptr ? run<T, Sgd<V, true>>(args, exec) : run<T, Sgd<V, false>>(args, exec);
    case UpdateRule::adam:
      return has_third ? run<T, Adam<V, Adaptation::largest>>(args, exec)
                       : run<T, Adam<V, Adaptation::second_moment>>(args, exec);
    case UpdateRule::nadam:
      return run<T, Adam<V, Adaptation::nesterov>>(args, exec);
    case UpdateRule::unadapted_adam:
      return run<T, Adam<V, Adaptation::none>>(args, exec);
    case UpdateRule::adamax:
      return run<T, Adamax<V>>(args, exec);
    case UpdateRule::adagrad:
      return run<T, Adagrad<V>>(args, exec);
    case UpdateRule::adadelta:
      return run<T, Adadelta<V>>(args, exec);
    case UpdateRule::rmsprop:
      return has_second ? run<T, RmsProp<V, false, true>>(args, exec) : run<T, RmsProp<V, false, false>>(args, exec);
    case UpdateRule::centered_rmsprop:
      return has_third ? run<T, RmsProp<V, true, true>>(args, exec) : run<T, RmsProp<V, true, false>>(args, exec);
    case UpdateRule::rprop:
      return run<T, Rprop<V>>(args, exec);
    case UpdateRule::asgd:
      return run<T, Asgd<V>>(args, exec);
    case UpdateRule::lion:
      return run<T, Lion<V>>(args, exec);
  }
}

void optimizer_step_kernel(const OptimizerArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? update<double>(args, exec) : update<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(optimizer) { table.optimizer_step = pydl::optimizer_step_kernel; }
