// Gradients of the element-wise functions of one operand: the third column of elementwise.def, fused into one pass.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

#define NONE 1
#define X 2
#define Y 2
#define XY 3
#define PYDL_INPUTS_NONE(V, gradient) [p, q](V g) PYDL_INLINE_LAMBDA -> V { (void)p, (void)q; return V(gradient); }
#define PYDL_INPUTS_X(V, gradient) [p, q](V g, V x) PYDL_INLINE_LAMBDA -> V { (void)p, (void)q, (void)g, (void)x; return V(gradient); }
#define PYDL_INPUTS_Y(V, gradient) [p, q](V g, V y) PYDL_INLINE_LAMBDA -> V { (void)p, (void)q, (void)g, (void)y; return V(gradient); }
#define PYDL_INLINE_LAMBDA __attribute__((always_inline))

// Operands: d_x, g, then what the op saves (x or y).
#define UNARY(name, kind, saves, forward, gradient)                                \
  void name##_backward_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {  \
    dispatch_vector<false>(args.dtype, [&](auto zero) {                            \
      using V = decltype(zero);                                                    \
      [[maybe_unused]] const V p(args.p), q(args.q);                               \
      map<V, saves>(args, exec, PYDL_INPUTS_##saves(V, gradient));                 \
    });                                                                            \
  }
#include "ops/elementwise.def"
#undef UNARY

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_backward) {
#define UNARY(name, kind, saves, forward, gradient) table.name##_backward = pydl::name##_backward_kernel;
#include "ops/elementwise.def"
}
