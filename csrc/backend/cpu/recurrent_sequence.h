// What the recurrent kernels share: packed weights, the loop over steps, the sharing of work between threads, and the
// gradients of weights and inputs. The cells themselves (gates and their derivatives) are in recurrent_rnn.h, _lstm.h
// and _gru.h.
//
// A cell is a struct with kGates, kHasCell (LSTM's c), kSplitsLast (GRU: the last gate's recurrent part is kept apart)
// and two static functions over a range of units of one row: forward and backward.
//
// Forward: the products with w_ih are made for a chunk of steps at once, those with w_hh step by step into the same
// place, and the gates follow while it is in cache. Rows of the batch never meet, so a thread can take some rows
// through the whole sequence without waiting for anyone; where the recurrent weights exceed a core's cache, threads
// take hidden units instead, step by step, so that each weight is read once for all rows. Either way every sum has the
// same order, so the choice may depend on the number of threads.
//
// Where the input is rows of a table (an embedding), the product with w_ih is made once for each row of the table, not
// for each step of each sequence, and so are its gradients: the same sums, picked and added up by row.
//
// The scheme of merged input products and once-packed recurrent weights is common to Appleyard et al., "Optimizing
// Performance of Recurrent Neural Networks on GPUs" (2016). Whole passes at batch 50 reach 70 to 83 % of two Zen 3
// cores (204 GFLOP/s), by the CPU time of the slower.
#pragma once
#include "backend/cpu/gemm_kernel.h"

namespace pydl {
namespace {

// A matrix (gates, k, cols) packed in panels for multiply_block: per gate and per tile_depth(k) rows,
// [panels][depth][kCols]. Or, where each weight is used only a few times, left in place as rows (gates * cols, k).
template <class T>
struct Weights {
  int64_t gates, k, cols, panels;
  const T* data;
  bool packed;
  bool pairs = false;  // elements are pairs of bfloat16 along k, in activations too

  const T* block(int64_t gate, int64_t p0, int64_t depth, int64_t panel) const {
    return data + (gate * k + p0) * panels * GemmTile<T>::kCols + panel * depth * GemmTile<T>::kCols;
  }
};

template <class T>
int64_t packed_size(int64_t gates, int64_t k, int64_t cols) {
  return gates * k * round_up(cols, int64_t{GemmTile<T>::kCols});
}

// Element (p, j) of gate g is src[g * gate + p * row + j * col].
template <class T>
Weights<T> pack_weights(Exec& exec, int64_t gates, int64_t k, int64_t cols, const T* src, int64_t gate, int64_t row,
                        int64_t col, T* dst) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const Weights<T> w{gates, k, cols, ceil_div(cols, kCols), dst, true};
  const int64_t full_depth = tile_depth(k);
  const int64_t grain = 1 + 8192 / (k * kCols + 1);
  parallel_for(exec, gates * w.panels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t g = i / w.panels, q = i % w.panels;
      const int64_t width = cols - q * kCols < kCols ? cols - q * kCols : kCols;
      for (int64_t p0 = 0; p0 < k; p0 += full_depth) {
        const int64_t depth = k - p0 < full_depth ? k - p0 : full_depth;
        pack_b(depth, width, src + g * gate + p0 * row + q * kCols * col, row, col,
               const_cast<T*>(w.block(g, p0, depth, q)));
      }
    }
  });
  return w;
}

// Rows of a product, in groups (steps): the fields of BlockSpec.
struct RowSet {
  int64_t rows, groups;
  int64_t a_row, a_group, dst_row, dst_group;
};
// The longer of the two axes makes better tiles.
inline RowSet longer_first(const RowSet& r) {
  if (r.rows >= r.groups) return r;
  return {r.groups, r.rows, r.a_group, r.a_row, r.dst_group, r.dst_row};
}

