// The element-wise losses of ops/losses.def: one pass forward, the reduction included, and one pass backward for each
// of input and target.
#include "backend/cpu/rows.h"
#include "backend/cpu/vec_math.h"

namespace pydl {
namespace {

constexpr int64_t kLossPiece = 16384;  // elements that make one partial sum

template <class T>
struct LossOperands {
  const T *x, *target, *weight, *positive;

  LossOperands(const LossArgs& args, int64_t begin)
      : x(static_cast<const T*>(args.x) + begin),
        target(static_cast<const T*>(args.target) + begin),
        weight(args.weight != nullptr ? static_cast<const T*>(args.weight) + begin : nullptr),
        positive(args.positive != nullptr ? static_cast<const T*>(args.positive) + begin : nullptr) {}

  // f at the elements that load is at, times their weight.
  template <bool weighted, class F, class Load>
  PYDL_INLINE Vec<T> at(F f, Load load, Vec<T> p) const {
    using V = Vec<T>;
    if constexpr (!weighted) return f(load(x), load(target), V(1.0), p);
    const V value = f(load(x), load(target), positive != nullptr ? load(positive) : V(1.0), p);
    return weight != nullptr ? value * load(weight) : value;
  }
};

template <class Op, class T, bool weighted>
void loss_forward(const LossArgs& args, Exec& exec) {
  using V = Vec<T>;
  const V p(args.p);
  const auto value = [](V x, V t, V v, V p) __attribute__((always_inline)) { return Op::loss(x, t, v, p); };
  if (args.reduction == Reduction::none) {
    parallel_for(exec, args.count, kLossPiece, [&](int64_t begin, int64_t end) {
      const LossOperands<T> operands(args, begin);
      row_map(end - begin, static_cast<T*>(args.loss) + begin,
              [&](auto load) { return operands.template at<weighted>(value, load, p); });
    });
    return;
  }
  const int64_t pieces = (args.count + kLossPiece - 1) / kLossPiece;
  Scratch<double> sums(exec, pieces);
  parallel_for(exec, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t start = piece * kLossPiece, rest = args.count - start;
      const LossOperands<T> operands(args, start);
      sums[piece] = row_sum<T>(rest < kLossPiece ? rest : kLossPiece,
                               [&](int64_t, auto load) { return operands.template at<weighted>(value, load, p); });
    }
  });
  double total = 0.0;
  for (int64_t piece = 0; piece < pieces; ++piece) total += sums[piece];
  *static_cast<T*>(args.loss) = static_cast<T>(total * args.scale);
}

template <class T, bool weighted, class F>
PYDL_INLINE void loss_gradient(const LossBackwardArgs& args, Exec& exec, T* dst, F derivative) {
  using V = Vec<T>;
  const LossArgs& fwd = args.forward;
  const T* d_loss = static_cast<const T*>(args.d_loss);
  const bool each = fwd.reduction == Reduction::none;
  const V p(fwd.p), scale(each ? 1.0 : fwd.scale * static_cast<double>(d_loss[0]));
  parallel_for(exec, fwd.count, kLossPiece, [&](int64_t begin, int64_t end) {
    const LossOperands<T> operands(fwd, begin);
    row_map(end - begin, dst + begin, [&](auto load) {
      const V g = operands.template at<weighted>(derivative, load, p);
      return g * (each ? load(d_loss + begin) : scale);
    });
  });
}

template <class Op, class T>
void loss_forward_of(const LossArgs& args, Exec& exec) {
  if (args.weight == nullptr && args.positive == nullptr) {
    if constexpr (sizeof(T) == 4) return loss_forward<Op, T, false>(args, exec);  // the one that has to be fast
  }
  loss_forward<Op, T, true>(args, exec);
}
template <class Op, class T>
void loss_backward_of(const LossBackwardArgs& args, Exec& exec) {
  using V = Vec<T>;
  T *d_x = static_cast<T*>(args.d_x), *d_target = static_cast<T*>(args.d_target);
  if (d_target != nullptr) {
    loss_gradient<T, true>(args, exec, d_target, [](V x, V t, V v, V p) { return Op::d_t(x, t, v, p); });
  }
  if (d_x == nullptr) return;
  const auto derivative = [](V x, V t, V v, V p) { return Op::d_x(x, t, v, p); };
  if (args.forward.weight == nullptr && args.forward.positive == nullptr) {
    if constexpr (sizeof(T) == 4) return loss_gradient<T, false>(args, exec, d_x, derivative);
  }
  loss_gradient<T, true>(args, exec, d_x, derivative);
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
  void name##_kernel(const LossArgs& args, Exec& exec) noexcept {                                                      \
    args.dtype == DType::float32 ? loss_forward_of<name##_op, float>(args, exec)                                       \
                                 : loss_forward_of<name##_op, double>(args, exec);                                     \
  }                                                                                                                    \
  void name##_backward_kernel(const LossBackwardArgs& args, Exec& exec) noexcept {                                     \
    args.forward.dtype == DType::float32 ? loss_backward_of<name##_op, float>(args, exec)                              \
                                         : loss_backward_of<name##_op, double>(args, exec);                            \
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
