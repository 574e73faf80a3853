// Norms, scaling, clipping, blending and penalties over many tensors in one call. No optimizer steps: optimizer.cpp.
#include "backend/cpu/many.h"

namespace pydl {
namespace {

enum class Order { one, two, infinity, other };

template <class T, Order order>
double norm_piece(const T* x, int64_t begin, int64_t end, double power) {
  using V = Vec<T>;
  WideSum sum;
  V largest(0.0);
  each_place<T>(
      begin, end, [&](auto load, auto) __attribute__((always_inline)) {
        const V a = abs(load(x));
        if constexpr (order == Order::infinity)
          largest = max(largest, a);
        else if constexpr (order == Order::one)
          sum.add(a);
        else if constexpr (order == Order::two)
          sum.add_square(a);
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
  const double sum = fold_many(
      args.tensors, args.sizes, exec,
      [&](int t, int64_t begin, int64_t end) {
        return norm_piece<T, order>(static_cast<const T*>(args.data[t]), begin, end, args.order);
      },
      [](double a, double b) {
        if (order == Order::infinity) return b > a || b != b ? b : a;
        return a + b;
      });
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

// data = change(data), element by element.
template <class T, class F>
void change_all(const ManyArgs& args, Exec& exec, F change) {
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    each_place<T>(begin, end, [&](auto load, auto store) { store(change(load(args.data[t])), args.data[t]); });
  });
}

template <class T>
void scale_all(const ManyArgs& args, Exec& exec) {
  change_all<T>(args, exec, [factor = Vec<T>(args.low)](Vec<T> x) { return x * factor; });
}

template <class T>
void clip_all(const ManyArgs& args, Exec& exec) {
  change_all<T>(args, exec, [low = Vec<T>(args.low), high = Vec<T>(args.high)](Vec<T> x) {
    return min_or_b(high, max_or_b(low, x));
  });
}

template <class T>
void shrink_all(const ManyArgs& args, Exec& exec) {
  change_all<T>(args, exec, [by = Vec<T>(args.low)](Vec<T> x) {
    const Vec<T> zero(0.0);
    return select(x > by, x - by, select(x < -by, x + by, select(isnan(x), x, zero)));
  });
}

template <class T>
void blend_all(const BlendArgs& args, Exec& exec) {
  const Vec<T> weight(args.weight);
  over_many(args.tensors, args.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    each_place<T>(begin, end, [&](auto load, auto store) {
      const Vec<T> x = load(args.data[t]);
      store(fma(weight, load(args.others[t]) - x, x), args.data[t]);
    });
  });
}

template <class T>
void penalize(const PenaltyArgs& args, Exec& exec) {
  *args.result = fold_many(
      args.tensors, args.sizes, exec,
      [&](int t, int64_t begin, int64_t end) {
        WideSum absolute, squares;
        each_place<T>(
            begin, end, [&](auto load, auto) __attribute__((always_inline)) {
              const Vec<T> x = load(args.data[t]);
              absolute.add(abs(x));
              squares.add_square(x);
            });
        return (args.l1[t] != 0.0 ? args.l1[t] * absolute.total() : 0.0) +
               (args.l2[t] != 0.0 ? args.l2[t] * squares.total() : 0.0);
      },
      [](double a, double b) { return a + b; });
}

template <class T>
void penalize_backward(const PenaltyBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  const PenaltyArgs& f = args.forward;
  over_many(f.tensors, f.sizes, exec, [&](int t, int64_t begin, int64_t end) {
    const V l1(args.d_result * f.l1[t]), twice_l2(2.0 * args.d_result * f.l2[t]), zero(0.0);
    each_place<T>(
        begin, end, [&](auto load, auto store) __attribute__((always_inline)) {
          const V x = load(f.data[t]);
          store(fma(twice_l2, x, select(x > zero, l1, select(x < zero, -l1, zero))), args.d_data[t]);
        });
  });
}

#define MANY_KERNEL(name, Args, function)                                                      \
  void name##_kernel(const Args& args, Exec& exec) noexcept {                                  \
    args.dtype == DType::float64 ? function<double>(args, exec) : function<float>(args, exec); \
  }
MANY_KERNEL(total_norm, NormArgs, norm_of_order)
MANY_KERNEL(scale_many, ManyArgs, scale_all)
MANY_KERNEL(clip_many, ManyArgs, clip_all)
MANY_KERNEL(soft_threshold_many, ManyArgs, shrink_all)
MANY_KERNEL(blend_many, BlendArgs, blend_all)
MANY_KERNEL(penalty, PenaltyArgs, penalize)
#undef MANY_KERNEL
void penalty_backward_kernel(const PenaltyBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float64 ? penalize_backward<double>(args, exec) : penalize_backward<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(many) {
  table.total_norm = pydl::total_norm_kernel;
  table.scale_many = pydl::scale_many_kernel;
  table.clip_many = pydl::clip_many_kernel;
  table.soft_threshold_many = pydl::soft_threshold_many_kernel;
  table.blend_many = pydl::blend_many_kernel;
  table.penalty = pydl::penalty_kernel;
  table.penalty_backward = pydl::penalty_backward_kernel;
}
