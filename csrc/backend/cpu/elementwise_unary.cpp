// Element-wise functions of one operand, forward: the formulas of elementwise.def over the vector layer. Bound by memory from
// a few vector operations per element on.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true;

#define UNARY(name, kind, saves, forward, gradient)                                        \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                   \
    dispatch_vector<kind>(args.dtype, [&](auto zero) {                                     \
      using V = decltype(zero);                                                            \
      [[maybe_unused]] const V p(args.p), q(args.q);                                       \
      map<V, 1>(args, exec, [p, q](V x) PYDL_INLINE_LAMBDA -> V {                          \
        (void)p, (void)q;                                                                  \
        return V(forward);                                                                 \
      });                                                                                  \
    });                                                                                    \
  }
#define PYDL_INLINE_LAMBDA __attribute__((always_inline))
#include "ops/elementwise.def"
#undef UNARY

#define PREDICATE(name, condition)                                                                      \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                                \
    dispatch_vector<false>(args.dtype, [&](auto zero) {                                                 \
      using V = decltype(zero);                                                                         \
      using T = typename V::Lane;                                                                       \
      elementwise<uint8_t, T>(args, exec, [](uint8_t* y, const T* src, int64_t n) {                     \
        for (int64_t i = 0; i < n; i += V::size) {                                                      \
          const int rest = n - i < V::size ? static_cast<int>(n - i) : V::size;                         \
          const V x = V::load_partial(src + i, rest);                                                   \
          const unsigned bits = (condition).bits();                                                     \
          for (int k = 0; k < rest; ++k) y[i + k] = bits >> k & 1u;                                     \
        }                                                                                               \
      });                                                                                               \
    });                                                                                                 \
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
