// The Python type TensorBase, written against CPython directly because operators must cost little; pydl._tensor.Tensor
// derives from it and adds the methods. One Tensor has at most one living Python object, so identity holds.
#pragma once
#include <pybind11/pybind11.h>

#include "ops/ops.h"

namespace pydl::python {

namespace py = pybind11;

struct TensorObject {
  PyObject_HEAD;
  Tensor tensor;
  PyObject* attributes;       // a user's own, null until there is one
  PyObject* weak_references;  // to the object, likewise
};

bool is_tensor(PyObject* object);
inline const Tensor& unwrap(PyObject* object) { return reinterpret_cast<TensorObject*>(object)->tensor; }
PyObject* wrap(const Tensor& tensor);  // new reference; None where undefined

// A Python number as such: bool, int, float, or anything NumPy calls a scalar. False where it is none.
bool as_number(PyObject* object, ops::Number* number);

// A NumPy array, or what shows itself as one.
bool is_array(PyObject* object);
// ValueError where an integer dtype can't hold the number.
void check_fits(const char* op, const ops::Number& number, DType dtype);

// An argument that may be a tensor or a number. to_pair makes tensors of both, a number taking the tensor's dtype.
struct Operand {
  Tensor tensor;
  ops::Number number;
  bool is_number() const { return !tensor.defined(); }
};
std::pair<Tensor, Tensor> to_pair(const char* op, const Operand& a, const Operand& b, bool compares = false);

DType as_dtype(py::handle object);  // pydl, NumPy and Python types, names
py::object dtype_object(DType dtype);
Device as_device(py::handle object);

// An argument that may be None: then undefined.
inline Tensor or_undefined(const std::optional<Tensor>& t) { return t ? *t : Tensor(); }
inline Reduction as_reduction(const char* op, const std::string& name) {
  if (name == "none") return Reduction::none;
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  throw ValueError(text("[", op, "] got reduction '", name, "', expected 'none', 'mean' or 'sum'"));
}

// The Python function behind a hook, borrowed; null where it is none.
PyObject* python_function(const autograd::Hook& hook);

// Sets the Python error of the C++ exception in flight.
void translate_exception();

void bind_tensor_type(py::module_& m);

}  // namespace pydl::python

namespace pybind11::detail {

template <>
struct type_caster<pydl::Tensor> {
  PYBIND11_TYPE_CASTER(pydl::Tensor, const_name("Tensor"));
  bool load(handle src, bool) {
    if (!pydl::python::is_tensor(src.ptr()))
      throw pydl::TypeError(pydl::text("[argument] expected a tensor, got ", Py_TYPE(src.ptr())->tp_name,
                                       src.is_none() ? "" : "; convert it with pydl.asarray"));
    value = pydl::python::unwrap(src.ptr());
    return true;
  }
  static handle cast(const pydl::Tensor& t, return_value_policy, handle) { return pydl::python::wrap(t); }
};

template <>
struct type_caster<pydl::python::Operand> {
  PYBIND11_TYPE_CASTER(pydl::python::Operand, const_name("Tensor | float"));
  bool load(handle src, bool) {
    if (pydl::python::is_tensor(src.ptr())) {
      value.tensor = pydl::python::unwrap(src.ptr());
      return true;
    }
    if (pydl::python::as_number(src.ptr(), &value.number)) return true;
    if (!pydl::python::is_array(src.ptr())) return false;
    value.tensor = module_::import("pydl").attr("asarray")(src).cast<pydl::Tensor>();
    return true;
  }
};

template <>
struct type_caster<pydl::ops::Number> {
  PYBIND11_TYPE_CASTER(pydl::ops::Number, const_name("float"));
  bool load(handle src, bool) {
    if (pydl::python::is_tensor(src.ptr()) && pydl::python::unwrap(src.ptr()).count() == 1) {
      value = pydl::ops::item(pydl::python::unwrap(src.ptr()));
      return true;
    }
    return pydl::python::as_number(src.ptr(), &value);
  }
};

template <>
struct type_caster<pydl::DType> {
  PYBIND11_TYPE_CASTER(pydl::DType, io_name("typing.Any", "DType"));
  bool load(handle src, bool) {
    value = pydl::python::as_dtype(src);
    return true;
  }
  static handle cast(pydl::DType t, return_value_policy, handle) { return pydl::python::dtype_object(t).release(); }
};

// A shape or a list of axes: an int or a sequence of ints; None is the empty list.
template <>
struct type_caster<pydl::Dims> {
  PYBIND11_TYPE_CASTER(pydl::Dims, io_name("int | collections.abc.Sequence[int] | None", "tuple[int, ...]"));
  bool load(handle src, bool) {
    if (src.is_none()) return true;
    if (PyIndex_Check(src.ptr()) && !PyBool_Check(src.ptr())) {
      value.push_back(as_index(src.ptr()));
      return true;
    }
    if (!PySequence_Check(src.ptr()) || PyUnicode_Check(src.ptr())) return false;
    const Py_ssize_t n = PySequence_Size(src.ptr());
    for (Py_ssize_t i = 0; i < n; ++i) {
      object item = reinterpret_steal<object>(PySequence_GetItem(src.ptr(), i));
      if (!item || !PyIndex_Check(item.ptr()) || PyBool_Check(item.ptr())) {
        PyErr_Clear();
        return false;
      }
      value.push_back(as_index(item.ptr()));
    }
    return true;
  }
  static handle cast(const pydl::Dims& d, return_value_policy, handle) {
    tuple out(static_cast<size_t>(d.size()));
    for (int i = 0; i < d.size(); ++i) out[static_cast<size_t>(i)] = int_(d[i]);
    return out.release();
  }

 private:
  static int64_t as_index(PyObject* object) {
    const Py_ssize_t v = PyNumber_AsSsize_t(object, PyExc_IndexError);
    if (v == -1 && PyErr_Occurred()) throw error_already_set();
    return v;
  }
};

}  // namespace pybind11::detail
