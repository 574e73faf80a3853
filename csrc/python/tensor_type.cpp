#include "python/tensor_type.h"

#include <cxxabi.h>
#include <structmember.h>

#include <cmath>

#include "autograd/engine.h"
#include "ops/ops.h"
#include "python/indexing.h"

namespace pydl::python {
namespace {

PyTypeObject* g_base = nullptr;   // TensorBase
PyTypeObject* g_class = nullptr;  // what wrap() makes: pydl._tensor.Tensor once it is there

template <class F>
PyObject* guarded(F&& f) {
  try {
    return f();
  } catch (const abi::__forced_unwind&) {
    throw;  // the thread is being ended; nothing may hold that up
  } catch (...) {
    translate_exception();
    return nullptr;
  }
}

bool load_operand(PyObject* object, Operand* out) {
  if (is_tensor(object)) {
    out->tensor = unwrap(object);
    return true;
  }
  if (as_number(object, &out->number)) return true;
  if (!is_array(object)) return false;
  out->tensor = py::module_::import("pydl").attr("asarray")(py::handle(object)).cast<Tensor>();
  return true;
}

using BinaryFunction = Tensor (*)(const Tensor&, const Tensor&);
using UnaryFunction = Tensor (*)(const Tensor&, double, double);

PyObject* apply(BinaryFunction op, PyObject* a, PyObject* b) {
  return guarded([&] {
    if (is_tensor(a) && is_tensor(b)) return wrap(op(unwrap(a), unwrap(b)));
    Operand left, right;
    if (!load_operand(a, &left) || !load_operand(b, &right)) return Py_NewRef(Py_NotImplemented);
    const auto [x, y] = to_pair("operator", left, right);
    return wrap(op(x, y));
  });
}

PyObject* apply_inplace(BinaryFunction op, const char* name, PyObject* a, PyObject* b) {
  return guarded([&] {
    Operand left, right;
    if (!load_operand(a, &left) || !load_operand(b, &right)) return Py_NewRef(Py_NotImplemented);
    const auto [x, y] = to_pair(name, left, right);
    if (!ops::replace(name, x, y))
      ops::assign(name, x, op(autograd::recording({&x, &y}) ? ops::original(name, x) : x, y));
    return Py_NewRef(a);
  });
}

PyObject* apply(UnaryFunction op, PyObject* a) {
  return guarded([&] { return wrap(op(unwrap(a), 0, 0)); });
}

template <BinaryFunction op>
PyObject* binary_slot(PyObject* a, PyObject* b) {
  return apply(op, a, b);
}
template <UnaryFunction op>
PyObject* unary_slot(PyObject* a) {
  return apply(op, a);
}

constexpr char kAdd[] = "add_", kSubtract[] = "subtract_", kMultiply[] = "multiply_", kDivide[] = "divide_",
               kFloorDivide[] = "floor_divide_", kRemainder[] = "remainder_", kAnd[] = "bitwise_and_",
               kOr[] = "bitwise_or_", kXor[] = "bitwise_xor_", kLeftShift[] = "bitwise_left_shift_",
               kRightShift[] = "bitwise_right_shift_";

template <BinaryFunction op, const char* name>
PyObject* inplace_slot(PyObject* a, PyObject* b) {
  return apply_inplace(op, name, a, b);
}

Tensor power(const Tensor& x, const Tensor& y) { return ops::pow(x, y); }

PyObject* power_slot(PyObject* a, PyObject* b, PyObject*) {
  if (!is_tensor(a) || is_tensor(b)) return binary_slot<power>(a, b);
  return guarded([&]() -> PyObject* {
    ops::Number exponent;
    const Tensor& x = unwrap(a);
    if (!as_number(b, &exponent)) return binary_slot<power>(a, b);
    if (exponent.f == 2 && x.dtype() != DType::boolean) return wrap(ops::square(x));
    if (is_float(x.dtype())) return wrap(ops::pow_scalar(x, exponent.f));
    if (exponent.kind != ops::Number::floating && exponent.i < 0)
      throw ValueError("[pow] integers can't be raised to a negative power; convert to a float dtype");
    return binary_slot<power>(a, b);
  });
}

PyObject* inplace_power_slot(PyObject* a, PyObject* b, PyObject*) {
  return guarded([&]() -> PyObject* {
    ops::Number exponent;
    const Tensor& x = unwrap(a);
    if (!is_tensor(b) && is_float(x.dtype()) && as_number(b, &exponent) &&
        (exponent.f == 2 ? ops::replace("square_", x) : ops::replace("pow_scalar_", x, exponent.f)))
      return Py_NewRef(a);
    const bool recorded = autograd::recording({&x, is_tensor(b) ? &unwrap(b) : &x});
    const py::object base = py::reinterpret_steal<py::object>(wrap(recorded ? ops::original("pow_", x) : x));
    PyObject* value = power_slot(base.ptr(), b, nullptr);
    if (value == nullptr || value == Py_NotImplemented) return value;
    const py::object owner = py::reinterpret_steal<py::object>(value);
    ops::assign("pow_", x, unwrap(value));
    return Py_NewRef(a);
  });
}

PyObject* invert_slot(PyObject* a) {
  return guarded([&] { return wrap(ops::bitwise_invert(unwrap(a))); });
}
PyObject* positive_slot(PyObject* a) { return Py_NewRef(a); }

PyObject* compare_slot(PyObject* a, PyObject* b, int op) {
  return guarded([&] {
    Operand left, right;
    if (!load_operand(a, &left) || !load_operand(b, &right)) return Py_NewRef(Py_NotImplemented);
    const auto [x, y] = to_pair("comparison", left, right, true);
    switch (op) {
      case Py_LT:
        return wrap(ops::less(x, y));
      case Py_LE:
        return wrap(ops::less_equal(x, y));
      case Py_GT:
        return wrap(ops::greater(x, y));
      case Py_GE:
        return wrap(ops::greater_equal(x, y));
      case Py_EQ:
        return wrap(ops::equal(x, y));
      default:
        return wrap(ops::not_equal(x, y));
    }
  });
}

int bool_slot(PyObject* a) {
  try {
    const Tensor& x = unwrap(a);
    if (x.count() != 1)
      throw ValueError(text("[bool] the truth of a tensor of shape ", x.shape(), " is ambiguous; use any() or all()"));
    return ops::item(x).f != 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}
PyObject* integer_object(const Tensor& x) {
  const int64_t i = ops::item(x).i;
  return x.dtype() == DType::uint64 ? PyLong_FromUnsignedLongLong(static_cast<uint64_t>(i)) : PyLong_FromLongLong(i);
}
PyObject* float_slot(PyObject* a) {
  return guarded([&] { return PyFloat_FromDouble(ops::item(unwrap(a)).f); });
}
PyObject* int_slot(PyObject* a) {
  return guarded([&]() -> PyObject* {
    const Tensor& x = unwrap(a);
    return is_float(x.dtype()) ? PyLong_FromDouble(ops::item(x).f) : integer_object(x);
  });
}
PyObject* index_slot(PyObject* a) {
  return guarded([&]() -> PyObject* {
    const Tensor& x = unwrap(a);
    if (is_float(x.dtype()) || x.count() != 1)
      throw TypeError(
          text("[index] only an integer tensor of one element is an index, got ", x.dtype(), " of shape ", x.shape()));
    return integer_object(x);
  });
}

Py_ssize_t length_slot(PyObject* a) {
  const Tensor& x = unwrap(a);
  if (x.ndim() == 0) {
    PyErr_SetString(PyExc_TypeError, "[len] a zero-dimensional tensor has no length");
    return -1;
  }
  return x.size(0);
}
PyObject* subscript_slot(PyObject* a, PyObject* key) {
  return guarded([&] { return wrap(ops::getitem(unwrap(a), parse_index(key))); });
}
int assign_subscript_slot(PyObject* a, PyObject* key, PyObject* value) {
  try {
    if (!value) throw TypeError("[setitem] elements of a tensor can't be deleted");
    const Tensor& x = unwrap(a);
    const std::vector<ops::Index> index = parse_index(key);
    Operand operand;
    Tensor source;
    if (load_operand(value, &operand))
      source = operand.is_number() ? ops::scalar(operand.number, x.dtype()) : operand.tensor;
    else
      source = py::module_::import("pydl").attr("asarray")(py::handle(value)).cast<Tensor>();
    ops::setitem(x, index, source);
    return 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}

// The buffer protocol: the memory itself, with its layout. What `internal` points to lives until the buffer is
// released.
struct BufferLayout {
  Tensor tensor;
  Py_ssize_t shape[kMaxRank], strides[kMaxRank];
};

const char* buffer_format(DType t) {
  static const char* const formats[kNumDTypes] = {"?", "B", "b", "H", "h", "I", "i", "Q", "q", "e", nullptr, "f", "d"};
  return formats[static_cast<int>(t)];
}

int get_buffer_slot(PyObject* self, Py_buffer* view, int flags) {
  const Tensor& x = unwrap(self);
  const char* problem = !x.device().is_cpu()         ? "the tensor is not on the CPU; use x.cpu()"
                        : autograd::requires_grad(x) ? "the tensor requires a gradient; use x.detach()"
                        : !buffer_format(x.dtype())  ? "bfloat16 has no buffer format; convert it first"
                        : (flags & PyBUF_WRITABLE) && !x.storage().writable ? "the memory is read-only"
                        : !(flags & PyBUF_STRIDES) && !x.contiguous()       ? "the tensor is not contiguous"
                                                                            : nullptr;
  if (problem) {
    PyErr_Format(PyExc_BufferError, "[buffer] %s", problem);
    view->obj = nullptr;
    return -1;
  }
  BufferLayout* layout = new BufferLayout{x, {}, {}};
  const Py_ssize_t item = static_cast<Py_ssize_t>(item_size(x.dtype()));
  for (int i = 0; i < x.ndim(); ++i) {
    layout->shape[i] = x.size(i);
    layout->strides[i] = x.stride(i) * item;
  }
  view->obj = Py_NewRef(self);
  x.storage().exported = true;
  view->buf = x.bytes();
  view->len = x.count() * item;
  view->itemsize = item;
  view->readonly = !x.storage().writable;
  view->ndim = x.ndim();
  view->format = flags & PyBUF_FORMAT ? const_cast<char*>(buffer_format(x.dtype())) : nullptr;
  view->shape = flags & PyBUF_ND ? layout->shape : nullptr;
  view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? layout->strides : nullptr;
  view->suboffsets = nullptr;
  view->internal = layout;
  return 0;
}
void release_buffer_slot(PyObject*, Py_buffer* view) { delete static_cast<BufferLayout*>(view->internal); }

// TensorBase(data): another handle on data's memory, without its history. For subclasses such as Parameter.
PyObject* new_slot(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* data = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : nullptr;
    if (!data && kwargs) data = PyDict_GetItemString(kwargs, "data");
    if (!data) data = Py_None;
    Tensor source;
    if (data == Py_None)
      source = Tensor::empty({0}, ops::default_dtype(), Device{});
    else if (is_tensor(data))
      source = unwrap(data);
    else
      source = py::module_::import("pydl")
                   .attr("asarray")(py::handle(data), py::arg("dtype") = dtype_object(ops::default_dtype()))
                   .cast<Tensor>();
    Tensor alias = source.alias();
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) throw py::error_already_set();
    new (&reinterpret_cast<TensorObject*>(self)->tensor) Tensor(std::move(alias));
    const Tensor& tensor = unwrap(self);
    tensor.impl()->is_view = false;
    tensor.impl()->python = self;
    return self;
  });
}

void dealloc_slot(PyObject* self) {
  if (PyType_IS_GC(Py_TYPE(self))) PyObject_GC_UnTrack(self);
  PyTypeObject* type = Py_TYPE(self);
  TensorObject* object = reinterpret_cast<TensorObject*>(self);
  if (object->weak_references) PyObject_ClearWeakRefs(self);
  Py_CLEAR(object->attributes);
  if (object->tensor.defined() && object->tensor.impl()->python == self) object->tensor.impl()->python = nullptr;
  object->tensor.~Tensor();
  type->tp_free(self);
  Py_DECREF(type);
}

// A hook often holds what it hangs on. The collector sees hooks while nobody but this object holds them.
autograd::Meta* sole_hooks(PyObject* self) {
  const Tensor& x = unwrap(self);
  if (!x.defined() || x.impl()->use_count() != 1) return nullptr;
  autograd::Meta* m = autograd::meta(x);
  return m && m->hooks && m->hooks.use_count() == 1 ? m : nullptr;
}
int traverse_slot(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(reinterpret_cast<TensorObject*>(self)->attributes);
  if (const autograd::Meta* m = sole_hooks(self))
    for (const auto& [id, hook] : *m->hooks) Py_VISIT(python_function(hook));
  return 0;
}
int clear_slot(PyObject* self) {
  Py_CLEAR(reinterpret_cast<TensorObject*>(self)->attributes);
  if (autograd::Meta* m = sole_hooks(self)) std::exchange(m->hooks, nullptr).reset();
  return 0;
}

Py_hash_t hash_slot(PyObject* self) { return static_cast<Py_hash_t>(reinterpret_cast<intptr_t>(self) >> 4); }

PyObject* get_shape(PyObject* self, void*) {
  const Dims& shape = unwrap(self).shape();
  PyObject* out = PyTuple_New(shape.size());
  for (int i = 0; out && i < shape.size(); ++i) PyTuple_SET_ITEM(out, i, PyLong_FromLongLong(shape[i]));
  return out;
}
PyObject* get_strides(PyObject* self, void*) {
  return guarded([&] { return py::cast(unwrap(self).strides()).release().ptr(); });
}
PyObject* get_dtype(PyObject* self, void*) { return dtype_object(unwrap(self).dtype()).release().ptr(); }
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(unwrap(self).ndim()); }
PyObject* get_count(PyObject* self, void*) { return PyLong_FromLongLong(unwrap(self).count()); }
PyObject* get_device(PyObject* self, void*) {
  return guarded([&] { return py::cast(unwrap(self).device()).release().ptr(); });
}
PyObject* get_is_cpu(PyObject* self, void*) { return PyBool_FromLong(unwrap(self).device().is_cpu()); }
PyObject* get_is_cuda(PyObject* self, void*) { return PyBool_FromLong(!unwrap(self).device().is_cpu()); }
PyObject* get_requires_grad(PyObject* self, void*) { return PyBool_FromLong(autograd::requires_grad(unwrap(self))); }
int set_requires_grad(PyObject* self, PyObject* value, void*) {
  try {
    const Tensor& x = unwrap(self);
    const int on = value ? PyObject_IsTrue(value) : -1;
    if (on < 0) throw TypeError("[requires_grad] expected True or False");
    if (on && !is_float(x.dtype()))
      throw TypeError(text("[requires_grad] only floating tensors have gradients, got ", x.dtype()));
    if (!autograd::is_leaf(x)) {
      if (on) return 0;
      throw autograd::AutogradError("[requires_grad] can only be switched off for leaves; use detach()");
    }
    if (on || autograd::meta(x)) autograd::require_meta(x).requires_grad = on;
    return 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}
PyObject* get_grad(PyObject* self, void*) {
  return guarded([&] {
    const autograd::Meta* m = autograd::meta(unwrap(self));
    return wrap(m ? m->grad : Tensor());
  });
}
int set_grad(PyObject* self, PyObject* value, void*) {
  try {
    const Tensor& x = unwrap(self);
    if (!value || value == Py_None) {
      if (autograd::meta(x)) autograd::meta(x)->grad = Tensor();
      return 0;
    }
    if (!is_tensor(value)) throw TypeError("[grad] expected a tensor or None");
    const Tensor& g = unwrap(value);
    if (g.shape() != x.shape() || g.dtype() != x.dtype())
      throw ValueError(
          text("[grad] got ", g.dtype(), " of shape ", g.shape(), ", expected ", x.dtype(), " of shape ", x.shape()));
    if (g.device() != x.device())
      throw ValueError(text("[grad] got a tensor on ", g.device(), ", expected one on ", x.device()));
    autograd::require_meta(x).grad = g;
    return 0;
  } catch (...) {
    translate_exception();
    return -1;
  }
}
PyObject* get_is_leaf(PyObject* self, void*) { return PyBool_FromLong(autograd::is_leaf(unwrap(self))); }
PyObject* get_grad_fn(PyObject* self, void*) {
  const autograd::Meta* m = autograd::meta(unwrap(self));
  if (!m || !m->node) Py_RETURN_NONE;
  return PyUnicode_FromString(m->node->name());
}
PyObject* get_version(PyObject* self, void*) { return PyLong_FromUnsignedLong(unwrap(self).storage().version); }

PyGetSetDef g_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {"shape", get_shape, nullptr, "The sizes of the axes, a tuple.", nullptr},
    {"strides", get_strides, nullptr, "Steps between neighbours along each axis, in elements.", nullptr},
    {"dtype", get_dtype, nullptr, "The type of the elements.", nullptr},
    {"ndim", get_ndim, nullptr, "The number of axes.", nullptr},
    {"_count", get_count, nullptr, nullptr, nullptr},
    {"device", get_device, nullptr, "Where the elements are.", nullptr},
    {"is_cpu", get_is_cpu, nullptr, "Whether it lies in the CPU's memory.", nullptr},
    {"is_cuda", get_is_cuda, nullptr, "Whether it lies on a CUDA device.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether gradients flow to this tensor.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward() added up, or None.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Not made by a recorded op.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The name of the recorded op that made this tensor, or None.", nullptr},
    {"_version", get_version, nullptr, "Counts the changes in place of the memory below.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

bool is_true(PyObject* object) {
  const int truth = PyObject_IsTrue(object);
  if (truth < 0) throw py::error_already_set();
  return truth != 0;
}

// Attributes and weak references lie in the object, so that the class Tensor adds nothing that each one would pay for.
PyMemberDef g_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TensorObject, attributes), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyObject* method_item(PyObject* self, PyObject*) {
  return guarded([&] {
    const Tensor& x = unwrap(self);
    if (is_float(x.dtype())) return PyFloat_FromDouble(ops::item(x).f);
    return x.dtype() == DType::boolean ? PyBool_FromLong(ops::item(x).i != 0) : integer_object(x);
  });
}
PyObject* method_detach(PyObject* self, PyObject*) {
  return guarded([&] { return wrap(ops::detach(unwrap(self))); });
}
// Written out, because a call without arguments is what training loops make.
PyObject* method_backward(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  return guarded([&] {
    if (count == 0 && !keywords) {
      autograd::backward(unwrap(self));
      return Py_NewRef(Py_None);
    }
    constexpr const char* names[] = {"gradient", "retain_graph", "create_graph"};
    PyObject* given[] = {Py_None, Py_None, Py_False};
    if (count > 3) throw TypeError(text("[backward] takes at most 3 arguments, got ", count));
    for (Py_ssize_t i = 0; i < count; ++i) given[i] = args[i];
    for (Py_ssize_t k = 0; keywords && k < PyTuple_GET_SIZE(keywords); ++k) {
      PyObject* keyword = PyTuple_GET_ITEM(keywords, k);
      int at = 0;
      while (at < 3 && PyUnicode_CompareWithASCIIString(keyword, names[at]) != 0) ++at;
      if (at == 3)
        throw TypeError(text("[backward] got the unknown argument '", PyUnicode_AsUTF8(keyword),
                             "'; it takes gradient, retain_graph and create_graph"));
      if (at < count) throw TypeError(text("[backward] got two values for '", names[at], "'"));
      given[at] = args[count + k];
    }
    if (given[0] != Py_None && !is_tensor(given[0]))
      throw TypeError(text("[backward] gradient must be a tensor or None, got ", Py_TYPE(given[0])->tp_name));
    const bool create = is_true(given[2]);
    const bool retain = given[1] == Py_None ? create : is_true(given[1]);
    const Tensor gradient = given[0] == Py_None ? Tensor() : unwrap(given[0]);
    autograd::backward({unwrap(self)}, {gradient}, {retain || create, create});
    return Py_NewRef(Py_None);
  });
}
PyObject* method_is_contiguous(PyObject* self, PyObject*) { return PyBool_FromLong(unwrap(self).contiguous()); }
PyObject* method_data_ptr(PyObject* self, PyObject*) { return PyLong_FromVoidPtr(unwrap(self).bytes()); }

constexpr char kBackwardDoc[] =
    R"(backward($self, gradient=None, retain_graph=None, create_graph=False)
--

Add the gradients of this tensor (times gradient) to the grad of every leaf it was made from.

Args:
    gradient: of this tensor's shape; may be left out for one element, then 1.
    retain_graph: keep what backward needs, to call it again; default the value of create_graph.
    create_graph: record the gradients' own computation, for higher derivatives.)";

PyMethodDef g_methods[] = {
    {"item", method_item, METH_NOARGS, "item($self, /)\n--\n\nThe only element as a Python number."},
    {"detach", method_detach, METH_NOARGS, "detach($self, /)\n--\n\nThe same memory without the history."},
    {"backward", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(method_backward)),
     METH_FASTCALL | METH_KEYWORDS, kBackwardDoc},
    {"is_contiguous", method_is_contiguous, METH_NOARGS,
     "is_contiguous($self, /)\n--\n\nElements lie in row-major order without gaps."},
    {"data_ptr", method_data_ptr, METH_NOARGS, "data_ptr($self, /)\n--\n\nThe address of the first element."},
    {nullptr, nullptr, 0, nullptr},
};

