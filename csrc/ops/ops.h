// Every op of pydl, family by family. Each checks its arguments, calls the kernel table and records itself on the tape;
// the implementation and the gradient stand side by side in the file named after the family.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/node.h"
#include "backend/kernel_args.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace pydl::ops {

// A Python number: it takes the dtype of the tensor that it meets.
struct Number {
  enum Kind { boolean, integer, floating } kind = floating;
  double f = 0;
  int64_t i = 0;
  static Number of(double v) { return {floating, v, static_cast<int64_t>(v)}; }
  static Number of(int64_t v) { return {integer, static_cast<double>(v), v}; }
};

// --- dtype.cpp: promotion and conversion
DType promote(const char* op, DType a, DType b);
DType promote(DType tensor, Number number);
DType default_dtype();
void set_default_dtype(DType dtype);
Tensor cast(const Tensor& x, DType dtype);
Tensor scalar(Number value, DType dtype);  // on the CPU; it may meet tensors of any device
Number item(const Tensor& x);              // i has the bits of a uint64

// --- device.cpp
Tensor to_device(const Tensor& x, Device device);  // differentiable; x itself where it is there already
Tensor on_host(const Tensor& x);                   // without history: waits for the device and copies
// The device that all of them are on; ValueError naming both where they differ. Undefined ones are skipped.
Device common_device(const char* op, std::initializer_list<const Tensor*> tensors);
Device common_device(const char* op, const std::vector<Tensor>& tensors);
template <class... Tensors>
void same_device(const char* op, const Tensor& first, const Tensors&... others) {
  if (((others.defined() && others.device() != first.device()) || ...)) common_device(op, {&first, &others...});
}
// Where the devices of two operands differ: a zero-dimensional one of the CPU moves to the other's.
void meet(const char* op, Tensor& a, Tensor& b);

// --- creation.cpp
Tensor full(const Dims& shape, Number value, DType dtype, Device device);
inline Tensor zeros(const Dims& shape, DType dtype, Device device) {
  return full(shape, Number::of(int64_t{0}), dtype, device);
}
Tensor arange(Number start, Number stop, Number step, DType dtype, Device device);
Tensor linspace(double start, double stop, int64_t count, bool endpoint, DType dtype, Device device);
Tensor eye(int64_t rows, int64_t columns, int64_t diagonal, DType dtype, Device device);

// --- copy.cpp
Tensor contiguous(const Tensor& x);
Tensor clone(const Tensor& x);                         // always new memory, differentiable
Tensor detach(const Tensor& x);                        // same memory, no history
void copy_into(const Tensor& dst, const Tensor& src);  // raw: converts and broadcasts, records nothing
void copy_(const Tensor& dst, const Tensor& src);      // checked and recorded
void fill_(const Tensor& dst, Number value);

// --- elementwise.cpp
#define UNARY(name, kind, saves, forward, gradient) Tensor name(const Tensor& x, double p = 0, double q = 0);
#define BINARY(name, kind, saves_a, gradient_a, saves_b, gradient_b, forward) \
  Tensor name(const Tensor& a, const Tensor& b);
#define COMPARE(name, condition) Tensor name(const Tensor& a, const Tensor& b);
#define PREDICATE(name, condition) Tensor name(const Tensor& x);
#define BITWISE(name, value) Tensor name(const Tensor& a, const Tensor& b);
#include "ops/elementwise.def"
#undef UNARY
#undef BINARY
#undef COMPARE
#undef PREDICATE
#undef BITWISE
Tensor greater(const Tensor& a, const Tensor& b);
Tensor greater_equal(const Tensor& a, const Tensor& b);
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor logical_not(const Tensor& x);
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_xor(const Tensor& a, const Tensor& b);
Tensor bitwise_invert(const Tensor& x);
// dst = value, computed by an op from dst among others: writes it and moves the history over. The in-place form of any
// op.
void assign(const char* op, const Tensor& dst, const Tensor& value);

