// The argument structs of the kernels: plain data, raw pointers, sizes in elements, each pointer with its shape beside
// it.
//
// On a device, all pointers are to its memory but these, which are the host's: what a kernel reports (first_bad,
// result), sizes and lists of pointers, numbers for each tensor (l1, l2), and tables of places (begin, end, first,
// source, weight, map). A device waits for what it reports, and reports nothing where that pointer is null.
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

// dst_dtype: sum and prod of integers and booleans are int64 (uint64 from unsigned ones, same bits); any and all are
// boolean, count_nonzero is int64; all else is src_dtype. NaN propagates; it is nonzero. Of n == 0: sums 0, prod 1, max
// and *_abs the lowest value (-inf; of *_abs 0), min the highest, all true. sum_squares and *_abs: floating dtypes.
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
  DType dtype;  // float32, float64, int64 or uint64; of src and dst
  int64_t outer, n, inner;
  bool reverse;     // from the last to the first (cumulative_sum's gradient)
  const void* src;  // (outer, n, inner)
  void* dst;        // (outer, n, inner); may be src
};

// cumulative_extreme: the greatest so far, or the least, and the last of its places. A NaN stays; its place is that of
// the last NaN.
struct CumulativeExtremeArgs {
  DType dtype;  // float32, float64 or int64
  int64_t outer, n, inner;
  bool max;
  const void* src;  // (outer, n, inner)
  void* value;      // (outer, n, inner)
  int64_t* index;   // (outer, n, inner)
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
  bool* plain;          // on a CPU, one element or null: whether index is as normalized would be
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
  int64_t outer, n_index, inner;
  int64_t step[3];       // elements of src from one to the next along outer, n_src and inner
  const void* src;       // (outer, n_src, inner)
  const int64_t* index;  // (outer, n_index, inner), each in [0, n_src)
  void* dst;             // (outer, n_index, inner)
};

// What a place makes of what is sent to it. Beyond adding: float32, float64 or int64, and on the CPU alone.
enum class ScatterJoin : uint8_t { replace, add, multiply, largest, smallest };

// dst[o, index[o, k, i], i] joined with src[o, k, i], k ascending (so the last of equal indices stays).
struct ScatterAlongArgs {
  DType dtype;  // any to replace, any but boolean to add
  ScatterJoin join;
  int64_t outer, n_index, inner;
  int64_t step[3];       // elements of dst from one to the next along outer, n_dst and inner
  const int64_t* index;  // (outer, n_index, inner), each in [0, n_dst)
  const void* src;       // (outer, n_index, inner)
  void* dst;             // (outer, n_dst, inner)
};

