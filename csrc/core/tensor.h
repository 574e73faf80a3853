// Tensor: a counted handle to a typed, strided view of a Storage. It knows nothing of operations; what autograd keeps
// with a tensor hangs on it as an opaque AutogradMetaBase.
#pragma once
#include <memory>

#include "core/device.h"
#include "core/ref.h"
#include "core/shape.h"

namespace pydl {

const char* dtype_name(DType t);
std::ostream& operator<<(std::ostream& out, DType t);

// A block of memory, ours or borrowed, shared by all views of it. `version` counts changes in place, `rebased` those
// that autograd recorded: a view older than that has a stale history.
class Storage : public RefCounted {
 public:
  static Ref<Storage> allocate(size_t bytes, Device device);
  // Zeros of which the system makes a page when it is first touched: for large memory of which little is used.
  static Ref<Storage> zeros_on_demand(size_t bytes);
  static Ref<Storage> borrow(void* data, size_t bytes, bool writable, void (*deleter)(void*), void* owner);
  static void destroy(Storage* s);

  void* data = nullptr;
  size_t bytes = 0;
  Device device;
  bool writable = true;
  bool exported = false;  // NumPy or another library was given the memory: it may be written to unnoticed
  uint32_t version = 0;
  uint32_t rebased = 0;

  static void* operator new(size_t bytes);
  static void operator delete(void* p);

 private:
  void (*deleter_)(void*) = nullptr;
  void* owner_ = nullptr;
};

struct AutogradMetaBase {
  virtual ~AutogradMetaBase() = default;
};

// How an op made a tensor, where another op can profit from knowing it. Each op derives its own. It says nothing any
// more once the memory was changed (Storage::version) or exported.
struct Origin {
  virtual ~Origin() = default;
};

class TensorImpl : public RefCounted {
 public:
  Ref<Storage> storage;
  int64_t offset = 0;  // in elements
  Dims shape, strides;
  int64_t count = 1;
  DType dtype = DType::float32;
  bool contiguous = true;
  bool is_view = false;  // made from another tensor that lives on
  uint32_t rebased = 0;  // storage->rebased when this view was made
  std::unique_ptr<AutogradMetaBase> autograd;
  std::unique_ptr<Origin> origin;
  void* python = nullptr;  // the living Python object of this tensor, borrowed

  static void destroy(TensorImpl* t);
  static void* operator new(size_t bytes);
  static void operator delete(void* p);
};

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}
  // Uninitialized, contiguous.
  static Tensor empty(const Dims& shape, DType dtype, Device device);
  static Tensor empty_channels_last(const Dims& shape, DType dtype, Device device);
  // Of x's shape and device, its axes in the order in which x's lie in memory: contiguous where x is, or is not dense.
  static Tensor empty_like(const Tensor& x, DType dtype);
  static Tensor from_storage(Ref<Storage> storage, int64_t offset, const Dims& shape, const Dims& strides, DType dtype);
  // Another view of the same storage, without history.
  Tensor view(const Dims& shape, const Dims& strides, int64_t offset) const;
  Tensor alias() const { return view(shape(), strides(), impl_->offset); }

  bool defined() const { return static_cast<bool>(impl_); }
  explicit operator bool() const { return defined(); }
  const Dims& shape() const { return impl_->shape; }
  const Dims& strides() const { return impl_->strides; }
  int64_t size(int axis) const { return impl_->shape[axis < 0 ? axis + ndim() : axis]; }
  int64_t stride(int axis) const { return impl_->strides[axis < 0 ? axis + ndim() : axis]; }
  int ndim() const { return impl_->shape.size(); }
  int64_t count() const { return impl_->count; }
  int64_t offset() const { return impl_->offset; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->storage->device; }
  bool contiguous() const { return impl_->contiguous; }
  // Dense (N, *spatial, C) memory under the shape (N, C, *spatial), and not contiguous as well.
  bool channels_last() const { return !impl_->contiguous && is_channels_last(); }
  // Whether the elements fill a stretch of memory, in whatever order of axes.
  bool dense() const { return impl_->contiguous || is_dense(); }
  Storage& storage() const { return *impl_->storage; }
  TensorImpl* impl() const { return impl_.get(); }
  const Ref<TensorImpl>& ref() const { return impl_; }
  char* bytes() const {
    return static_cast<char*>(impl_->storage->data) + impl_->offset * static_cast<int64_t>(item_size(impl_->dtype));
  }
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(bytes());
  }

 private:
  bool is_channels_last() const;
  bool is_dense() const;
  Ref<TensorImpl> impl_;
};

// Whether the memory between a's first and last element meets b's, be it through other storages.
bool share_memory(const Tensor& a, const Tensor& b);

}  // namespace pydl
