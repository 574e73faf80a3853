// Connectionist temporal classification, forward and backward, in log space and float64: see cpu/ctc.cpp for the
// recursions. A block has a sequence, its threads the states of a step; steps follow each other at barriers, which is
// what bounds it. The gradient adds up the states of a label along a chain of them, so nothing is added atomically.
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

constexpr int64_t kMargin = 2;  // states before the first and after the last, which can't be
__device__ inline double never() { return -__builtin_inf(); }

// log(exp(a) + exp(b) + exp(c)).
__device__ inline double log_add(double a, double b, double c) {
  double top = a > b ? a : b;
  top = top > c ? top : c;
  const double base = top == never() ? 0.0 : top;
  return top + ::log(::exp(a - base) + ::exp(b - base) + ::exp(c - base));
}

template <class T>
struct Sequence {
  const CtcArgs& args;
  int64_t n, states, length;  // of this one
  const int64_t* labels;
  __device__ Sequence(const CtcArgs& a, int64_t index)
      : args(a),
        n(index),
        states(2 * a.target_lengths[index] + 1),
        length(a.input_lengths[index]),
        labels(a.targets + a.target_start[index]) {}
  __device__ int64_t label(int64_t s) const { return s % 2 == 0 ? args.blank : labels[s / 2]; }
  __device__ const T* row(int64_t t) const {
    return static_cast<const T*>(args.log_probs) + (t * args.batch + n) * args.classes;
  }
  __device__ double log_prob(int64_t t, int64_t s) const { return static_cast<double>(row(t)[label(s)]); }
  __device__ double* alpha(int64_t t) const { return args.ws_alpha + (n * args.steps + t) * args.states; }
  // Whether state s may follow s - 2.
  __device__ bool may_skip(int64_t s) const { return s % 2 == 1 && s >= 2 && labels[s / 2] != labels[s / 2 - 1]; }
};

inline int64_t buffer_states(const CtcArgs& args) { return args.states + 2 * kMargin; }

// buffers: (N, 2, states with margins).
template <class T>
__global__ void __launch_bounds__(kBlock) ctc_forward(CtcArgs args, double* buffers, int64_t padded) {
  const Sequence<T> seq(args, blockIdx.x);
  double* before = buffers + static_cast<int64_t>(blockIdx.x) * 2 * padded;
  double* now = before + padded;
  for (int64_t i = threadIdx.x; i < 2 * padded; i += kBlock) before[i] = never();
  __syncthreads();
  for (int64_t t = 0; t < seq.length; ++t) {
    for (int64_t s = threadIdx.x; s < seq.states; s += kBlock) {
      const double* old = before + kMargin + s;
      double value = never();
      if (t > 0)
        value = seq.log_prob(t, s) + log_add(old[0], old[-1], seq.may_skip(s) ? old[-2] : never());
      else if (s < 2)
        value = seq.log_prob(0, s);
      now[kMargin + s] = value;
      if (args.ws_alpha != nullptr) seq.alpha(t)[s] = value;
    }
    __syncthreads();
    double* const swap = before;
    before = now;
    now = swap;
  }
  if (threadIdx.x != 0) return;
  const double* last = before + kMargin;
  double likelihood;
  if (seq.length == 0)
    likelihood = seq.states == 1 ? 0.0 : never();
  else
    likelihood = log_add(last[seq.states - 1], seq.states > 1 ? last[seq.states - 2] : never(), never());
  static_cast<T*>(args.losses)[blockIdx.x] = static_cast<T>(-likelihood);
}

// Of each sequence: two steps of states, the states' posteriors, each class's share; and for each label state the next
// one with the same label (or -1), and whether it is the first.
struct Workspace {
  double *steps, *posterior, *share;  // (N, 2, padded), (N, states), (N, classes)
  int64_t* next;                      // (N, states); a first one is marked in `first`
  int64_t* first;                     // (N, states)
};

