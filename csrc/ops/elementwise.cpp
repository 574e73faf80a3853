// Element-wise ops: elementwise.def brought to tensors. Promotion, broadcasting, the tape, and derivatives that can be
// recorded.
#include "ops/expr.h"
#include "ops/iteration.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

constexpr int NONE = 0, A = 1, B = 2, Y = 4, AB = A | B, AY = A | Y, BY = B | Y, ABY = A | B | Y;
constexpr int X = 1;
enum Kind { F, N, R };

// A formula's result as a tensor of the gradient's shape: constants become tensors.
Tensor as_gradient(const Expr& e, const Tensor& g) {
  return e.is_number() ? full(g.shape(), Number::of(e.number()), g.dtype(), g.device()) : e.tensor();
}

struct UnaryOp {
  const char* name;
  Kind kind;
  int saves;  // X, Y: what the derivative is made of
  ElementwiseKernel forward, backward;
  Expr (*gradient)(const Expr& g, const Expr& x, const Expr& y, const Expr& p, const Expr& q);
};

Tensor unary(const UnaryOp& op, const Tensor& x, double p, double q) {
  const DType dtype = x.dtype();
  if (is_half(dtype)) return cast(unary(op, cast(x, DType::float32), p, q), dtype);
  if (!is_float(dtype) && op.kind == F) return unary(op, cast(x, default_dtype()), p, q);
  if (dtype == DType::boolean)
    throw TypeError(text("[", op.name, "] is not defined for bool; convert with astype first"));
  if (!is_float(dtype) && op.kind == R) return clone(x);
  Tensor y = Tensor::empty_like(x, dtype);
  run_elementwise(op.name, op.forward, dtype, 4, {&y, &x}, p, q);
  if (autograd::recording({&x})) {
    Saved saved_x = op.saves & X ? Saved(x) : Saved();
    Saved saved_y = op.saves & Y ? Saved::output(y) : Saved();
    autograd::record(op.name, {&x}, {&y}, [&op, saved_x, saved_y, p, q](Node& node, const Tensor* d_out, Tensor* d_in) {
      const Tensor& g = d_out[0];
      const Tensor sx = saved_x.get(node), sy = saved_y.get(node);
      if (autograd::grad_enabled()) {
        d_in[0] = as_gradient(op.gradient(g, sx, sy, p, q), g);
        return;
      }
      const Tensor& saved = sx.defined() ? sx : sy;
      d_in[0] = Tensor::empty_like(saved.defined() ? saved : g, g.dtype());
      if (saved.defined())
        run_elementwise(op.name, op.backward, g.dtype(), 6, {&d_in[0], &g, &saved}, p, q);
      else
        run_elementwise(op.name, op.backward, g.dtype(), 2, {&d_in[0], &g}, p, q);
    });
  }
  return y;
}

Tensor promoted(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : cast(x, dtype); }

// Uninitialized, its axes in the order of an operand that has this shape; if one of them is channels-last, so is it.
Tensor empty_result(const Dims& shape, const Tensor& a, const Tensor& b, DType dtype) {
  const bool like_a = a.shape() == shape && a.dense(), like_b = b.shape() == shape && b.dense();
  if (like_b && (!like_a || b.channels_last())) return Tensor::empty_like(b, dtype);
  return like_a ? Tensor::empty_like(a, dtype) : Tensor::empty(shape, dtype, a.device());
}

Tensor result_of(const char* op, const Tensor& a, const Tensor& b, DType dtype) {
  if (a.contiguous() && b.contiguous() && a.shape() == b.shape()) return Tensor::empty(a.shape(), dtype, a.device());
  return a.shape() == b.shape() ? empty_result(a.shape(), a, b, dtype)
                                : empty_result(broadcast_shapes(op, a.shape(), b.shape()), a, b, dtype);
}

// What an arithmetic op does to booleans: sums are "or", products are "and".
enum class OnBool { refuse, as_or, as_and };
constexpr OnBool on_bool(std::string_view name) {
  if (name == "add" || name == "maximum") return OnBool::as_or;
  if (name == "multiply" || name == "minimum") return OnBool::as_and;
  return OnBool::refuse;
}

struct BinaryOp {
  using Gradient = Expr (*)(const Expr& g, const Expr& a, const Expr& b, const Expr& y);
  const char* name;
  Kind kind;
  int saves_a, saves_b;  // A, B, Y: what the derivative by either is made of
  ElementwiseKernel forward;
  OnBool on_bool;
  Gradient gradient_a, gradient_b;
};

ElementwiseKernel kernel_of(const BinaryOp& op, DType dtype) {
  if (dtype != DType::boolean) return op.forward;
  if (op.on_bool == OnBool::refuse)
    throw TypeError(text("[", op.name, "] is not defined for bool operands; use logical_* or convert with astype"));
  return op.on_bool == OnBool::as_or ? &KernelTable::bitwise_or : &KernelTable::bitwise_and;
}