// dst = a @ w[gate] + beta * dst + bias for the columns of panels [q0, q1); dst and bias point to column 0. Packed
// weights leave time to bring what is needed `soon` near.
template <class T>
void multiply_weights(Exec& exec, const Weights<T>& w, int64_t gate, int64_t q0, int64_t q1, const RowSet& r,
                      const T* a, T* dst, T beta, const T* bias, Soon soon = {}) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const int64_t j = q0 * kCols;
  const int64_t cols = (w.cols < q1 * kCols ? w.cols : q1 * kCols) - j;
  const T* bias_j = bias == nullptr ? nullptr : bias + j;
  if (!w.packed) {
    const BlockSpec<T> s{w.k, r.a_row, 1, 1, w.k, r.dst_row, T(1), beta};
    for (int64_t group = 0; group < r.groups; ++group)
      multiply_block(exec, s, r.rows, cols, a + group * r.a_group, w.data + (gate * w.cols + j) * w.k,
                     dst + group * r.dst_group + j, bias_j, w.pairs);
    return;
  }
  const int64_t full_depth = tile_depth(w.k);
  for (int64_t p0 = 0; p0 == 0 || p0 < w.k; p0 += full_depth) {
    const int64_t depth = w.k - p0 < full_depth ? w.k - p0 : full_depth;
    const bool last = p0 + full_depth >= w.k;
    const BlockSpec<T> s{depth,         r.a_row,   1,           kCols,
                         depth * kCols, r.dst_row, T(1),        p0 == 0 ? beta : T(1),
                         r.groups,      r.a_group, r.dst_group, soon.part(p0, depth, w.k)};
    multiply_block(exec, s, r.rows, cols, a + p0, w.block(gate, p0, depth, q0), dst + j, last ? bias_j : nullptr,
                   w.pairs);
  }
}

// How a sequence is shared between threads.
enum class Share { kNone, kRows, kUnits };

constexpr int64_t kSharedWork = 1 << 21;         // multiply-adds of a sequence from which threads pay
constexpr int64_t kSharedStepWork = 1 << 20;     // and of a step, where each one costs a fork
constexpr int64_t kSharedStepWeights = 1 << 18;  // or weights read in a step by few rows
constexpr int64_t kCoreCacheBytes = 1 << 20;     // recurrent weights beyond this are better read once for all rows

template <class T>
bool weights_fit_core(int64_t width, int64_t hidden) {
  return width * hidden * static_cast<int64_t>(sizeof(T)) <= kCoreCacheBytes;
}

template <class T>
Share choose_share(const Exec& exec, int64_t steps, int64_t batch, int64_t input, int64_t hidden, int64_t gates) {
  const int64_t weights = gates * hidden * hidden;
  const int64_t rows = batch / exec.threads;
  const bool step_pays = batch * weights >= kSharedStepWork || weights >= kSharedStepWeights;
  if (exec.threads == 1 || steps * batch * gates * hidden * (input + hidden) < kSharedWork) return Share::kNone;
  const bool fits = weights_fit_core<T>(gates * hidden, hidden);
  if (rows >= 48 || (rows >= 4 && fits) || (rows >= 1 && !step_pays)) return Share::kRows;
  return step_pays ? Share::kUnits : Share::kNone;
}

