// Element-wise functions of one operand, forward: the formulas of elementwise.def over the vector layer. Bound by
// memory from a few vector operations per element on.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true, R = false;

#define UNARY(name, kind, saves, forward, gradient)                                    \
  template <class V>                                                                   \
  struct name##_body {                                                                 \
    static void run(char* const* operand, int64_t n, double p_value, double q_value) { \
      [[maybe_unused]] const V p(p_value), q(q_value);                                 \
      run_unary<V>(                                                                    \
          operand, n, [&](V x) __attribute__((always_inline)) { return V(forward); }); \
    }                                                                                  \
  };                                                                                   \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {               \
    run_elements(args, exec, 2, body_of<name##_body, kind>(args.dtype));               \
  }
#include "ops/elementwise.def"
#undef UNARY

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_unary) {
#define UNARY(name, kind, saves, forward, gradient) table.name = pydl::name##_kernel;
#include "ops/elementwise.def"
}