// --- one_pass.cpp: by one kernel, where nothing is recorded
// dst = op(dst) and dst = op(dst, b), for "op_". False, and nothing done, where one kernel can't write where it has
// read (what is recorded, converted or read elsewhere in dst's memory, or is no op of elementwise.def): left to assign.
bool replace(const char* name, const Tensor& dst, double p = 0, double q = 0);
bool replace(const char* name, const Tensor& dst, const Tensor& b);
// dst as the operand of its in-place form "op_" that is recorded: a copy where the gradient may need what is
// overwritten.
Tensor original(const char* name, const Tensor& dst);
// Of a, b, c and p, over a where in_place. Undefined, and nothing done, where that can't be.
#define TERNARY(name, forward) Tensor name(const Tensor& a, const Tensor& b, const Tensor& c, double p, bool in_place);
#include "ops/elementwise.def"
#undef TERNARY

// --- shape.cpp: views, differentiable
Tensor reshape(const Tensor& x, Dims shape);  // one -1 allowed; a view where possible
Tensor view(const Tensor& x, Dims shape);     // a view or ValueError
Tensor permute_dims(const Tensor& x, const Dims& axes);
Tensor swap_axes(const Tensor& x, int64_t a, int64_t b);
Tensor expand_dims(const Tensor& x, int64_t axis);
Tensor squeeze(const Tensor& x, const Dims& axes, bool all);
Tensor broadcast_to(const Tensor& x, const Dims& shape);
Tensor slice(const Tensor& x, int axis, int64_t start, int64_t length, int64_t step);
Tensor select(const Tensor& x, int axis, int64_t index);
Tensor flip(const Tensor& x, const Dims& axes);
Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2);
Tensor unfold(const Tensor& x, int64_t axis, int64_t size, int64_t step);
// --- join.cpp: new memory
Tensor concat(const std::vector<Tensor>& parts, int64_t axis);
// Views of consecutive parts along an axis, which they fill.
std::vector<Tensor> split(const Tensor& x, int64_t axis, const std::vector<int64_t>& sizes);
Tensor stack(const std::vector<Tensor>& parts, int64_t axis);
Tensor repeat(const Tensor& x, const Dims& repeats);  // as numpy.tile and torch.Tensor.repeat
Tensor roll(const Tensor& x, const Dims& shifts, const Dims& axes);
Tensor pad(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& widths, Number value);  // one pair per axis
Tensor tril(const Tensor& x, int64_t diagonal);
Tensor triu(const Tensor& x, int64_t diagonal);

// --- reduce.cpp. An empty list of axes reduces all of them.
Tensor sum(const Tensor& x, const Dims& axes, bool keepdims, std::optional<DType> dtype = {});
Tensor mean(const Tensor& x, const Dims& axes, bool keepdims);
Tensor prod(const Tensor& x, const Dims& axes, bool keepdims, std::optional<DType> dtype = {});
Tensor max(const Tensor& x, const Dims& axes, bool keepdims);
Tensor min(const Tensor& x, const Dims& axes, bool keepdims);
Tensor any(const Tensor& x, const Dims& axes, bool keepdims);
Tensor all(const Tensor& x, const Dims& axes, bool keepdims);
Tensor var(const Tensor& x, const Dims& axes, double correction, bool keepdims);
Tensor logsumexp(const Tensor& x, const Dims& axes, bool keepdims);
Tensor norm(const Tensor& x, double order, const Dims& axes, bool keepdims);
Tensor argmax(const Tensor& x, std::optional<int64_t> axis, bool keepdims);
Tensor argmin(const Tensor& x, std::optional<int64_t> axis, bool keepdims);
std::pair<Tensor, Tensor> max_with_index(const Tensor& x, int64_t axis,
                                         bool keepdims);  // the gradient goes to the index
