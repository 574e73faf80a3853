#include "python/tensor_type.h"

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
  return as_number(object, &out->number);
}

template <Tensor (*op)(const Tensor&, const Tensor&)>
PyObject* binary_slot(PyObject* a, PyObject* b) {
  if (is_tensor(a) && is_tensor(b)) return guarded([&] { return wrap(op(unwrap(a), unwrap(b))); });
  Operand left, right;
  if (!load_operand(a, &left) || !load_operand(b, &right)) Py_RETURN_NOTIMPLEMENTED;
  return guarded([&] {
    const auto [x, y] = to_pair("operator", left, right);
    return wrap(op(x, y));
  });
}

template <Tensor (*op)(const Tensor&, const Tensor&)>
PyObject* inplace_slot(PyObject* a, PyObject* b) {
  Operand left, right;
  if (!load_operand(a, &left) || !load_operand(b, &right)) Py_RETURN_NOTIMPLEMENTED;
  return guarded([&] {
    const auto [x, y] = to_pair("operator", left, right);
    ops::assign("operator", unwrap(a), op(x, y));
    return Py_NewRef(a);
  });
}

Tensor power(const Tensor& x, const Tensor& y) { return ops::pow(x, y); }

PyObject* power_slot(PyObject* a, PyObject* b, PyObject*) {
  ops::Number exponent;
  if (is_tensor(a) && !is_tensor(b) && as_number(b, &exponent)) {
    const Tensor& x = unwrap(a);
    if (exponent.f == 2) return guarded([&] { return wrap(ops::square(x)); });
    if (is_float(x.dtype())) return guarded([&] { return wrap(ops::pow_scalar(x, exponent.f)); });
    if (exponent.kind != ops::Number::floating && exponent.i < 0)
      return guarded([]() -> PyObject* {
        throw ValueError("[pow] integers can't be raised to a negative power; convert to a float dtype");
      });
  }
  return binary_slot<power>(a, b);
}

template <Tensor (*op)(const Tensor&, double, double)>
PyObject* unary_slot(PyObject* a) {
  return guarded([&] { return wrap(op(unwrap(a), 0, 0)); });
}
PyObject* invert_slot(PyObject* a) {
  return guarded([&] { return wrap(ops::bitwise_invert(unwrap(a))); });
}
PyObject* positive_slot(PyObject* a) { return Py_NewRef(a); }

