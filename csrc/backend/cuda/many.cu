// Norms, scaling, clipping, blending and penalties over many tensors, a launch for a few dozen of them. Bound by
// memory. Norms and penalties are wanted by the host: they wait for the stream.
#include "backend/cuda/many.h"
#include "backend/cuda/reduction.h"
#include "backend/cuda/scalar.h"
#include "core/capture.h"

namespace pydl {
namespace {

// --- sums over all elements

// f(x, tensor of the list) of each element of the block's chunk, combined.
template <class T, class F, class G>
__device__ void fold_chunk(const TensorList<1>& list, double* partial, F f, G combine) {
  __shared__ double slots[kBlock];
  const Chunk chunk(list);
  const T* data = static_cast<const T*>(list.data[0][chunk.tensor]);
  double sum = 0.0;
  for (int64_t i = chunk.begin + static_cast<int64_t>(threadIdx.x); i < chunk.end; i += kBlock)
    sum = combine(sum, f(static_cast<double>(data[i]), chunk.tensor));
  slots[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kBlock / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half)
      slots[threadIdx.x] = combine(slots[threadIdx.x], slots[threadIdx.x + half]);
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = slots[0];
}

struct AddUp {
  __device__ double operator()(double a, double b) const { return a + b; }
};
struct Largest {  // of numbers that are not negative; a NaN stays
  __device__ double operator()(double a, double b) const { return b > a || b != b ? b : a; }
};

enum class Order { one, two, infinity, other };

template <class T, Order order>
__global__ void __launch_bounds__(kBlock)
    norm_chunks(__grid_constant__ const TensorList<1> list, double power, double* partial) {
  const auto term = [&](double x, int) {
    if constexpr (order == Order::two) return x * x;
    if constexpr (order == Order::other) return ::pow(::fabs(x), power);
    return ::fabs(x);
  };
  fold_chunk<T>(list, partial, term, std::conditional_t<order == Order::infinity, Largest, AddUp>());
}

struct Rates {
  double l1[kTensorsAtOnce], l2[kTensorsAtOnce];
};

template <class T>
__global__ void __launch_bounds__(kBlock)
    penalty_chunks(__grid_constant__ const TensorList<1> list, __grid_constant__ const Rates rates, double* partial) {
  fold_chunk<T>(
      list, partial,
      [&](double x, int t) {
        return (rates.l1[t] != 0.0 ? rates.l1[t] * ::fabs(x) : 0.0) +
               (rates.l2[t] != 0.0 ? rates.l2[t] * (x * x) : 0.0);
      },
      AddUp());
}

template <class Combine>
struct PartialsOf : Fold<PartialsOf<Combine>> {
  using Acc = double;
  const double* partial;
  double* dst;
  __device__ Acc identity() const { return 0.0; }
  __device__ Acc load(int64_t, int64_t k) const { return partial[k]; }
  __device__ Acc combine(Acc a, Acc b) const { return Combine()(a, b); }
  __device__ void store(int64_t, Acc acc) const { *dst = acc; }
};

inline int64_t chunks_of(int tensors, const int64_t* sizes) {
  int64_t chunks = 0;
  for (int t = 0; t < tensors; ++t) chunks += sizes[t] > 0 ? (sizes[t] + kChunk - 1) / kChunk : 0;
  return chunks;
}

__host__ __device__ inline double norm_of(double sum, double order) {
  return order == 2.0 ? ::sqrt(sum) : order == 1.0 || order > 1e300 ? sum : ::pow(sum, 1.0 / order);
}
__global__ void finish_norm(const double* sum, double order, double* norm) { *norm = norm_of(*sum, order); }

// launch(list, chunks, first tensor of the list in the call, where the chunks' results go); the norm on the host, or
// where a captured step wants it. order 1: a sum.
template <class Combine, class F>
double fold_all(Exec& exec, int tensors, const int64_t* sizes, const void* const* data, double order, F launch) {
  const int64_t chunks = chunks_of(tensors, sizes);
  double result = 0.0;
  if (chunks == 0) return result;
  DeviceScratch<double> partial(exec, chunks + 1);
  if (!partial) return result;
  double* at = partial.get();
  const auto pointer = [&](int, int t) { return const_cast<void*>(data[t]); };
  each_group<1>(tensors, sizes, pointer, [&](const auto& list, unsigned count, const int* members) {
    launch(list, count, members, at);
    at += count;
  });
  PartialsOf<Combine> sum{};
  sum.partial = partial.get();
  sum.dst = partial.get() + chunks;
  reduce_to(exec, 1, chunks, true, sum);
  const CapturedValues* values = cuda::captured_values();
  if (values && values->result) {
    PYDL_CUDA_LAUNCH((finish_norm), 1, 1, 0, exec, static_cast<const double*>(sum.dst), order, values->result);
    return result;
  }
  download(exec, static_cast<const double*>(sum.dst), &result, 1);
  return norm_of(result, order);
}

template <class T, Order order>
void norm(const NormArgs& args, Exec& exec) {
  using Combine = std::conditional_t<order == Order::infinity, Largest, AddUp>;
  *args.result =
      fold_all<Combine>(exec, args.tensors, args.sizes, args.data, args.order,
                        [&](const auto& list, unsigned count, const int*, double* partial) {
                          PYDL_CUDA_LAUNCH((norm_chunks<T, order>), count, kBlock, 0, exec, list, args.order, partial);
                        });
}

void total_norm_kernel(const NormArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (args.order == 2.0) return norm<T, Order::two>(args, exec);
    if (args.order == 1.0) return norm<T, Order::one>(args, exec);
    if (args.order == __builtin_inf()) return norm<T, Order::infinity>(args, exec);
    norm<T, Order::other>(args, exec);
  });
}