std::pair<Tensor, Tensor> min_with_index(const Tensor& x, int64_t axis, bool keepdims);
Tensor sum_to(const Tensor& x, const Dims& shape);  // undoes broadcasting
Tensor cumulative_sum(const Tensor& x, int64_t axis);
Tensor cumulative_prod(const Tensor& x, int64_t axis);
// The greatest (or least) so far and the last of its places, int64.
std::pair<Tensor, Tensor> cumulative_extreme(const Tensor& x, int64_t axis, bool greatest);

// --- sort.cpp
std::pair<Tensor, Tensor> sort(const Tensor& x, int64_t axis, bool descending);  // stable; values and int64 indices
std::pair<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t axis, bool largest);

// --- matmul.cpp
enum class Activation { none = 0, relu = 1, tanh = 2, sigmoid = 3 };
Tensor matmul(const Tensor& a, const Tensor& b);
// beta * x + alpha * (a @ b) in one pass, rounded once; undefined where one pass can't: recorded, on a GPU, no
// matrices.
Tensor addmm(const Tensor& x, const Tensor& a, const Tensor& b, double beta, double alpha);
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);  // x @ weight.T + bias; bias may be undefined

// --- index.cpp
struct Index {  // one entry of x[...]
  enum Kind { integer, slice, new_axis, ellipsis, tensor } kind;
  int64_t start = 0, stop = 0, step = 1;  // integer uses start
  bool has_start = false, has_stop = false;
  Tensor tensor_index;  // integers or a boolean mask
};
Tensor getitem(const Tensor& x, const std::vector<Index>& index);
// x[index] = value, or += with accumulate, where equal places add up; index_put: the same in a copy, as which it is
// recorded.
void setitem(const Tensor& x, const std::vector<Index>& index, const Tensor& value, bool accumulate = false);
Tensor index_put(const Tensor& x, const std::vector<Index>& index, const Tensor& value, bool accumulate);
Tensor take(const Tensor& x, const Tensor& index, int64_t axis);  // 1-d or any-shape index along an axis
// The rows order[stops[b]:stops[b + 1]] of each source, for each b; nothing is recorded. For loaders.
std::vector<std::vector<Tensor>> take_batches(const std::vector<Tensor>& sources, const Tensor& order,
                                              const std::vector<int64_t>& stops);
Tensor take_along_axis(const Tensor& x, const Tensor& index, int64_t axis);
Tensor gather(const Tensor& x, int64_t axis, const Tensor& index);  // as torch.gather
// In place they give x, or what is undefined, with nothing done, where gradients are recorded.
Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, bool in_place = false);
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, bool in_place = false);
// Products and extremes, of few dtypes on the CPU and without a gradient: a part of pydl.scatter_reduce.
Tensor scatter_joined(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, ScatterJoin join,
                      bool in_place);
Tensor nonzero(const Tensor& x);  // (count, ndim) int64
Tensor masked_fill(const Tensor& x, const Tensor& mask, Number value);
// --- int8.cpp
Tensor int8_linear(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias);  // no gradient

// --- embedding.cpp
// The result of an embedding remembers its table and rows for as long as nothing is changed in place.
struct PickedRows : Origin {
  Tensor index, table;  // (*) int64 and (rows, features), both contiguous
  int64_t padding_index;
  uint32_t index_version, table_version, own_version;
  PickedRows(const Tensor& index, const Tensor& table, int64_t padding_index, const Tensor& own)
      : index(index),
        table(table),
        padding_index(padding_index),
        index_version(index.storage().version),
        table_version(table.storage().version),
        own_version(own.storage().version) {}
  bool unchanged() const {
    return index.storage().version == index_version && table.storage().version == table_version;
  }
};
const PickedRows* picked_rows(const Tensor& x);  // null where x is not one
// padding_index -1: none. sparse: the weight's gradient knows its touched rows, and the others cost nothing.
Tensor embedding(const Tensor& index, const Tensor& weight, int64_t padding_index, bool sparse = false);
// The rows, ascending, beside which a gradient is 0; null where that is not known, or no longer true.
const std::vector<int64_t>* touched_rows(const Tensor& gradient);
// dst += src, of which only some rows are touched.
void add_touched_rows(const Tensor& dst, const Tensor& src);

