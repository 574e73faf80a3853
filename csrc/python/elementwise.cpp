// Bindings of the element-wise ops, made from the same table.
#include <algorithm>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

// Whether integers of the type have this value, and a double too.
bool holds(DType dtype, const ops::Number& value) {
  if (!is_integer(dtype) || value.kind != ops::Number::integer) return false;
  const int bits = std::min(static_cast<int>(item_size(dtype)) * 8, 53) - (is_signed(dtype) ? 1 : 0);
  return value.i >= (is_signed(dtype) ? -(int64_t{1} << bits) : 0) && value.i < int64_t{1} << bits;
}

Tensor clip(const Tensor& x, const py::object& min, const py::object& max) {
  ops::Number low = ops::Number::of(-__builtin_inf()), high = ops::Number::of(__builtin_inf());
  const bool plain_low = min.is_none() || (!is_tensor(min.ptr()) && as_number(min.ptr(), &low));
  const bool plain_high = max.is_none() || (!is_tensor(max.ptr()) && as_number(max.ptr(), &high));
  if (is_float(x.dtype()) && plain_low && plain_high) return ops::clip(x, low.f, high.f);
  if (plain_low && plain_high && holds(x.dtype(), low) && holds(x.dtype(), high)) return ops::clip(x, low.f, high.f);
  Tensor y = x;
  for (const py::object* bound : {&min, &max}) {
    if (bound->is_none()) continue;
    py::detail::make_caster<Operand> value;
    if (!value.load(*bound, true))
      throw TypeError(text("[clip] a bound is a number, a tensor or None, got ", Py_TYPE(bound->ptr())->tp_name));
    const auto [a, b] = to_pair("clip", Operand{y, {}}, value);
    broadcast_shapes("clip", a.shape(), b.shape());
    y = bound == &min ? ops::maximum(a, b) : ops::minimum(a, b);
  }
  return y;
}

template <Tensor (*op)(const Tensor&, const Tensor&), bool compares = false>
Tensor on_pair(const Operand& a, const Operand& b) {
  const auto [x, y] = to_pair("operator", a, b, compares);
  return op(x, y);
}

// None where one pass can't.
template <Tensor (*op)(const Tensor&, const Tensor&, const Tensor&, double, bool)>
Tensor ternary(const Tensor& a, const Tensor& b, const Operand& c, double p, bool in_place) {
  if (!is_float(a.dtype())) return {};
  return op(a, b, to_pair("operator", {a, {}}, c).second, p, in_place);
}

// The parameters that the formulas call p and q, by the names that users know.
struct Parameters {
  const char* op;
  const char* p;
  const char* q;
};
constexpr Parameters kParameters[] = {
    {"clip", "min", "max"},
    {"pow_scalar", "exponent", nullptr},
    {"leaky_relu", "negative_slope", nullptr},
    {"elu", "alpha", nullptr},
    {"celu", "alpha", nullptr},
    {"softplus", "beta", "threshold"},
    {"hardtanh", "min_val", "max_val"},
    {"hardshrink", "lambd", nullptr},
    {"softshrink", "lambd", nullptr},
    {"threshold", "threshold", "value"},
    {"polygamma", "n", nullptr},
    {"nan_to_num", "neginf", "posinf"},
};

// How many of them an op has.
size_t parameters_of(std::string_view op) {
  for (const Parameters& parameters : kParameters)
    if (parameters.op == op) return parameters.q ? 2 : 1;
  return 0;
}

bool replace(const std::string& name, const Tensor& dst, const py::tuple& args) {
  if (args.size() == parameters_of({name.data(), name.size() - 1})) {
    ops::Number parameters[2];
    for (size_t i = 0; i < args.size(); ++i)
      if (is_tensor(args[i].ptr()) || !as_number(args[i].ptr(), &parameters[i])) return false;
    return ops::replace(name.c_str(), dst, parameters[0].f, parameters[1].f);
  }
  py::detail::make_caster<Operand> other;
  return args.size() == 1 && other.load(args[0], true) &&
         ops::replace(name.c_str(), dst, to_pair(name.c_str(), {dst, {}}, other).second);
}