template <class F>
void* slot(F f) {
  return reinterpret_cast<void*>(f);
}

Tensor matmul_op(const Tensor& a, const Tensor& b) { return ops::matmul(a, b); }

}  // namespace

bool is_tensor(PyObject* object) { return Py_IS_TYPE(object, g_class) || PyObject_TypeCheck(object, g_base); }

PyObject* wrap(const Tensor& tensor) {
  if (!tensor.defined()) Py_RETURN_NONE;
  // One that is being deallocated (a callback of a weak reference may ask) can't be handed out again.
  PyObject* living = static_cast<PyObject*>(tensor.impl()->python);
  if (living && Py_REFCNT(living) > 0) return Py_NewRef(living);
  PyObject* self = g_class->tp_alloc(g_class, 0);
  if (!self) throw py::error_already_set();
  new (&reinterpret_cast<TensorObject*>(self)->tensor) Tensor(tensor);
  tensor.impl()->python = self;
  return self;
}

bool is_array(PyObject* object) {
  if (PyFloat_Check(object) || PyLong_Check(object) || is_tensor(object)) return false;
  return PyObject_HasAttrString(object, "__array_interface__") && PySequence_Check(object);
}

bool as_number(PyObject* object, ops::Number* number) {
  if (PyFloat_Check(object)) {
    *number = ops::Number::of(PyFloat_AS_DOUBLE(object));
    return true;
  }
  if (PyBool_Check(object)) {
    *number = ops::Number{ops::Number::boolean, object == Py_True ? 1.0 : 0.0, object == Py_True};
    return true;
  }
  if (PyLong_Check(object)) {
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow) {
      const double wide = PyLong_AsDouble(object);
      if (wide == -1 && PyErr_Occurred()) throw py::error_already_set();
      *number = {ops::Number::floating, wide, 0};
      if (overflow > 0 && wide <= 0x1p64) {  // a uint64: its bits
        const unsigned long long bits = PyLong_AsUnsignedLongLong(object);
        if (PyErr_Occurred())
          PyErr_Clear();
        else
          number->i = static_cast<int64_t>(bits);
      }
    } else {
      *number = ops::Number::of(static_cast<int64_t>(v));
    }
    return true;
  }
  // NumPy's scalars, but not its arrays.
  if (PyObject_HasAttrString(object, "dtype") && PyObject_HasAttrString(object, "item") && !PySequence_Check(object) &&
      !is_tensor(object)) {
    py::object plain = py::reinterpret_steal<py::object>(PyObject_CallMethod(object, "item", nullptr));
    if (!plain) throw py::error_already_set();
    return plain.ptr() != object && as_number(plain.ptr(), number);
  }
  return false;
}

