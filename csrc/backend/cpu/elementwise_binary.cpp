// Element-wise functions of two and three operands: arithmetic, comparison, bits, and the choice between two tensors;
// and predicates of one. Loops over integers and over booleans are the compiler's to vectorize.
#include "backend/cpu/elementwise_driver.h"
#include "backend/cpu/elementwise_math.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true;

#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward)             \
  template <class V>                                                                      \
  struct name##_body {                                                                    \
    static void run(char* const* operand, int64_t n, double step_a, double step_b) {      \
      const auto f = [](V a, V b) __attribute__((always_inline)) { return V(forward); };  \
      if constexpr (V::size == 1) return run_binary<V>(operand, n, f);                    \
      run_binary<V>(operand, n, f, step_a == 0 ? 0 : V::size, step_b == 0 ? 0 : V::size); \
    }                                                                                     \
  };                                                                                      \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                  \
    const SourceSteps steps = is_float(args.dtype) ? SourceSteps{1, 2} : kNoSteps;        \
    run_elements(args, exec, 3, body_of<name##_body, kind>(args.dtype), steps);           \
  }

#define TERNARY(name, forward)                                                                 \
  template <class V>                                                                           \
  struct name##_body {                                                                         \
    static void run(char* const* operand, int64_t n, double p_, double step_c) {               \
      const V p(p_);                                                                           \
      const auto f = [p](V a, V b, V c) __attribute__((always_inline)) { return V(forward); }; \
      run_ternary<V>(operand, n, f, step_c == 0 ? 0 : V::size);                                \
    }                                                                                          \
  };                                                                                           \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                       \
    run_elements(args, exec, 4, body_of<name##_body, false>(args.dtype), {0, 3});              \
  }

#define COMPARE(name, condition)                                                              \
  template <class V>                                                                          \
  struct name##_body {                                                                        \
    static void run(char* const* operand, int64_t n, double, double) {                        \
      using T = typename V::Lane;                                                             \
      uint8_t* y = reinterpret_cast<uint8_t*>(operand[0]);                                    \
      const T* left = reinterpret_cast<const T*>(operand[1]);                                 \
      const T* right = reinterpret_cast<const T*>(operand[2]);                                \
      for (int64_t i = 0; i < n; ++i) {                                                       \
        const T a = left[i], b = right[i];                                                    \
        y[i] = condition;                                                                     \
      }                                                                                       \
    }                                                                                         \
  };                                                                                          \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                      \
    const int size = static_cast<int>(item_size(args.dtype)), sizes[] = {1, size, size};      \
    PYDL_ELEMENTWISE(args, exec, 3, sizes, body_of<name##_body, true>(args.dtype), kNoSteps); \
  }

#define PREDICATE(name, condition)                                                             \
  template <class W>                                                                           \
  struct name##_body {                                                                         \
    static void run(char* const* operand, int64_t n, double, double) {                         \
      using V = Scalar<typename W::Lane>;                                                      \
      uint8_t* y = reinterpret_cast<uint8_t*>(operand[0]);                                     \
      const typename W::Lane* src = reinterpret_cast<const typename W::Lane*>(operand[1]);     \
      for (int64_t i = 0; i < n; ++i) {                                                        \
        const V x(src[i]);                                                                     \
        y[i] = (condition).raw;                                                                \
      }                                                                                        \
    }                                                                                          \
  };                                                                                           \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                       \
    const int sizes[] = {1, static_cast<int>(item_size(args.dtype))};                          \
    PYDL_ELEMENTWISE(args, exec, 2, sizes, body_of<name##_body, false>(args.dtype), kNoSteps); \
  }

#define BITWISE(name, result)                                                               \
  template <class V>                                                                        \
  struct name##_body {                                                                      \
    static void run(char* const* operand, int64_t n, double, double) {                      \
      if constexpr (std::is_integral<typename V::Lane>::value)                              \
        run_binary<V>(                                                                      \
            operand, n, [](V a, V b) __attribute__((always_inline)) { return V(result); }); \
    }                                                                                       \
  };                                                                                        \
  void name##_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {                    \
    run_elements(args, exec, 3, body_of<name##_body, true>(args.dtype));                    \
  }
#include "ops/elementwise.def"
#undef BINARY
#undef TERNARY
#undef COMPARE
#undef PREDICATE
#undef BITWISE

// Moves bits only, so the width of the element is all that counts.
template <class T>
void select_run(char* const* operand, int64_t n, double, double) {
  T* y = reinterpret_cast<T*>(operand[0]);
  const uint8_t* c = reinterpret_cast<const uint8_t*>(operand[1]);
  const T* a = reinterpret_cast<const T*>(operand[2]);
  const T* b = reinterpret_cast<const T*>(operand[3]);
  for (int64_t i = 0; i < n; ++i) y[i] = c[i] ? a[i] : b[i];
}

void where_kernel(const ElementwiseArgs& args, Exec& exec) noexcept {
  const int size = static_cast<int>(item_size(args.dtype)), sizes[] = {size, 1, size, size};
  PYDL_ELEMENTWISE(args, exec, 4, sizes,
                   size == 1   ? select_run<uint8_t>
                   : size == 2 ? select_run<uint16_t>
                   : size == 4 ? select_run<uint32_t>
                               : select_run<uint64_t>,
                   kNoSteps);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_binary) {
  table.where = pydl::where_kernel;
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) table.name = pydl::name##_kernel;
#define TERNARY(name, forward) table.name = pydl::name##_kernel;
#define COMPARE(name, condition) table.name = pydl::name##_kernel;
#define PREDICATE(name, condition) table.name = pydl::name##_kernel;
#define BITWISE(name, result) table.name = pydl::name##_kernel;
#include "ops/elementwise.def"
}
