#include "core/tensor.h"

#include <sys/mman.h>

#include <cstring>
#include <ostream>

#include "core/allocator.h"

namespace pydl {

const char* dtype_name(DType t) {
  static const char* const names[kNumDTypes] = {"bool",   "uint8", "int8",    "uint16",   "int16",   "uint32", "int32",
                                                "uint64", "int64", "float16", "bfloat16", "float32", "float64"};
  return names[static_cast<int>(t)];
}
std::ostream& operator<<(std::ostream& out, DType t) { return out << dtype_name(t); }

static void* allocate_on(Device device, size_t bytes) {
  void* data = require_device_hooks().allocate(device.index, bytes);
  check_device_error("memory");
  return data;
}

static constexpr size_t kSmallestMapping = 1 << 20;

Ref<Storage> Storage::allocate(size_t bytes, Device device) {
  void* data = device.is_cpu() ? pydl::allocate(bytes) : allocate_on(device, bytes);
  Ref<Storage> s(new Storage);
  s->data = data;
  s->bytes = bytes;
  s->device = device;
  return s;
}

Ref<Storage> Storage::zeros_on_demand(size_t bytes) {
  struct Mapping {
    void* start;
    size_t bytes;
  };
  void* start = bytes < kSmallestMapping
                    ? MAP_FAILED
                    : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    Ref<Storage> s = allocate(bytes, Device{});
    std::memset(s->data, 0, bytes);
    return s;
  }
#ifdef MADV_NOHUGEPAGE
  madvise(start, bytes, MADV_NOHUGEPAGE);  // one row must not cost 2 MB
#endif
  const auto unmap = [](void* owner) {
    Mapping* mapping = static_cast<Mapping*>(owner);
    munmap(mapping->start, mapping->bytes);
    delete mapping;
  };
  return borrow(start, bytes, true, unmap, new Mapping{start, bytes});
}

Ref<Storage> Storage::borrow(void* data, size_t bytes, bool writable, void (*deleter)(void*), void* owner) {
  Ref<Storage> s(new Storage);
  s->data = data;
  s->bytes = bytes;
  s->writable = writable;
  s->deleter_ = deleter;
  s->owner_ = owner;
  return s;
}

void Storage::destroy(Storage* s) {
  if (s->deleter_)
    s->deleter_(s->owner_);
  else if (!s->device.is_cpu())
    require_device_hooks().deallocate(s->device.index, s->data, s->bytes);
  else
    pydl::deallocate(s->data, s->bytes);
  delete s;
}

void* Storage::operator new(size_t bytes) { return pydl::allocate(bytes); }
void Storage::operator delete(void* p) { pydl::deallocate(p, sizeof(Storage)); }
void* TensorImpl::operator new(size_t bytes) { return pydl::allocate(bytes); }
void TensorImpl::operator delete(void* p) { pydl::deallocate(p, sizeof(TensorImpl)); }
void TensorImpl::destroy(TensorImpl* t) { delete t; }

Tensor Tensor::empty(const Dims& shape, DType dtype, Device device) {
  Ref<TensorImpl> impl(new TensorImpl);
  impl->shape = shape;
  impl->count = element_count(shape);
  impl->strides = contiguous_strides(shape);
  impl->dtype = dtype;
  impl->storage = Storage::allocate(static_cast<size_t>(impl->count) * item_size(dtype), device);
  return Tensor(std::move(impl));
}

Tensor Tensor::empty_channels_last(const Dims& shape, DType dtype, Device device) {
  const size_t bytes = static_cast<size_t>(element_count(shape)) * item_size(dtype);
  return from_storage(Storage::allocate(bytes, device), 0, shape, channels_last_strides(shape), dtype);
}

static bool is_contiguous(const Dims& shape, const Dims& strides) {
  int64_t step = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

Tensor Tensor::from_storage(Ref<Storage> storage, int64_t offset, const Dims& shape, const Dims& strides, DType dtype) {
  Ref<TensorImpl> impl(new TensorImpl);
  impl->shape = shape;
  impl->count = element_count(shape);
  impl->strides = strides;
  impl->offset = offset;
  impl->dtype = dtype;
  impl->contiguous = is_contiguous(shape, strides);
  impl->rebased = storage->rebased;
  impl->storage = std::move(storage);
  return Tensor(std::move(impl));
}

Tensor Tensor::empty_like(const Tensor& x, DType dtype) {
  if (x.contiguous() || !x.is_dense()) return empty(x.shape(), dtype, x.device());
  const size_t bytes = static_cast<size_t>(x.count()) * item_size(dtype);
  return from_storage(Storage::allocate(bytes, x.device()), 0, x.shape(), x.strides(), dtype);
}

bool Tensor::is_channels_last() const {
  if (ndim() < 3 || count() == 0) return false;
  const Dims dense = channels_last_strides(shape());
  for (int i = 0; i < ndim(); ++i)
    if (shape()[i] != 1 && strides()[i] != dense[i]) return false;
  return true;
}

bool Tensor::is_dense() const {
  int64_t dense = 1;  // the stride that the next axis out has to have
  uint64_t met = 0;
  for (int left = ndim(); left > 0; --left) {
    int inner = -1;
    for (int i = 0; i < ndim() && inner < 0; ++i)
      if (!(met >> i & 1) && (shape()[i] == 1 || strides()[i] == dense)) inner = i;
    if (inner < 0) return false;
    met |= uint64_t{1} << inner;
    dense *= shape()[inner];
  }
  return true;
}

bool share_memory(const Tensor& a, const Tensor& b) {
  if (a.count() == 0 || b.count() == 0) return false;
  const auto end_of = [](const Tensor& x, bool high) {
    int64_t at = high ? 1 : 0;
    for (int i = 0; i < x.ndim(); ++i)
      if ((x.stride(i) > 0) == high) at += x.stride(i) * (x.size(i) - 1);
    return reinterpret_cast<uintptr_t>(x.bytes() + at * static_cast<int64_t>(item_size(x.dtype())));
  };
  return end_of(a, false) < end_of(b, true) && end_of(b, false) < end_of(a, true);
}

Tensor Tensor::view(const Dims& shape, const Dims& strides, int64_t offset) const {
  Tensor out = from_storage(impl_->storage, offset, shape, strides, impl_->dtype);
  out.impl_->is_view = true;
  return out;
}

}  // namespace pydl
