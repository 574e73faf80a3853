// Optimizer steps, norms, scaling and clipping over many tensors in one call. Each makes one pass, bound by memory.
//
// The tensors are seen as one long vector, tensor after tensor, cut into chunks of kManyGrain elements: a chunk may
// cross tensors, so that many small ones cost no more than a large one, and sums do not depend on who took which chunk.
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kManyGrain = 16384;

int64_t total_count(int tensors, const int64_t* sizes) {
  int64_t total = 0;
  for (int t = 0; t < tensors; ++t) total += sizes[t];
  return total;
}

// body(tensor, first element, end) for the pieces of [begin, end) of the long vector.
template <class F>
PYDL_INLINE void each_piece(int tensors, const int64_t* sizes, int64_t begin, int64_t end, F body) {
  int64_t start = 0;  // of tensor t
  for (int t = 0; t < tensors && start < end; ++t) {
    const int64_t first = begin > start ? begin - start : 0;
    const int64_t last = end - start < sizes[t] ? end - start : sizes[t];
    if (first < last) body(t, first, last);
    start += sizes[t];
  }
}

template <class F>
PYDL_INLINE void over_many(int tensors, const int64_t* sizes, Exec& exec, F body) {
  parallel_for(exec, total_count(tensors, sizes), kManyGrain,
               [&](int64_t begin, int64_t end) { each_piece(tensors, sizes, begin, end, body); });
}

// step(load, store) for each vector of [begin, end): load(p) and store(v, p) are whole or partial at that place.
template <class T, class F>
PYDL_INLINE void each_place(int64_t begin, int64_t end, F step) {
  using V = Vec<T>;
  int64_t i = begin;
  for (; i + V::size <= end; i += V::size) {
    step([i](const void* p) { return V::load(static_cast<const T*>(p) + i); },
         [i](V v, void* p) { v.store(static_cast<T*>(p) + i); });
  }
  if (i < end) {
    const int rest = static_cast<int>(end - i);
    step([i, rest](const void* p) { return V::load_partial(static_cast<const T*>(p) + i, rest); },
         [i, rest](V v, void* p) { v.store_partial(static_cast<T*>(p) + i, rest); });
  }
}

template <class T>
void sgd(const SgdArgs& args, Exec& exec) {
  using V = Vec<T>;
  const V lr(args.lr), momentum(args.momentum), undamped(1.0 - args.dampening), decay(args.weight_decay);
  const V sign(args.maximize ? -1.0 : 1.0);
  const bool decays = args.weight_decay != 0.0, buffered = args.momentum != 0.0;
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    void* param = args.params[t];
    const void* grad = args.grads[t];
    void* buffer = buffered ? args.buffers[t] : nullptr;
    each_place<T>(
        begin, end, [&](auto load, auto store) __attribute__((always_inline)) {
          const V p = load(param);
          V g = sign * load(grad);
          if (decays) g = fma(decay, p, g);
          if (buffered) {
            const V b = args.first ? g : fma(momentum, load(buffer), undamped * g);
            store(b, buffer);
            g = args.nesterov ? fma(momentum, b, g) : b;
          }
          store(p - lr * g, param);
        });
  });
}

template <class T, bool amsgrad>
void adam(const AdamArgs& args, Exec& exec) {
  using V = Vec<T>;
  const double correction1 = 1.0 - __builtin_pow(args.beta1, args.step);
  const double correction2 = 1.0 - __builtin_pow(args.beta2, args.step);
  const V step_size(args.lr / correction1), inv_root2(1.0 / __builtin_sqrt(correction2)), eps(args.eps);
  const V beta2(args.beta2), rest1(1.0 - args.beta1), rest2(1.0 - args.beta2);
  const V sign(args.maximize ? -1.0 : 1.0), decay(args.weight_decay), kept(1.0 - args.lr * args.weight_decay);
  const bool decays = args.weight_decay != 0.0 && !args.decoupled;
  const bool shrinks = args.weight_decay != 0.0 && args.decoupled;
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    void* param = args.params[t];
    const void* grad = args.grads[t];
    void* exp_avg = args.exp_avgs[t];
    void* exp_avg_sq = args.exp_avg_sqs[t];
    void* max_exp_avg_sq = amsgrad ? args.max_exp_avg_sqs[t] : nullptr;
    each_place<T>(
        begin, end, [&](auto load, auto store) __attribute__((always_inline)) {
          V p = load(param);
          V g = sign * load(grad);
          if (shrinks) p *= kept;
          if (decays) g = fma(decay, p, g);
          V m = load(exp_avg);
          m = fma(rest1, g - m, m);
          V v = fma(rest2 * g, g, beta2 * load(exp_avg_sq));
          store(m, exp_avg);
          store(v, exp_avg_sq);
          if constexpr (amsgrad) {
            v = max(load(max_exp_avg_sq), v);
            store(v, max_exp_avg_sq);
          }
          store(p - step_size * m / fma(sqrt(v), inv_root2, eps), param);
        });
  });
}

