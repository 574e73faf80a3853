// Connectionist temporal classification, forward and backward, in log space and float64. Graves et al., "Connectionist
// temporal classification" (2006). The extended target has a blank before, between and after its labels: 2 S + 1
// states.
//   alpha[t][s] = lp[t][s] + log(exp(alpha[t-1][s]) + exp(alpha[t-1][s-1]) + exp(alpha[t-1][s-2] where it may be
//   skipped))
// and beta the same from the end; lp[t][s] is the log-probability of state s's label. States are the vectors' lanes.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

using V = Vec<double>;
constexpr double kNever = -__builtin_inf();
constexpr int64_t kMargin = 2;  // states before the first and after the last, which can't be

// log(exp(a) + exp(b) + exp(c)).
PYDL_INLINE V log_add(V a, V b, V c) {
  const V top = max_or_b(max_or_b(a, b), c);
  const V base = select(top == kNever, V(0.0), top);
  return top + log(exp(a - base) + exp(b - base) + exp(c - base));
}

template <class T>
struct Sequence {
  const CtcArgs& args;
  const int64_t n, states, length;  // of this one
  const int64_t* labels;

  Sequence(const CtcArgs& a, int64_t index)
      : args(a),
        n(index),
        states(2 * a.target_lengths[index] + 1),
        length(a.input_lengths[index]),
        labels(a.targets + a.target_start[index]) {}
  int64_t label(int64_t s) const { return s % 2 == 0 ? args.blank : labels[s / 2]; }
  const T* row(int64_t t) const { return static_cast<const T*>(args.log_probs) + (t * args.batch + n) * args.classes; }
  double* alpha(int64_t t) const { return args.ws_alpha + (n * args.steps + t) * args.states; }
  void gather(int64_t t, double* lp) const {
    const T* x = row(t);
    for (int64_t s = 0; s < states; ++s) lp[s] = static_cast<double>(x[label(s)]);
  }
  // 0 where state s may follow s - 2, else -inf.
  void skips(double* skip) const {
    for (int64_t s = 0; s < states; ++s) {
      const bool may = s % 2 == 1 && s >= 2 && labels[s / 2] != labels[s / 2 - 1];
      skip[s] = may ? 0.0 : kNever;
    }
  }
};

// Buffers of one sequence: the states of a step with margins of -inf, before and after, twice; lp; skip.
int64_t buffer_states(int64_t states) { return states + 2 * kMargin + V::size; }

template <class T>
double log_likelihood(const Sequence<T>& seq, double* before, double* now, double* lp, double* skip) {
  const int64_t states = seq.states, padded = buffer_states(seq.args.states);
  if (seq.length == 0) return states == 1 ? 0.0 : kNever;
  for (int64_t i = 0; i < padded; ++i) before[i] = now[i] = kNever;
  seq.skips(skip);
  for (int64_t t = 0; t < seq.length; ++t) {
    seq.gather(t, lp);
    double* cur = now + kMargin;
    const double* old = before + kMargin;
    if (t == 0) {
      cur[0] = lp[0];
      if (states > 1) cur[1] = lp[1];
    } else {
      for (int64_t s = 0; s < states; s += V::size) {
        const int rest = states - s < V::size ? static_cast<int>(states - s) : V::size;
        const V stay = V::load(old + s), next = V::load(old + s - 1);
        const V skipped = V::load(old + s - 2) + V::load_partial(skip + s, rest);
        (V::load_partial(lp + s, rest) + log_add(stay, next, skipped)).store_partial(cur + s, rest);
      }
    }
    if (seq.args.ws_alpha != nullptr) __builtin_memcpy(seq.alpha(t), cur, static_cast<size_t>(states) * sizeof(double));
    double* swap = before;
    before = now;
    now = swap;
  }
  const double* last = before + kMargin;
  const V end = log_add(V(last[states - 1]), V(states > 1 ? last[states - 2] : kNever), V(kNever));
  return end.lane(0);
}

template <class T>
void forward(const CtcArgs& args, Exec& exec) {
  const int64_t padded = buffer_states(args.states);
  parallel_for(exec, args.batch, 1, [&](int64_t begin, int64_t end) {
    Scratch<double> buffer(exec, 4 * padded);
    for (int64_t n = begin; n < end; ++n)
      static_cast<T*>(args.losses)[n] = static_cast<T>(
          -log_likelihood(Sequence<T>(args, n), buffer, buffer + padded, buffer + 2 * padded, buffer + 3 * padded));
  });
}

