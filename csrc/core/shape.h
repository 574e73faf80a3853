// Dims: up to kMaxRank sizes, strides or axes, held inline. Shape arithmetic that needs no tensor: broadcasting, axes.
#pragma once
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace pydl {

class Dims {
 public:
  Dims() {}  // not defaulted, or Dims() would fill the array first
  Dims(std::initializer_list<int64_t> items) {
    for (int64_t item : items) push_back(item);
  }
  Dims(const Dims& o) : size_(o.size_) {
    for (int i = 0; i < size_; ++i) d_[i] = o.d_[i];
  }
  Dims& operator=(const Dims& o) {
    size_ = o.size_;
    for (int i = 0; i < size_; ++i) d_[i] = o.d_[i];
    return *this;
  }
  static Dims filled(int count, int64_t value) {
    Dims out;
    for (int i = 0; i < count; ++i) out.push_back(value);
    return out;
  }

  int size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t operator[](int i) const { return d_[i]; }
  int64_t& operator[](int i) { return d_[i]; }
  int64_t back() const { return d_[size_ - 1]; }
  void push_back(int64_t v) {
    if (size_ == kMaxRank)
      throw ValueError(text("[shape] got more than ", kMaxRank, " axes, which is the most that a tensor has"));
    d_[size_++] = v;
  }
  void pop_back() { --size_; }
  void insert(int at, int64_t v) {
    push_back(v);
    for (int i = size_ - 1; i > at; --i) std::swap(d_[i], d_[i - 1]);
  }
  void erase(int at) {
    for (int i = at; i + 1 < size_; ++i) d_[i] = d_[i + 1];
    --size_;
  }
  const int64_t* begin() const { return d_; }
  const int64_t* end() const { return d_ + size_; }
  bool operator==(const Dims& o) const {
    if (size_ != o.size_) return false;
    for (int i = 0; i < size_; ++i)
      if (d_[i] != o.d_[i]) return false;
    return true;
  }
  bool operator!=(const Dims& o) const { return !(*this == o); }

 private:
  int size_ = 0;
  int64_t d_[kMaxRank];
};

std::string to_string(const Dims& shape);  // "(2, 3)"
std::ostream& operator<<(std::ostream& out, const Dims& shape);

int64_t element_count(const Dims& shape);    // checks overflow
Dims contiguous_strides(const Dims& shape);  // in elements, row major
// Those of (N, C, *spatial) whose memory is a dense (N, *spatial, C): how images lie between layers. Row major ones
// where that is the same memory.
Dims channels_last_strides(const Dims& shape);
Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b);
// The axis counted from 0; negative ones count from the end. A zero-dimensional tensor takes -1 and 0.
int normalize_axis(const char* op, int64_t axis, int ndim);
// Distinct, normalized axes; an empty list means all of them.
Dims normalize_axes(const char* op, const Dims& axes, int ndim);

}  // namespace pydl
