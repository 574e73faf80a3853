// SmallVector<T, N>: a vector whose first N elements live inside the object. For the few inputs of an op.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <new>
#include <type_traits>
#include <utility>

namespace pydl {

template <class T, size_t N>
class SmallVector {
 public:
  SmallVector() = default;
  explicit SmallVector(size_t count) {
    reserve(count);
    while (size_ < count) emplace_back();
  }
  SmallVector(std::initializer_list<T> items) {
    reserve(items.size());
    for (const T& item : items) emplace_back(item);
  }
  SmallVector(const SmallVector& other) {
    reserve(other.size_);
    for (const T& item : other) emplace_back(item);
  }
  SmallVector(SmallVector&& other) noexcept { take(other); }
  SmallVector& operator=(SmallVector other) noexcept {
    clear();
    take(other);
    return *this;
  }
  ~SmallVector() { clear(); }

  template <class... A>
  T& emplace_back(A&&... a) {
    if (size_ == capacity_) reserve(capacity_ * 2);
    if constexpr (sizeof...(A) == 0 && !std::is_trivially_default_constructible<T>::value)
      return *new (data_ + size_++) T;  // T() would fill all of its memory with zeros first
    else
      return *new (data_ + size_++) T(std::forward<A>(a)...);
  }
  void push_back(T item) { emplace_back(std::move(item)); }
  void pop_back() { data_[--size_].~T(); }
  T& back() { return data_[size_ - 1]; }
  void reserve(size_t count) {
    if (count <= capacity_) return;
    T* grown = static_cast<T*>(::operator new(count * sizeof(T)));
    for (size_t i = 0; i < size_; ++i) {
      new (grown + i) T(std::move(data_[i]));
      data_[i].~T();
    }
    if (data_ != inline_data()) ::operator delete(data_);
    data_ = grown;
    capacity_ = count;
  }
  void clear() {
    for (size_t i = 0; i < size_; ++i) data_[i].~T();
    if (data_ != inline_data()) ::operator delete(data_);
    data_ = inline_data();
    size_ = 0;
    capacity_ = N;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* inline_data() { return reinterpret_cast<T*>(buffer_); }
  void take(SmallVector& other) {
    if (other.data_ == other.inline_data()) {
      for (size_t i = 0; i < other.size_; ++i) new (inline_data() + i) T(std::move(other.data_[i]));
      size_ = other.size_;
      other.clear();
    } else {
      data_ = std::exchange(other.data_, other.inline_data());
      size_ = std::exchange(other.size_, 0);
      capacity_ = std::exchange(other.capacity_, N);
    }
  }

  alignas(T) unsigned char buffer_[N * sizeof(T)];
  T* data_ = inline_data();
  size_t size_ = 0;
  size_t capacity_ = N;
};

}  // namespace pydl