static bool fits(const ops::Number& number, DType dtype) {
  if (!is_integer(dtype)) return true;
  if (number.kind != ops::Number::floating && item_size(dtype) == 8 && (dtype == DType::int64 || number.i >= 0))
    return true;
  if (dtype == DType::uint64 && number.f == 0x1p64 && number.i < 0) return true;  // one of the last, which rounds up
  const int bits = static_cast<int>(item_size(dtype)) * 8;
  const bool negative = is_signed(dtype);
  const double low = negative ? -std::ldexp(1.0, bits - 1) : 0, high = std::ldexp(1.0, negative ? bits - 1 : bits);
  return number.f >= low && number.f < high;
}

void check_fits(const char* op, const ops::Number& number, DType dtype) {
  if (!fits(number, dtype))
    throw ValueError(
        text("[", op, "] the number ", number.f, " does not fit ", dtype, "; convert the tensor with astype first"));
}

std::pair<Tensor, Tensor> to_pair(const char* op, const Operand& a, const Operand& b, bool compares) {
  if (!a.is_number() && !b.is_number()) return {a.tensor, b.tensor};
  if (a.is_number() && b.is_number()) throw TypeError(text("[", op, "] at least one operand must be a tensor"));
  const ops::Number& number = a.is_number() ? a.number : b.number;
  const Tensor& tensor = a.is_number() ? b.tensor : a.tensor;
  DType dtype = ops::promote(tensor.dtype(), number);
  if (compares && number.kind == ops::Number::integer && !fits(number, dtype))  // any two integers can be compared
    dtype = dtype != DType::uint64 ? DType::int64 : number.i < 0 ? DType::float64 : dtype;
  check_fits(op, number, dtype);
  const Tensor scalar = ops::scalar(number, dtype);
  return a.is_number() ? std::make_pair(scalar, tensor) : std::make_pair(tensor, scalar);
}