template <class T>
__global__ void __launch_bounds__(kBlock) ctc_backward(CtcBackwardArgs args, Workspace ws, int64_t padded) {
  const CtcArgs& f = args.forward;
  const Sequence<T> seq(f, blockIdx.x);
  const int64_t states = seq.states, classes = f.classes, step = f.batch * classes, n = seq.n;
  const double g = static_cast<double>(static_cast<const T*>(args.d_losses)[n]);
  const bool impossible = static_cast<double>(static_cast<const T*>(f.losses)[n]) == __builtin_inf();
  T* const d_x = static_cast<T*>(args.d_log_probs) + n * classes;
  const int64_t used = impossible && args.zero_infinity ? 0 : seq.length;
  for (int64_t t = used; t < f.steps; ++t)
    for (int64_t c = threadIdx.x; c < classes; c += kBlock) d_x[t * step + c] = T(0);
  if (used == 0) return;
  double* before = ws.steps + n * 2 * padded;
  double* now = before + padded;
  double* const posterior = ws.posterior + n * f.states;
  double* const share = ws.share + n * classes;
  int64_t* const next = ws.next + n * f.states;
  int64_t* const first = ws.first + n * f.states;
  for (int64_t i = threadIdx.x; i < 2 * padded; i += kBlock) before[i] = never();
  for (int64_t s = 1 + 2 * static_cast<int64_t>(threadIdx.x); s < states; s += 2 * kBlock) {
    next[s] = -1;
    first[s] = 1;
    for (int64_t r = s + 2; r < states && next[s] < 0; r += 2)
      if (seq.labels[r / 2] == seq.labels[s / 2]) next[s] = r;
    for (int64_t r = 1; r < s; r += 2)
      if (seq.labels[r / 2] == seq.labels[s / 2]) first[s] = 0;
  }
  __syncthreads();
  // The likelihood from alpha itself: the stored loss may have been rounded to float32.
  const double* last = seq.alpha(seq.length - 1);
  const double likelihood = log_add(last[states - 1], states > 1 ? last[states - 2] : never(), never());
  for (int64_t t = seq.length - 1; t >= 0; --t) {
    const double* alpha = seq.alpha(t);
    for (int64_t s = threadIdx.x; s < states; s += kBlock) {
      const double* old = before + kMargin + s;
      const double lp = seq.log_prob(t, s);
      double value = never();
      if (t < seq.length - 1)
        value = lp + log_add(old[0], old[1], s + 2 < states && seq.may_skip(s + 2) ? old[2] : never());
      else if (s >= states - 2)
        value = lp;
      now[kMargin + s] = value;
      posterior[s] = ::exp(alpha[s] + value - lp - likelihood);
    }
    for (int64_t c = threadIdx.x; c < classes; c += kBlock) share[c] = 0.0;
    __syncthreads();
    // Labels along their chains; the blank's states, which no label has but the blank itself, by one thread a class.
    for (int64_t s = 1 + 2 * static_cast<int64_t>(threadIdx.x); s < states; s += 2 * kBlock) {
      if (first[s] == 0) continue;
      double sum = 0.0;
      for (int64_t r = s; r >= 0; r = next[r]) sum += posterior[r];
      share[seq.labels[s / 2]] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      double sum = share[f.blank];
      for (int64_t s = 0; s < states; s += 2) sum += posterior[s];
      share[f.blank] = sum;
    }
    __syncthreads();
    const T* x = seq.row(t);
    for (int64_t c = threadIdx.x; c < classes; c += kBlock)
      d_x[t * step + c] = static_cast<T>(g * (::exp(static_cast<double>(x[c])) - share[c]));
    __syncthreads();
    double* const swap = before;
    before = now;
    now = swap;
  }
}

void ctc_loss_kernel(const CtcArgs& args, Exec& exec) noexcept {
  if (args.batch <= 0) return;
  const int64_t padded = buffer_states(args);
  DeviceScratch<double> buffers(exec, args.batch * 2 * padded);
  if (!buffers) return;
  dispatch_floating(args.dtype, [&](auto zero) {
    PYDL_CUDA_LAUNCH((ctc_forward<decltype(zero)>), static_cast<unsigned>(args.batch), kBlock, 0, exec, args,
                     buffers.get(), padded);
  });
}
void ctc_loss_backward_kernel(const CtcBackwardArgs& args, Exec& exec) noexcept {
  const CtcArgs& f = args.forward;
  if (f.batch <= 0) return;
  const int64_t padded = buffer_states(f);
  DeviceScratch<double> reals(exec, f.batch * (2 * padded + f.states + f.classes));
  DeviceScratch<int64_t> chains(exec, f.batch * 2 * f.states);
  if (!reals || !chains) return;
  Workspace ws;
  ws.steps = reals.get();
  ws.posterior = ws.steps + f.batch * 2 * padded;
  ws.share = ws.posterior + f.batch * f.states;
  ws.next = chains.get();
  ws.first = ws.next + f.batch * f.states;
  dispatch_floating(f.dtype, [&](auto zero) {
    PYDL_CUDA_LAUNCH((ctc_backward<decltype(zero)>), static_cast<unsigned>(f.batch), kBlock, 0, exec, args, ws, padded);
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(ctc) {
  table.ctc_loss = pydl::ctc_loss_kernel;
  table.ctc_loss_backward = pydl::ctc_loss_backward_kernel;
}