Rates rates_of(const PenaltyArgs& args, int tensors, const int* members) {
  Rates rates{};
  for (int t = 0; t < tensors; ++t) {
    rates.l1[t] = args.l1[members[t]];
    rates.l2[t] = args.l2[members[t]];
  }
  return rates;
}

void penalty_kernel(const PenaltyArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    *args.result = fold_all<AddUp>(exec, args.tensors, args.sizes, args.data, 1.0,
                                   [&](const auto& list, unsigned count, const int* members, double* partial) {
                                     PYDL_CUDA_LAUNCH((penalty_chunks<T>), count, kBlock, 0, exec, list,
                                                      rates_of(args, list.tensors, members), partial);
                                   });
  });
}

// --- element by element

struct Scale {
  template <class V>
  static __device__ V change(V x, V low, V) {
    return x * low;
  }
};
struct Clip {
  template <class V>
  static __device__ V change(V x, V low, V high) {
    return min_or_b(high, max_or_b(low, x));
  }
};
struct Shrink {
  template <class V>
  static __device__ V change(V x, V by, V) {
    return select(x > by, x - by, select(x < -by, x + by, select(isnan(x), x, V(0.0))));
  }
};

template <class T, class Op>
__global__ void __launch_bounds__(kBlock)
    change_chunks(__grid_constant__ const TensorList<1> list, double low, double high, const double* norm) {
  using V = Scalar<T>;
  if (norm != nullptr) {  // low: the bound of the norm
    low = __ddiv_rn(low, __dadd_rn(*norm, 1e-6));
    if (low >= 1.0) return;
  }
  each_element<T, 1, 1>(list, [&](T* values, int) { values[0] = Op::change(V(values[0]), V(low), V(high)).raw; });
}

template <class Op>
void change_all(const ManyArgs& args, Exec& exec) {
  const CapturedValues* values = cuda::captured_values();
  const double* norm = values ? values->factor : nullptr;
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    each_group<1>(
        args.tensors, args.sizes, [&](int, int t) { return args.data[t]; },
        [&](const auto& list, unsigned count, const int*) {
          PYDL_CUDA_LAUNCH((change_chunks<T, Op>), count, kBlock, 0, exec, list, args.low, args.high, norm);
        });
  });
}
void scale_many_kernel(const ManyArgs& args, Exec& exec) noexcept { change_all<Scale>(args, exec); }
void clip_many_kernel(const ManyArgs& args, Exec& exec) noexcept { change_all<Clip>(args, exec); }
void soft_threshold_many_kernel(const ManyArgs& args, Exec& exec) noexcept { change_all<Shrink>(args, exec); }

template <class T>
__global__ void __launch_bounds__(kBlock) blend_chunks(__grid_constant__ const TensorList<2> list, double weight) {
  using V = Scalar<T>;
  each_element<T, 2, 1>(list, [&](T* values, int) {
    const V x = values[0];
    values[0] = fma(V(weight), V(values[1]) - x, x).raw;
  });
}

void blend_many_kernel(const BlendArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    each_group<2>(
        args.tensors, args.sizes,
        [&](int k, int t) { return k == 0 ? args.data[t] : const_cast<void*>(args.others[t]); },
        [&](const auto& list, unsigned count, const int*) {
          PYDL_CUDA_LAUNCH((blend_chunks<T>), count, kBlock, 0, exec, list, args.weight);
        });
  });
}

// The gradient is written, not read.
template <class T>
__global__ void __launch_bounds__(kBlock)
    penalty_gradients(__grid_constant__ const TensorList<2> list, __grid_constant__ const Rates rates, double d_result,
                      const double* captured) {
  using V = Scalar<T>;
  if (captured != nullptr) d_result = *captured;
  each_element<T, 2, 1, 1>(list, [&](T* values, int t) {
    const V x = values[1], zero(0.0), l1(d_result * rates.l1[t]), twice_l2(2.0 * d_result * rates.l2[t]);
    values[0] = fma(twice_l2, x, select(x > zero, l1, select(x < zero, -l1, zero))).raw;
  });
}

void penalty_backward_kernel(const PenaltyBackwardArgs& args, Exec& exec) noexcept {
  const CapturedValues* values = cuda::captured_values();
  const double* captured = values ? values->factor : nullptr;
  const PenaltyArgs& f = args.forward;
  dispatch_floating(f.dtype, [&](auto zero) {
    using T = decltype(zero);
    each_group<2>(
        f.tensors, f.sizes, [&](int k, int t) { return k == 0 ? args.d_data[t] : const_cast<void*>(f.data[t]); },
        [&](const auto& list, unsigned count, const int* members) {
          PYDL_CUDA_LAUNCH((penalty_gradients<T>), count, kBlock, 0, exec, list, rates_of(f, list.tensors, members),
                           args.d_result, captured);
        });
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(many) {
  table.total_norm = pydl::total_norm_kernel;
  table.scale_many = pydl::scale_many_kernel;
  table.clip_many = pydl::clip_many_kernel;
  table.soft_threshold_many = pydl::soft_threshold_many_kernel;
  table.blend_many = pydl::blend_many_kernel;
  table.penalty = pydl::penalty_kernel;
  table.penalty_backward = pydl::penalty_backward_kernel;
}
