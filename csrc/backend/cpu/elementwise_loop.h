// The one loop of all element-wise kernels: broadcasting and strides are turned into short contiguous runs, on which a
// body written for contiguous vectors works.
// The loop is compiled once per file and calls bodies by pointer, so an op costs one small function per dtype.
#pragma once
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kElementwiseGrain = 16384;
constexpr int kRun = 1024;  // elements per buffered run

// operand[0] is the destination (which may be one of the sources); all contiguous, n elements each.
using RunBody = void (*)(char* const* operand, int64_t n, double p, double q);

// The sources of which a body is told in place of the parameters p and q by how much of an element they move on with
// each: 1, or 0 for a vector of one value. 0: none.
struct SourceSteps {
  int p, q;
  bool of(int operand) const { return operand > 0 && (operand == p || operand == q); }
};
constexpr SourceSteps kNoSteps{0, 0};

// Walks operands through memory in logical order, innermost axis first.
struct StridedCursor {
  const ElementwiseArgs& args;
  const int operands;
  int64_t index[kMaxRank];
  int64_t offset[kMaxOperands];

  StridedCursor(const ElementwiseArgs& a, int count, int64_t start) : args(a), operands(count) {
    for (int o = 0; o < operands; ++o) offset[o] = 0;
    for (int d = 0; d < a.ndim; ++d) {
      index[d] = start % a.shape[d];
      start /= a.shape[d];
      for (int o = 0; o < operands; ++o) offset[o] += index[d] * a.stride[o][d];
    }
  }
  int64_t run() const { return args.shape[0] - index[0]; }
  void advance(int64_t n, int axis) {
    index[axis] += n;
    for (int o = 0; o < operands; ++o) offset[o] += n * args.stride[o][axis];
    for (int d = axis; index[d] == args.shape[d] && d + 1 < args.ndim; ++d) {
      index[d] = 0;
      ++index[d + 1];
      for (int o = 0; o < operands; ++o) offset[o] += args.stride[o][d + 1] - args.shape[d] * args.stride[o][d];
    }
  }
};

}  // namespace

// Runs the body over all elements, in whatever way the strides ask for. size[o]: bytes per element of operand o.
// Compiled once for each ISA level, in elementwise_binary.cpp.
#define PYDL_ELEMENTWISE_OF(isa) pydl_elementwise_##isa
#define PYDL_ELEMENTWISE_AT(isa) PYDL_ELEMENTWISE_OF(isa)
#define PYDL_ELEMENTWISE PYDL_ELEMENTWISE_AT(PYDL_ISA)
extern "C" void PYDL_ELEMENTWISE(const ElementwiseArgs& args, Exec& exec, int operands, const int* size, RunBody body,
                                 SourceSteps steps) noexcept;

namespace {

// f(V...) -> V over contiguous runs. The elements after the last whole vector pass through the same loop in copies, so
// that f is compiled once and the loop has no other test.
template <class V, class F>
PYDL_INLINE void run_unary(char* const* operand, int64_t n, F f) {
  using T = typename V::Lane;
  T* y = reinterpret_cast<T*>(operand[0]);
  const T* a = reinterpret_cast<const T*>(operand[1]);
  T last[V::size];
  int64_t whole = n / V::size;
  for (int rest = static_cast<int>(n % V::size);; whole = 1) {
    for (; whole > 0; --whole, y += V::size, a += V::size) f(V::load(a)).store(y);
    if (rest == 0) return;
    if (y == last + V::size) {
      V::load(last).store_partial(reinterpret_cast<T*>(operand[0]) + (n - rest), rest);
      return;
    }
    V::load_partial(a, rest).store(last);
    y = last;
    a = last;
  }
}
// step_a, step_b: elements from one vector of a source to the next.
template <class V, class F>
PYDL_INLINE void run_binary(char* const* operand, int64_t n, F f, int64_t step_a = V::size, int64_t step_b = V::size) {
  using T = typename V::Lane;
  T* y = reinterpret_cast<T*>(operand[0]);
  const T* a = reinterpret_cast<const T*>(operand[1]);
  const T* b = reinterpret_cast<const T*>(operand[2]);
  T last_a[V::size], last_b[V::size];
  int64_t whole = n / V::size;
  for (int rest = static_cast<int>(n % V::size);; whole = 1) {
    for (; whole > 0; --whole, y += V::size, a += step_a, b += step_b) f(V::load(a), V::load(b)).store(y);
    if (rest == 0) return;
    if (y == last_a + V::size) {
      V::load(last_a).store_partial(reinterpret_cast<T*>(operand[0]) + (n - rest), rest);
      return;
    }
    V::load_partial(a, rest).store(last_a);
    V::load_partial(b, rest).store(last_b);
    y = last_a;
    a = last_a;
    b = last_b;
  }
}

template <class V, class F>
PYDL_INLINE void run_ternary(char* const* operand, int64_t n, F f, int64_t step_c) {
  using T = typename V::Lane;
  T* y = reinterpret_cast<T*>(operand[0]);
  const T* a = reinterpret_cast<const T*>(operand[1]);
  const T* b = reinterpret_cast<const T*>(operand[2]);
  const T* c = reinterpret_cast<const T*>(operand[3]);
  int64_t i = 0;
  for (; i + V::size <= n; i += V::size, c += step_c) f(V::load(a + i), V::load(b + i), V::load(c)).store(y + i);
  const int rest = static_cast<int>(n - i);
  if (rest > 0)
    f(V::load_partial(a + i, rest), V::load_partial(b + i, rest), V::load_partial(c, rest)).store_partial(y + i, rest);
}

// Bodies by dtype: floating ones over Vec, integers (booleans as uint8) over Scalar, which the compiler vectorizes.
template <template <class> class Body, bool integers>
PYDL_INLINE RunBody body_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return Body<Vec<float>>::run;
    case DType::float64:
      return Body<Vec<double>>::run;
    default:
      break;
  }
  if constexpr (integers) {
    switch (dtype) {
      case DType::boolean:
      case DType::uint8:
        return Body<Scalar<uint8_t>>::run;
      case DType::int8:
        return Body<Scalar<int8_t>>::run;
      case DType::uint16:
        return Body<Scalar<uint16_t>>::run;
      case DType::int16:
        return Body<Scalar<int16_t>>::run;
      case DType::uint32:
        return Body<Scalar<uint32_t>>::run;
      case DType::int32:
        return Body<Scalar<int32_t>>::run;
      case DType::uint64:
        return Body<Scalar<uint64_t>>::run;
      case DType::int64:
        return Body<Scalar<int64_t>>::run;
      default:
        break;
    }
  }
  return nullptr;
}

// The body over all elements of operands that are all of args.dtype. Out of line, as every op calls it.
PYDL_NOINLINE void run_elements(const ElementwiseArgs& args, Exec& exec, int operands, RunBody body,
                                SourceSteps steps = kNoSteps) noexcept {
  const int size = static_cast<int>(item_size(args.dtype)), sizes[kMaxOperands] = {size, size, size, size};
  PYDL_ELEMENTWISE(args, exec, operands, sizes, body, steps);
}

}  // namespace
}  // namespace pydl
