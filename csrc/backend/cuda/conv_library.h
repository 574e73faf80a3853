// Convolutions by cuDNN, where it is found and takes them: weights are turned to the order that it is fastest with, and
// what follows the products, a bias and relu, is one pass of our own.
#pragma once
#include "backend/cuda/convert.h"
#include "backend/cuda/dnn.h"
#include "backend/cuda/gemm_tile.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

// dst (outer, b, a) = src (outer, a, b) with its two inner axes exchanged.
template <class T>
__global__ void exchange_axes(const T* src, T* dst, int64_t outer, int64_t a, int64_t b) {
  PYDL_CUDA_LOOP(i, outer * a * b) {
    const int64_t o = i / (a * b), at_a = i % a, at_b = i / a % b;
    dst[i] = src[(o * a + at_a) * b + at_b];
  }
}

// y (pixels, channels) = relu(y + bias). Bound by memory.
template <class T>
__global__ void finish_pixels(T* y, int64_t count, int64_t channels, const T* bias, bool relu) {
  using Value = Scalar<SumType<T>>;
  PYDL_CUDA_LOOP(i, count) {
    const Value sum = widened(y[i]) + (bias == nullptr ? SumType<T>(0) : widened(bias[i % channels]));
    y[i] = narrowed<T>((relu ? max(sum, Value(0)) : sum).raw);
  }
}

template <class T>
void finish(const ConvShape& s, T* y, int64_t pixels, int64_t channels, const void* bias, bool relu, Exec& exec) {
  const int64_t count = s.batch * pixels * channels;
  if (bias == nullptr && !relu) return;
  PYDL_CUDA_LAUNCH((finish_pixels<T>), dim3(grid_for(count)), dim3(kBlock), 0, exec, y, count, channels,
                   static_cast<const T*>(bias), relu);
}

// The library's kernels read vectors; slices of tensors may begin anywhere.
inline bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// A weight (O, C / groups, taps) in the library's order: itself where that is the same, else in temporary memory.
template <class T>
class LibraryWeight {
 public:
  LibraryWeight(const ConvShape& s, T* weight, Exec& exec)
      : weight_(weight),
        outer_(s.out_channels),
        channels_(s.in_channels / s.groups),
        taps_(s.kernel[0] * s.kernel[1] * s.kernel[2]),
        turned_(Dnn::channels_last_weight(s.dtype) && channels_ > 1 && taps_ > 1),
        own_(exec, turned_ || !aligned(weight) ? count() : 0),
        used_(turned_ || !aligned(weight) ? own_.get() : weight) {}
  T* get() const { return used_; }
  void read(Exec& exec) const { exchange(weight_, used_, turned_ ? channels_ : 1, turned_ ? taps_ : 1, exec); }
  void write(Exec& exec) const { exchange(used_, weight_, turned_ ? taps_ : 1, turned_ ? channels_ : 1, exec); }

 private:
  int64_t count() const { return outer_ * channels_ * taps_; }
  void exchange(const T* src, T* dst, int64_t a, int64_t b, Exec& exec) const {
    if (src == dst) return;
    PYDL_CUDA_LAUNCH((exchange_axes<T>), dim3(grid_for(count())), dim3(kBlock), 0, exec, src, dst, count() / (a * b), a,
                     b);
  }
  T* weight_;
  int64_t outer_, channels_, taps_;
  bool turned_;
  DeviceScratch<T> own_;
  T* used_;
};

// False where it is not done, and nothing is written; true too where there was no memory for it, an error that is kept.
template <class T>
bool library_forward(const ConvForwardArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const DnnProblem p{DnnPass::forward, s, a.x_layout, packed_layout(s.out_channels, s.out)};
  if (!aligned(a.x) || !aligned(a.y) || !Dnn::instance().takes(p)) return false;
  const LibraryWeight<T> weight(s, const_cast<T*>(static_cast<const T*>(a.weight)), exec);
  if (!weight.get()) return true;
  weight.read(exec);
  if (!Dnn::instance().run(p, a.x, weight.get(), a.y, exec)) return false;
  finish(s, static_cast<T*>(a.y), pixels_of(s.out), s.out_channels, a.bias, a.relu, exec);
  return true;
}

template <class T>
bool library_backward_input(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const DnnProblem p{DnnPass::backward_input, s, packed_layout(s.in_channels, s.in), a.d_y_layout};
  if (!aligned(a.d_y) || !aligned(a.d_x) || !Dnn::instance().takes(p)) return false;
  const LibraryWeight<T> weight(s, const_cast<T*>(static_cast<const T*>(a.weight)), exec);
  if (!weight.get()) return true;
  weight.read(exec);
  if (!Dnn::instance().run(p, weight.get(), a.d_y, a.d_x, exec)) return false;
  finish(s, static_cast<T*>(a.d_x), pixels_of(s.in), s.in_channels, a.bias, false, exec);
  return true;
}

template <class T>
bool library_backward_weight(const ConvBackwardWeightArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  const DnnProblem p{DnnPass::backward_weight, s, a.x_layout, a.d_y_layout};
  if (!aligned(a.x) || !aligned(a.d_y) || !Dnn::instance().takes(p)) return false;
  const LibraryWeight<T> weight(s, static_cast<T*>(a.d_weight), exec);
  if (!weight.get()) return true;
  if (!Dnn::instance().run(p, a.x, a.d_y, weight.get(), exec)) return false;
  weight.write(exec);
  return true;
}

}  // namespace
}  // namespace pydl
