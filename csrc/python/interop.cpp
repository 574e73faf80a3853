// Memory shared with others: NumPy and the buffer protocol on the way in, __array_interface__ and DLPack on the way
// out.
#include <cstring>
#include <string_view>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

// DLPack 1.0's structs (dmlc/dlpack, include/dlpack/dlpack.h): the wire format, unversioned form.
struct DLDevice {
  int32_t type;
  int32_t id;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* manager;
  void (*deleter)(DLManagedTensor*);
};
constexpr uint8_t kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6;

DLDataType dl_dtype(DType t) {
  const uint8_t bits = static_cast<uint8_t>(item_size(t) * 8);
  if (t == DType::boolean) return {kDLBool, 8, 1};
  if (t == DType::bfloat16) return {kDLBfloat, 16, 1};
  if (is_float(t)) return {kDLFloat, bits, 1};
  return {is_signed(t) ? kDLInt : kDLUInt, bits, 1};
}

DType from_dl_dtype(DLDataType d) {
  if (d.lanes == 1)
    for (int i = 0; i < kNumDTypes; ++i) {
      const DLDataType mine = dl_dtype(static_cast<DType>(i));
      if (mine.code == d.code && mine.bits == d.bits) return static_cast<DType>(i);
    }
  throw TypeError(text("[from_dlpack] dtype code ", int(d.code), " with ", int(d.bits), " bits is not supported"));
}

py::capsule to_dlpack(const Tensor& x) {
  if (autograd::requires_grad(x))
    throw autograd::AutogradError("[__dlpack__] the tensor requires a gradient; use detach() first");
  if (!x.storage().writable)
    throw py::buffer_error("[__dlpack__] the memory is read-only, which DLPack can't say; copy it first");
  if (!x.device().is_cpu()) {  // the taker's stream is not ours: what was issued is waited for
    require_device_hooks().synchronize(x.device().index);
    check_device_error("__dlpack__");
  }
  struct Holder {
    DLManagedTensor managed;
    Tensor tensor;
    int64_t shape[kMaxRank], strides[kMaxRank];
  };
  auto* h = new Holder;
  h->tensor = x;
  for (int i = 0; i < x.ndim(); ++i) {
    h->shape[i] = x.size(i);
    h->strides[i] = x.stride(i);
  }
  x.storage().exported = true;
  const int32_t kind = x.device().is_cpu() ? 1 : 2;  // kDLCPU, kDLCUDA
  h->managed = {{x.bytes(), {kind, x.device().index}, x.ndim(), dl_dtype(x.dtype()), h->shape, h->strides, 0},
                h,
                [](DLManagedTensor* m) { delete static_cast<Holder*>(m->manager); }};
  return py::capsule(&h->managed, "dltensor", [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // taken over
    auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    m->deleter(m);
  });
}

Tensor from_dlpack(const py::object& capsule) {
  auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!m) throw py::error_already_set();
  if (m->tensor.device.type != 1)
    throw ValueError("[from_dlpack] only memory of the CPU can be taken over; copy it there first");
  const DType dtype = from_dl_dtype(m->tensor.dtype);
  Dims shape, strides;
  int64_t low = 0, high = 0;
  for (int i = 0; i < m->tensor.ndim; ++i) shape.push_back(m->tensor.shape[i]);
  strides = contiguous_strides(shape);
  if (m->tensor.strides)
    for (int i = 0; i < m->tensor.ndim; ++i) strides[i] = m->tensor.strides[i];
  for (int i = 0; i < shape.size(); ++i)
    if (shape[i] > 0) (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  Ref<Storage> storage = Storage::borrow(
      static_cast<char*>(m->tensor.data) + m->tensor.byte_offset + low * static_cast<int64_t>(item_size(dtype)),
      static_cast<size_t>(high - low + 1) * item_size(dtype), true,
      [](void* owner) {
        auto* managed = static_cast<DLManagedTensor*>(owner);
        if (managed->deleter) managed->deleter(managed);
      },
      m);
  return Tensor::from_storage(std::move(storage), -low, shape, strides, dtype);
}

// Memory given by address: what numpy's __array_interface__ says. `owner` stays alive as long as the tensor.
Tensor from_address(uintptr_t address, const Dims& shape, const Dims& byte_strides, DType dtype, bool writable,
                    py::object owner) {
  const int64_t item = static_cast<int64_t>(item_size(dtype));
  Dims strides = byte_strides;
  int64_t low = 0, high = 0;
  for (int i = 0; i < strides.size(); ++i) {
    if (strides[i] % item != 0)
      throw ValueError("[asarray] the array's strides are no multiples of its element size; copy it first");
    strides[i] /= item;
    if (shape[i] > 0) (strides[i] < 0 ? low : high) += (shape[i] - 1) * strides[i];
  }
  if (address % static_cast<uintptr_t>(item) != 0)
    throw ValueError("[asarray] the array's memory is not aligned; copy it first");
  char* start = reinterpret_cast<char*>(address) + low * item;
  Ref<Storage> storage = Storage::borrow(
      start, static_cast<size_t>((high - low + 1) * item), writable,
      [](void* object) {
        if (!Py_IsInitialized()) return;
        py::gil_scoped_acquire gil;
        Py_DECREF(static_cast<PyObject*>(object));
      },
      owner.release().ptr());
  return Tensor::from_storage(std::move(storage), -low, shape, strides, dtype);
}

}  // namespace

void bind_interop(py::module_& m) {
  m.def(
      "is_writable", [](const Tensor& x) { return x.storage().writable; }, "x"_a);
  m.def(
      "memory",
      [](const Tensor& x) {
        if (!x.contiguous()) throw ValueError("[memory] the tensor must be contiguous");
        const Tensor here = ops::on_host(x);
        return py::bytes(here.bytes(), static_cast<size_t>(x.count()) * item_size(x.dtype()));
      },
      "x"_a, "The bytes of a contiguous tensor.");
  m.def(
      "set_memory",
      [](const Tensor& x, const py::bytes& data) {
        const std::string_view bytes = data;
        if (!x.contiguous() || bytes.size() != static_cast<size_t>(x.count()) * item_size(x.dtype()))
          throw ValueError(text("[set_memory] got ", bytes.size(), " bytes for shape ", x.shape(), " of ", x.dtype()));
        if (x.device().is_cpu())
          std::memcpy(x.bytes(), bytes.data(), bytes.size());
        else
          copy_across(x.device(), x.bytes(), Device{}, bytes.data(), bytes.size(), "set_memory");
        autograd::note_inplace(x);
      },
      "x"_a, "data"_a);
  m.def("to_dlpack", &to_dlpack, "x"_a);
  m.def("from_dlpack", &from_dlpack, "capsule"_a);
  m.def("from_address", &from_address, "address"_a, "shape"_a, "byte_strides"_a, "dtype"_a, "writable"_a, "owner"_a);
}

}  // namespace pydl::python
