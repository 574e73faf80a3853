// Element-wise functions of two and three operands: arithmetic, comparison, bits, and the choice between two tensors.
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true;

#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward)                                       \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                          \
    dispatch_vector<kind>(args.dtype, [&](auto zero) {                                            \
      using V = decltype(zero);                                                                   \
      map<V, 2>(args, exec, [](V a, V b) __attribute__((always_inline)) -> V { return forward; }); \
    });                                                                                           \
  }

#define COMPARE(name, condition)                                                                             \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                                     \
    dispatch_vector<true>(args.dtype, [&](auto zero) {                                                       \
      using V = decltype(zero);                                                                              \
      using T = typename V::Lane;                                                                            \
      elementwise<uint8_t, T, T>(args, exec, [](uint8_t* y, const T* left, const T* right, int64_t n) {      \
        for (int64_t i = 0; i < n; ++i) {                                                                    \
          const T a = left[i], b = right[i];                                                                 \
          y[i] = condition;                                                                                  \
        }                                                                                                    \
      });                                                                                                    \
    });                                                                                                      \
  }

#define BITWISE(name, value)                                                                       \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                           \
    dispatch_vector<true>(args.dtype, [&](auto zero) {                                             \
      using V = decltype(zero);                                                                    \
      if constexpr (std::is_integral<typename V::Lane>::value)                                     \
        map<V, 2>(args, exec, [](V a, V b) __attribute__((always_inline)) -> V { return value; }); \
    });                                                                                            \
  }
#include "ops/elementwise.def"
#undef BINARY
#undef COMPARE
#undef BITWISE

// Moves bits only, so the width of the element is all that counts.
template <class T>
void select_elements(const ElementwiseArgs& args, Exec& exec) {
  elementwise<T, uint8_t, T, T>(args, exec, [](T* y, const uint8_t* c, const T* a, const T* b, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = c[i] ? a[i] : b[i];
  });
}

void where_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {
  switch (item_size(args.dtype)) {
    case 1: return select_elements<uint8_t>(args, exec);
    case 2: return select_elements<uint16_t>(args, exec);
    case 4: return select_elements<uint32_t>(args, exec);
    default: return select_elements<uint64_t>(args, exec);
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_binary) {
  table.where = pydl::where_kernel;
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) table.name = pydl::name##_kernel;
#define COMPARE(name, condition) table.name = pydl::name##_kernel;
#define BITWISE(name, value) table.name = pydl::name##_kernel;
#include "ops/elementwise.def"
}