Tensor binary(const BinaryOp& op, const Tensor& a0, const Tensor& b0) {
  DType dtype = a0.dtype() == b0.dtype() ? a0.dtype() : promote(op.name, a0.dtype(), b0.dtype());
  if (a0.device() != b0.device()) {
    Tensor a = a0, b = b0;
    meet(op.name, a, b);
    return binary(op, a, b);
  }
  if (op.kind == F && !is_float(dtype)) dtype = default_dtype();
  if (is_half(dtype))
    return cast(binary(op, cast(cast(a0, dtype), DType::float32), cast(cast(b0, dtype), DType::float32)), dtype);
  const ElementwiseKernel kernel = kernel_of(op, dtype);
  const Tensor a = promoted(a0, dtype), b = promoted(b0, dtype);
  Tensor y = result_of(op.name, a, b, dtype);
  run_elementwise(op.name, kernel, dtype, 2, {&y, &a, &b});
  if (autograd::recording({&a, &b}) && is_float(dtype)) {
    const int saves = (autograd::requires_grad(a) ? op.saves_a : 0) | (autograd::requires_grad(b) ? op.saves_b : 0);
    autograd::record(op.name, {&a, &b}, {&y},
                     [&op, sa = saves & A ? Saved(a) : Saved(), sb = saves & B ? Saved(b) : Saved(),
                      sy = saves & Y ? Saved::output(y) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor& g = d_out[0];
                       const Tensor ta = sa.get(node), tb = sb.get(node), ty = sy.get(node);
                       if (node.wants(0)) d_in[0] = as_gradient(op.gradient_a(g, ta, tb, ty), g);
                       if (node.wants(1)) d_in[1] = as_gradient(op.gradient_b(g, ta, tb, ty), g);
                     });
  }
  return y;
}

Tensor compare(const char* name, ElementwiseKernel kernel, const Tensor& a0, const Tensor& b0) {
  if (a0.device() != b0.device()) {
    Tensor a = a0, b = b0;
    meet(name, a, b);
    return compare(name, kernel, a, b);
  }
  DType dtype = promote(name, a0.dtype(), b0.dtype());
  if (is_half(dtype)) dtype = DType::float32;
  autograd::GradMode off(false);
  const Tensor a = promoted(a0, dtype), b = promoted(b0, dtype);
  Tensor y = result_of(name, a, b, DType::boolean);
  run_elementwise(name, kernel, dtype, 2, {&y, &a, &b});
  return y;
}

Tensor predicate(const char* name, ElementwiseKernel kernel, const Tensor& x, bool for_integers) {
  if (!is_float(x.dtype()))
    return full(x.shape(), Number{Number::boolean, 0, for_integers}, DType::boolean, x.device());
  autograd::GradMode off(false);
  const Tensor src = is_half(x.dtype()) ? cast(x, DType::float32) : x;
  Tensor y = Tensor::empty_like(src, DType::boolean);
  run_elementwise(name, kernel, src.dtype(), 2, {&y, &src});
  return y;
}

Tensor bitwise(const char* name, ElementwiseKernel kernel, const Tensor& a0, const Tensor& b0) {
  if (a0.device() != b0.device()) {
    Tensor a = a0, b = b0;
    meet(name, a, b);
    return bitwise(name, kernel, a, b);
  }
  const DType dtype = promote(name, a0.dtype(), b0.dtype());
  if (is_float(dtype))
    throw TypeError(text("[", name, "] needs integers or bool, got ", a0.dtype(), " and ", b0.dtype()));
  const Tensor a = promoted(a0, dtype), b = promoted(b0, dtype);
  Tensor y = result_of(name, a, b, dtype);
  run_elementwise(name, kernel, dtype, 2, {&y, &a, &b});
  return y;
}

// A formula of elementwise.def as a function of expressions; it need not use all of them.
#define PYDL_FORMULA(formula, ...)   \
  [](__VA_ARGS__) -> Expr {          \
    using V [[maybe_unused]] = Expr; \
    return V(formula);               \
  }
#define PYDL_ARG(name) [[maybe_unused]] const Expr& name
#define UNARY(name, kind, saves, forward, gradient) \
  constexpr UnaryOp name##_op{                      \
      #name,                                        \
      kind,                                         \
      saves,                                        \
      &KernelTable::name,                           \
      &KernelTable::name##_backward,                \
      PYDL_FORMULA(gradient, PYDL_ARG(g), PYDL_ARG(x), PYDL_ARG(y), PYDL_ARG(p), PYDL_ARG(q))};
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward)                                \
  constexpr BinaryOp name##_op{#name,                                                                        \
                               kind,                                                                         \
                               saves_a,                                                                      \
                               saves_b,                                                                      \
                               &KernelTable::name,                                                           \
                               on_bool(#name),                                                               \
                               PYDL_FORMULA(gradient_a, PYDL_ARG(g), PYDL_ARG(a), PYDL_ARG(b), PYDL_ARG(y)), \
                               PYDL_FORMULA(gradient_b, PYDL_ARG(g), PYDL_ARG(a), PYDL_ARG(b), PYDL_ARG(y))};
