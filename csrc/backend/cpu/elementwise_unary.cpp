// Element-wise functions of one operand, forward: the formulas of elementwise.def over the vector layer. Bound by
// memory from a few vector operations per element on.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true;

#define UNARY(name, kind, saves, forward, gradient)                                        \
  template <class V>                                                                       \
  struct name##_body {                                                                     \
    static void run(char* const* operand, int64_t n, double p_value, double q_value) {     \
      [[maybe_unused]] const V p(p_value), q(q_value);                                     \
      run_unary<V>(                                                                        \
          operand, n, [&](V x) __attribute__((always_inline)) { return V(forward); });     \
    }                                                                                      \
  };                                                                                       \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                   \
    const int size = static_cast<int>(item_size(args.dtype)), sizes[] = {size, size};      \
    PYDL_ELEMENTWISE(args, exec, 2, sizes, body_of<name##_body, kind>(args.dtype), false); \
  }
#include "ops/elementwise.def"
#undef UNARY

#define PREDICATE(name, condition)                                                          \
  template <class V>                                                                        \
  struct name##_body {                                                                      \
    static void run(char* const* operand, int64_t n, double, double) {                      \
      using T = typename V::Lane;                                                           \
      uint8_t* y = reinterpret_cast<uint8_t*>(operand[0]);                                  \
      const T* src = reinterpret_cast<const T*>(operand[1]);                                \
      for (int64_t i = 0; i < n; i += V::size) {                                            \
        const int rest = n - i < V::size ? static_cast<int>(n - i) : V::size;               \
        const V x = V::load_partial(src + i, rest);                                         \
        const unsigned bits = (condition).bits();                                           \
        for (int k = 0; k < rest; ++k) y[i + k] = bits >> k & 1u;                           \
      }                                                                                     \
    }                                                                                       \
  };                                                                                        \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                    \
    const int sizes[] = {1, static_cast<int>(item_size(args.dtype))};                       \
    PYDL_ELEMENTWISE(args, exec, 2, sizes, body_of<name##_body, false>(args.dtype), false); \
  }
#include "ops/elementwise.def"
#undef PREDICATE

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_unary) {
#define UNARY(name, kind, saves, forward, gradient) table.name = pydl::name##_kernel;
#define PREDICATE(name, condition) table.name = pydl::name##_kernel;
#include "ops/elementwise.def"
}
