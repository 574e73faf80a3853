// Expr: a tensor, or a plain number, as the value type of the formulas in elementwise.def. It lets the one derivative
// written there serve for gradients that are themselves recorded.
#pragma once
#include "ops/ops.h"

namespace pydl::ops {

class Expr {
 public:
  Expr(Tensor t) : tensor_(std::move(t)) {}
  Expr(double number) : number_(number) {}
  bool is_number() const { return !tensor_.defined(); }
  double number() const { return number_; }
  // As a tensor, a number with the dtype of `like`.
  Tensor tensor(const Tensor& like) const { return is_number() ? scalar(Number::of(number_), like.dtype()) : tensor_; }
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
  double number_ = 0;
};

template <Tensor (*op)(const Tensor&, const Tensor&), class Fold>
Expr combine(const Expr& a, const Expr& b, Fold fold) {
  if (a.is_number() && b.is_number()) return Expr(static_cast<double>(fold(a.number(), b.number())));
  const Tensor& like = a.is_number() ? b.tensor() : a.tensor();
  return op(a.tensor(like), b.tensor(like));
}

#define PYDL_EXPR_BINARY(function, op, fold)                           \
  inline Expr function(const Expr& a, const Expr& b) {                 \
    return combine<op>(a, b, [](double u, double v) { return fold; }); \
  }
PYDL_EXPR_BINARY(operator+, add, u + v)
PYDL_EXPR_BINARY(operator-, subtract, u - v)
PYDL_EXPR_BINARY(operator*, multiply, u* v)
PYDL_EXPR_BINARY(operator/, divide, u / v)
PYDL_EXPR_BINARY(operator<, less, u < v)
PYDL_EXPR_BINARY(operator<=, less_equal, u <= v)
PYDL_EXPR_BINARY(operator>, greater, u > v)
PYDL_EXPR_BINARY(operator>=, greater_equal, u >= v)
PYDL_EXPR_BINARY(operator==, equal, u == v)
PYDL_EXPR_BINARY(operator&, logical_and, u != 0 && v != 0)
PYDL_EXPR_BINARY(operator|, logical_or, u != 0 || v != 0)
PYDL_EXPR_BINARY(max, maximum, u > v ? u : v)
PYDL_EXPR_BINARY(min, minimum, u < v ? u : v)
PYDL_EXPR_BINARY(copysign, copysign, __builtin_copysign(u, v))
PYDL_EXPR_BINARY(floor_divide, floor_divide, __builtin_floor(u / v))
#undef PYDL_EXPR_BINARY

#define PYDL_EXPR_UNARY(function, op)                                                                   \
  inline Expr function(const Expr& x) {                                                                 \
    if (x.is_number()) throw InternalError("[expr] " #op " of a plain number in a derivative formula"); \
    return ops::op(x.tensor());                                                                         \
  }
PYDL_EXPR_UNARY(abs, abs)
PYDL_EXPR_UNARY(sign, sign)
PYDL_EXPR_UNARY(trunc, trunc)
PYDL_EXPR_UNARY(exp, exp)
PYDL_EXPR_UNARY(log, log)
PYDL_EXPR_UNARY(expm1, expm1)
PYDL_EXPR_UNARY(log1p, log1p)
PYDL_EXPR_UNARY(sqrt, sqrt)
PYDL_EXPR_UNARY(sin, sin)
PYDL_EXPR_UNARY(cos, cos)
PYDL_EXPR_UNARY(sinh, sinh)
PYDL_EXPR_UNARY(cosh, cosh)
PYDL_EXPR_UNARY(tanh, tanh)
PYDL_EXPR_UNARY(erf, erf)
PYDL_EXPR_UNARY(digamma, digamma)
PYDL_EXPR_UNARY(sigmoid, sigmoid)
#undef PYDL_EXPR_UNARY
inline Expr square(const Expr& x) { return x * x; }
inline Expr softplus(const Expr& x) { return Expr(ops::softplus(x.tensor(), 1.0, 20.0)); }
inline Expr polygamma(const Expr& x, const Expr& order) { return Expr(ops::polygamma(x.tensor(), order.number())); }
inline Expr operator-(const Expr& x) { return x.is_number() ? Expr(-x.number()) : Expr(negative(x.tensor())); }
inline Expr pow(const Expr& a, const Expr& b) {
  if (!a.is_number() && b.is_number()) return Expr(pow_scalar(a.tensor(), b.number()));
  return combine<ops::pow>(a, b, [](double u, double v) { return __builtin_pow(u, v); });
}
inline Expr pow_uniform(const Expr& a, const Expr& b) { return pow(a, b); }
inline Expr select(const Expr& condition, const Expr& a, const Expr& b) {
  if (condition.is_number()) return condition.number() != 0 ? a : b;
  if (a.is_number() && b.is_number())
    return where(condition.tensor(), scalar(Number::of(a.number()), default_dtype()),
                 scalar(Number::of(b.number()), default_dtype()));
  const Tensor& like = a.is_number() ? b.tensor() : a.tensor();
  return where(condition.tensor(), a.tensor(like), b.tensor(like));
}

}  // namespace pydl::ops
