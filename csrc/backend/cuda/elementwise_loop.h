// The one loop of all element-wise kernels. One pass over memory, which is what bounds it: where all operands are
// contiguous, a thread moves 16 bytes of each at a time; else it finds each element's place by division.
#pragma once
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

enum class Layout : int { strided, flat, packed };  // packed: flat, and aligned for 16-byte accesses

template <class Index, int operands>
__device__ inline void places_of(const ElementwiseArgs& args, Index rest, int64_t (&at)[operands]) {
  for (int o = 0; o < operands; ++o) at[o] = 0;
  for (int d = 0; d + 1 < args.ndim; ++d) {
    const Index size = static_cast<Index>(args.shape[d]), next = rest / size;
    const int64_t index = static_cast<int64_t>(rest - next * size);
    for (int o = 0; o < operands; ++o) at[o] += index * args.stride[o][d];
    rest = next;
  }
  for (int o = 0; o < operands; ++o) at[o] += static_cast<int64_t>(rest) * args.stride[o][args.ndim - 1];
}
// Where element i of the destination's order lies in each operand.
template <int operands>
__device__ inline void places_of(const ElementwiseArgs& args, int64_t i, int64_t (&at)[operands]) {
  if (args.count <= 0xffffffffll)
    places_of<uint32_t>(args, static_cast<uint32_t>(i), at);
  else
    places_of<uint64_t>(args, static_cast<uint64_t>(i), at);
}

template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
  T v[n];
};

// Body: sources, how many operands it reads; Out<T>, what it makes of values of T; run<T>(values, p, q).
template <class Body, class T>
__global__ void __launch_bounds__(kBlock) elementwise_kernel(const ElementwiseArgs args, Layout layout) {
  using Out = typename Body::template Out<T>;
  constexpr int sources = Body::sources, n = 16 / sizeof(T);
  Out* dst = reinterpret_cast<Out*>(args.ptr[0]);
  T values[sources];
  if (layout == Layout::strided) {
    PYDL_CUDA_LOOP(i, args.count) {
      int64_t at[sources + 1];
      places_of(args, i, at);
      for (int s = 0; s < sources; ++s) values[s] = reinterpret_cast<const T*>(args.ptr[s + 1])[at[s + 1]];
      dst[at[0]] = Body::template run<T>(values, args.p, args.q);
    }
    return;
  }
  const int64_t packs = layout == Layout::packed ? args.count / n : 0;
  PYDL_CUDA_LOOP(i, packs) {
    Pack<T, n> in[sources];
    Pack<Out, n> out;
    for (int s = 0; s < sources; ++s) in[s] = reinterpret_cast<const Pack<T, n>*>(args.ptr[s + 1])[i];
#pragma unroll
    for (int k = 0; k < n; ++k) {
      for (int s = 0; s < sources; ++s) values[s] = in[s].v[k];
      out.v[k] = Body::template run<T>(values, args.p, args.q);
    }
    reinterpret_cast<Pack<Out, n>*>(dst)[i] = out;
  }
  PYDL_CUDA_LOOP(rest, args.count - packs * n) {
    const int64_t i = packs * n + rest;
    for (int s = 0; s < sources; ++s) values[s] = reinterpret_cast<const T*>(args.ptr[s + 1])[i];
    dst[i] = Body::template run<T>(values, args.p, args.q);
  }
}

inline bool is_flat(const ElementwiseArgs& args, int operands) {
  if (args.count == 1) return true;
  if (args.ndim != 1) return false;
  for (int o = 0; o < operands; ++o)
    if (args.stride[o][0] != 1) return false;
  return true;
}

template <class Body, bool integers>
void run_elementwise(const ElementwiseArgs& args, Exec& exec) {
  if (args.count <= 0) return;
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    constexpr int n = 16 / sizeof(T);
    Layout layout = is_flat(args, Body::sources + 1) ? Layout::packed : Layout::strided;
    for (int o = 0; layout == Layout::packed && o <= Body::sources; ++o) {
      const size_t alignment = o == 0 ? n * sizeof(typename Body::template Out<T>) : 16;
      if (reinterpret_cast<uintptr_t>(args.ptr[o]) % alignment != 0) layout = Layout::flat;
    }
    PYDL_CUDA_LAUNCH((elementwise_kernel<Body, T>), grid_for(args.count, kBlock, layout == Layout::packed ? n : 1),
                     kBlock, 0, exec, args, layout);
  };
  if constexpr (integers) {
    if (!is_float(args.dtype)) return dispatch_integer(args.dtype, run);
  }
  dispatch_floating(args.dtype, run);
}

}  // namespace
}  // namespace pydl
