// The steps of a recurrent layer on the device, forward and backward, for any cell. The layout is recurrent_plan.h's,
// the cells are recurrent_cells.h's, what comes before and after the steps is recurrent.cu's.
//
// At each step a block multiplies the states of its rows (all units of them, written by all blocks of the rows the step
// before) by its slice of w_hh and applies the cell to its own units. A thread holds `each` rows times the gates of one
// unit (backward: times `each` units); `lanes` neighbouring threads share the sums and add theirs in a fixed order.
//
// Bound by shared memory and FMA at large batches, by the meeting of the blocks once a step at small ones. The scheme
// of persistent weights is Diamos et al., "Persistent RNNs" (2016).
#pragma once
#include "backend/cuda/gemm_tile.h"
#include "backend/cuda/recurrent_cells.h"
#include "backend/cuda/recurrent_plan.h"

namespace pydl {
namespace {

// What both passes know of the sequence. By value in the kernel's parameters.
template <class T>
struct SequenceView {
  int64_t steps, batch, hidden, width;  // width = gates * hidden
  bool reverse, relu;
  const int64_t* lengths;
  const T* h0;
  const T* c0;
  T* y;
  int64_t y_step, y_batch;
  T* ws_gates;  // (T, B, width) or null
  T* ws_cell;   // (T, B, H) or null

  __device__ int64_t time(int64_t step) const { return reverse ? steps - 1 - step : step; }
  __device__ bool valid(int64_t t, int64_t b) const { return lengths == nullptr || t < lengths[b]; }
  // Whether the step at time t is the first one that is taken for row b.
  __device__ bool first(int64_t t, int64_t b) const {
    if (!reverse) return t == 0;
    const int64_t end = lengths == nullptr || lengths[b] > steps ? steps : lengths[b];
    return t == end - 1;
  }
  // The state before the step at time t, unit j; null means zero.
  __device__ const T* h_before(int64_t t, int64_t b, int64_t j) const {
    if (first(t, b)) return h0 == nullptr ? nullptr : h0 + b * hidden + j;
    return y + (reverse ? t + 1 : t - 1) * y_step + b * y_batch + j;
  }
  __device__ const T* c_before(int64_t t, int64_t b, int64_t j) const {
    if (first(t, b)) return c0 == nullptr ? nullptr : c0 + b * hidden + j;
    return ws_cell + ((reverse ? t + 1 : t - 1) * batch + b) * hidden + j;
  }
};

template <class T>
struct ForwardSteps {
  SequenceView<T> s;
  RecurrentPlan plan;
  int64_t begin, end;  // steps
  int64_t first_row;   // of the batch
  const T* in;         // the gates' share of the input: (T, B, width) from time in_time on, or (rows of a table, width)
  int64_t in_time;
  const int64_t* x_rows;  // or null
  int64_t x_rows_step, x_rows_batch;
  const T* w_hh;
  const T* last_bias;  // (H) or null
  T *h_even, *h_odd;   // (B, H) the state before steps of that parity
  T* c;                // (B, H)
};

template <class T>
struct BackwardSteps {
  SequenceView<T> s;
  RecurrentPlan plan;
  int64_t begin, end;  // steps, taken from end - 1 down to begin; begin may be -1: the gradient of the first state
  int64_t first_row;
  const T* w_hh;
  const T* d_y;
  int64_t d_y_step, d_y_batch;
  T* d_gates;  // (T, B, width)
  T* d_last;   // (T, B, H) GRU
  T* d_h;      // (B, H)
  T* d_c;      // (B, H) LSTM
};

// Thread places of a block, see RecurrentPlan.
struct StepThread {
  int lane, unit, group, unit_threads, groups;
  __device__ StepThread(const RecurrentPlan& plan, int units_each) {
    const int thread = static_cast<int>(threadIdx.x);
    unit_threads = plan.units / units_each;
    lane = thread % plan.lanes;
    unit = thread / plan.lanes % unit_threads;
    group = thread / plan.lanes / unit_threads;
    groups = kRecurrentThreads / (plan.lanes * unit_threads);
  }
};

// sum[r][c] += the products of `length` values of states and weights, this lane's share of them.
template <class T, int R, int C>
__device__ __forceinline__ void step_products(const T* const (&weights)[C], const T* const (&states)[R], int length,
                                              int lane, int lanes, T (&sum)[R][C]) {
  using Four = Pack<T, 4>;
  for (int k = 4 * lane; k < length; k += 4 * lanes) {
    Four w[C], h[R];
#pragma unroll
    for (int c = 0; c < C; ++c) w[c] = *reinterpret_cast<const Four*>(weights[c] + k);
#pragma unroll
    for (int r = 0; r < R; ++r) h[r] = *reinterpret_cast<const Four*>(states[r] + k);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < C; ++c) sum[r][c] += h[r].at[i] * w[c].at[i];
      }
    }
  }
}

