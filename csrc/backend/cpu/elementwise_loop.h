// The one loop of all element-wise kernels: broadcasting and strides are turned into short contiguous runs, on which a body
// written for contiguous vectors works. Operands that are not contiguous pass through small buffers on the stack.
#pragma once
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kElementwiseGrain = 16384;
constexpr int kRun = 256;  // elements per buffered run

// Walks operands through memory in logical order, innermost axis first.
template <int operands>
struct StridedCursor {
  const ElementwiseArgs& args;
  int64_t index[kMaxRank];
  int64_t offset[operands];

  StridedCursor(const ElementwiseArgs& a, int64_t start) : args(a) {
    for (int o = 0; o < operands; ++o) offset[o] = 0;
    for (int d = 0; d < a.ndim; ++d) {
      index[d] = start % a.shape[d];
      start /= a.shape[d];
      for (int o = 0; o < operands; ++o) offset[o] += index[d] * a.stride[o][d];
    }
  }
  PYDL_INLINE int64_t run() const { return args.shape[0] - index[0]; }
  PYDL_INLINE void advance(int64_t n) {
    index[0] += n;
    for (int o = 0; o < operands; ++o) offset[o] += n * args.stride[o][0];
    for (int d = 0; index[d] == args.shape[d] && d + 1 < args.ndim; ++d) {
      index[d] = 0;
      ++index[d + 1];
      for (int o = 0; o < operands; ++o) offset[o] += args.stride[o][d + 1] - args.shape[d] * args.stride[o][d];
    }
  }
};

template <class T>
PYDL_INLINE const T* run_of(const char* base, int64_t offset, int64_t stride, int64_t n, T* buffer) {
  const T* src = reinterpret_cast<const T*>(base) + offset;
  if (stride == 1) return src;
  if (stride == 0) {
    const T value = *src;
    for (int64_t i = 0; i < n; ++i) buffer[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) buffer[i] = src[i * stride];
  }
  return buffer;
}

// body(TD* dst, const TS*... src, int64_t n) on contiguous memory; dst may be one of the sources.
template <class TD, class... TS, class F, int... o>
PYDL_INLINE void elementwise_impl(const ElementwiseArgs& args, Exec& exec, F body, std::integer_sequence<int, o...>) {
  constexpr int operands = 1 + sizeof...(TS);
  bool contiguous = args.ndim <= 1;
  if (args.ndim == 1 && args.count > 1)
    for (int i = 0; i < operands; ++i) contiguous = contiguous && args.stride[i][0] == 1;
  if (contiguous) {
    parallel_for(exec, args.count, kElementwiseGrain, [&](int64_t begin, int64_t end) {
      body(reinterpret_cast<TD*>(args.ptr[0]) + begin, reinterpret_cast<const TS*>(args.ptr[o + 1]) + begin...,
           end - begin);
    });
    return;
  }
  parallel_for(exec, args.count, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    StridedCursor<operands> at(args, begin);
    const bool dst_contiguous = args.stride[0][0] == 1;
    for (int64_t i = begin; i < end;) {
      int64_t n = at.run();
      if (n > kRun) n = kRun;
      if (n > end - i) n = end - i;
      alignas(64) unsigned char buffer[operands][kRun * 8];
      TD* dst = reinterpret_cast<TD*>(args.ptr[0]) + at.offset[0];
      body(dst_contiguous ? dst : reinterpret_cast<TD*>(buffer[0]),
           run_of<TS>(args.ptr[o + 1], at.offset[o + 1], args.stride[o + 1][0], n, reinterpret_cast<TS*>(buffer[o + 1]))...,
           n);
      if (!dst_contiguous) {
        const TD* result = reinterpret_cast<const TD*>(buffer[0]);
        for (int64_t k = 0; k < n; ++k) dst[k * args.stride[0][0]] = result[k];
      }
      at.advance(n);
      i += n;
    }
  });
}

template <class TD, class... TS, class F>
PYDL_INLINE void elementwise(const ElementwiseArgs& args, Exec& exec, F body) {
  elementwise_impl<TD, TS...>(args, exec, body, std::make_integer_sequence<int, static_cast<int>(sizeof...(TS))>());
}

// body(V dst[, V...]) for each vector of a contiguous run, the last one partial.
template <class V, class F, class... P>
PYDL_INLINE void each_vector(typename V::Lane* dst, int64_t n, F f, const P*... src) {
  int64_t i = 0;
  for (; i + V::size <= n; i += V::size) f(V::load(src + i)...).store(dst + i);
  if (V::size > 1 && i < n) {
    const int rest = static_cast<int>(n - i);
    f(V::load_partial(src + i, rest)...).store_partial(dst + i, rest);
  }
}

template <class V, int inputs, class F>
PYDL_INLINE void map(const ElementwiseArgs& args, Exec& exec, F f) {
  using T = typename V::Lane;
  if constexpr (inputs == 1)
    elementwise<T, T>(args, exec, [f](T* y, const T* a, int64_t n) { each_vector<V>(y, n, f, a); });
  else if constexpr (inputs == 2)
    elementwise<T, T, T>(args, exec, [f](T* y, const T* a, const T* b, int64_t n) { each_vector<V>(y, n, f, a, b); });
  else
    elementwise<T, T, T, T>(args, exec, [f](T* y, const T* a, const T* b, const T* c, int64_t n) {
      each_vector<V>(y, n, f, a, b, c);
    });
}

// Calls f with a value of type V for the dtype: Vec for the floating ones, Scalar for integers where the op has them.
template <bool integers, class F>
PYDL_INLINE void dispatch_vector(DType dtype, F f) {
  switch (dtype) {
    case DType::float32: return f(Vec<float>());
    case DType::float64: return f(Vec<double>());
    default: break;
  }
  if constexpr (integers) {
    switch (dtype) {
      case DType::boolean:
      case DType::uint8: return f(Scalar<uint8_t>());
      case DType::int8: return f(Scalar<int8_t>());
      case DType::uint16: return f(Scalar<uint16_t>());
      case DType::int16: return f(Scalar<int16_t>());
      case DType::uint32: return f(Scalar<uint32_t>());
      case DType::int32: return f(Scalar<int32_t>());
      case DType::uint64: return f(Scalar<uint64_t>());
      case DType::int64: return f(Scalar<int64_t>());
      default: return;
    }
  }
}

}  // namespace
}  // namespace pydl
