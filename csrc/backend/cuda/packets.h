// Element-wise maps in packets of 16 bytes where memory and shape allow it, else one by one; places are divided in 32
// bits where they fit.
#pragma once
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

// A vector of 16 bytes.
template <class T>
struct alignas(16) Packet {
  static constexpr int kSize = static_cast<int>(16 / sizeof(T));
  T v[kSize];
};
template <class T, int size>
struct alignas(size * sizeof(T)) Run {
  T v[size];
};

template <int size, class T>
__device__ Run<T, size> load_run(const T* p) {
  return *reinterpret_cast<const Run<T, size>*>(p);
}
template <int size, class T>
__device__ void store_run(T* p, const Run<T, size>& values) {
  *reinterpret_cast<Run<T, size>*>(p) = values;
}

// body.template at<size>(first): elements first ... first + size - 1; Index is what it counts in.
template <int size, class Index, class Body>
__global__ void __launch_bounds__(kBlock) map_runs(Body body, int64_t runs) {
  PYDL_CUDA_LOOP(i, runs) body.template at<size>(static_cast<Index>(i) * static_cast<Index>(size));
}

// unit: each run of this many elements is treated alike, so a packet may not cross its end. Pointers: all that are
// used.
template <class T, class Body, class... Pointers>
void map_elements(Exec& exec, int64_t count, int64_t unit, const Body& body, const Pointers*... pointers) {
  constexpr int size = Packet<T>::kSize;
  if (count <= 0) return;
  const bool narrow = count < int64_t{1} << 31;
  const bool wide = unit % size == 0 && ((reinterpret_cast<uintptr_t>(pointers) | ...) & 15u) == 0;
  const int64_t runs = wide ? count / size : count;
  if (wide && narrow)
    PYDL_CUDA_LAUNCH((map_runs<size, uint32_t, Body>), grid_for(runs), kBlock, 0, exec, body, runs);
  else if (wide)
    PYDL_CUDA_LAUNCH((map_runs<size, int64_t, Body>), grid_for(runs), kBlock, 0, exec, body, runs);
  else if (narrow)
    PYDL_CUDA_LAUNCH((map_runs<1, uint32_t, Body>), grid_for(runs), kBlock, 0, exec, body, runs);
  else
    PYDL_CUDA_LAUNCH((map_runs<1, int64_t, Body>), grid_for(runs), kBlock, 0, exec, body, runs);
}

}  // namespace
}  // namespace pydl