// --- softmax.cpp
Tensor softmax(const Tensor& x, int64_t axis);
Tensor log_softmax(const Tensor& x, int64_t axis);
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                     Reduction reduction, double label_smoothing);

// --- normalization.cpp. `layer` is what errors name. Tensors may be undefined where they have no use.
struct BatchNormOptions {
  const char* layer = "batch_norm";
  bool batch_statistics = true;  // else the running ones
  bool relu = false;             // max(y, 0), in the same pass
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;  // none: the running statistics are averages over all batches
};
struct RunningStatistics {
  Tensor mean, var, batches;  // (C), (C), int64 (): changed in place with batch statistics
};
Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const RunningStatistics& running,
                  const BatchNormOptions& options);

Tensor layer_norm(const Tensor& x, const Dims& normalized_shape, const Tensor& weight, const Tensor& bias, double eps);
Tensor rms_norm(const Tensor& x, const Dims& normalized_shape, const Tensor& weight, std::optional<double> eps);
Tensor group_norm(const char* op, const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias,
                  double eps);

// --- interpolation.cpp: inputs (N, C, *spatial)
enum class Resampling { nearest, nearest_exact, linear, cubic };
// scales: what the sizes were made with, one for each axis, or empty: in / out.
Tensor interpolate(const Tensor& x, const Dims& size, const std::vector<double>& scales, Resampling kind,
                   bool align_corners);

// --- pooling.cpp: inputs (N, C, *spatial) or (C, *spatial), `rank` spatial axes
struct PoolOptions {
  int rank = 2;
  Dims kernel_size, stride, padding{0}, dilation{1};  // one number or `rank`; no stride: the kernel's size
  bool ceil_mode = false, count_include_pad = true;
  std::optional<int64_t> divisor_override;
};
// The value, and where asked for the maxima's places within their images (int64).
std::pair<Tensor, Tensor> max_pool(const Tensor& x, const PoolOptions& options, bool return_indices);
std::pair<Tensor, Tensor> adaptive_max_pool(const Tensor& x, int rank, const Dims& size, bool return_indices);
Tensor avg_pool(const Tensor& x, const PoolOptions& options);
Tensor adaptive_avg_pool(const Tensor& x, int rank, const Dims& size);  // a size of -1 is the input's own

// --- random.cpp
Tensor uniform(const Dims& shape, double low, double high, DType dtype, Device device, Generator& generator);
Tensor normal(const Dims& shape, double mean, double std, DType dtype, Device device, Generator& generator);
Tensor exponential(const Dims& shape, double rate, DType dtype, Device device, Generator& generator);
void uniform_(const Tensor& dst, double low, double high, Generator& generator);  // these fill a tensor that is there
void normal_(const Tensor& dst, double mean, double std, Generator& generator);
void exponential_(const Tensor& dst, double rate, Generator& generator);
Tensor randint(int64_t low, int64_t high, const Dims& shape, DType dtype, Device device, Generator& generator);
Tensor randperm(int64_t n, Device device, Generator& generator);
Tensor bernoulli(const Tensor& probability, Generator& generator);
Tensor multinomial(const Tensor& probabilities, int64_t samples, bool replacement, Generator& generator);
Tensor dropout(const Tensor& x, double p, Generator& generator);
Tensor dropout_at(const Tensor& x, double p, uint64_t seed, uint64_t position);  // with numbers that were reserved