void bind_unary(py::module_& m, const char* name, Tensor (*op)(const Tensor&, double, double)) {
  for (const Parameters& parameters : kParameters) {
    if (std::string_view(parameters.op) != name) continue;
    if (parameters.q)
      m.def(name, op, "x"_a, py::arg(parameters.p), py::arg(parameters.q));
    else
      m.def(
          name, [op](const Tensor& x, double p) { return op(x, p, 0); }, "x"_a, py::arg(parameters.p));
    return;
  }
  m.def(
      name, [op](const Tensor& x) { return op(x, 0, 0); }, "x"_a);
}

}  // namespace

void bind_elementwise(py::module_& m) {
#define UNARY(name, kind, saves, forward, gradient) bind_unary(m, #name, &ops::name);
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) \
  m.def(#name, &on_pair<ops::name>, "x1"_a, "x2"_a);
#define COMPARE(name, condition) m.def(#name, &on_pair<ops::name, true>, "x1"_a, "x2"_a);
#define PREDICATE(name, condition) m.def(#name, &ops::name, "x"_a);
#define BITWISE(name, value) m.def(#name, &on_pair<ops::name>, "x1"_a, "x2"_a);
#include "ops/elementwise.def"
#undef UNARY
#undef BINARY
#undef COMPARE
#undef PREDICATE
#undef BITWISE
  m.def("greater", &on_pair<ops::greater, true>, "x1"_a, "x2"_a);
  m.def("greater_equal", &on_pair<ops::greater_equal, true>, "x1"_a, "x2"_a);
  m.def("logical_and", &on_pair<ops::logical_and>, "x1"_a, "x2"_a);
  m.def("logical_or", &on_pair<ops::logical_or>, "x1"_a, "x2"_a);
  m.def("logical_xor", &on_pair<ops::logical_xor>, "x1"_a, "x2"_a);
  m.def("logical_not", &ops::logical_not, "x"_a);
  m.def("bitwise_invert", &ops::bitwise_invert, "x"_a);
  m.def("clip_bounds", &clip, "x"_a, "min"_a = py::none(), "max"_a = py::none());
  m.def(
      "where",
      [](const Tensor& condition, const Operand& a, const Operand& b) {
        if (a.is_number() && b.is_number()) {
          const bool floating = a.number.kind == ops::Number::floating || b.number.kind == ops::Number::floating;
          const bool booleans = a.number.kind == ops::Number::boolean && b.number.kind == ops::Number::boolean;
          const DType dtype = floating ? ops::default_dtype() : booleans ? DType::boolean : DType::int64;
          return ops::where(condition, ops::scalar(a.number, dtype), ops::scalar(b.number, dtype));
        }
        const auto [x, y] = to_pair("where", a, b);
        return ops::where(condition, x, y);
      },
      "condition"_a, "x1"_a, "x2"_a);
  // dst = op(dst, value): every in-place form.
  m.def(
      "assign",
      [](const std::string& op, const Tensor& dst, const Tensor& value) { ops::assign(op.c_str(), dst, value); },
      "op"_a, "dst"_a, "value"_a);
  // dst, or a copy of it, for an op on it and args whose result is then assigned to it.
  m.def(
      "original",
      [](const std::string& op, const Tensor& dst, const py::tuple& args) {
        bool recorded = autograd::recording({&dst});
        for (const py::handle& other : args)
          recorded = recorded || (is_tensor(other.ptr()) && autograd::recording({&unwrap(other.ptr())}));
        return recorded ? ops::original(op.c_str(), dst) : dst;
      },
      "op"_a, "dst"_a, "args"_a);
  // dst = op(dst, args) by one kernel, and whether that could be; else nothing is done.
  m.def("replace", replace, "op"_a, "dst"_a, "args"_a);
#define TERNARY(name, forward) m.def(#name, &ternary<ops::name>, "a"_a, "b"_a, "c"_a, "p"_a, "in_place"_a);
#include "ops/elementwise.def"
#undef TERNARY
}

}  // namespace pydl::python
