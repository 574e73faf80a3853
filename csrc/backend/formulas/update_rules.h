// The optimizers' rules, torch.optim's formulas: each changes a parameter p and its state s, given the gradient g. The
// scalars, bias corrections included, come from the caller. V is Vec<T> or a device's Scalar<T>, whose header, which
// defines PYDL_INLINE too, comes first.
#pragma once
#include "backend/kernel_args.h"

namespace pydl {
namespace {

// `first`: s holds nothing yet.
template <class V, bool momentum>
struct Sgd {
  static constexpr int states = momentum ? 1 : 0;  // momentum_buffer
  V lr, beta, undamped;
  bool nesterov, first;
  PYDL_INLINE explicit Sgd(const UpdateScalars& u)
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
  PYDL_INLINE explicit Adam(const UpdateScalars& u)
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
  PYDL_INLINE explicit Adamax(const UpdateScalars& u) : lr(u.lr), rest1(1.0 - u.beta1), beta2(u.beta2), eps(u.eps) {}
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
  PYDL_INLINE explicit Adagrad(const UpdateScalars& u) : lr(u.lr), eps(u.eps) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    s[0] = fma(g, g, s[0]);
    p -= lr * g / (sqrt(s[0]) + eps);
  }
};

template <class V>
struct Adadelta {
  static constexpr int states = 2;  // square_avg, acc_delta
  V lr, rho, rest, eps;
  PYDL_INLINE explicit Adadelta(const UpdateScalars& u) : lr(u.lr), rho(u.beta2), rest(1.0 - u.beta2), eps(u.eps) {}
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
  PYDL_INLINE explicit RmsProp(const UpdateScalars& u)
      : lr(u.lr), alpha(u.beta2), rest(1.0 - u.beta2), eps(u.eps), beta(u.beta1) {}
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
  PYDL_INLINE explicit Rprop(const UpdateScalars& u)
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
  PYDL_INLINE explicit Asgd(const UpdateScalars& u) : lr(u.lr), share(u.share), whole(u.share == 1.0) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    p -= lr * g;
    s[0] = whole ? p : fma(share, p - s[0], s[0]);
  }
};

template <class V>
struct Lion {
  static constexpr int states = 1;  // exp_avg
  V lr, rest1, rest2;
  PYDL_INLINE explicit Lion(const UpdateScalars& u) : lr(u.lr), rest1(1.0 - u.beta1), rest2(1.0 - u.beta2) {}
  PYDL_INLINE void operator()(V& p, V g, V* s) const {
    const V zero(0.0), direction = fma(rest1, g - s[0], s[0]);
    p -= select(direction > zero, lr, select(direction < zero, -lr, lr * direction));
    s[0] = fma(rest2, g - s[0], s[0]);
  }
};

// What comes before every rule: the sign of the gradient, both kinds of weight decay.
template <class V>
struct Decay {
  V sign, decay, kept;
  bool decays, shrinks;
  PYDL_INLINE Decay(const UpdateScalars& u, bool maximize)
      : sign(maximize ? -1.0 : 1.0), decay(u.decay), kept(u.kept), decays(u.decay != 0.0), shrinks(u.kept != 1.0) {}
  PYDL_INLINE void operator()(V& p, V& g) const {
    g = sign * g;
    if (decays) g = fma(decay, p, g);
    if (shrinks) p *= kept;
  }
};

template <class R>
struct RuleType {
  using Rule = R;
};

// use(RuleType of the rule that args asks for).
template <class V, class F>
void with_rule(const OptimizerArgs& args, F use) {
  const bool has_first = args.states[0] != nullptr, has_second = args.states[1] != nullptr;
  const bool has_third = args.states[2] != nullptr;
  switch (args.rule) {
    case UpdateRule::sgd:
      return has_first ? use(RuleType<Sgd<V, true>>()) : use(RuleType<Sgd<V, false>>());
    case UpdateRule::adam:
      return has_third ? use(RuleType<Adam<V, Adaptation::largest>>())
                       : use(RuleType<Adam<V, Adaptation::second_moment>>());
    case UpdateRule::nadam:
      return use(RuleType<Adam<V, Adaptation::nesterov>>());
    case UpdateRule::unadapted_adam:
      return use(RuleType<Adam<V, Adaptation::none>>());
    case UpdateRule::adamax:
      return use(RuleType<Adamax<V>>());
    case UpdateRule::adagrad:
      return use(RuleType<Adagrad<V>>());
    case UpdateRule::adadelta:
      return use(RuleType<Adadelta<V>>());
    case UpdateRule::rmsprop:
      return has_second ? use(RuleType<RmsProp<V, false, true>>()) : use(RuleType<RmsProp<V, false, false>>());
    case UpdateRule::centered_rmsprop:
      return has_third ? use(RuleType<RmsProp<V, true, true>>()) : use(RuleType<RmsProp<V, true, false>>());
    case UpdateRule::rprop:
      return use(RuleType<Rprop<V>>());
    case UpdateRule::asgd:
      return use(RuleType<Asgd<V>>());
    case UpdateRule::lion:
      return use(RuleType<Lion<V>>());
  }
}

}  // namespace
}  // namespace pydl
