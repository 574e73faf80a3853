// Gradients of the element-wise functions of one operand: the last column of elementwise.def, fused into one pass.
#include "backend/cuda/elementwise_loop.h"

namespace pydl {
namespace {

// Operands: d_x, g, then what the op saves (x or y).
#define PYDL_SOURCES_NONE 1
#define PYDL_SOURCES_X 2
#define PYDL_SOURCES_Y 2
#define PYDL_SAVED_NONE
#define PYDL_SAVED_X [[maybe_unused]] const V x(values[1]);
#define PYDL_SAVED_Y [[maybe_unused]] const V y(values[1]);
#define UNARY(name, kind, saves, forward, gradient)                                  \
  struct name##_body {                                                               \
    static constexpr int sources = PYDL_SOURCES_##saves;                             \
    template <class T>                                                               \
    using Out = T;                                                                   \
    template <class T>                                                               \
    static __device__ __forceinline__ T run(const T* values, double pv, double qv) { \
      using V = Scalar<T>;                                                           \
      [[maybe_unused]] const V g(values[0]), p(pv), q(qv);                           \
      PYDL_SAVED_##saves return V(gradient).raw;                                     \
    }                                                                                \
  };                                                                                 \
  void name##_entry(const ElementwiseArgs& args, Exec& exec) noexcept {              \
    run_elementwise<name##_body, false>(args, exec);                                 \
  }
#include "ops/elementwise.def"
#undef UNARY

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_backward) {
#define UNARY(name, kind, saves, forward, gradient) table.name##_backward = pydl::name##_entry;
#include "ops/elementwise.def"
}
