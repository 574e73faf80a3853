// Adafactor's step: the second moment of a matrix is kept as the means of its rows and columns. Sums over the
// parameter, its gradient and its update are reductions whose results stay on the device; the update is computed twice
// rather than kept. Bound by memory.
#include "backend/cuda/reduction.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

struct SumOfDoubles {
  using Acc = double;
  __device__ double identity() const { return 0.0; }
  __device__ double combine(double a, double b) const { return a + b; }
};

template <class T>
struct SquareSum : SumOfDoubles, Fold<SquareSum<T>> {
  const T* x;
  double* dst;
  __device__ double load(int64_t, int64_t k) const { return static_cast<double>(x[k]) * static_cast<double>(x[k]); }
  __device__ void store(int64_t, double sum) const { *dst = sum; }
};

// Moves row_var (batch, rows), or col_var (batch, cols), to the new means of the gradient's squares.
template <class T, bool of_rows>
struct SquareMeans : SumOfDoubles, Fold<SquareMeans<T, of_rows>> {
  AdafactorArgs args;
  __device__ double load(int64_t out, int64_t k) const {
    const int64_t at = of_rows ? out * args.cols + k : (out / args.cols * args.rows + k) * args.cols + out % args.cols;
    const double g = static_cast<double>(static_cast<const T*>(args.grad)[at]);
    return g * g;
  }
  __device__ void store(int64_t out, double sum) const {
    T& kept = static_cast<T*>(of_rows ? args.row_var : args.col_var)[out];
    const double mean = sum / static_cast<double>(of_rows ? args.cols : args.rows);
    kept = static_cast<T>(static_cast<double>(kept) + args.weight * (mean - static_cast<double>(kept)));
  }
};

// The mean of row_var of each matrix, at least eps1.
template <class T>
struct RowMean : SumOfDoubles, Fold<RowMean<T>> {
  AdafactorArgs args;
  double* dst;  // (batch)
  __device__ double load(int64_t matrix, int64_t r) const {
    return static_cast<double>(static_cast<const T*>(args.row_var)[matrix * args.rows + r]);
  }
  __device__ void store(int64_t matrix, double sum) const {
    const double mean = sum / static_cast<double>(args.rows);
    dst[matrix] = mean < args.eps1 ? args.eps1 : mean;
  }
};

template <class T>
__global__ void __launch_bounds__(kBlock) move_variance(AdafactorArgs args) {
  using V = Scalar<T>;
  PYDL_CUDA_LOOP(i, args.batch * args.rows * args.cols) {
    const V g = static_cast<const T*>(args.grad)[i], v = static_cast<const T*>(args.variance)[i];
    static_cast<T*>(args.variance)[i] = fma(V(args.weight), fma(g, g, -v), v).raw;
  }
}

template <class T>
struct Update {
  AdafactorArgs args;
  const double* row_mean;  // (batch)
  __device__ Scalar<T> at(int64_t i) const {
    using V = Scalar<T>;
    const V g = static_cast<const T*>(args.grad)[i];
    V v;
    if (args.variance == nullptr) {
      const int64_t row = i / args.cols, matrix = row / args.rows;
      const double scale = static_cast<double>(static_cast<const T*>(args.row_var)[row]) / row_mean[matrix];
      v = V(scale) * V(static_cast<const T*>(args.col_var)[matrix * args.cols + i % args.cols]);
    } else {
      v = static_cast<const T*>(args.variance)[i];
    }
    return select(g == 0.0, V(0.0), g / sqrt(max(v, V(args.eps1 * args.eps1))));
  }
};

template <class T>
struct UpdateSum : SumOfDoubles, Fold<UpdateSum<T>> {
  Update<T> update;
  double* dst;
  __device__ double load(int64_t, int64_t i) const {
    const double u = static_cast<double>(update.at(i).raw);
    return u * u;
  }
  __device__ void store(int64_t, double sum) const { *dst = sum; }
};

// sums: the squares of the parameter, then of the update.
template <class T>
__global__ void __launch_bounds__(kBlock) apply_update(Update<T> update, const double* sums) {
  using V = Scalar<T>;
  const AdafactorArgs& args = update.args;
  const int64_t n = args.batch * args.rows * args.cols;
  const double count = static_cast<double>(n), size = ::sqrt(sums[0] / count);
  const double clip = ::sqrt(sums[1] / count) / args.d;
  double alpha = (size > args.eps2 ? size : args.eps2) * args.rate;
  if (clip > 1.0) alpha /= clip;
  const V step(args.maximize ? -alpha : alpha), kept(args.kept);
  T* param = static_cast<T*>(args.param);
  PYDL_CUDA_LOOP(i, n) param[i] = (V(param[i]) * kept - step * update.at(i)).raw;
}

template <class T>
void step(const AdafactorArgs& args, Exec& exec) {
  const int64_t count = args.batch * args.rows * args.cols;
  DeviceScratch<double> memory(exec, 2 + args.batch);
  if (!memory || count <= 0) return;
  SquareSum<T> squares{};
  squares.x = static_cast<const T*>(args.param);
  squares.dst = memory.get();
  reduce_to(exec, 1, count, true, squares);
  Update<T> update{args, memory.get() + 2};
  if (args.variance == nullptr) {
    SquareMeans<T, true> rows{};
    rows.args = args;
    reduce_to(exec, args.batch * args.rows, args.cols, true, rows);
    SquareMeans<T, false> cols{};
    cols.args = args;
    reduce_to(exec, args.batch * args.cols, args.rows, false, cols);
    RowMean<T> mean{};
    mean.args = args;
    mean.dst = memory.get() + 2;
    reduce_to(exec, args.batch, args.rows, true, mean);
  } else {
    PYDL_CUDA_LAUNCH((move_variance<T>), grid_for(count), kBlock, 0, exec, args);
  }
  UpdateSum<T> updates{};
  updates.update = update;
  updates.dst = memory.get() + 1;
  reduce_to(exec, 1, count, true, updates);
  PYDL_CUDA_LAUNCH((apply_update<T>), grid_for(count), kBlock, 0, exec, update,
                   static_cast<const double*>(memory.get()));
}

void adafactor_step_kernel(const AdafactorArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) { step<decltype(zero)>(args, exec); });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(adafactor) { table.adafactor_step = pydl::adafactor_step_kernel; }