// All lanes get the sums of all lanes.
template <class T, int R, int C>
__device__ __forceinline__ void add_lanes(int lanes, T (&sum)[R][C]) {
  for (int distance = 1; distance < lanes; distance *= 2) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < C; ++c) sum[r][c] += __shfl_xor_sync(kFullWarp, sum[r][c], distance);
    }
  }
}

// The sums of one step: weight(column, k) for the columns of the block's slice, state(row, k) for its rows.
// shared: the slice's weights, then the rows' states.
template <class T, int R, int C, class Weight, class State>
__device__ __forceinline__ void step_sums(const RecurrentPlan& plan, const StepThread& me, T* shared, int columns,
                                          int64_t depth, int rows_between, int columns_between, Weight weight,
                                          State state, T (&sum)[R][C]) {
  T* states = shared + columns * plan.weight_pitch;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t k0 = 0; k0 < depth; k0 += kStateChunk) {
    const int left = static_cast<int>(depth - k0 < kStateChunk ? depth - k0 : kStateChunk);
    const int length = (left + 4 * plan.lanes - 1) / (4 * plan.lanes) * (4 * plan.lanes);  // <= kStateChunk
    __syncthreads();  // whoever read the chunk before is done
    for (int i = thread; i < plan.rows * length; i += kRecurrentThreads) {
      const int row = i / length, k = i % length;
      states[row * kStatePitch + k] = k < left ? state(row, k0 + k) : T(0);
    }
    if (!plan.resident) {
      for (int i = thread; i < columns * length; i += kRecurrentThreads) {
        const int column = i / length, k = i % length;
        shared[column * plan.weight_pitch + k] = k < left ? weight(column, k0 + k) : T(0);
      }
    }
    __syncthreads();
    const T* weights[C];
    const T* rows[R];
#pragma unroll
    for (int c = 0; c < C; ++c)
      weights[c] = shared + (me.unit + c * columns_between) * plan.weight_pitch + (plan.resident ? k0 : 0);
#pragma unroll
    for (int r = 0; r < R; ++r) rows[r] = states + (me.group + r * rows_between) * kStatePitch;
    step_products(weights, rows, length, me.lane, plan.lanes, sum);
  }
  add_lanes(plan.lanes, sum);
}

template <class T, class Weight>
__device__ __forceinline__ void load_resident(const RecurrentPlan& plan, T* shared, int columns, int64_t depth,
                                              Weight weight) {
  if (!plan.resident) return;
  const int pitch = plan.weight_pitch;
  for (int i = static_cast<int>(threadIdx.x); i < columns * pitch; i += kRecurrentThreads) {
    const int column = i / pitch, k = i % pitch;
    shared[i] = k < depth ? weight(column, int64_t{k}) : T(0);
  }
}

// All blocks of the grid meet, where others write what this one reads.
__device__ __forceinline__ void end_step(bool last) {
  if (last) return;
  if (gridDim.x > 1) {
    grid_sync();
  } else {
    __syncthreads();
  }
}

template <class T, template <class> class CellOf, int R>
__global__ void __launch_bounds__(kRecurrentThreads) forward_steps(ForwardSteps<T> p) {
  using Cell = CellOf<T>;
  constexpr int G = Cell::kGates;
  PYDL_CUDA_SHARED(T, shared);
  const SequenceView<T>& s = p.s;
  const StepThread me(p.plan, 1);
  const int64_t first_unit = int64_t{blockIdx.x} * p.plan.units,
                first_row = p.first_row + int64_t{blockIdx.y} * p.plan.rows;
  const int64_t unit = first_unit + me.unit;
  const int columns = G * p.plan.units;
  const auto weight = [&](int column, int64_t k) {
    const int64_t g = column / p.plan.units, j = first_unit + column % p.plan.units;
    return j < s.hidden ? p.w_hh[(g * s.hidden + j) * s.hidden + k] : T(0);
  };
  load_resident(p.plan, shared, columns, s.hidden, weight);
  const T last_bias = p.last_bias == nullptr || unit >= s.hidden ? T(0) : p.last_bias[unit];

  for (int64_t step = p.begin; step < p.end; ++step) {
    const int64_t t = s.time(step);
    const T* h_prev = step % 2 == 0 ? p.h_even : p.h_odd;
    T* h_next = step % 2 == 0 ? p.h_odd : p.h_even;
    T in[R][G], h_own[R], sum[R][G];
    bool mine[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t b = first_row + me.group + r * me.groups;
      mine[r] = b < s.batch && unit < s.hidden && r % p.plan.lanes == me.lane;
      h_own[r] = mine[r] ? __ldcg(h_prev + b * s.hidden + unit) : T(0);
      const int64_t row = p.x_rows != nullptr && mine[r] ? p.x_rows[t * p.x_rows_step + b * p.x_rows_batch]
                                                         : (t - p.in_time) * s.batch + b;
#pragma unroll
      for (int g = 0; g < G; ++g) {
        in[r][g] = mine[r] ? p.in[row * s.width + g * s.hidden + unit] : T(0);
        sum[r][g] = T(0);
      }
    }
    const auto state = [&](int row, int64_t k) {
      const int64_t b = first_row + row;
      return b < s.batch ? __ldcg(h_prev + b * s.hidden + k) : T(0);
    };
    step_sums(p.plan, me, shared, columns, s.hidden, me.groups, p.plan.units, weight, state, sum);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (!mine[r]) continue;
      const int64_t b = first_row + me.group + r * me.groups, own = b * s.hidden + unit;
      const int64_t at = t * s.batch + b;
      T* cell = s.ws_cell == nullptr ? nullptr : s.ws_cell + at * s.hidden + unit;
      T* y = s.y + t * s.y_step + b * s.y_batch + unit;
      if (s.valid(t, b)) {
        const ForwardPlace<T> place{s.ws_gates == nullptr ? nullptr : s.ws_gates + at * s.width + unit,
                                    Cell::kHasCell ? p.c + own : nullptr,
                                    cell,
                                    h_own[r],
                                    last_bias,
                                    s.hidden,
                                    s.relu};
        const T h = Cell::forward(place, in[r], sum[r]);
        *y = h;
        __stcg(h_next + own, h);
      } else {  // the state stays as it is
        *y = T(0);
        __stcg(h_next + own, h_own[r]);
        if (Cell::kHasCell && cell != nullptr) *cell = p.c[own];
      }
    }
    end_step(step + 1 == p.end);
  }
}

