// Exec: what a kernel may ask of its surroundings (parallel loops, scratch memory, the device's stream).
// Everything here is inline in an unnamed namespace, so that a kernel object exports nothing but its fill function.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pydl {

struct KernelTable;

struct Exec {
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  // Calls body on ranges that cover [0, n); each range starts at a multiple of grain. Which thread takes which range,
  // and how ranges are merged, is unspecified: a kernel's bits may depend on the index, never on the range's bounds.
  void (*parallel_for_fn)(Exec& exec, int64_t n, int64_t grain, Body body, void* context);
  // Per-thread bump arena, 64-byte aligned, released in reverse order. Callable inside a parallel body.
  void* (*scratch_push)(size_t bytes);
  void (*scratch_pop)(void* block);
  const KernelTable* table;
  void* stream;  // CUDA stream, null on the CPU
  int threads;   // a hint for "is it worth splitting"; must not influence the bits of a result
};

namespace {

// Of whole numbers, b > 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class F>
inline __attribute__((always_inline)) void parallel_for(Exec& exec, int64_t n, int64_t grain, F&& body) {
  if (n <= 0) return;
  if (n <= grain || exec.threads == 1) {
    body(int64_t{0}, n);
    return;
  }
  using Fn = std::remove_reference_t<F>;
  exec.parallel_for_fn(
      exec, n, grain, [](void* c, int64_t b, int64_t e) { (*static_cast<Fn*>(c))(b, e); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

template <class T>
class Scratch {
 public:
  Scratch(Exec& exec, int64_t count)
      : exec_(exec), data_(static_cast<T*>(exec.scratch_push(static_cast<size_t>(count) * sizeof(T)))) {}
  ~Scratch() { exec_.scratch_pop(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  operator T*() const { return data_; }

 private:
  Exec& exec_;
  T* data_;
};

}  // namespace
}  // namespace pydl