PyObject* compare_slot(PyObject* a, PyObject* b, int op) {
  Operand left, right;
  if (!load_operand(a, &left) || !load_operand(b, &right)) Py_RETURN_NOTIMPLEMENTED;
  return guarded([&] {
    const auto [x, y] = to_pair("comparison", left, right);
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
PyObject* number_object(const ops::Number& n) {
  switch (n.kind) {
    case ops::Number::boolean:
      return PyBool_FromLong(n.i != 0);
    case ops::Number::integer:
      return PyLong_FromLongLong(n.i);
    default:
      return PyFloat_FromDouble(n.f);
  }
}
PyObject* float_slot(PyObject* a) {
  return guarded([&] { return PyFloat_FromDouble(ops::item(unwrap(a)).f); });
}
PyObject* int_slot(PyObject* a) {
  return guarded([&]() -> PyObject* {
    const ops::Number n = ops::item(unwrap(a));
    return n.kind == ops::Number::floating ? PyLong_FromDouble(n.f) : PyLong_FromLongLong(n.i);
  });
}
PyObject* index_slot(PyObject* a) {
  return guarded([&]() -> PyObject* {
    const Tensor& x = unwrap(a);
    if (is_float(x.dtype()) || x.count() != 1)
      throw TypeError(
          text("[index] only an integer tensor of one element is an index, got ", x.dtype(), " of shape ", x.shape()));
    return PyLong_FromLongLong(ops::item(x).i);
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

// TensorBase(data): another handle on data's memory, without its history. For subclasses such as Parameter.
PyObject* new_slot(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  return guarded([&]() -> PyObject* {
    PyObject* data = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : nullptr;
    if (!data && kwargs) data = PyDict_GetItemString(kwargs, "data");
    if (!data) data = Py_None;
    Tensor source;
    if (data == Py_None)
      source = Tensor::empty({0}, ops::default_dtype());
    else if (is_tensor(data))
      source = unwrap(data);
    else
      source = py::module_::import("pydl")
                   .attr("asarray")(py::handle(data), py::arg("dtype") = dtype_object(ops::default_dtype()))
                   .cast<Tensor>();
    PyObject* self = type->tp_alloc(type, 0);
    if (!self) throw py::error_already_set();
    new (&reinterpret_cast<TensorObject*>(self)->tensor) Tensor(source.alias());
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
  if (object->tensor.defined()) object->tensor.impl()->python = nullptr;
  object->tensor.~Tensor();
  type->tp_free(self);
  Py_DECREF(type);
}

Py_hash_t hash_slot(PyObject* self) { return static_cast<Py_hash_t>(reinterpret_cast<intptr_t>(self) >> 4); }

PyObject* get_shape(PyObject* self, void*) {
  const Dims& shape = unwrap(self).shape();
  PyObject* out = PyTuple_New(shape.size());
  for (int i = 0; out && i < shape.size(); ++i) PyTuple_SET_ITEM(out, i, PyLong_FromLongLong(shape[i]));
  return out;
}
PyObject* get_strides(PyObject* self, void*) { return py::cast(unwrap(self).strides()).release().ptr(); }
PyObject* get_dtype(PyObject* self, void*) { return dtype_object(unwrap(self).dtype()).release().ptr(); }
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(unwrap(self).ndim()); }
PyObject* get_count(PyObject* self, void*) { return PyLong_FromLongLong(unwrap(self).count()); }
PyObject* get_device(PyObject* self, void*) {
  return guarded([&] { return py::cast(unwrap(self).device()).release().ptr(); });
}
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
  const autograd::Meta* m = autograd::meta(unwrap(self));
  return wrap(m ? m->grad : Tensor());
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
    {"shape", get_shape, nullptr, "The sizes of the axes, a tuple.", nullptr},
    {"strides", get_strides, nullptr, "Steps between neighbours along each axis, in elements.", nullptr},
    {"dtype", get_dtype, nullptr, "The type of the elements.", nullptr},
    {"ndim", get_ndim, nullptr, "The number of axes.", nullptr},
    {"_count", get_count, nullptr, nullptr, nullptr},
    {"device", get_device, nullptr, "Where the elements are.", nullptr},
    {"requires_grad", get_requires_grad, set_requires_grad, "Whether gradients flow to this tensor.", nullptr},
    {"grad", get_grad, set_grad, "The gradient that backward() added up, or None.", nullptr},
    {"is_leaf", get_is_leaf, nullptr, "Not made by a recorded op.", nullptr},
    {"grad_fn", get_grad_fn, nullptr, "The name of the recorded op that made this tensor, or None.", nullptr},
    {"_version", get_version, nullptr, "Counts the changes in place of the memory below.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyObject* method_item(PyObject* self, PyObject*) {
  return guarded([&] { return number_object(ops::item(unwrap(self))); });
}
PyObject* method_detach(PyObject* self, PyObject*) {
  return guarded([&] { return wrap(ops::detach(unwrap(self))); });
}
PyObject* method_backward(PyObject* self, PyObject*) {
  return guarded([&] {
    autograd::backward({unwrap(self)}, {Tensor()}, {});
    return Py_NewRef(Py_None);
  });
}
PyObject* method_is_contiguous(PyObject* self, PyObject*) { return PyBool_FromLong(unwrap(self).contiguous()); }
PyObject* method_data_ptr(PyObject* self, PyObject*) { return PyLong_FromVoidPtr(unwrap(self).bytes()); }

PyMethodDef g_methods[] = {
    {"item", method_item, METH_NOARGS, "item($self, /)\n--\n\nThe only element as a Python number."},
    {"detach", method_detach, METH_NOARGS, "detach($self, /)\n--\n\nThe same memory without the history."},
    {"_backward", method_backward, METH_NOARGS, nullptr},  // of one element, with all defaults
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

bool is_tensor(PyObject* object) { return PyObject_TypeCheck(object, g_base); }

PyObject* wrap(const Tensor& tensor) {
  if (!tensor.defined()) Py_RETURN_NONE;
  if (tensor.impl()->python) return Py_NewRef(static_cast<PyObject*>(tensor.impl()->python));
  PyObject* self = g_class->tp_alloc(g_class, 0);
  if (!self) throw py::error_already_set();
  new (&reinterpret_cast<TensorObject*>(self)->tensor) Tensor(tensor);
  tensor.impl()->python = self;
  return self;
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
      *number = ops::Number::of(wide);
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

std::pair<Tensor, Tensor> to_pair(const char* op, const Operand& a, const Operand& b) {
  if (!a.is_number() && !b.is_number()) return {a.tensor, b.tensor};
  if (a.is_number() && b.is_number()) throw TypeError(text("[", op, "] at least one operand must be a tensor"));
  const ops::Number& number = a.is_number() ? a.number : b.number;
  const Tensor& tensor = a.is_number() ? b.tensor : a.tensor;
  const Tensor scalar = ops::scalar(number, ops::promote(tensor.dtype(), number));
  return a.is_number() ? std::make_pair(scalar, tensor) : std::make_pair(tensor, scalar);
}

void bind_tensor_type(py::module_& m) {
  static PyType_Slot slots[] = {
      {Py_tp_new, slot(new_slot)},
      {Py_tp_dealloc, slot(dealloc_slot)},
      {Py_tp_hash, slot(hash_slot)},
      {Py_tp_getset, g_getset},
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
      {Py_nb_inplace_add, slot(inplace_slot<ops::add>)},
      {Py_nb_inplace_subtract, slot(inplace_slot<ops::subtract>)},
      {Py_nb_inplace_multiply, slot(inplace_slot<ops::multiply>)},
      {Py_nb_inplace_true_divide, slot(inplace_slot<ops::divide>)},
      {Py_nb_negative, slot(unary_slot<ops::negative>)},
      {Py_nb_absolute, slot(unary_slot<ops::abs>)},
      {Py_nb_positive, slot(positive_slot)},
      {Py_nb_invert, slot(invert_slot)},
      {Py_nb_bool, slot(bool_slot)},
      {Py_nb_float, slot(float_slot)},
      {Py_nb_int, slot(int_slot)},
      {Py_nb_index, slot(index_slot)},
      {Py_mp_length, slot(length_slot)},
      {Py_mp_subscript, slot(subscript_slot)},
      {Py_mp_ass_subscript, slot(assign_subscript_slot)},
      {0, nullptr},
  };
  static PyType_Spec spec = {"pydl._C.TensorBase", sizeof(TensorObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                             slots};
  g_base = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!g_base) throw py::error_already_set();
  g_class = g_base;
  m.attr("TensorBase") = py::handle(reinterpret_cast<PyObject*>(g_base));
  m.def("_set_tensor_class", [](py::type cls) { g_class = reinterpret_cast<PyTypeObject*>(cls.inc_ref().ptr()); });
}

}  // namespace pydl::python