// Advanced indexing by precomputed element offsets: dst[i * block + b] = src[offset[i] + b], b < block. On a CPU as
// often as `repeats` says, src_step elements further on each time; elsewhere once.
struct GatherOffsetsArgs {
  DType dtype;  // any
  int64_t count, block;
  const void* src;
  const int64_t* offset;  // (count), in elements
  void* dst;              // (repeats, count, block)
  int64_t repeats, src_step;
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
// than cover_begin[a][p] ... cover_end[a][p] - 1. Images that lie plane by plane come as N * C images of one channel.
struct PoolArgs {
  DType dtype;  // float32 or float64: of x and y
  int64_t batch, channels;
  int64_t in[3], out[3];          // depth, height, width
  int64_t step[3], window[3];     // window: the most places that an output sees
  const int64_t* begin[3];        // (out[a])
  const int64_t* end[3];          // (out[a])
  const int64_t* divisor[3];      // (out[a]); averages only
  const int64_t* cover_begin[3];  // (in[a]); backward only, else null
  const int64_t* cover_end[3];    // (in[a]); backward only, else null
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

// What an element-wise rule makes of one element; its formula is in formulas/update_rules.h. The tensors of its state,
// in the order of the list: those in brackets may be missing.
enum class UpdateRule : uint8_t {
  sgd,               // [momentum_buffer]
  adam,              // exp_avg, exp_avg_sq, [max_exp_avg_sq]
  nadam,             // exp_avg, exp_avg_sq
  unadapted_adam,    // exp_avg, exp_avg_sq: both are kept up to date, the step is the first alone
  adamax,            // exp_avg, exp_inf
  adagrad,           // sum
  adadelta,          // square_avg, acc_delta
  rmsprop,           // square_avg, [momentum_buffer]
  centered_rmsprop,  // square_avg, grad_avg, [momentum_buffer]
  rprop,             // prev, step_size
  asgd,              // ax
  lion               // exp_avg
};

// The scalars of all rules; each reads its own. lr: the step's size, bias correction included. grad_lr: that of
// NAdam's gradient. decay: g += decay * p. kept: p *= kept, the decoupled weight decay. beta1, beta2: what the first
// and the second moment keep. root_scale: what sqrt(v) is multiplied by before eps is added. share: of p in ASGD's
// average.
// clang-format off
#define PYDL_UPDATE_SCALARS(SCALAR) \
  SCALAR(lr, 0) SCALAR(grad_lr, 0) SCALAR(decay, 0) SCALAR(kept, 1) \
  SCALAR(beta1, 0) SCALAR(beta2, 0) SCALAR(eps, 0) SCALAR(root_scale, 1) \
  SCALAR(undamped, 1) SCALAR(nesterov, 0) SCALAR(first, 0) SCALAR(share, 1) \
  SCALAR(eta_minus, 0.5) SCALAR(eta_plus, 1.2) SCALAR(shortest, 0) SCALAR(longest, 0)
// clang-format on
struct UpdateScalars {
#define SCALAR(name, value) double name = value;
  PYDL_UPDATE_SCALARS(SCALAR)
#undef SCALAR
};

constexpr int kMaxOptimizerStates = 3;

struct OptimizerArgs {
  UpdateRule rule;
  DType dtype;
  bool maximize;
  int tensors;
  const int64_t* sizes;
  const int64_t* row_sizes;  // or null; else rows of so many elements whose gradient is 0 stay as they are
  void* const* params;
  const void* const* grads;
  void* const* states[kMaxOptimizerStates];  // null where the rule has no such state
  UpdateScalars scalars;
};

// Adafactor's step of one tensor, seen as (batch, rows, cols). Either row_var and col_var or variance are set.
struct AdafactorArgs {
  DType dtype;
  int64_t batch, rows, cols;  // none is 0
  void* param;                // (batch, rows, cols)
  const void* grad;           // (batch, rows, cols)
  void* row_var;              // (batch, rows) or null
  void* col_var;              // (batch, cols) or null
  void* variance;             // (batch, rows, cols) or null
  double weight;              // of the new squares in the averages
  double rate;                // times the parameter's root mean square, at least eps2: the step's size
  double eps1, eps2, d;       // d: the largest root mean square of an update
  double kept;                // p *= kept first
  bool maximize;
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

// scale_many: x *= low. clip_many: x = min(max(x, low), high). soft_threshold_many: |x| shrinks by low, down to 0. NaN
// stays in all of them.
struct ManyArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  void* const* data;
  double low, high;
};

// data += weight * (others - data).
struct BlendArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  void* const* data;
  const void* const* others;
  double weight;
};

// The sum over all tensors of l1 * sum(|x|) + l2 * sum(x^2); an l1 or l2 of 0 takes nothing from its tensor.
struct PenaltyArgs {
  DType dtype;
  int tensors;
  const int64_t* sizes;
  const void* const* data;
  const double* l1;  // (tensors)
  const double* l2;  // (tensors)
  double* result;    // one element
};

struct PenaltyBackwardArgs {
  PenaltyArgs forward;  // result is not read
  double d_result;
  void* const* d_data;  // written: d_result * (l1 * sign(x) + 2 * l2 * x)
};

// dst = activation(alpha * a @ b + beta * dst + bias), for each of `batch` matrices.
struct GemmArgs {
  // gemm: float32 or float64; on a GPU float16 too, and int64. gemm_bf16: bfloat16, no activation but relu, on a GPU
  // alpha 1 and beta 0. 16 bits are added up in float32.
  DType dtype;
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

// One block of a product that is packed already, for the kernels that do their own blocking. gemm_block_bf16: elements
// of a and b are pairs of bfloat16 along k, seen as float32; dst and bias are float32.
struct GemmBlockArgs {
  DType dtype;       // float32 or float64; bfloat16
  const void* spec;  // BlockSpec<T> of cpu/gemm_kernel.h
  int64_t rows, cols;
  const void *a, *b;
  void* dst;
  const void* bias;  // (cols) or null
};

// y (rows, n) = x (rows, k) @ (weight (n, k) * scale (n, 1))^T + bias, all contiguous.
struct Int8LinearArgs {
  int64_t rows, n, k;
  const float* x;
  const int8_t* weight;
  const float* scale;
  const float* bias;  // (n) or null
  float* y;
};

// One direction of one layer, all T steps. G = gates: 1 (Elman), 4 (LSTM: i f g o), 3 (GRU: r z n). Weights in
// PyTorch's layout. lengths may be null (all T). Where t >= lengths[b]: y is 0 and the state stays what it was at the
// last valid step. reverse: steps are taken from each row's last valid one down to 0, y stays at its own time index.
struct RecurrentForwardArgs {
  // float32 or float64. Or bfloat16, where a CPU has gemm_block_bf16 and without workspaces: then x and the weights are
  // bfloat16, the biases, states and y float32; input_size, hidden_size and the strides of x are even.
  DType dtype;
  int64_t steps, batch, input_size, hidden_size;
  bool reverse;
  bool relu;      // Elman only: relu instead of tanh
  const void* x;  // (T, B, D): x[t * x_step + b * x_batch + d]
  int64_t x_step, x_batch;
  // Or null. Then x is a table (x_count, D), contiguous, and step t of sequence b reads its row x_rows[t * x_rows_step
  // + b * x_rows_batch]; backward's d_x is the table's gradient, (x_count, D), contiguous.
  const int64_t* x_rows;
  int64_t x_rows_step, x_rows_batch, x_count;
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

// Convolutions (cross-correlations, as everywhere in deep learning) over depth, height and width; axes that a 1-d or
// 2-d one lacks have size 1. y[n, o, i] = bias[o] + sum over c and taps j of x[n, c, i * stride + j * dilation -
// padding] * weight[o, c, j], o and c of the same group.
enum class ConvAlgorithm : uint8_t { gemm, pointwise, depthwise, winograd, narrow };

struct ConvShape {
  // float32, float64; on devices float16 and bfloat16 too, added up in float32. bfloat16 on a CPU with gemm_bf16:
  // forward only, pointwise, or gemm with an even number of channels in a group, whose weight is (O, C / groups / 2,
  // KD, KH, KW, 2) and whose bias and y are float32.
  DType dtype;
  // pointwise: kernel and stride 1, no padding. depthwise: few channels of a group to few.
  // winograd: float32, kernel (1, K, L), equal strides of height and width, no dilation; unless it is one part of one
  // phase (backend/winograd_parts.h), of one group and without depth. narrow: forward at stride 1, and the input's
  // gradient. gemm: anything.
  ConvAlgorithm algorithm;
  int64_t batch, groups, in_channels, out_channels;  // channels of all groups
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  int64_t padding[3];  // zeros before x along each axis; what stands behind follows from out
  // Depthwise of one channel, float32, without depth, on a CPU: x, y and their gradients are (N, C, H, W) contiguous.
  bool planes;
};

// Element (n, c, d, h, w) lies at n * batch + c * channel + ((d * H + h) * W + w) * pixel.
struct ConvLayout {
  int64_t batch, channel, pixel;
};

// Where the shape does not say planes, y and d_x are written channels-last, (N, D, H, W, C) contiguous, and x and d_y
// have channel stride 1, or any layout where the algorithm is pointwise.
struct ConvForwardArgs {
  ConvShape shape;
  const void* x;       // (N, C, D, H, W) in x_layout
  const void* weight;  // (O, C / groups, KD, KH, KW) contiguous
  const void* bias;    // (O) or null
  void* y;             // (N, D', H', W', O)
  ConvLayout x_layout;
  bool relu;  // y = max(y, 0)
};

// The gradient of x, and a transposed convolution.
struct ConvBackwardInputArgs {
  ConvShape shape;
  const void* d_y;     // (N, O, D', H', W') in d_y_layout
  const void* weight;  // (O, C / groups, KD, KH, KW) contiguous
  const void* bias;    // (C) or null: added to d_x, for the transposed convolution
  void* d_x;           // (N, D, H, W, C)
  ConvLayout d_y_layout;
};

struct ConvBackwardWeightArgs {
  ConvShape shape;
  const void* x;    // (N, C, D, H, W) in x_layout
  const void* d_y;  // (N, O, D', H', W') in d_y_layout
  void* d_weight;   // (O, C / groups, KD, KH, KW) contiguous; written
  ConvLayout x_layout, d_y_layout;
};

// The element-wise losses of ops/losses.def: the loss of each element times its weight, then added up, then times
// scale.
struct LossArgs {
  DType dtype;  // float32 or float64: of all void pointers
  Reduction reduction;
  int64_t count;
  const void* x;         // (count)
  const void* target;    // (count)
  const void* weight;    // (count), or null: all 1
  const void* positive;  // (count): the weight of positive targets, or null: all 1
  double p;              // the loss's parameter
  double scale;          // 1, or 1/count for a mean
  void* loss;            // (count) where reduction is none, else one element
};

struct LossBackwardArgs {
  LossArgs forward;    // loss is not read
  const void* d_loss;  // as loss
  void* d_x;           // (count) or null; written
  void* d_target;      // (count) or null; written
};

// -weight[target] x[target] of log-probabilities (outer, C, inner); reduction, ignore_index, first_bad and an empty
// mean as in CrossEntropyArgs.
struct NllArgs {
  DType dtype;  // float32 or float64: of all void pointers
  Reduction reduction;
  int64_t outer, classes, inner;
  const void* x;          // (outer, C, inner)
  const int64_t* target;  // (outer, inner)
  const void* weight;     // (C), or null: all 1
  int64_t ignore_index;
  void* loss;          // (outer, inner) where reduction is none, else one element
  double* ws_divisor;  // one element: what the mean divided by, 1 for none and sum; for backward
  int64_t* first_bad;  // one element
};

struct NllBackwardArgs {
  NllArgs forward;     // as it was called, ws_divisor filled; x, loss and first_bad are not read
  const void* d_loss;  // as loss
  void* d_x;           // (outer, C, inner); written
};

// Connectionist temporal classification: -log of the probability of each target sequence, over all its alignments.
struct CtcArgs {
  DType dtype;  // float32 or float64; alpha is float64 all the same
  int64_t steps, batch, classes;
  int64_t states;  // 2 S + 1, S the longest target
  int64_t blank;
  const void* log_probs;          // (T, N, C)
  const int64_t* targets;         // the sequence of n begins at target_start[n]; each in [0, C)
  const int64_t* target_start;    // (N)
  const int64_t* target_lengths;  // (N)
  const int64_t* input_lengths;   // (N), each at most T
  void* losses;                   // (N)
  double* ws_alpha;               // (N, T, states) or null; for backward
};

// The gradient for logits of a log-softmax that made log_probs: its own backward passes it on unchanged.
struct CtcBackwardArgs {
  CtcArgs forward;       // ws_alpha and losses filled
  const void* d_losses;  // (N)
  bool zero_infinity;    // impossible targets have the gradient 0, else NaN
  void* d_log_probs;     // (T, N, C); written
};

// dst is src with borders on up to three neighbouring axes: dst[o, i0, i1, i2, :] = src[o, map0[i0], map1[i1],
// map2[i2],
// :]. The map is the identity, shifted, from first_inside[d] on for inside[d] places. pad_border_backward: src, filled
// with zeros by the kernel, gets the sums of dst's elements.
struct PadBorderArgs {
  DType dtype;  // float32 or float64; pad_border takes any
  int64_t outer, inner;
  int64_t src_size[3], dst_size[3];
  int64_t first_inside[3], inside[3];
  const int64_t* map[3];  // (dst_size[d])
  void* src;              // (outer, src_size[0], src_size[1], src_size[2], inner)
  void* dst;              // (outer, dst_size[0], dst_size[1], dst_size[2], inner)
};

}  // namespace pydl
