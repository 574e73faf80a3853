#include "python/indexing.h"

namespace pydl::python {
namespace {

int64_t slice_bound(PyObject* object, bool* given) {
  *given = object != Py_None;
  if (!*given) return 0;
  if (!PyIndex_Check(object))
    throw TypeError(text("[index] slice bounds must be integers or None, got ", py::repr(object).cast<std::string>()));
  const Py_ssize_t v = PyNumber_AsSsize_t(object, nullptr);
  if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
  return v;
}

ops::Index parse_one(PyObject* item) {
  ops::Index index{};
  if (item == Py_None) {
    index.kind = ops::Index::new_axis;
  } else if (item == Py_Ellipsis) {
    index.kind = ops::Index::ellipsis;
  } else if (PySlice_Check(item)) {
    const PySliceObject* s = reinterpret_cast<PySliceObject*>(item);
    index.kind = ops::Index::slice;
    index.start = slice_bound(s->start, &index.has_start);
    index.stop = slice_bound(s->stop, &index.has_stop);
    bool has_step;
    index.step = slice_bound(s->step, &has_step);
    if (!has_step) index.step = 1;
    if (index.step == 0) throw ValueError("[index] a slice's step must not be 0");
  } else if (is_tensor(item)) {
    index.kind = ops::Index::tensor;
    index.tensor_index = unwrap(item);
  } else if (PyBool_Check(item)) {
    index.kind = ops::Index::tensor;
    index.tensor_index = ops::scalar(ops::Number{ops::Number::boolean, 0, item == Py_True}, DType::boolean);
  } else if (PyIndex_Check(item) && !is_array(item)) {
    index.kind = ops::Index::integer;
    const Py_ssize_t v = PyNumber_AsSsize_t(item, PyExc_IndexError);
    if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
    index.start = v;
  } else if (PyList_Check(item) || PyObject_HasAttrString(item, "__array__")) {
    index.kind = ops::Index::tensor;
    index.tensor_index = py::module_::import("pydl").attr("asarray")(py::handle(item)).cast<Tensor>();
    if (PyList_Check(item) && PyList_GET_SIZE(item) == 0)
      index.tensor_index = Tensor::empty({0}, DType::int64, Device{});
  } else {
    throw TypeError(text("[index] got ", py::repr(item).cast<std::string>(),
                         "; an index is an integer, a slice, None, Ellipsis, or a tensor of integers or booleans"));
  }
  return index;
}

}  // namespace

std::vector<ops::Index> parse_index(PyObject* key) {
  std::vector<ops::Index> out;
  if (!PyTuple_Check(key)) {
    out.push_back(parse_one(key));
    return out;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); ++i) out.push_back(parse_one(PyTuple_GET_ITEM(key, i)));
  return out;
}

}  // namespace pydl::python
