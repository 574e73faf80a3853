// What comes before and after the steps of a recurrent layer, row by row: biases, rows put side by side for the
// products that give the weights' gradients, sums over rows and over the rows that picked an entry of a table. Each sum
// is in the order of its rows.
#pragma once
#include "backend/cuda/recurrent_steps.h"

namespace pydl {
namespace {

// Both biases belong to the input's product, but for those behind `shared` (GRU's last recurrent one).
template <class T>
__global__ void join_biases(int64_t width, int64_t shared, const T* b_ih, const T* b_hh, T* bias) {
  PYDL_CUDA_LOOP(j, width) {
    bias[j] = (b_ih == nullptr ? T(0) : b_ih[j]) + (b_hh == nullptr || j >= shared ? T(0) : b_hh[j]);
  }
}

// dst (T, B, cols) = src with its strides; zeros where a row is past its sequence, so that nothing there is read.
template <class T>
__global__ void gather_inputs(SequenceView<T> s, int64_t cols, const T* src, int64_t src_step, int64_t src_batch,
                              T* dst) {
  PYDL_CUDA_LOOP(i, s.steps * s.batch * cols) {
    const int64_t j = i % cols, row = i / cols, b = row % s.batch, t = row / s.batch;
    dst[i] = s.valid(t, b) ? src[t * src_step + b * src_batch + j] : T(0);
  }
}

// dst (T, B, H): the state before each step, zeros past a sequence's end.
template <class T>
__global__ void gather_states(SequenceView<T> s, T* dst) {
  PYDL_CUDA_LOOP(i, s.steps * s.batch * s.hidden) {
    const int64_t j = i % s.hidden, row = i / s.hidden, b = row % s.batch, t = row / s.batch;
    const T* h = s.valid(t, b) ? s.h_before(t, b, j) : nullptr;
    dst[i] = h == nullptr ? T(0) : *h;
  }
}

constexpr int kSumCols = 32, kSumLanes = 8;

// parts (gridDim.y, cols): each block adds up its rows of src; lanes of a column are added in order.
template <class T>
__global__ void __launch_bounds__(kSumCols* kSumLanes)
    column_parts(int64_t rows, int64_t cols, const T* src, int64_t rows_each, T* parts) {
  __shared__ T shared[kSumLanes][kSumCols];
  const int column = static_cast<int>(threadIdx.x), lane = static_cast<int>(threadIdx.y);
  const int64_t j = int64_t{blockIdx.x} * kSumCols + column, begin = int64_t{blockIdx.y} * rows_each;
  const int64_t end = begin + rows_each < rows ? begin + rows_each : rows;
  T sum = T(0);
  if (j < cols)
    for (int64_t i = begin + lane; i < end; i += kSumLanes) sum += src[i * cols + j];
  shared[lane][column] = sum;
  __syncthreads();
  if (lane != 0 || j >= cols) return;
  for (int k = 1; k < kSumLanes; ++k) sum += shared[k][column];
  parts[blockIdx.y * cols + j] = sum;
}
template <class T>
__global__ void add_parts(int64_t parts, int64_t cols, const T* src, T* dst) {
  PYDL_CUDA_LOOP(j, cols) {
    T sum = T(0);
    for (int64_t i = 0; i < parts; ++i) sum += src[i * cols + j];
    dst[j] = sum;
  }
}

template <class T>
void column_sums(Exec& exec, int64_t rows, int64_t cols, const T* src, T* dst) {
  if (cols <= 0) return;
  int64_t parts = rows / 256;
  parts = parts < 1 ? 1 : parts > 64 ? 64 : parts;
  const int64_t each = parts_of(rows, parts);
  DeviceScratch<T> sums(exec, parts > 1 ? parts * cols : 0);
  if (parts > 1 && !sums) return;
  const dim3 grid(static_cast<unsigned>(parts_of(cols, kSumCols)), static_cast<unsigned>(parts));
  PYDL_CUDA_LAUNCH((column_parts<T>), grid, dim3(kSumCols, kSumLanes), 0, exec, rows, cols, src, each,
                   parts > 1 ? sums.get() : dst);
  if (parts > 1)
    PYDL_CUDA_LAUNCH((add_parts<T>), dim3(grid_for(cols)), dim3(kBlock), 0, exec, parts, cols, sums.get(), dst);
}

constexpr int kPickThreads = 256, kPickEach = 4;

// sums (entries, width): of entry r, the rows (t, b) of src that picked it, in the order of time and batch. A block
// takes one entry and kPickThreads * kPickEach columns: it looks through all picks, 256 at a time.
template <class T>
__global__ void __launch_bounds__(kPickThreads)
    picked_sums(SequenceView<T> s, const int64_t* x_rows, int64_t x_rows_step, int64_t x_rows_batch, int64_t entries,
                const T* src, T* sums) {
  __shared__ int64_t found[kPickThreads];
  __shared__ int count_of_warp[kPickThreads / 32];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int64_t picks = s.steps * s.batch;
  const int64_t j0 = int64_t{blockIdx.y} * kPickThreads * kPickEach + thread;
  for (int64_t entry = blockIdx.x; entry < entries; entry += gridDim.x) {
    T sum[kPickEach];
#pragma unroll
    for (int e = 0; e < kPickEach; ++e) sum[e] = T(0);
    for (int64_t first = 0; first < picks; first += kPickThreads) {
      const int64_t i = first + thread, t = i / s.batch, b = i % s.batch;
      const bool picked = i < picks && s.valid(t, b) && x_rows[t * x_rows_step + b * x_rows_batch] == entry;
      const unsigned votes = __ballot_sync(kFullWarp, picked);
      if (lane == 0) count_of_warp[warp] = __popc(votes);
      __syncthreads();
      int before = 0, count = 0;
      for (int w = 0; w < kPickThreads / 32; ++w) {
        before += w < warp ? count_of_warp[w] : 0;
        count += count_of_warp[w];
      }
      if (picked) found[before + __popc(votes & ((1u << lane) - 1))] = i;
      __syncthreads();
      for (int k = 0; k < count; ++k) {
        const T* row = src + found[k] * s.width;
#pragma unroll
        for (int e = 0; e < kPickEach; ++e) {
          const int64_t j = j0 + e * kPickThreads;
          if (j < s.width) sum[e] += row[j];
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int e = 0; e < kPickEach; ++e) {
      const int64_t j = j0 + e * kPickThreads;
      if (j < s.width) sums[entry * s.width + j] = sum[e];
    }
  }
}

}  // namespace
}  // namespace pydl
