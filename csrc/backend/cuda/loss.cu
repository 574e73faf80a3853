// The element-wise losses of ops/losses.def: one pass forward, the reduction included, and one pass backward that makes
// both gradients. Bound by memory.
#include "backend/cuda/reduction.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

template <class T>
struct Operands {
  LossArgs args;
  __device__ Scalar<T> at(const void* p, int64_t i) const { return static_cast<const T*>(p)[i]; }
  // f at element i, times its weight.
  template <class F>
  __device__ Scalar<T> weighted(int64_t i, F f) const {
    using V = Scalar<T>;
    const V v = args.positive != nullptr ? at(args.positive, i) : V(1.0);
    const V value = f(at(args.x, i), at(args.target, i), v, V(args.p));
    return args.weight != nullptr ? value * at(args.weight, i) : value;
  }
};

template <class Op, class T>
__device__ Scalar<T> loss_at(const Operands<T>& operands, int64_t i) {
  using V = Scalar<T>;
  return operands.weighted(i, [](V x, V t, V v, V p) { return Op::loss(x, t, v, p); });
}

template <class Op, class T>
__global__ void __launch_bounds__(kBlock) each_loss(Operands<T> operands) {
  PYDL_CUDA_LOOP(i, operands.args.count) static_cast<T*>(operands.args.loss)[i] = loss_at<Op, T>(operands, i).raw;
}

template <class Op, class T>
struct LossSum : Fold<LossSum<Op, T>> {
  using Acc = double;
  Operands<T> operands;
  __device__ Acc identity() const { return 0.0; }
  __device__ Acc load(int64_t, int64_t i) const { return static_cast<double>(loss_at<Op, T>(operands, i).raw); }
  __device__ Acc combine(Acc a, Acc b) const { return a + b; }
  __device__ void store(int64_t, Acc acc) const {
    *static_cast<T*>(operands.args.loss) = static_cast<T>(acc * operands.args.scale);
  }
};

template <class Op, class T>
__global__ void __launch_bounds__(kBlock) loss_gradients(Operands<T> operands, const T* d_loss, T* d_x, T* d_target) {
  using V = Scalar<T>;
  const LossArgs& args = operands.args;
  const bool each = args.reduction == Reduction::none;
  const V scale = each ? V(1.0) : V(args.scale * static_cast<double>(d_loss[0]));
  PYDL_CUDA_LOOP(i, args.count) {
    const V g = each ? V(d_loss[i]) : scale;
    if (d_target != nullptr)
      d_target[i] = (operands.weighted(i, [](V x, V t, V v, V p) { return Op::d_t(x, t, v, p); }) * g).raw;
    if (d_x != nullptr) d_x[i] = (operands.weighted(i, [](V x, V t, V v, V p) { return Op::d_x(x, t, v, p); }) * g).raw;
  }
}

template <class Op>
void loss_forward(const LossArgs& args, Exec& exec) {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Operands<T> operands{args};
    if (args.reduction != Reduction::none) {
      LossSum<Op, T> sum{};
      sum.operands = operands;
      reduce_to(exec, 1, args.count, true, sum);
    } else if (args.count > 0) {
      PYDL_CUDA_LAUNCH((each_loss<Op, T>), grid_for(args.count), kBlock, 0, exec, operands);
    }
  });
}
template <class Op>
void loss_backward(const LossBackwardArgs& args, Exec& exec) {
  if (args.forward.count <= 0) return;
  dispatch_floating(args.forward.dtype, [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((loss_gradients<Op, T>), grid_for(args.forward.count), kBlock, 0, exec, Operands<T>{args.forward},
                     static_cast<const T*>(args.d_loss), static_cast<T*>(args.d_x), static_cast<T*>(args.d_target));
  });
}

#define LOSS(name, formula, derivative_x, derivative_t)                                                                \
  struct name##_op {                                                                                                   \
    template <class V>                                                                                                 \
    static PYDL_INLINE V loss(V x, V t, [[maybe_unused]] V v, [[maybe_unused]] V p) {                                  \
      return V(formula);                                                                                               \
    }                                                                                                                  \
    template <class V>                                                                                                 \
    static PYDL_INLINE V d_x([[maybe_unused]] V x, V t, [[maybe_unused]] V v, [[maybe_unused]] V p) {                  \
      return V(derivative_x);                                                                                          \
    }                                                                                                                  \
    template <class V>                                                                                                 \
    static PYDL_INLINE V d_t([[maybe_unused]] V x, [[maybe_unused]] V t, [[maybe_unused]] V v, [[maybe_unused]] V p) { \
      return V(derivative_t);                                                                                          \
    }                                                                                                                  \
  };                                                                                                                   \
  void name##_kernel(const LossArgs& args, Exec& exec) noexcept { loss_forward<name##_op>(args, exec); }               \
  void name##_backward_kernel(const LossBackwardArgs& args, Exec& exec) noexcept {                                     \
    loss_backward<name##_op>(args, exec);                                                                              \
  }
#include "ops/losses.def"
#undef LOSS

}  // namespace
}  // namespace pydl

PYDL_FILL(loss) {
#define LOSS(name, formula, derivative_x, derivative_t) \
  table.name = pydl::name##_kernel;                     \
  table.name##_backward = pydl::name##_backward_kernel;
#include "ops/losses.def"
}