template <class T>
void backward_one(const CtcBackwardArgs& args, const Sequence<T>& seq, double* before, double* now, double* lp,
                  double* skip, double* share) {
  const CtcArgs& fwd = args.forward;
  const int64_t states = seq.states, padded = buffer_states(fwd.states), classes = fwd.classes;
  const double g = static_cast<double>(static_cast<const T*>(args.d_losses)[seq.n]);
  const double loss = static_cast<double>(static_cast<const T*>(fwd.losses)[seq.n]);
  const bool impossible = loss == -kNever;
  T* const d_x = static_cast<T*>(args.d_log_probs) + seq.n * classes;
  const int64_t step = fwd.batch * classes;
  const int64_t used = impossible && args.zero_infinity ? 0 : seq.length;
  for (int64_t t = used; t < fwd.steps; ++t)
    __builtin_memset(d_x + t * step, 0, static_cast<size_t>(classes) * sizeof(T));
  if (used == 0) return;
  for (int64_t i = 0; i < padded; ++i) before[i] = now[i] = kNever;
  seq.skips(skip);
  // The likelihood from alpha itself: the stored loss may have been rounded to float32.
  const double* last = seq.alpha(seq.length - 1);
  const V end = log_add(V(last[states - 1]), V(states > 1 ? last[states - 2] : kNever), V(kNever));
  const V likelihood(end.lane(0));
  for (int64_t t = seq.length - 1; t >= 0; --t) {
    seq.gather(t, lp);
    double* cur = now + kMargin;
    const double* old = before + kMargin;
    if (t == seq.length - 1) {
      cur[states - 1] = lp[states - 1];
      if (states > 1) cur[states - 2] = lp[states - 2];
    } else {
      for (int64_t s = 0; s < states; s += V::size) {
        const int rest = states - s < V::size ? static_cast<int>(states - s) : V::size;
        const V stay = V::load(old + s), next = V::load(old + s + 1);
        const int64_t ahead = states - s - 2;  // states that have one two ahead
        const V allowed =
            ahead <= 0 ? V(kNever) : V::load_partial(skip + s + 2, ahead < rest ? static_cast<int>(ahead) : rest);
        const V skipped = V::load(old + s + 2) + allowed;
        (V::load_partial(lp + s, rest) + log_add(stay, next, skipped)).store_partial(cur + s, rest);
      }
    }
    for (int64_t c = 0; c < classes; ++c) share[c] = 0.0;
    const double* alpha = seq.alpha(t);
    double posterior[V::size];
    for (int64_t s = 0; s < states; s += V::size) {
      const int rest = states - s < V::size ? static_cast<int>(states - s) : V::size;
      const V path = V::load_partial(alpha + s, rest) + V::load_partial(cur + s, rest) - V::load_partial(lp + s, rest);
      exp(path - likelihood).store(posterior);
      for (int i = 0; i < rest; ++i) share[seq.label(s + i)] += posterior[i];
    }
    const T* x = seq.row(t);
    T* d = d_x + t * step;
    for (int64_t c = 0; c < classes; ++c)
      d[c] = static_cast<T>(g * (__builtin_exp(static_cast<double>(x[c])) - share[c]));
    double* swap = before;
    before = now;
    now = swap;
  }
}

template <class T>
void backward(const CtcBackwardArgs& args, Exec& exec) {
  const CtcArgs& fwd = args.forward;
  const int64_t padded = buffer_states(fwd.states);
  parallel_for(exec, fwd.batch, 1, [&](int64_t begin, int64_t end) {
    Scratch<double> buffer(exec, 4 * padded);
    Scratch<double> share(exec, fwd.classes);
    for (int64_t n = begin; n < end; ++n)
      backward_one(args, Sequence<T>(fwd, n), buffer, buffer + padded, buffer + 2 * padded, buffer + 3 * padded, share);
  });
}

void ctc_loss_kernel(const CtcArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float32 ? forward<float>(args, exec) : forward<double>(args, exec);
}
void ctc_loss_backward_kernel(const CtcBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float32 ? backward<float>(args, exec) : backward<double>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(ctc) {
  table.ctc_loss = pydl::ctc_loss_kernel;
  table.ctc_loss_backward = pydl::ctc_loss_backward_kernel;
}