// Vectors over units [begin, end) of a row, the last one in part: body(io, u) loads and stores through io.
template <class T>
struct WholeVector {
  PYDL_INLINE Vec<T> load(const T* p) const { return Vec<T>::load(p); }
  PYDL_INLINE void store(T* p, Vec<T> v) const { v.store(p); }
};
template <class T>
struct PartVector {
  int lanes;
  PYDL_INLINE Vec<T> load(const T* p) const { return Vec<T>::load_partial(p, lanes); }
  PYDL_INLINE void store(T* p, Vec<T> v) const { v.store_partial(p, lanes); }
};
template <class T, class F>
PYDL_INLINE void for_units(int64_t begin, int64_t end, F body) {
  int64_t u = begin;
  for (; u + Vec<T>::size <= end; u += Vec<T>::size) body(WholeVector<T>{}, u);
  if (u < end) body(PartVector<T>{static_cast<int>(end - u)}, u);
}
template <class T>
void copy_units(int64_t begin, int64_t end, const T* src, T* dst) {
  __builtin_memcpy(dst + begin, src + begin, static_cast<size_t>(end - begin) * sizeof(T));
}
template <class T>
void zero_units(int64_t begin, int64_t end, T* dst) {
  __builtin_memset(dst + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
}
// Null stays null.
template <class T>
PYDL_INLINE T* offset(T* p, int64_t count) {
  return p == nullptr ? nullptr : p + count;
}
template <class T>
void copy_or_zero(int64_t count, const T* src, T* dst) {
  if (src != nullptr) {
    copy_units(0, count, src, dst);
  } else {
    zero_units(0, count, dst);
  }
}

// RecurrentForwardArgs with types, and what follows from them.
template <class T>
struct Sequence {
  int64_t steps, batch, input, hidden, width;  // width = gates * hidden
  bool reverse, relu;
  bool pairs;     // x and the weights are pairs of bfloat16: `input`, `depth` and the strides of x count them
  int64_t depth;  // of the recurrent product: elements of a row of w_hh
  const T *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh;
  const int64_t *x_rows, *lengths;
  T *y, *h_n, *c_n, *ws_gates, *ws_cell;
  int64_t x_step, x_batch, x_rows_step, x_rows_batch, x_count, y_step, y_batch;

  Sequence(const RecurrentForwardArgs& f, int64_t gates)
      : steps(f.steps),
        batch(f.batch),
        input(f.dtype == DType::bfloat16 ? f.input_size / 2 : f.input_size),
        hidden(f.hidden_size),
        width(gates * f.hidden_size),
        reverse(f.reverse),
        relu(f.relu),
        pairs(f.dtype == DType::bfloat16),
        depth(pairs ? hidden / 2 : hidden),
        x(static_cast<const T*>(f.x)),
        h0(static_cast<const T*>(f.h0)),
        c0(static_cast<const T*>(f.c0)),
        w_ih(static_cast<const T*>(f.w_ih)),
        w_hh(static_cast<const T*>(f.w_hh)),
        b_ih(static_cast<const T*>(f.b_ih)),
        b_hh(static_cast<const T*>(f.b_hh)),
        x_rows(f.x_rows),
        lengths(f.lengths),
        y(static_cast<T*>(f.y)),
        h_n(static_cast<T*>(f.h_n)),
        c_n(static_cast<T*>(f.c_n)),
        ws_gates(static_cast<T*>(f.ws_gates)),
        ws_cell(static_cast<T*>(f.ws_cell)),
        x_step(pairs ? f.x_step / 2 : f.x_step),
        x_batch(pairs ? f.x_batch / 2 : f.x_batch),
        x_rows_step(f.x_rows_step),
        x_rows_batch(f.x_rows_batch),
        x_count(f.x_count),
        y_step(f.y_step),
        y_batch(f.y_batch) {}

  // The time index of the s-th step that is taken.
  int64_t time(int64_t s) const { return reverse ? steps - 1 - s : s; }
  int64_t direction() const { return reverse ? -1 : 1; }
  // Steps whose product with w_ih is made at once for `rows` sequences: rows enough for the tiles, few enough for their
  // gates to stay in L2.
  int64_t steps_at_once(int64_t rows) const {
    const int64_t row_bytes = (rows + 1) * width * static_cast<int64_t>(sizeof(T));
    const int64_t enough = ceil_div(48, rows + 1);
    int64_t at_once = (192 << 10) / (row_bytes + 1);
    if (at_once < enough) at_once = enough;
    return at_once < steps ? at_once : steps < 1 ? 1 : steps;
  }
  bool valid(int64_t t, int64_t b) const { return lengths == nullptr || t < lengths[b]; }
  // Whether the step at time t is the first one that is taken for row b.
  bool first(int64_t t, int64_t b) const {
    if (!reverse) return t == 0;
    const int64_t end = lengths == nullptr || lengths[b] > steps ? steps : lengths[b];
    return t == end - 1;
  }
  // The row of the table that sequence b reads at time t.
  int64_t row_of(int64_t t, int64_t b) const { return x_rows[t * x_rows_step + b * x_rows_batch]; }
  // The state before the step at time t, (H); null means zeros.
  const T* h_before(int64_t t, int64_t b) const {
    if (first(t, b)) return h0 == nullptr ? nullptr : h0 + b * hidden;
    return y + (reverse ? t + 1 : t - 1) * y_step + b * y_batch;
  }
};

}  // namespace
}  // namespace pydl