void bind_tensor_type(py::module_& m) {
  static PyType_Slot slots[] = {
      {Py_tp_new, slot(new_slot)},
      {Py_tp_dealloc, slot(dealloc_slot)},
      {Py_tp_traverse, slot(traverse_slot)},
      {Py_tp_clear, slot(clear_slot)},
      {Py_tp_hash, slot(hash_slot)},
      {Py_tp_getset, g_getset},
      {Py_tp_members, g_members},
      {Py_tp_methods, g_methods},
      {Py_tp_richcompare, slot(compare_slot)},
      {Py_nb_add, slot(binary_slot<ops::add>)},
      {Py_nb_subtract, slot(binary_slot<ops::subtract>)},
      {Py_nb_multiply, slot(binary_slot<ops::multiply>)},
      {Py_nb_true_divide, slot(binary_slot<ops::divide>)},
      {Py_nb_floor_divide, slot(binary_slot<ops::floor_divide>)},
      {Py_nb_remainder, slot(binary_slot<ops::remainder>)},
      {Py_nb_matrix_multiply, slot(binary_slot<matmul_op>)},
      {Py_nb_power, slot(power_slot)},
      {Py_nb_and, slot(binary_slot<ops::bitwise_and>)},
      {Py_nb_or, slot(binary_slot<ops::bitwise_or>)},
      {Py_nb_xor, slot(binary_slot<ops::bitwise_xor>)},
      {Py_nb_lshift, slot(binary_slot<ops::bitwise_left_shift>)},
      {Py_nb_rshift, slot(binary_slot<ops::bitwise_right_shift>)},
      {Py_nb_inplace_add, slot(inplace_slot<ops::add, kAdd>)},
      {Py_nb_inplace_subtract, slot(inplace_slot<ops::subtract, kSubtract>)},
      {Py_nb_inplace_multiply, slot(inplace_slot<ops::multiply, kMultiply>)},
      {Py_nb_inplace_true_divide, slot(inplace_slot<ops::divide, kDivide>)},
      {Py_nb_inplace_floor_divide, slot(inplace_slot<ops::floor_divide, kFloorDivide>)},
      {Py_nb_inplace_remainder, slot(inplace_slot<ops::remainder, kRemainder>)},
      {Py_nb_inplace_power, slot(inplace_power_slot)},
      {Py_nb_inplace_and, slot(inplace_slot<ops::bitwise_and, kAnd>)},
      {Py_nb_inplace_or, slot(inplace_slot<ops::bitwise_or, kOr>)},
      {Py_nb_inplace_xor, slot(inplace_slot<ops::bitwise_xor, kXor>)},
      {Py_nb_inplace_lshift, slot(inplace_slot<ops::bitwise_left_shift, kLeftShift>)},
      {Py_nb_inplace_rshift, slot(inplace_slot<ops::bitwise_right_shift, kRightShift>)},
      {Py_nb_negative, slot(unary_slot<ops::negative>)},
      {Py_nb_absolute, slot(unary_slot<ops::abs>)},
      {Py_nb_positive, slot(positive_slot)},
      {Py_nb_invert, slot(invert_slot)},
      {Py_nb_bool, slot(bool_slot)},
      {Py_nb_float, slot(float_slot)},
      {Py_nb_int, slot(int_slot)},
      {Py_nb_index, slot(index_slot)},
      {Py_bf_getbuffer, slot(get_buffer_slot)},
      {Py_bf_releasebuffer, slot(release_buffer_slot)},
      {Py_mp_length, slot(length_slot)},
      {Py_mp_subscript, slot(subscript_slot)},
      {Py_mp_ass_subscript, slot(assign_subscript_slot)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"pydl._C.TensorBase", sizeof(TensorObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
  g_base = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!g_base) throw py::error_already_set();
  g_class = g_base;
  m.attr("TensorBase") = py::handle(reinterpret_cast<PyObject*>(g_base));
  m.def("_set_tensor_class", [](py::type cls) {
    g_class = reinterpret_cast<PyTypeObject*>(cls.inc_ref().ptr());
    g_class->tp_dealloc = dealloc_slot;  // Python's own does nothing more for a class without slots
  });
}

}  // namespace pydl::python
