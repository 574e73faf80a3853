// The argument structs of the kernels: plain data, raw pointers, sizes in elements, each pointer with its shape beside
// it.
#pragma once
#include "core/dtype.h"

namespace pydl {

constexpr int kMaxOperands = 4;

// Element-wise kernels. Operand 0 is the destination. shape[0] is the innermost axis; strides in elements, may be 0 or
// negative. Axes are already merged where possible, so the contiguous case has ndim 1 and strides 1.
struct ElementwiseArgs {
  DType dtype;  // of the compute operands; comparison destinations and where-conditions are boolean
  int ndim;
  int64_t count;  // elements in all
  char* ptr[kMaxOperands];
  double p, q;  // the op's parameters
  int64_t shape[kMaxRank];
  int64_t stride[kMaxOperands][kMaxRank];
};

struct CopyArgs {
  DType src_dtype, dst_dtype;
  int ndim;
  int64_t count;
  char* dst;
  const char* src;
  int64_t shape[kMaxRank];  // innermost first, as in ElementwiseArgs
  int64_t dst_stride[kMaxRank];
  int64_t src_stride[kMaxRank];
};

struct FillArgs {
  DType dtype;
  int64_t count;
  void* dst;  // (count), contiguous
  double value;
  int64_t int_value;  // used for the integer dtypes
};

// dst += scale * src. Any dtype but boolean; float16 and bfloat16 add in float32. scale is used by the floating ones
// only.
struct AccumulateArgs {
  DType dtype;
  int64_t count;
  const void* src;  // (count), contiguous
  void* dst;        // (count), contiguous; may be src
  double scale;
};

// Reductions and everything else along one axis see a contiguous tensor as (outer, n, inner), n the axis. n == 1 is
// fine, and any size may be 0. float16 and bfloat16 are converted by the caller, except where a struct says otherwise.
enum class ReduceOp : uint8_t { sum, prod, sum_abs, sum_squares, max, min, max_abs, min_abs, any, all, count_nonzero };

// dst_dtype: sum, prod, sum_abs and sum_squares of integers and booleans are int64 (uint64 from unsigned ones, same
// bits); any and all are boolean, count_nonzero is int64; all else is src_dtype. NaN propagates; it is nonzero. Of n ==
// 0: sums 0, prod 1, max and *_abs the lowest value (-inf; of *_abs 0), min the highest, all true. max_abs and min_abs:
// floating and signed dtypes.
struct ReduceArgs {
  ReduceOp op;
  DType src_dtype, dst_dtype;
  int64_t outer, n, inner;
  const void* src;  // (outer, n, inner)
  void* dst;        // (outer, inner)
  double scale;     // floating sum, sum_abs and sum_squares are multiplied by it: 1, or 1/n for a mean
};

// The first place of the extreme; a NaN is the extreme, as in NumPy. n >= 1.
struct ArgReduceArgs {
  bool max;  // else the minimum
  DType dtype;
  int64_t outer, n, inner;
  const void* src;  // (outer, n, inner)
  int64_t* index;   // (outer, inner)
  void* value;      // (outer, inner) of dtype, or null
};

// log(sum(exp(src))): -inf where all are -inf, +inf where one is, NaN where one is.
struct LogSumExpArgs {
  DType dtype;  // float32 or float64
  int64_t outer, n, inner;
  const void* src;  // (outer, n, inner)
  void* dst;        // (outer, inner)
};

struct MomentsArgs {
  DType dtype;  // float32 or float64
  int64_t outer, n, inner;
  const void* src;  // (outer, n, inner)
  void* mean;       // (outer, inner); NaN of n == 0
  void* m2;         // (outer, inner): the sum of (x - mean)^2; the caller divides by n or n - 1
};

// cumulative_sum, cumulative_prod. Floating ones accumulate in float64; integers wrap around.
struct ScanArgs {
  DType dtype;  // float32, float64 or an integer one; of src and dst
  int64_t outer, n, inner;
  bool reverse;     // from the last to the first (cumulative_sum's gradient)
  const void* src;  // (outer, n, inner)
  void* dst;        // (outer, n, inner); may be src
};

// Stable: equal ones keep their order, ascending and descending. NaN counts as the greatest. Any dtype, half ones
// included.
struct SortArgs {
  DType dtype;
  bool descending;
  int64_t outer, n, inner;
  const void* src;   // (outer, n, inner)
  void* values;      // (outer, n, inner) or null; may be src
  int64_t* indices;  // (outer, n, inner) or null
};

// The k first of a sort: the k largest, descending, or the k smallest, ascending; of equal ones those with the lower
// index.
struct TopKArgs {
  DType dtype;
  bool largest;
  int64_t k;  // 0 <= k <= n
  int64_t outer, n, inner;
  const void* src;   // (outer, n, inner)
  void* values;      // (outer, k, inner) or null
  int64_t* indices;  // (outer, k, inner) or null
};

// normalized[i] = index[i], plus n where negative. *first_bad = the first i with index[i] outside [-n, n), or -1; the
// bad ones are normalized to 0, so that what follows stays in bounds (n == 0 apart). The other index kernels check
// nothing.
struct CheckIndicesArgs {
  const int64_t* index;  // (count)
  int64_t count, n;
  int64_t* normalized;  // (count) or null; may be index
  int64_t* first_bad;   // one element, always written
};

// dst[i] = src[index[i]]: embeddings, take along the first axis, row selection.
struct GatherRowsArgs {
  int64_t count, row_bytes;
  const void* src;       // (rows, row_bytes)
  const int64_t* index;  // (count), each in [0, rows)
  void* dst;             // (count, row_bytes)
};

// dst[index[i]] += src[i], i ascending, so the same bits for any number of threads. Costs nothing for rows that index
// lacks. float32, float64, float16, bfloat16 and integers.
struct ScatterAddRowsArgs {
  DType dtype;
  int64_t count, rows, row;
  const int64_t* index;  // (count), each in [0, rows)
  int64_t skip;          // rows with this index are left out (padding_idx), -1 for none
  const void* src;       // (count, row)
  void* dst;             // (rows, row), added to: the caller fills it first
};

// dst[o, k, i] = src[o, index[o, k, i], i].
struct TakeAlongArgs {
  DType dtype;  // any
  int64_t outer, n_src, n_index, inner;
  const void* src;       // (outer, n_src, inner)
  const int64_t* index;  // (outer, n_index, inner), each in [0, n_src)
  void* dst;             // (outer, n_index, inner)
};

// dst[o, index[o, k, i], i] += or = src[o, k, i], k ascending (so the last of equal indices stays).
struct ScatterAlongArgs {
  DType dtype;      // any; any but boolean where accumulate
  bool accumulate;  // += instead of =
  int64_t outer, n_dst, n_index, inner;
  const int64_t* index;  // (outer, n_index, inner), each in [0, n_dst)
  const void* src;       // (outer, n_index, inner)
  void* dst;             // (outer, n_dst, inner)
};

// Advanced indexing by precomputed element offsets: dst[i * block + b] = src[offset[i] + b], b < block.
struct GatherOffsetsArgs {
  DType dtype;  // any
  int64_t count, block;
  const void* src;
  const int64_t* offset;  // (count), in elements
  void* dst;              // (count, block)
};

// dst[offset[i] + b] += or = src[i * src_stride + b], i ascending. Blocks are either the same or do not overlap.
struct ScatterOffsetsArgs {
  DType dtype;      // any; any but boolean where accumulate
  bool accumulate;  // += instead of =
  int64_t count, block;
  const int64_t* offset;  // (count), in elements, each in [0, dst_extent - block]
  const void* src;        // (count, block) where src_stride == block
  int64_t src_stride;     // block, or 0: the same block for all
  void* dst;
  int64_t dst_extent;  // elements that dst may be addressed within: only a guide for splitting the work
};

// softmax and log_softmax over n. A row of -inf alone gives NaN, as in PyTorch.
struct SoftmaxArgs {
  DType dtype;  // float32 or float64
  bool log;
  int64_t outer, n, inner;
  const void* src;  // (outer, n, inner)
  void* dst;        // (outer, n, inner); may be src
};

struct SoftmaxBackwardArgs {
  DType dtype;
  bool log;
  int64_t outer, n, inner;
  const void* y;    // (outer, n, inner): what softmax wrote
  const void* d_y;  // (outer, n, inner)
  void* d_x;        // (outer, n, inner); may be d_y or y
};

enum class Reduction : uint8_t { none, mean, sum };

// torch.nn.functional.cross_entropy of logits (outer, C, inner), except that a mean of which all targets are ignored is
// 0. Exactly one of target and target_probability is set. With target, a mean divides by the sum of the weights of the
// targets that are not ignored; with target_probability, by outer * inner, and ignore_index has no meaning.
struct CrossEntropyArgs {
  DType dtype;  // float32 or float64: of all void pointers
  Reduction reduction;
  int64_t outer, classes, inner;
  const void* logits;              // (outer, C, inner)
  const int64_t* target;           // (outer, inner), or null
  const void* target_probability;  // (outer, C, inner), or null
  const void* weight;              // (C), or null: all 1
  int64_t ignore_index;
  double label_smoothing;  // in [0, 1]
  void* loss;              // (outer, inner) where reduction is none, else one element
  void* ws_lse;        // (2, outer, inner): each row's largest logit x_max, then log(sum(exp(x - x_max))); for backward
  double* ws_divisor;  // one element: what the mean divided by, 1 for none and sum; for backward
  int64_t*
      first_bad;  // one element: the first place of target neither in [0, C) nor ignore_index, or -1; such are ignored
};

struct CrossEntropyBackwardArgs {
  CrossEntropyArgs forward;    // as it was called, the workspaces filled; loss and first_bad are not read
  const void* d_loss;          // as loss
  void* d_logits;              // (outer, C, inner) or null; written; may be logits where d_target_probability is null
  void* d_target_probability;  // (outer, C, inner) or null; written
};

// y = (x - mean) * invstd * weight + bias for each channel, then max(y, 0) where relu. With batch_statistics the mean
// and the biased variance are those of x, and the running ones move towards them; else the running ones are used.
struct BatchNormArgs {
  DType dtype;  // float32 or float64, of all pointers
  bool batch_statistics, relu;
  int64_t outer, channels, inner;
  const void* x;       // (outer, C, inner)
  const void* weight;  // (C), or null: all 1
  const void* bias;    // (C), or null: all 0
  void* running_mean;  // (C), or null where batch_statistics
  void* running_var;   // (C), or null where batch_statistics; moves towards the unbiased variance
  double eps, momentum;
  void* ws_mean;    // (C): what was subtracted; for backward
  void* ws_invstd;  // (C): 1 / sqrt(variance + eps); for backward
  void* y;          // (outer, C, inner)
};

struct BatchNormBackwardArgs {
  BatchNormArgs forward;  // as it was called, the workspaces filled; y and the running statistics are not read
  const void* d_y;        // (outer, C, inner)
  void* d_x;              // (outer, C, inner) or null; written; may be d_y
  void* d_weight;         // (C) or null; written
  void* d_bias;           // (C) or null; written
};

// y = (x - mean) * invstd * weight + bias for each row; of rms, mean is 0 and invstd is 1 / sqrt(mean(x^2) + eps).
struct LayerNormArgs {
  DType dtype;  // float32 or float64, of all pointers
  bool rms;
  int64_t rows, n;
  const void* x;       // (rows, n)
  const void* weight;  // (n), or null: all 1
  const void* bias;    // (n), or null: all 0
  double eps;
  void* ws_mean;    // (rows); for backward
  void* ws_invstd;  // (rows); for backward
  void* y;          // (rows, n)
};

struct LayerNormBackwardArgs {
  LayerNormArgs forward;  // as it was called, the workspaces filled; y is not read
  const void* d_y;        // (rows, n)
  void* d_x;              // (rows, n) or null; written
  void* d_weight;         // (n) or null; written
  void* d_bias;           // (n) or null; written
};

// y = (x - mean) * invstd * weight + bias: mean and invstd of each group of C / groups channels of each sample, weight
// and bias of each channel.
struct GroupNormArgs {
  DType dtype;  // float32 or float64, of all pointers
  bool last;    // memory is (N, S, C), else (N, C, S)
  int64_t batch, channels, inner, groups;
  const void* x;
  const void* weight;  // (C), or null: all 1
  const void* bias;    // (C), or null: all 0
  double eps;
  void* ws_mean;    // (N, groups); for backward
  void* ws_invstd;  // (N, groups); for backward
  void* y;          // as x
};

struct GroupNormBackwardArgs {
  GroupNormArgs forward;  // as it was called, the workspaces filled; y is not read
  const void* d_y;        // as x
  void* d_x;              // as x, or null; written
  void* d_weight;         // (C) or null; written
  void* d_bias;           // (C) or null; written
};

// Pooling of channels-last images over windows that are given axis by axis: output o of axis a sees the places
// begin[a][o], begin[a][o] + step[a], ... below end[a][o], of which there is at least one. An average is divided by
// divisor[a][o] of each axis, or by divisor_override where that is not 0. Place p of axis a is seen by no other outputs
// than cover_begin[a][p] ... cover_end[a][p] - 1.
struct PoolArgs {
  DType dtype;  // float32 or float64: of x and y
  int64_t batch, channels;
  int64_t in[3], out[3];          // depth, height, width
  int64_t step[3], window[3];     // window: the most places that an output sees
  const int64_t* begin[3];        // (out[a])
  const int64_t* end[3];          // (out[a])
  const int64_t* divisor[3];      // (out[a]); averages only
  const int64_t* cover_begin[3];  // (in[a]); backward only
  const int64_t* cover_end[3];    // (in[a]); backward only
  double divisor_override;
  const void* x;   // (N, D, H, W, C); backward writes it: the gradient
  const void* y;   // (N, oD, oH, oW, C); backward reads it: the gradient
  void* ws_place;  // (N, oD, oH, oW, C): which place of its window is the largest, counted row by row in a window of
                   // full size; uint8 where that has at most 256, else int32. Null where max_pool need not tell
  int64_t* index;  // (N, oD, oH, oW, C): max_pool_indices writes the place's number in its image
};

// A separable linear map of channels-last images: place p of axis a of y is the sum of weight[a][e] times place
// source[a][e] of x, for e from first[a][p] to first[a][p + 1] - 1.
struct ResampleArgs {
  DType dtype;  // float32 or float64: of x and y
  int64_t batch, channels;
  int64_t in[3], out[3];     // depth, height, width
  const int64_t* first[3];   // (out[a] + 1)
  const int64_t* source[3];  // (first[a][out[a]])
  const double* weight[3];   // (first[a][out[a]])
  const void* x;             // (N, D, H, W, C)
  void* y;                   // (N, oD, oH, oW, C)
};

// Random numbers by philox.h's layout: element i depends on (seed, position, i) alone. Blocks to reserve: ceil(count /
// 4) for 32-bit elements, ceil(count / 2) for 64-bit ones.
//   random_bits         uint32, int32, uint64 or int64
//   random_uniform      [low, high), float32 or float64
//   random_normal       mean low, standard deviation high, float32 or float64
//   random_exponential  rate low, float32 or float64: -log(u) / rate
//   random_integers     int64: [int_low, int_high), int_high > int_low
//   random_permutation  int64: of 0 ... count - 1
struct RandomArgs {
  DType dtype;
  int64_t count;
  void* dst;  // (count)
  uint64_t seed, position;
  double low, high;
  int64_t int_low, int_high;
};

// 1 with the given probability, else 0. Element i takes the 32-bit word i: ceil(count / 4) blocks.
struct BernoulliArgs {
  DType dtype;  // float32 or float64: of probability and dst
  int64_t count;
  const void* probability;  // (count), or null: p for all
  double p;
  void* dst;  // (count)
  uint64_t seed, position;
};

// dst = keep * src / (1 - p), keep from the 32-bit word i: ceil(count / 4) blocks. The gradient is the same kernel
// applied to it, with the same seed and position. p == 1 gives zeros.
struct DropoutArgs {
  DType dtype;  // float32 or float64
  int64_t count;
  const void* src;  // (count)
  void* dst;        // (count); may be src
  double p;
  uint64_t seed, position;
};

// Categories drawn from rows of unnormalized probabilities. With replacement: ceil(rows * samples / 2) blocks; without:
// ceil(rows * n / 2) blocks, and a row needs at least `samples` nonzero probabilities.
struct MultinomialArgs {
  DType dtype;  // float32 or float64
  bool replacement;
  int64_t rows, n, samples;
  const void* probability;  // (rows, n), finite and >= 0
  int64_t* dst;             // (rows, samples)
  uint64_t seed, position;
  int64_t*
      first_bad;  // one element: the first row that cannot be drawn from (negative, not finite, too few nonzero), or -1
};

// Optimizer steps and what goes with them, over many contiguous tensors in one call. float32 or float64, one dtype a
// call; sizes[i] is the number of elements of tensor i; no two tensors overlap.

// torch.optim.SGD's formula.
struct SgdArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  void* const* params;
  const void* const* grads;
  void* const* buffers;  // momentum buffers, or null where momentum is 0
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
  bool first;  // buffers are written (with the gradient) and not read
};

