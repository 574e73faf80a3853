// Batch normalization, forward and backward, of memory (outer, C, inner): statistics of each channel in one reduction
// (float64), then one map. Training reads x twice and writes y once, backward reads x and its gradient twice: bound by
// memory.
#include "backend/cuda/moments.h"
#include "backend/cuda/packets.h"
#include "backend/cuda/real.h"
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

// Element k of channel c, k < outer * inner.
struct ChannelPlaces {
  int64_t channels, inner;
  bool narrow;  // places fit 32 bits
  explicit ChannelPlaces(const BatchNormArgs& args)
      : channels(args.channels),
        inner(args.inner),
        narrow(args.outer * args.channels * args.inner < int64_t{1} << 31) {}
  __device__ int64_t place(int64_t c, int64_t k) const {
    if (inner == 1) return k * channels + c;
    const int64_t o = narrow ? static_cast<uint32_t>(k) / static_cast<uint32_t>(inner) : k / inner;
    return (o * channels + c) * inner + (k - o * inner);
  }
  template <class Index>
  __device__ Index channel(Index place) const {
    return place / static_cast<Index>(inner) % static_cast<Index>(channels);
  }
};

template <class T>
__device__ T element(const void* p, int64_t i, T otherwise) {
  return p != nullptr ? static_cast<const T*>(p)[i] : otherwise;
}

template <class T>
__device__ void set_channel(const BatchNormArgs& args, int64_t c, double mean, double var) {
  static_cast<T*>(args.ws_mean)[c] = static_cast<T>(mean);
  static_cast<T*>(args.ws_invstd)[c] = static_cast<T>(1.0 / ::sqrt(var + args.eps));
}

template <class T>
struct Statistics {
  using Acc = Moments;
  BatchNormArgs args;
  ChannelPlaces places;
  __device__ Acc identity() const { return no_moments(); }
  __device__ void run(Acc& acc, int64_t c, int64_t first, int64_t end, int64_t step) const {
    const T* x = static_cast<const T*>(args.x);
    add_moments(acc, first, end, step, [&](int64_t k) { return static_cast<double>(x[places.place(c, k)]); });
  }
  __device__ Acc combine(Acc a, Acc b) const { return joined(a, b); }
  __device__ void store(int64_t c, Acc m) const {
    const double var = variance_of(m);
    if (args.running_mean != nullptr) {
      T* at = static_cast<T*>(args.running_mean) + c;
      *at = static_cast<T>((1.0 - args.momentum) * static_cast<double>(*at) + args.momentum * m.mean);
    }
    if (args.running_var != nullptr) {
      T* at = static_cast<T*>(args.running_var) + c;
      const double unbiased = var * m.count / (m.count - 1.0);
      *at = static_cast<T>((1.0 - args.momentum) * static_cast<double>(*at) + args.momentum * unbiased);
    }
    set_channel<T>(args, c, m.mean, var);
  }
};

template <class T>
__global__ void __launch_bounds__(kBlock) use_running(BatchNormArgs args) {
  PYDL_CUDA_LOOP(c, args.channels)
  set_channel<T>(args, c, static_cast<double>(static_cast<const T*>(args.running_mean)[c]),
                 static_cast<double>(static_cast<const T*>(args.running_var)[c]));
}

// What a channel's elements are multiplied by, and what is added.
template <class T>
struct Channel {
  T mean, scale, shift;
  __device__ Channel(const BatchNormArgs& args, int64_t c)
      : mean(static_cast<const T*>(args.ws_mean)[c]),
        scale(static_cast<const T*>(args.ws_invstd)[c] * element<T>(args.weight, c, 1)),
        shift(element<T>(args.bias, c, 0)) {}
  __device__ T map(T x) const { return real_fma(x - mean, scale, shift); }
};

template <class T>
struct Normalize {
  BatchNormArgs args;
  ChannelPlaces places;
  template <int size, class Index>
  __device__ void at(Index first) const {
    auto values = load_run<size>(static_cast<const T*>(args.x) + first);
    const Index c = places.channel(first);
    Channel<T> channel(args, c);
#pragma unroll
    for (int i = 0; i < size; ++i) {
      if (i > 0 && places.inner == 1) channel = Channel<T>(args, c + static_cast<Index>(i));
      const T v = channel.map(values.v[i]);
      values.v[i] = args.relu && T(0) > v ? T(0) : v;
    }
    store_run<size>(static_cast<T*>(args.y) + first, values);
  }
};

// Elements that are treated alike: a channel's run, or a row of channels.
inline int64_t unit_of(const BatchNormArgs& args) { return args.inner == 1 ? args.channels : args.inner; }

