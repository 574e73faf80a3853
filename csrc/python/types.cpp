// dtypes, devices and errors as Python sees them.
#include <atomic>

#include "autograd/node.h"
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

struct DTypeObject {
  DType dtype;
};
PyObject* g_dtypes[kNumDTypes];  // one object per dtype, for identity
PyObject* g_autograd_error = nullptr;

}  // namespace

py::object dtype_object(DType dtype) { return py::reinterpret_borrow<py::object>(g_dtypes[static_cast<int>(dtype)]); }

DType as_dtype(py::handle object) {
  if (py::isinstance<DTypeObject>(object)) return object.cast<const DTypeObject&>().dtype;
  if (object.ptr() == reinterpret_cast<PyObject*>(&PyFloat_Type)) return ops::default_dtype();
  if (object.ptr() == reinterpret_cast<PyObject*>(&PyBool_Type)) return DType::boolean;
  if (object.ptr() == reinterpret_cast<PyObject*>(&PyLong_Type)) return DType::int64;
  std::string name;
  if (py::isinstance<py::str>(object))
    name = object.cast<std::string>();
  else if (py::hasattr(object, "name"))  // numpy.dtype
    name = py::str(object.attr("name"));
  else if (py::hasattr(object, "__name__"))  // numpy.float32
    name = py::str(object.attr("__name__"));
  if (name == "bool_") name = "bool";
  for (int i = 0; i < kNumDTypes; ++i)
    if (name == dtype_name(static_cast<DType>(i))) return static_cast<DType>(i);
  throw TypeError(
      text("[dtype] ", py::repr(object).cast<std::string>(), " is no dtype of pydl; expected one like pydl.float32"));
}

static std::atomic<Device> g_default_device{Device{}};

// Loads the CUDA module when it is first asked for; raises why there is no device.
static Device cuda_device(const std::string& name) {
  int count = device_hooks() ? device_hooks()->count() : 0;
  if (count == 0) {
    py::module_::import("pydl.cuda").attr("_load")(name);
    count = require_device_hooks().count();
  }
  const std::string digits = name.size() > 5 ? name.substr(5) : "0";
  const bool number = !digits.empty() && digits.size() < 4 &&
                      digits.find_first_not_of("0123456789") == std::string::npos && name != "cuda:";
  const int index = number ? std::stoi(digits) : -1;
  if (index < 0 || index >= count)
    throw ValueError(text("[device] got '", name, "', but there ", count == 1 ? "is 1 CUDA device" : "are ",
                          count == 1 ? "" : text(count, " CUDA devices"), ", counted from cuda:0"));
  return Device{DeviceKind::cuda, static_cast<int8_t>(index)};
}

Device as_device(py::handle object) {
  if (object.is_none()) return g_default_device.load(std::memory_order_relaxed);
  if (py::isinstance<Device>(object)) return object.cast<Device>();
  if (py::isinstance<py::str>(object)) {
    const std::string name = object.cast<std::string>();
    if (name == "cpu" || name == "cpu:0") return Device{};
    if (name == "cuda" || name.rfind("cuda:", 0) == 0) return cuda_device(name);
  }
  if (PyLong_CheckExact(object.ptr())) return cuda_device(text("cuda:", object.cast<int>()));
  throw ValueError(text("[device] ", py::repr(object).cast<std::string>(),
                        " is no device; expected 'cpu', 'cuda' or one of several as 'cuda:1'"));
}

void translate_exception() {
  try {
    throw;
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const autograd::AutogradError& e) {
    PyErr_SetString(g_autograd_error, e.what());
  } catch (const ValueError& e) {
    PyErr_SetString(PyExc_ValueError, e.what());
  } catch (const TypeError& e) {
    PyErr_SetString(PyExc_TypeError, e.what());
  } catch (const IndexError& e) {
    PyErr_SetString(PyExc_IndexError, e.what());
  } catch (const NotImplemented& e) {
    PyErr_SetString(PyExc_NotImplementedError, e.what());
  } catch (const OutOfMemory& e) {
    PyErr_SetString(PyExc_MemoryError, e.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "out of memory");
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
}

void bind_types(py::module_& m) {
  py::object bases = py::make_tuple(py::handle(PyExc_ValueError), py::handle(PyExc_RuntimeError));
  g_autograd_error =
      PyErr_NewExceptionWithDoc("pydl.AutogradError", "A misuse of the gradient graph.", bases.ptr(), nullptr);
  m.attr("AutogradError") = py::handle(g_autograd_error);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error&) {
      translate_exception();
    }
  });

  py::class_<DTypeObject>(m, "DType", "The type of a tensor's elements: pydl.float32 and its kin.")
      .def_property_readonly(
          "name", [](const DTypeObject& d) { return dtype_name(d.dtype); }, "Its name, as in NumPy.")
      .def_property_readonly(
          "itemsize", [](const DTypeObject& d) { return item_size(d.dtype); }, "Bytes per element.")
      .def_property_readonly("is_floating_point", [](const DTypeObject& d) { return is_float(d.dtype); })
      .def("__repr__", [](const DTypeObject& d) { return std::string("pydl.") + dtype_name(d.dtype); })
      .def("__hash__", [](const DTypeObject& d) { return static_cast<int>(d.dtype); })
      .def("__eq__",
           [](const DTypeObject& d, py::handle other) {
             if (other.is_none()) return false;
             try {
               return as_dtype(other) == d.dtype;
             } catch (const TypeError&) {
               return false;
             }
           })
      .def("__reduce__", [](const DTypeObject& d) -> py::tuple {
        return py::make_tuple(py::module_::import("pydl._C").attr("_dtype"), py::make_tuple(dtype_name(d.dtype)));
      });
  for (int i = 0; i < kNumDTypes; ++i) {
    const DType t = static_cast<DType>(i);
    py::object object = py::cast(DTypeObject{t});
    g_dtypes[i] = object.inc_ref().ptr();
    m.attr(t == DType::boolean ? "bool_" : dtype_name(t)) = object;
  }
  m.def("_dtype", [](DType dtype) { return dtype; });

  py::class_<Device>(m, "Device", "Where a tensor's elements are.")
      .def(py::init([](py::object spec) { return as_device(spec); }), py::arg("spec") = "cpu")
      .def_property_readonly("type", [](Device d) { return d.kind == DeviceKind::cpu ? "cpu" : "cuda"; })
      .def_property_readonly(
          "index",
          [](Device d) { return d.kind == DeviceKind::cpu ? py::object(py::none()) : py::object(py::int_(d.index)); })
      .def("__repr__", [](Device d) { return text("device('", d, "')"); })
      .def("__str__", [](Device d) { return text(d); })
      .def("__hash__", [](Device d) { return static_cast<int>(d.kind) * 256 + d.index; })
      .def("__eq__", [](Device d, py::handle other) {
        if (py::isinstance<py::str>(other)) {
          const std::string name = other.cast<std::string>();
          return name == text(d) || (name == "cuda" && d == Device{DeviceKind::cuda, 0});
        }
        return py::isinstance<Device>(other) && other.cast<Device>() == d;
      });
  m.def(
      "set_default_device",
      [](const py::object& device) { g_default_device.store(device.is_none() ? Device{} : as_device(device)); },
      "device"_a);
  m.def("get_default_device", [] { return g_default_device.load(); });
}

}  // namespace pydl::python
