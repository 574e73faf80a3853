// Element-wise functions of one operand, forward: the formulas of elementwise.def. Bound by memory.
#include "backend/cuda/elementwise_loop.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true, R = false;

#define UNARY(name, kind, saves, forward, gradient)                                  \
  struct name##_body {                                                               \
    static constexpr int sources = 1;                                                \
    template <class T>                                                               \
    using Out = T;                                                                   \
    template <class T>                                                               \
    static __device__ __forceinline__ T run(const T* values, double pv, double qv) { \
      using V = Scalar<T>;                                                           \
      [[maybe_unused]] const V x(values[0]), p(pv), q(qv);                           \
      return V(forward).raw;                                                         \
    }                                                                                \
  };                                                                                 \
  void name##_entry(const ElementwiseArgs& args, Exec& exec) noexcept {              \
    run_elementwise<name##_body, kind>(args, exec);                                  \
  }
#define PREDICATE(name, condition)                                                   \
  struct name##_body {                                                               \
    static constexpr int sources = 1;                                                \
    template <class T>                                                               \
    using Out = uint8_t;                                                             \
    template <class T>                                                               \
    static __device__ __forceinline__ uint8_t run(const T* values, double, double) { \
      using V = Scalar<T>;                                                           \
      const V x(values[0]);                                                          \
      return (condition).raw;                                                        \
    }                                                                                \
  };                                                                                 \
  void name##_entry(const ElementwiseArgs& args, Exec& exec) noexcept { run_elementwise<name##_body, F>(args, exec); }
#include "ops/elementwise.def"
#undef UNARY
#undef PREDICATE

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_unary) {
#define UNARY(name, kind, saves, forward, gradient) table.name = pydl::name##_entry;
#define PREDICATE(name, condition) table.name = pydl::name##_entry;
#include "ops/elementwise.def"
}
