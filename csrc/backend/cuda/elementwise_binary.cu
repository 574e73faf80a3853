// Element-wise functions of two and three operands: arithmetic, comparison, bits, and the choice between two tensors.
#include "backend/cuda/elementwise_loop.h"

namespace pydl {
namespace {

constexpr bool F = false, N = true;

#define PYDL_BODY(name, operands, made, ...)                                                       \
  struct name##_body {                                                                             \
    static constexpr int sources = operands;                                                       \
    template <class T>                                                                             \
    using Out = made;                                                                              \
    template <class T>                                                                             \
    static __device__ __forceinline__ made run(const T* values, [[maybe_unused]] double p_, double) { \
      using V = Scalar<T>;                                                                         \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
  };
#define PYDL_ENTRY(name, kind)                                          \
  void name##_entry(const ElementwiseArgs& args, Exec& exec) noexcept { \
    run_elementwise<name##_body, kind>(args, exec);                     \
  }

#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward)            \
  PYDL_BODY(name, 2, T, const V a(values[0]); const V b(values[1]); return V(forward).raw;) \
  PYDL_ENTRY(name, kind)
#define TERNARY(name, forward)                                                                                \
  PYDL_BODY(name, 3, T, const V a(values[0]); const V b(values[1]); const V c(values[2]);                     \
            [[maybe_unused]] const V p(p_); return V(forward).raw;)                                           \
  PYDL_ENTRY(name, F)
#define COMPARE(name, condition)                                                                \
  PYDL_BODY(name, 2, uint8_t, const V a(values[0]); const V b(values[1]); return (condition).raw;) \
  PYDL_ENTRY(name, N)
// Nobody asks for bits of floating numbers; the entry would not compile for them.
#define BITWISE(name, result)                                                                   \
  PYDL_BODY(name, 2, T, [[maybe_unused]] const V a(values[0]); const V b(values[1]);               \
            if constexpr (std::is_integral<T>::value) return V(result).raw; else return b.raw;) \
  PYDL_ENTRY(name, N)
#include "ops/elementwise.def"
#undef BINARY
#undef TERNARY
#undef COMPARE
#undef BITWISE

// Moves bits only, so the width of the element is all that counts.
template <class T>
__global__ void __launch_bounds__(kBlock) where_kernel(const ElementwiseArgs args, bool flat) {
  T* dst = reinterpret_cast<T*>(args.ptr[0]);
  const uint8_t* condition = reinterpret_cast<const uint8_t*>(args.ptr[1]);
  const T* a = reinterpret_cast<const T*>(args.ptr[2]);
  const T* b = reinterpret_cast<const T*>(args.ptr[3]);
  PYDL_CUDA_LOOP(i, args.count) {
    int64_t at[4] = {i, i, i, i};
    if (!flat) places_of(args, i, at);
    dst[at[0]] = condition[at[1]] ? a[at[2]] : b[at[3]];
  }
}

void where_entry(const ElementwiseArgs& args, Exec& exec) noexcept {
  if (args.count <= 0) return;
  dispatch_width(item_size(args.dtype), [&](auto zero) {
    PYDL_CUDA_LAUNCH((where_kernel<decltype(zero)>), grid_for(args.count), kBlock, 0, exec, args, is_flat(args, 4));
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(elementwise_binary) {
  table.where = pydl::where_entry;
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) table.name = pydl::name##_entry;
#define TERNARY(name, forward) table.name = pydl::name##_entry;
#define COMPARE(name, condition) table.name = pydl::name##_entry;
#define BITWISE(name, result) table.name = pydl::name##_entry;
#include "ops/elementwise.def"
}