// torch.optim.Adam's formula, or AdamW's where decoupled.
struct AdamArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  void* const* params;
  const void* const* grads;
  void* const* exp_avgs;
  void* const* exp_avg_sqs;
  void* const* max_exp_avg_sqs;  // or null: no amsgrad
  double step;                   // 1 at the first call
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled, maximize;
};

// total_norm: the norm of all elements as one vector. order: infinity or > 0.
struct NormArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  const void* const* data;
  double order;
  double* result;
};

// scale_many: x *= low. clip_many: x = min(max(x, low), high), NaN stays.
struct ManyArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  void* const* data;
  double low, high;
};

// dst = activation(alpha * a @ b + beta * dst + bias), for each of `batch` matrices.
struct GemmArgs {
  DType dtype;  // float32 or float64
  int64_t m, n, k, batch;
  const void* a;     // (batch, m, k), strides below in elements, either of row and column stride may be 1 or neither
  const void* b;     // (batch, k, n)
  void* dst;         // (batch, m, n), column stride 1
  const void* bias;  // (n) or null
  int64_t a_batch, a_row, a_col;
  int64_t b_batch, b_row, b_col;
  int64_t dst_batch, dst_row;
  double alpha, beta;  // beta == 0 never reads dst
  int activation;      // 0 none, 1 relu, 2 tanh, 3 sigmoid
};