template <class T, template <class> class CellOf, int R>
__global__ void __launch_bounds__(kRecurrentThreads) backward_steps(BackwardSteps<T> p) {
  using Cell = CellOf<T>;
  PYDL_CUDA_SHARED(T, shared);
  const SequenceView<T>& s = p.s;
  const StepThread me(p.plan, R);
  const int64_t first_unit = int64_t{blockIdx.x} * p.plan.units,
                first_row = p.first_row + int64_t{blockIdx.y} * p.plan.rows;
  const int columns = p.plan.units;
  const int64_t plain = Cell::kSplitsLast ? s.width - s.hidden : s.width;
  const auto weight = [&](int column, int64_t k) {
    const int64_t j = first_unit + column;
    return j < s.hidden ? p.w_hh[k * s.hidden + j] : T(0);
  };
  load_resident(p.plan, shared, columns, s.width, weight);

  for (int64_t step = p.end - 1; step >= p.begin; --step) {
    T sum[R][R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) sum[r][c] = T(0);
    }
    if (step + 1 < s.steps) {
      const int64_t at = s.time(step + 1) * s.batch;
      const auto state = [&](int row, int64_t k) {
        const int64_t b = first_row + row;
        if (b >= s.batch) return T(0);
        return k < plain ? __ldcg(p.d_gates + (at + b) * s.width + k)
                         : __ldcg(p.d_last + (at + b) * s.hidden + (k - plain));
      };
      step_sums(p.plan, me, shared, columns, s.width, me.groups, me.unit_threads, weight, state, sum);
    }
    const int64_t t = s.time(step);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) {
        const int64_t b = first_row + me.group + r * me.groups, unit = first_unit + me.unit + c * me.unit_threads;
        if (b >= s.batch || unit >= s.hidden || (r * R + c) % p.plan.lanes != me.lane) continue;
        const int64_t own = b * s.hidden + unit, at = t * s.batch + b;
        T d_h = p.d_h[own] + sum[r][c];
        if (step < 0 || !s.valid(t, b)) {  // the state passed through, and so does its gradient
          p.d_h[own] = d_h;
          if (step < 0) continue;
          for (int g = 0; g < Cell::kGates; ++g) __stcg(p.d_gates + at * s.width + g * s.hidden + unit, T(0));
          if (Cell::kSplitsLast) __stcg(p.d_last + at * s.hidden + unit, T(0));
          continue;
        }
        if (p.d_y != nullptr) d_h += p.d_y[t * p.d_y_step + b * p.d_y_batch + unit];
        const BackwardPlace<T> place{Cell::kGates > 1 ? s.ws_gates + at * s.width + unit : nullptr,
                                     Cell::kGates > 1 ? s.ws_cell + at * s.hidden + unit : nullptr,
                                     Cell::kHasCell ? s.c_before(t, b, unit) : nullptr,
                                     Cell::kSplitsLast ? s.h_before(t, b, unit) : nullptr,
                                     s.y + t * s.y_step + b * s.y_batch + unit,
                                     p.d_gates + at * s.width + unit,
                                     Cell::kSplitsLast ? p.d_last + at * s.hidden + unit : nullptr,
                                     p.d_h + own,
                                     Cell::kHasCell ? p.d_c + own : nullptr,
                                     s.hidden,
                                     s.relu};
        Cell::backward(place, d_h);
      }
    }
    end_step(step == p.begin);
  }
}

}  // namespace
}  // namespace pydl
