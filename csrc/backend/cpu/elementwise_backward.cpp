// Gradients of the element-wise functions of one operand: the last column of elementwise.def, fused into one pass.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

// Operands: d_x, g, then what the op saves (x or y).
#define PYDL_BODY_NONE(gradient) \
  run_unary<V>(                  \
      operand, n, [&]([[maybe_unused]] V g) __attribute__((always_inline)) { return V(gradient); })
#define PYDL_BODY_X(gradient) \
  run_binary<V>(              \
      operand, n, [&](V g, [[maybe_unused]] V x) __attribute__((always_inline)) { return V(gradient); })
#define PYDL_BODY_Y(gradient) \
  run_binary<V>(              \
      operand, n, [&](V g, [[maybe_unused]] V y) __attribute__((always_inline)) { return V(gradient); })
#define PYDL_OPERANDS_NONE 2
#define PYDL_OPERANDS_X 3
#define PYDL_OPERANDS_Y 3

#define UNARY(name, kind, saves, forward, gradient)                                           \
  template <class V>                                                                          \
  struct name##_body {                                                                        \
    static void run(char* const* operand, int64_t n, double p_value, double q_value) {        \
      [[maybe_unused]] const V p(p_value), q(q_value);                                        \
      PYDL_BODY_##saves(gradient);                                                            \
    }                                                                                         \
  };                                                                                          \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                      \
    run_elements(args, exec, PYDL_OPERANDS_##saves, body_of<name##_body, false>(args.dtype)); \
  }
#include "ops/elementwise.def"
#undef UNARY

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_backward) {
#define UNARY(name, kind, saves, forward, gradient) table.name##_backward = pydl::name##_kernel;
#include "ops/elementwise.def"
}