// Widens a vector of terms and adds it to two of float64.
struct WideSum {
  Vec<double> low, high;
  PYDL_INLINE void add(Vec<float> x) {
    low += widen_low(x);
    high += widen_high(x);
  }
  PYDL_INLINE void add(Vec<double> x) { low += x; }
  PYDL_INLINE double total() const { return reduce_add(low + high); }
};

enum class Order { one, two, infinity, other };

template <class T, Order order>
double norm_piece(const T* x, int64_t begin, int64_t end, double power) {
  using V = Vec<T>;
  WideSum sum;
  V largest(0.0);
  each_place<T>(
      begin, end, [&](auto load, auto) __attribute__((always_inline)) {
        const V a = abs(load(x));
        if constexpr (order == Order::infinity) {
          largest = max(largest, a);
        } else if constexpr (order == Order::one) {
          sum.add(a);
        } else if constexpr (order == Order::two && sizeof(T) == 4) {  // squares of float32 are exact in float64
          const Vec<double> low = widen_low(a), high = widen_high(a);
          sum.low = fma(low, low, sum.low);
          sum.high = fma(high, high, sum.high);
        } else if constexpr (order == Order::two) {
          sum.add(a * a);
        }
      });
  if constexpr (order == Order::other) {
    double total = 0.0;
    for (int64_t i = begin; i < end; ++i) total += __builtin_pow(__builtin_fabs(static_cast<double>(x[i])), power);
    return total;
  }
  return order == Order::infinity ? static_cast<double>(reduce_max(largest)) : sum.total();
}

template <class T, Order order>
void norm(const NormArgs& args, Exec& exec) {
  const int64_t total = total_count(args.tensors, args.sizes);
  const int64_t chunks = (total + kManyGrain - 1) / kManyGrain;
  Scratch<double> partial(exec, chunks);
  parallel_for(exec, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t end = (chunk + 1) * kManyGrain < total ? (chunk + 1) * kManyGrain : total;
      double sum = 0.0;
      each_piece(args.tensors, args.sizes, chunk * kManyGrain, end, [&](int t, int64_t from, int64_t to) {
        const double piece = norm_piece<T, order>(static_cast<const T*>(args.data[t]), from, to, args.order);
        if (order == Order::infinity)
          sum = piece > sum || piece != piece ? piece : sum;
        else
          sum += piece;
      });
      partial[chunk] = sum;
    }
  });
  double sum = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (order == Order::infinity)
      sum = partial[chunk] > sum || partial[chunk] != partial[chunk] ? partial[chunk] : sum;
    else
      sum += partial[chunk];
  }
  *args.result = order == Order::two     ? __builtin_sqrt(sum)
                 : order == Order::other ? __builtin_pow(sum, 1.0 / args.order)
                                         : sum;
}

template <class T>
void norm_of_order(const NormArgs& args, Exec& exec) {
  if (args.order == 2.0) return norm<T, Order::two>(args, exec);
  if (args.order == 1.0) return norm<T, Order::one>(args, exec);
  if (args.order == __builtin_inf()) return norm<T, Order::infinity>(args, exec);
  norm<T, Order::other>(args, exec);
}

template <class T>
void scale_all(const ManyArgs& args, Exec& exec) {
  const Vec<T> factor(args.low);
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    each_place<T>(begin, end, [&](auto load, auto store) { store(load(args.data[t]) * factor, args.data[t]); });
  });
}

template <class T>
void clip_all(const ManyArgs& args, Exec& exec) {
  const Vec<T> low(args.low), high(args.high);
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    each_place<T>(begin, end, [&](auto load, auto store) {
      store(min_or_b(high, max_or_b(low, load(args.data[t]))), args.data[t]);
    });
  });
}

void sgd_step_kernel(const SgdArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? sgd<double>(args, exec) : sgd<float>(args, exec);
}
void adam_step_kernel(const AdamArgs& args, Exec& exec) noexcept {
  if (args.max_exp_avg_sqs != nullptr) {
    args.dtype == DType::float64 ? adam<double, true>(args, exec) : adam<float, true>(args, exec);
  } else {
    args.dtype == DType::float64 ? adam<double, false>(args, exec) : adam<float, false>(args, exec);
  }
}
void total_norm_kernel(const NormArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? norm_of_order<double>(args, exec) : norm_of_order<float>(args, exec);
}
void scale_many_kernel(const ManyArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? scale_all<double>(args, exec) : scale_all<float>(args, exec);
}
void clip_many_kernel(const ManyArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? clip_all<double>(args, exec) : clip_all<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(optimizer) {
  table.sgd_step = pydl::sgd_step_kernel;
  table.adam_step = pydl::adam_step_kernel;
  table.total_norm = pydl::total_norm_kernel;
  table.scale_many = pydl::scale_many_kernel;
  table.clip_many = pydl::clip_many_kernel;
}
