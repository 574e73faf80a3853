// What one pass over memory can do where nothing is recorded: ops written over their first operand, and ops of three.
#include "autograd/node.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

enum Kind { F, N, R, I };  // as in elementwise.def; I: integers and booleans

struct InPlace {
  std::string_view name;
  ElementwiseKernel kernel;
  Kind kind;
  bool needs_first;  // for a gradient: what the first operand was
};
constexpr int NONE = 0, X = 1, A = 1, B = 2, Y = 4, AB = A | B, AY = A | Y, BY = B | Y, ABY = A | B | Y;
#define UNARY(name, kind, saves, forward, gradient) {#name "_", &KernelTable::name, kind, saves == X},
constexpr InPlace kUnary[] = {
#include "ops/elementwise.def"
};
#undef UNARY
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) \
  {#name "_", &KernelTable::name, kind, ((saves_a | saves_b) & A) != 0},
#define BITWISE(name, value) {#name "_", &KernelTable::name, I, false},
constexpr InPlace kBinary[] = {
#include "ops/elementwise.def"
};
#undef BINARY
#undef BITWISE

template <size_t n>
const InPlace* find(const InPlace (&ops)[n], std::string_view name) {
  for (const InPlace& op : ops)
    if (op.name == name) return &op;
  return nullptr;
}

// Whether each element has a place of its own in memory: in the order of their strides, axes step over what lies
// within.
bool has_own_places(const Tensor& x) {
  if (x.dense()) return true;
  int64_t reach = 0;
  uint64_t met = 0;
  for (int left = x.ndim(); left > 0; --left) {
    int inner = -1;
    for (int i = 0; i < x.ndim(); ++i)
      if (!(met >> i & 1) && (inner < 0 || std::abs(x.stride(i)) < std::abs(x.stride(inner)))) inner = i;
    met |= uint64_t{1} << inner;
    if (x.size(inner) > 1 && std::abs(x.stride(inner)) <= reach) return false;
    reach += std::abs(x.stride(inner)) * (x.size(inner) - 1);
  }
  return true;
}

bool takes(const InPlace& op, DType dtype) {
  if (op.kind == I) return !is_float(dtype);
  return !is_half(dtype) && dtype != DType::boolean && (op.kind != F || is_float(dtype));
}

// Whether a kernel may write over dst what it makes of dst and others: the result has dst's type and shape, and what is
// read lies elsewhere or at the very place where it is written.
bool replaceable(const char* name, const Tensor& dst, DType result, std::initializer_list<const Tensor*> others) {
  if (result != dst.dtype()) return false;
  for (const Tensor* other : others) {
    if (other->device() != dst.device() || autograd::recording({&dst, other})) return false;
    if (broadcast_shapes(name, other->shape(), dst.shape()) != dst.shape()) return false;
    const bool same =
        other->bytes() == dst.bytes() && other->shape() == dst.shape() && other->strides() == dst.strides();
    if (!same && share_memory(*other, dst)) return false;
  }
  autograd::check_inplace(name, dst, false);
  return has_own_places(dst);
}

Tensor ternary(const char* name, ElementwiseKernel kernel, const Tensor& a, const Tensor& b, const Tensor& c, double p,
               bool in_place) {
  if (!is_float(a.dtype()) || is_half(a.dtype()) || a.dtype() != b.dtype() || a.dtype() != c.dtype()) return {};
  if (a.device() != b.device() || a.device() != c.device() || autograd::recording({&a, &b, &c})) return {};
  if (in_place) {
    if (!replaceable(name, a, a.dtype(), {&b, &c})) return {};
    run_elementwise(name, kernel, a.dtype(), 3, {&a, &a, &b, &c}, p);
    autograd::note_inplace(a);
    return a;
  }
  const Dims shape = broadcast_shapes(name, broadcast_shapes(name, a.shape(), b.shape()), c.shape());
  Tensor y =
      a.shape() == shape && a.dense() ? Tensor::empty_like(a, a.dtype()) : Tensor::empty(shape, a.dtype(), a.device());
  run_elementwise(name, kernel, a.dtype(), 3, {&y, &a, &b, &c}, p);
  return y;
}

}  // namespace

bool replace(const char* name, const Tensor& dst, double p, double q) {
  const InPlace* op = find(kUnary, name);
  if (op == nullptr || !takes(*op, dst.dtype()) || !replaceable(name, dst, dst.dtype(), {&dst})) return false;
  if (op->kind == R && !is_float(dst.dtype())) return true;  // integers are whole
  run_elementwise(name, op->kernel, dst.dtype(), 4, {&dst, &dst}, p, q);
  autograd::note_inplace(dst);
  return true;
}

bool replace(const char* name, const Tensor& dst, const Tensor& b) {
  const InPlace* op = find(kBinary, name);
  if (op == nullptr) return false;
  const DType dtype = promote(name, dst.dtype(), b.dtype());
  if (!takes(*op, dtype) || !replaceable(name, dst, dtype, {&b})) return false;
  const Tensor other = cast(b, dtype);
  run_elementwise(name, op->kernel, dtype, 2, {&dst, &dst, &other});
  autograd::note_inplace(dst);
  return true;
}

Tensor original(const char* name, const Tensor& dst) {
  const InPlace* op = find(kUnary, name);
  if (op == nullptr) op = find(kBinary, name);
  return op != nullptr && !op->needs_first ? dst : clone(dst);
}

#define TERNARY(name, forward)                                                              \
  Tensor name(const Tensor& a, const Tensor& b, const Tensor& c, double p, bool in_place) { \
    return ternary(in_place ? #name "_" : #name, &KernelTable::name, a, b, c, p, in_place); \
  }
#include "ops/elementwise.def"
#undef TERNARY

}  // namespace pydl::ops
