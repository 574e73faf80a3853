// Group normalization (and instance norm), forward and backward, of memory (N, C, S) or (N, S, C): statistics of each
// group of each sample in one reduction, then one map. Backward's reduction is of each channel of each sample; groups
// and parameters are joined from those. Bound by memory.
#include "backend/cuda/moments.h"
#include "backend/cuda/packets.h"
#include "backend/cuda/real.h"
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

template <class T>
__device__ T element(const void* p, int64_t i, T otherwise) {
  return p != nullptr ? static_cast<const T*>(p)[i] : otherwise;
}

// Where an element belongs to.
struct Member {
  int64_t channel, group;  // the group's number in (N, groups)
};
template <class Index>
__device__ Member member_of(const GroupNormArgs& args, Index place) {
  const Index channels = static_cast<Index>(args.channels), inner = static_cast<Index>(args.inner);
  const Index plane = place / (args.last ? Index{1} : inner), c = plane % channels;
  const Index sample = args.last ? plane / channels / inner : plane / channels;
  const Index size = channels / static_cast<Index>(args.groups);
  return {static_cast<int64_t>(c), static_cast<int64_t>(sample * static_cast<Index>(args.groups) + c / size)};
}

template <class T>
struct GroupMoments {
  using Acc = Moments;
  GroupNormArgs args;
  __device__ Acc identity() const { return no_moments(); }
  __device__ void run(Acc& acc, int64_t group, int64_t first, int64_t end, int64_t step) const {
    const int64_t size = args.channels / args.groups, sample = group / args.groups;
    const T* x = static_cast<const T*>(args.x);
    if (!args.last) {
      x += group * size * args.inner;
      add_moments(acc, first, end, step, [&](int64_t k) { return static_cast<double>(x[k]); });
    } else {
      x += sample * args.inner * args.channels + group % args.groups * size;
      add_moments(acc, first, end, step,
                  [&](int64_t k) { return static_cast<double>(x[k / size * args.channels + k % size]); });
    }
  }
  __device__ Acc combine(Acc a, Acc b) const { return joined(a, b); }
  __device__ void store(int64_t group, Acc m) const {
    static_cast<T*>(args.ws_mean)[group] = static_cast<T>(m.mean);
    static_cast<T*>(args.ws_invstd)[group] = static_cast<T>(1.0 / ::sqrt(variance_of(m) + args.eps));
  }
};

template <class T>
struct Normalize {
  GroupNormArgs args;
  template <int size, class Index>
  __device__ void at(Index first) const {
    auto values = load_run<size>(static_cast<const T*>(args.x) + first);
#pragma unroll
    for (int i = 0; i < size; ++i) {
      const Member m = member_of(args, first + static_cast<Index>(i));
      const T scale = static_cast<const T*>(args.ws_invstd)[m.group] * element<T>(args.weight, m.channel, 1);
      values.v[i] = real_fma(values.v[i] - static_cast<const T*>(args.ws_mean)[m.group], scale,
                             element<T>(args.bias, m.channel, 0));
    }
    store_run<size>(static_cast<T*>(args.y) + first, values);
  }
};

template <class T>
void forward(const GroupNormArgs& args, Exec& exec) {
  if (args.batch <= 0 || args.channels <= 0) return;
  const int64_t elements = args.channels / args.groups * args.inner;
  reduce_to(exec, args.batch * args.groups, elements, true, GroupMoments<T>{args});
  map_elements<T>(exec, args.batch * args.channels * args.inner, args.last ? args.channels : args.inner,
                  Normalize<T>{args}, static_cast<const char*>(args.x), static_cast<const char*>(args.y));
}

struct GradientSums {
  double g, gx;  // of the gradient, and of it times (x - mean)
};

template <class T>
struct ChannelSums : Fold<ChannelSums<T>> {
  using Acc = GradientSums;
  GroupNormBackwardArgs args;
  GradientSums* sums;  // (N, C)
  __device__ Acc identity() const { return {0.0, 0.0}; }
  __device__ Acc load(int64_t out, int64_t k) const {
    const GroupNormArgs& f = args.forward;
    const int64_t sample = out / f.channels, c = out % f.channels;
    const int64_t at = f.last ? (sample * f.inner + k) * f.channels + c : out * f.inner + k;
    const T mean = static_cast<const T*>(f.ws_mean)[sample * f.groups + c / (f.channels / f.groups)];
    const T g = static_cast<const T*>(args.d_y)[at], x = static_cast<const T*>(f.x)[at];
    return {static_cast<double>(g), static_cast<double>(g) * static_cast<double>(x - mean)};
  }
  __device__ Acc combine(Acc a, Acc b) const { return {a.g + b.g, a.gx + b.gx}; }
  __device__ void store(int64_t out, Acc sum) const { sums[out] = sum; }
};