#include "ops/elementwise.def"
#undef UNARY
#undef BINARY
#undef PYDL_FORMULA
#undef PYDL_ARG

}  // namespace

#define UNARY(name, kind, saves, forward, gradient) \
  Tensor name(const Tensor& x, double p, double q) { return unary(name##_op, x, p, q); }
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) \
  Tensor name(const Tensor& a, const Tensor& b) { return binary(name##_op, a, b); }
#define COMPARE(name, condition) \
  Tensor name(const Tensor& a, const Tensor& b) { return compare(#name, &KernelTable::name, a, b); }
#define PREDICATE(name, condition)                                                         \
  Tensor name(const Tensor& x) {                                                           \
    return predicate(#name, &KernelTable::name, x, std::string_view(#name) == "isfinite"); \
  }
#define BITWISE(name, value) \
  Tensor name(const Tensor& a, const Tensor& b) { return bitwise(#name, &KernelTable::name, a, b); }
#include "ops/elementwise.def"
#undef UNARY
#undef BINARY
#undef COMPARE
#undef PREDICATE
#undef BITWISE

Tensor greater(const Tensor& a, const Tensor& b) { return compare("greater", &KernelTable::less, b, a); }
Tensor greater_equal(const Tensor& a, const Tensor& b) {
  return compare("greater_equal", &KernelTable::less_equal, b, a);
}

Tensor where(const Tensor& condition, const Tensor& a0, const Tensor& b0) {
  if (condition.dtype() != DType::boolean)
    throw TypeError(text("[where] the condition must be bool, got ", condition.dtype()));
  const DType dtype = promote("where", a0.dtype(), b0.dtype());
  Tensor a = promoted(a0, dtype), b = promoted(b0, dtype), chosen = condition;
  if (a.device() != b.device() || a.device() != chosen.device()) {
    meet("where", a, b);
    meet("where", a, chosen);
    meet("where", b, chosen);
  }
  Dims shape = broadcast_shapes("where", a.shape(), b.shape());
  shape = broadcast_shapes("where", shape, condition.shape());
  const bool like_chosen = a.shape() != shape && b.shape() != shape;
  Tensor y = like_chosen ? empty_result(shape, chosen, chosen, dtype) : empty_result(shape, a, b, dtype);
  run_elementwise("where", &KernelTable::where, dtype, 2, {&y, &chosen, &a, &b});
  if (autograd::recording({&a, &b})) {
    autograd::record("where", {&a, &b}, {&y}, [c = Saved(chosen)](Node& node, const Tensor* d_out, Tensor* d_in) {
      const Tensor condition = c.get(node);
      const Tensor zero = scalar(Number::of(0.0), d_out[0].dtype());
      if (node.wants(0)) d_in[0] = where(condition, d_out[0], zero);
      if (node.wants(1)) d_in[1] = where(condition, zero, d_out[0]);
    });
  }
  return y;
}

static Tensor truth(const Tensor& x) {
  return x.dtype() == DType::boolean ? x : cast(autograd::requires_grad(x) ? detach(x) : x, DType::boolean);
}

Tensor logical_and(const Tensor& a, const Tensor& b) { return bitwise_and(truth(a), truth(b)); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return bitwise_or(truth(a), truth(b)); }
Tensor logical_xor(const Tensor& a, const Tensor& b) { return bitwise_xor(truth(a), truth(b)); }
Tensor logical_not(const Tensor& x) {
  return bitwise_xor(truth(x), scalar(Number{Number::boolean, 1, 1}, DType::boolean));
}
Tensor bitwise_invert(const Tensor& x) {
  if (x.dtype() == DType::boolean) return logical_not(x);
  return bitwise_xor(x, scalar(Number::of(int64_t{-1}), x.dtype()));
}

void assign(const char* op, const Tensor& dst, const Tensor& value) {
  if (value.shape() != dst.shape())
    throw ValueError(text("[", op, "] the result has shape ", value.shape(), ", the tensor ", dst.shape()));
  if (is_float(value.dtype()) && !is_float(dst.dtype()))
    throw TypeError(text("[", op, "] a result of ", value.dtype(), " can't be kept in ", dst.dtype()));
  const bool recorded = autograd::grad_enabled() && autograd::requires_grad(value);
  autograd::check_inplace(op, dst, recorded);
  // An op may give a view of dst (flip).
  copy_into(dst, share_memory(value, dst) ? clone(detach(value)) : value);
  if (recorded) {
    const Tensor converted = promoted(value, dst.dtype());
    autograd::take_history(dst, autograd::is_leaf(converted) ? clone(converted) : converted);
  } else if (autograd::grad_enabled() && autograd::requires_grad(dst)) {
    autograd::drop_history(dst);  // overwritten: nothing flows back to what it was
  } else {
    return;
  }
  dst.impl()->rebased = ++dst.storage().rebased;
}

}  // namespace pydl::ops