// --- recurrent.cpp
enum class Cell { rnn_tanh, rnn_relu, lstm, gru };
struct RecurrentOptions {
  Cell cell = Cell::lstm;
  int64_t layers = 1;
  bool bidirectional = false, batch_first = false, training = false;
  double dropout = 0;
};
struct RecurrentResult {
  Tensor y, h_n, c_n;
};
RecurrentResult recurrent(const RecurrentOptions& options, const Tensor& x, const Tensor& h0, const Tensor& c0,
                          const std::vector<Tensor>& weights, const Tensor& lengths, Generator* generator);

// --- convolution.cpp
struct ConvolutionOptions {
  enum PaddingMode { numbers, same, valid } padding_mode = numbers;
  Dims stride{1}, padding{0}, dilation{1}, output_padding{0};  // one number, or one for each axis
  int64_t groups = 1;
  bool transposed = false;
  bool relu = false;                       // y = max(y, 0), for inference
  std::optional<ConvAlgorithm> algorithm;  // for tests: instead of the best one
};
// x (N, C, *in) or (C, *in), of `rank` spatial axes; weight (O, C / groups, *kernel), transposed (C, O / groups,
// *kernel); bias (O) or undefined. op names it in errors.
Tensor convolution(const char* op, int rank, const Tensor& x, const Tensor& weight, const Tensor& bias,
                   const ConvolutionOptions& options);
// What it would use: forward, for the input's gradient and for the weight's.
std::vector<ConvAlgorithm> convolution_algorithms(const char* op, int rank, const Tensor& x, const Tensor& weight,
                                                  const ConvolutionOptions& options);

// --- optimizer.cpp: in place, over many tensors in one call, never recorded
struct OptimizerStep {
  std::string rule;  // "adam": a name of optimizer.cpp's table
  std::vector<Tensor> params, grads;
  std::vector<std::vector<Tensor>> states;  // in the rule's order; what its options leave out is missing at the end
  UpdateScalars scalars;
  bool maximize = false;
  bool lazy_rows = false;  // rows of matrices whose gradient is 0 stay as they are, their state too
};
void optimizer_step(const OptimizerStep& step);
struct AdafactorStep {
  std::vector<Tensor> params, grads;
  std::vector<Tensor> row_vars, col_vars;  // of params of two axes and more, in order
  std::vector<Tensor> variances;           // of the others
  std::optional<double> eps1;              // default the dtype's epsilon
  double weight, rate, eps2, d, kept;
  bool maximize;
};
void adafactor_step(const AdafactorStep& step);

// --- many.cpp: many tensors at once
Tensor clip_grad_norm(const std::vector<Tensor>& grads, double max_norm, double norm_type);
void clip_grad_value(const std::vector<Tensor>& grads, double value);
void soft_threshold_(const std::vector<Tensor>& tensors, double threshold);
void clip_many_(const std::vector<Tensor>& tensors, double low, double high);
// data[i] += weight * (others[i] - data[i])
void blend_(const std::vector<Tensor>& data, const std::vector<Tensor>& others, double weight);
// The sum over i of l1[i] * sum(|x_i|) + l2[i] * sum(x_i^2); differentiable.
Tensor penalty(const std::vector<Tensor>& tensors, const std::vector<double>& l1, const std::vector<double>& l2);

// --- losses.cpp. Input and target of one shape; weight and pos_weight may be undefined.
#define LOSS(name, loss, d_x, d_t)                                                                   \
  Tensor name(const Tensor& x, const Tensor& target, const Tensor& weight, const Tensor& pos_weight, \
              Reduction reduction, double p);
#include "ops/losses.def"
#undef LOSS
Tensor nll_loss(const Tensor& x, const Tensor& target, const Tensor& weight, int64_t ignore_index, Reduction reduction);
// --- ctc.cpp
Tensor ctc_loss(const Tensor& log_probs, const Tensor& targets, const Tensor& input_lengths,
                const Tensor& target_lengths, int64_t blank, bool zero_infinity);  // one loss for each sequence
// --- padding.cpp
enum class Border { reflect, replicate, circular };
Tensor pad_border(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& widths, Border mode);  // last axes

}  // namespace pydl::ops
