// Normalization of rows, forward and backward: layer norm and RMS norm. A team of threads has a row and finds it in
// cache when it comes back to it; gradients of the parameters are one reduction over the rows. Bound by memory.
#include "backend/cuda/moments.h"
#include "backend/cuda/reduction.h"
#include "backend/cuda/rows.h"

namespace pydl {
namespace {

template <class T>
__device__ T element(const void* p, int64_t i, T otherwise) {
  return p != nullptr ? static_cast<const T*>(p)[i] : otherwise;
}

template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) normalize_rows(LayerNormArgs args) {
  const Team<kind> team(args.rows, args.n, 1);
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  const int64_t start = team.start(), end = team.valid ? team.n : 0;
  double center = 0.0, spread;
  if (args.rms) {
    double part = 0.0;
    team.each([&](int64_t at, int64_t) { part += static_cast<double>(x[at]) * static_cast<double>(x[at]); });
    spread = team.sum(part) / static_cast<double>(args.n);
  } else {
    Moments m = no_moments();
    add_moments(m, team.lane, end, Team<kind>::kLanes, [&](int64_t k) { return static_cast<double>(x[start + k]); });
    m = team.reduce(m, [](const Moments& a, const Moments& b) { return joined(a, b); });
    center = m.mean;
    spread = variance_of(m);
  }
  const T mean = static_cast<T>(center), invstd = static_cast<T>(1.0 / ::sqrt(spread + args.eps));
  if (team.valid && team.lane == 0) {
    static_cast<T*>(args.ws_mean)[team.row] = mean;
    static_cast<T*>(args.ws_invstd)[team.row] = invstd;
  }
  team.each([&](int64_t at, int64_t k) {
    y[at] = real_fma((x[at] - mean) * invstd, element<T>(args.weight, k, 1), element<T>(args.bias, k, 0));
  });
}

// d_x of a row: invstd * (h - mean(h) - normal * mean(h * normal)), h = g * weight, normal = (x - mean) * invstd.
template <TeamKind kind, class T>
__global__ void __launch_bounds__(kBlock) row_gradients(LayerNormBackwardArgs args) {
  const LayerNormArgs& f = args.forward;
  const Team<kind> team(f.rows, f.n, 1);
  const T* x = static_cast<const T*>(f.x);
  const T* g = static_cast<const T*>(args.d_y);
  const int64_t row = team.valid ? team.row : 0;
  const T mean = static_cast<const T*>(f.ws_mean)[row], invstd = static_cast<const T*>(f.ws_invstd)[row];
  double part_h = 0.0, part_hx = 0.0;
  team.each([&](int64_t at, int64_t k) {
    const double h = static_cast<double>(g[at] * element<T>(f.weight, k, 1));
    part_h += h;
    part_hx += h * static_cast<double>(x[at] - mean);
  });
  const double sum_h = team.sum(part_h), sum_hx = team.sum(part_hx);
  const double inverse = static_cast<double>(invstd), count = static_cast<double>(f.n);
  const T slope = static_cast<T>(-inverse * inverse * inverse * sum_hx / count);
  const T constant = static_cast<T>(f.rms ? 0.0 : -inverse * sum_h / count);
  T* d_x = static_cast<T*>(args.d_x);
  team.each([&](int64_t at, int64_t k) {
    d_x[at] = real_fma(invstd * element<T>(f.weight, k, 1), g[at], real_fma(slope, x[at] - mean, constant));
  });
}

struct ParameterSum {
  double weight, bias;
};

template <class T>
struct ParameterGradients : Fold<ParameterGradients<T>> {
  using Acc = ParameterSum;
  LayerNormBackwardArgs args;
  explicit ParameterGradients(const LayerNormBackwardArgs& a) : args(a) {}
  __device__ Acc identity() const { return {0.0, 0.0}; }
  __device__ Acc load(int64_t i, int64_t row) const {
    const LayerNormArgs& f = args.forward;
    const T g = static_cast<const T*>(args.d_y)[row * f.n + i], x = static_cast<const T*>(f.x)[row * f.n + i];
    const T normal = (x - static_cast<const T*>(f.ws_mean)[row]) * static_cast<const T*>(f.ws_invstd)[row];
    return {static_cast<double>(g) * static_cast<double>(normal), static_cast<double>(g)};
  }
  __device__ Acc combine(Acc a, Acc b) const { return {a.weight + b.weight, a.bias + b.bias}; }
  __device__ void store(int64_t i, Acc sum) const {
    if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[i] = static_cast<T>(sum.weight);
    if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[i] = static_cast<T>(sum.bias);
  }
};

void layer_norm_kernel(const LayerNormArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_adjacent_team(args.rows, args.n, [&](auto kind, unsigned blocks) {
      PYDL_CUDA_LAUNCH((normalize_rows<decltype(kind)::value, T>), blocks, kBlock, 0, exec, args);
    });
  });
}
void layer_norm_backward_kernel(const LayerNormBackwardArgs& args, Exec& exec) noexcept {
  const LayerNormArgs& f = args.forward;
  dispatch_floating(f.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (args.d_x != nullptr)
      with_adjacent_team(f.rows, f.n, [&](auto kind, unsigned blocks) {
        PYDL_CUDA_LAUNCH((row_gradients<decltype(kind)::value, T>), blocks, kBlock, 0, exec, args);
      });
    if (args.d_weight != nullptr || args.d_bias != nullptr)
      reduce_to(exec, f.n, f.rows, false, ParameterGradients<T>(args));
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(layer_norm) {
  table.layer_norm = pydl::layer_norm_kernel;
  table.layer_norm_backward = pydl::layer_norm_backward_kernel;
}