template <class T>
void forward(const BatchNormArgs& args, Exec& exec) {
  const ChannelPlaces places(args);
  if (args.batch_statistics)
    reduce_to(exec, args.channels, args.outer * args.inner, args.inner > 1, Statistics<T>{args, places});
  else if (args.channels > 0)
    PYDL_CUDA_LAUNCH((use_running<T>), grid_for(args.channels), kBlock, 0, exec, args);
  map_elements<T>(exec, args.outer * args.channels * args.inner, unit_of(args), Normalize<T>{args, places},
                  static_cast<const char*>(args.x), static_cast<const char*>(args.y));
}

struct GradientSums {
  double g, gx;  // of the gradient, and of it times (x - mean)
};

// From a channel's sums, the gradients of its parameters and what d_x is made with:
//   d_x = scale * (g - sum_g / n - (x - mean) * invstd^2 * sum_gx / n)
template <class T>
struct Sums : Fold<Sums<T>> {
  using Acc = GradientSums;
  BatchNormBackwardArgs args;
  ChannelPlaces places;
  T *slope, *constant;  // (C)
  Sums(const BatchNormBackwardArgs& a, T* coefficients)
      : args(a), places(a.forward), slope(coefficients), constant(coefficients + a.forward.channels) {}
  __device__ Acc identity() const { return {0.0, 0.0}; }
  __device__ Acc load(int64_t c, int64_t k) const {
    const Channel<T> channel(args.forward, c);
    const int64_t at = places.place(c, k);
    const T x = static_cast<const T*>(args.forward.x)[at];
    T g = static_cast<const T*>(args.d_y)[at];
    if (args.forward.relu && !(channel.map(x) > T(0))) g = T(0);
    return {static_cast<double>(g), static_cast<double>(g) * static_cast<double>(x - channel.mean)};
  }
  __device__ Acc combine(Acc a, Acc b) const { return {a.g + b.g, a.gx + b.gx}; }
  __device__ void store(int64_t c, Acc sum) const {
    const double n = static_cast<double>(args.forward.outer * args.forward.inner);
    const double invstd = static_cast<double>(static_cast<const T*>(args.forward.ws_invstd)[c]);
    const double scale = static_cast<double>(Channel<T>(args.forward, c).scale);
    if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[c] = static_cast<T>(sum.gx * invstd);
    if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[c] = static_cast<T>(sum.g);
    slope[c] = static_cast<T>(-scale * invstd * invstd * sum.gx / n);
    constant[c] = static_cast<T>(-scale * sum.g / n);
  }
};

template <class T>
struct InputGradient {
  BatchNormBackwardArgs args;
  ChannelPlaces places;
  const T *slope, *constant;  // (C), or null where the statistics do not depend on x
  template <int size, class Index>
  __device__ void at(Index first) const {
    const auto x = load_run<size>(static_cast<const T*>(args.forward.x) + first);
    auto values = load_run<size>(static_cast<const T*>(args.d_y) + first);
    const Index c0 = places.channel(first);
    Channel<T> channel(args.forward, c0);
#pragma unroll
    for (int i = 0; i < size; ++i) {
      const Index c = c0 + (places.inner == 1 ? static_cast<Index>(i) : Index{0});
      if (i > 0 && places.inner == 1) channel = Channel<T>(args.forward, c);
      T g = values.v[i];
      if (args.forward.relu && !(channel.map(x.v[i]) > T(0))) g = T(0);
      values.v[i] = slope == nullptr
                        ? channel.scale * g
                        : real_fma(channel.scale, g, real_fma(slope[c], x.v[i] - channel.mean, constant[c]));
    }
    store_run<size>(static_cast<T*>(args.d_x) + first, values);
  }
};

template <class T>
void backward(const BatchNormBackwardArgs& args, Exec& exec) {
  const BatchNormArgs& f = args.forward;
  DeviceScratch<T> coefficients(exec, 2 * f.channels + 1);
  if (!coefficients) return;
  if (f.batch_statistics || args.d_weight != nullptr || args.d_bias != nullptr)
    reduce_to(exec, f.channels, f.outer * f.inner, f.inner > 1, Sums<T>(args, coefficients.get()));
  if (args.d_x == nullptr) return;
  const T* slope = f.batch_statistics ? coefficients.get() : nullptr;
  map_elements<T>(exec, f.outer * f.channels * f.inner, unit_of(f),
                  InputGradient<T>{args, ChannelPlaces(f), slope, coefficients.get() + f.channels},
                  static_cast<const char*>(f.x), static_cast<const char*>(args.d_y),
                  static_cast<const char*>(args.d_x));
}

void batch_norm_kernel(const BatchNormArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) { forward<decltype(zero)>(args, exec); });
}
void batch_norm_backward_kernel(const BatchNormBackwardArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.forward.dtype, [&](auto zero) { backward<decltype(zero)>(args, exec); });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(batch_norm) {
  table.batch_norm = pydl::batch_norm_kernel;
  table.batch_norm_backward = pydl::batch_norm_backward_kernel;
}