// Of each group, from the sums of its channels, the slope and constant of
//   d_x = invstd * weight * g + slope * (x - mean) + constant
template <class T>
struct GroupSums : Fold<GroupSums<T>> {
  using Acc = GradientSums;
  GroupNormArgs args;
  const GradientSums* sums;
  T *slope, *constant;  // (N, groups)
  __device__ Acc identity() const { return {0.0, 0.0}; }
  __device__ Acc load(int64_t group, int64_t k) const {
    const int64_t size = args.channels / args.groups, c = group % args.groups * size + k;
    const GradientSums sum = sums[group / args.groups * args.channels + c];
    const double w = static_cast<double>(element<T>(args.weight, c, 1));
    return {w * sum.g, w * sum.gx};
  }
  __device__ Acc combine(Acc a, Acc b) const { return {a.g + b.g, a.gx + b.gx}; }
  __device__ void store(int64_t group, Acc sum) const {
    const double invstd = static_cast<double>(static_cast<const T*>(args.ws_invstd)[group]);
    const double n = static_cast<double>(args.channels / args.groups * args.inner);
    slope[group] = static_cast<T>(-invstd * invstd * invstd * sum.gx / n);
    constant[group] = static_cast<T>(-invstd * sum.g / n);
  }
};

template <class T>
struct ParameterSums : Fold<ParameterSums<T>> {
  using Acc = GradientSums;
  GroupNormBackwardArgs args;
  const GradientSums* sums;
  __device__ Acc identity() const { return {0.0, 0.0}; }
  __device__ Acc load(int64_t c, int64_t sample) const {
    const GroupNormArgs& f = args.forward;
    const GradientSums sum = sums[sample * f.channels + c];
    const int64_t group = sample * f.groups + c / (f.channels / f.groups);
    return {sum.g, sum.gx * static_cast<double>(static_cast<const T*>(f.ws_invstd)[group])};
  }
  __device__ Acc combine(Acc a, Acc b) const { return {a.g + b.g, a.gx + b.gx}; }
  __device__ void store(int64_t c, Acc sum) const {
    if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[c] = static_cast<T>(sum.gx);
    if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[c] = static_cast<T>(sum.g);
  }
};

template <class T>
struct InputGradient {
  GroupNormBackwardArgs args;
  const T *slope, *constant;
  template <int size, class Index>
  __device__ void at(Index first) const {
    const GroupNormArgs& f = args.forward;
    const auto x = load_run<size>(static_cast<const T*>(f.x) + first);
    auto values = load_run<size>(static_cast<const T*>(args.d_y) + first);
#pragma unroll
    for (int i = 0; i < size; ++i) {
      const Member m = member_of(f, first + static_cast<Index>(i));
      const T scale = static_cast<const T*>(f.ws_invstd)[m.group] * element<T>(f.weight, m.channel, 1);
      const T d = x.v[i] - static_cast<const T*>(f.ws_mean)[m.group];
      values.v[i] = real_fma(scale, values.v[i], real_fma(slope[m.group], d, constant[m.group]));
    }
    store_run<size>(static_cast<T*>(args.d_x) + first, values);
  }
};

template <class T>
void backward(const GroupNormBackwardArgs& args, Exec& exec) {
  const GroupNormArgs& f = args.forward;
  if (f.channels <= 0) return;
  const int64_t groups = f.batch * f.groups;
  DeviceScratch<GradientSums> sums(exec, f.batch * f.channels + 1);
  DeviceScratch<T> coefficients(exec, 2 * groups + 1);
  if (!sums || !coefficients) return;
  ChannelSums<T> channels{};
  channels.args = args;
  channels.sums = sums.get();
  reduce_to(exec, f.batch * f.channels, f.inner, !f.last, channels);
  if (args.d_x != nullptr) {
    GroupSums<T> group{};
    group.args = f;
    group.sums = sums.get();
    group.slope = coefficients.get();
    group.constant = coefficients.get() + groups;
    reduce_to(exec, groups, f.channels / f.groups, true, group);
    map_elements<T>(exec, f.batch * f.channels * f.inner, f.last ? f.channels : f.inner,
                    InputGradient<T>{args, group.slope, group.constant}, static_cast<const char*>(f.x),
                    static_cast<const char*>(args.d_y), static_cast<const char*>(args.d_x));
  }
  if (args.d_weight == nullptr && args.d_bias == nullptr) return;
  ParameterSums<T> parameters{};
  parameters.args = args;
  parameters.sums = sums.get();
  reduce_to(exec, f.channels, f.batch, false, parameters);
}

void group_norm_kernel(const GroupNormArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) { forward<decltype(zero)>(args, exec); });
}
void group_norm_backward_kernel(const GroupNormBackwardArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.forward.dtype, [&](auto zero) { backward<decltype(zero)>(args, exec); });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(group_norm) {
  table.group_norm = pydl::group_norm_kernel;
  table.group_norm_backward = pydl::group_norm_backward_kernel;
}