// One direction of one layer, all T steps. G = gates: 1 (Elman), 4 (LSTM: i f g o), 3 (GRU: r z n). Weights in
// PyTorch's layout. lengths may be null (all T). Where t >= lengths[b]: y is 0 and the state stays what it was at the
// last valid step. reverse: steps are taken from each row's last valid one down to 0, y stays at its own time index.
struct RecurrentForwardArgs {
  DType dtype;  // float32 or float64
  int64_t steps, batch, input_size, hidden_size;
  bool reverse;
  bool relu;      // Elman only: relu instead of tanh
  const void* x;  // (T, B, D): x[t * x_step + b * x_batch + d]
  int64_t x_step, x_batch;
  const void* h0;          // (B, H) contiguous, null means zeros
  const void* c0;          // (B, H) LSTM only, null means zeros
  const void* w_ih;        // (G*H, D) contiguous
  const void* w_hh;        // (G*H, H) contiguous
  const void* b_ih;        // (G*H) or null
  const void* b_hh;        // (G*H) or null
  const int64_t* lengths;  // (B) or null
  void* y;                 // (T, B, H): y[t * y_step + b * y_batch + h]
  int64_t y_step, y_batch;
  void* h_n;  // (B, H)
  void* c_n;  // (B, H) LSTM only
  // What backward needs; null in inference. ws_gates: activated gates (T, B, G*H); ws_cell (T, B, H): LSTM c_t, GRU the
  // recurrent part of n before r is applied (W_hn h + b_hn); Elman needs neither (y has it). All in time order,
  // contiguous.
  void* ws_gates;
  void* ws_cell;
};

struct RecurrentBackwardArgs {
  RecurrentForwardArgs forward;  // as it was called, y and the workspaces filled
  const void* d_y;               // (T, B, H) strides below, or null
  int64_t d_y_step, d_y_batch;
  const void* d_h_n;  // (B, H) or null
  const void* d_c_n;  // (B, H) or null
  void* d_x;          // (T, B, D): strides below, or null where not wanted; written, not accumulated
  int64_t d_x_step, d_x_batch;
  void* d_h0;    // (B, H) or null; written
  void* d_c0;    // (B, H) or null; written
  void* d_w_ih;  // (G*H, D) or null; written
  void* d_w_hh;  // (G*H, H) or null; written
  void* d_b_ih;  // (G*H) or null; written
  void* d_b_hh;  // (G*H) or null; written
};

}  // namespace pydl
