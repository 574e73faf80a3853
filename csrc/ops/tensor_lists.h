// Lists of tensors on their way to the kernels that take many at once: checks, staging, one call per dtype.
#pragma once
#include <optional>
#include <vector>

#include "autograd/node.h"
#include "backend/registry.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {

using Tensors = std::vector<Tensor>;
using Group = std::vector<size_t>;  // places in the lists

// Some of a list's tensors as the kernels want them: contiguous, float32 or float64. The others go through a copy.
class Staged {
 public:
  Staged() = default;
  Staged(const Tensors& tensors, const Group& group, DType dtype) {
    if (tensors.empty()) return;
    for (size_t i : group) {
      const Tensor& t = tensors[i];
      originals_.push_back(t);
      staged_.push_back(contiguous(cast(t, dtype)));
      pointers_.push_back(staged_.back().bytes());
    }
  }
  void* const* pointers() const { return pointers_.empty() ? nullptr : pointers_.data(); }
  void write_back() const {  // what the kernel changed
    for (size_t i = 0; i < staged_.size(); ++i) {
      if (staged_[i].impl() == originals_[i].impl())
        autograd::note_inplace(originals_[i]);
      else
        copy_into(originals_[i], staged_[i]);
    }
  }

 private:
  Tensors originals_, staged_;
  std::vector<void*> pointers_;
};

inline int order_of(Device d) { return static_cast<int>(d.kind) * 256 + d.index; }
inline DType compute_dtype(DType t) { return is_half(t) ? DType::float32 : t; }

// f(dtype, group, sizes, elements in all) for the float32 tensors, half ones among them, and for the float64 ones; for
// those of each device by themselves.
template <class F>
void for_each_dtype(const Tensors& tensors, F f) {
  for (DType dtype : {DType::float32, DType::float64}) {
    std::optional<Device> next = Device{};
    while (next) {
      Group group;
      std::vector<int64_t> sizes;
      int64_t total = 0;
      const Device device = *next;
      next.reset();
      for (size_t i = 0; i < tensors.size(); ++i) {
        const Tensor& t = tensors[i];
        if (compute_dtype(t.dtype()) != dtype || t.count() == 0) continue;
        if (t.device() != device) {
          const int order = order_of(t.device());
          if (order > order_of(device) && (!next || order < order_of(*next))) next = t.device();
          continue;
        }
        group.push_back(i);
        sizes.push_back(t.count());
        total += sizes.back();
      }
      if (!group.empty()) f(dtype, group, sizes, total);
    }
  }
}

// What every kernel over many tensors is told of them.
template <class Args>
Args args_of(DType dtype, const std::vector<int64_t>& sizes) {
  Args args{};
  args.dtype = dtype;
  args.tensors = static_cast<int>(sizes.size());
  args.sizes = sizes.data();
  return args;
}

void check_floating(const char* op, const char* role, const Tensors& tensors);
void check_writable(const char* op, const Tensors& tensors);
// `others` go with params one by one.
void check_like_params(const char* op, const char* role, const Tensors& params, const Tensors& others);

}  // namespace pydl::ops
