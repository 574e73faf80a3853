// Small host arrays that a kernel's arguments point at (window tables, maps), in one upload.
#pragma once
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

class Tables {
 public:
  static constexpr int kMost = 16;
  explicit Tables(Exec& exec) : exec_(exec) {}
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;
  ~Tables() {
    if (device_) cuda::deallocate(device_, bytes(), stream_of(exec_));
  }
  // Notes that *pointer, to `count` values of eight bytes on the host, is to point at the device's copy.
  template <class T>
  void add(const T** pointer, int64_t count) {
    static_assert(sizeof(T) == 8, "one kind of slot");
    if (*pointer == nullptr) return;
    entries_[entries_used_++] = {reinterpret_cast<const void**>(pointer), *pointer, total_, count};
    total_ += count;
  }
  // False where there is no memory, with the error kept.
  bool upload() {
    Scratch<int64_t> staged(exec_, total_);
    for (int i = 0; i < entries_used_; ++i)
      if (entries_[i].count > 0)
        __builtin_memcpy(staged + entries_[i].at, entries_[i].host, static_cast<size_t>(entries_[i].count) * 8);
    device_ = static_cast<int64_t*>(cuda::allocate(bytes(), stream_of(exec_)));
    if (device_ == nullptr) return false;
    cuda::copy_to_device(device_, staged.get(), bytes(), stream_of(exec_));
    for (int i = 0; i < entries_used_; ++i) *entries_[i].pointer = device_ + entries_[i].at;
    return true;
  }

 private:
  struct Entry {
    const void** pointer;
    const void* host;
    int64_t at, count;
  };
  size_t bytes() const { return static_cast<size_t>(total_) * 8; }
  Exec& exec_;
  int64_t* device_ = nullptr;
  Entry entries_[kMost];
  int entries_used_ = 0;
  int64_t total_ = 0;
};

}  // namespace
}  // namespace pydl
