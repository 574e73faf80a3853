// Putting tensors together, taking them apart and moving their parts: concat, stack, split, repeat, roll, pad,
// triangles.
#include <algorithm>

#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {

using autograd::Node;

Tensor concat(const std::vector<Tensor>& parts0, int64_t axis) {
  if (parts0.empty()) throw ValueError("[concat] needs at least one tensor");
  std::vector<Tensor> parts;
  DType dtype = parts0[0].dtype();
  for (const Tensor& t : parts0) dtype = promote("concat", dtype, t.dtype());
  // As PyTorch: an empty 1-d tensor joins anything.
  int ndim = parts0[0].ndim();
  for (const Tensor& t : parts0)
    if (!(t.ndim() == 1 && t.count() == 0)) ndim = t.ndim();
  for (const Tensor& t : parts0)
    if (t.ndim() == ndim || !(t.ndim() == 1 && t.count() == 0)) parts.push_back(cast(t, dtype));
  if (ndim == 0) throw ValueError("[concat] zero-dimensional tensors can't be joined; use stack");
  const int a = normalize_axis("concat", axis, ndim);
  Dims shape = parts[0].shape();
  std::vector<int64_t> sizes;
  shape[a] = 0;
  bool record = false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Tensor& t = parts[i];
    bool fits = t.ndim() == ndim;
    for (int d = 0; fits && d < ndim; ++d) fits = d == a || t.size(d) == shape[d];
    if (!fits)
      throw ValueError(text("[concat] part ", i, " has shape ", t.shape(), ", part 0 ", parts[0].shape(),
                            "; they may differ along axis ", axis, " only"));
    shape[a] += t.shape()[a];
    sizes.push_back(t.shape()[a]);
    record = record || autograd::recording({&t});
  }
  Tensor y = Tensor::empty(shape, dtype, common_device("concat", parts));
  int64_t start = 0;
  for (const Tensor& t : parts) {
    Dims part = shape;
    part[a] = t.shape()[a];
    copy_into(y.view(part, y.strides(), start * y.stride(a)), t);
    start += t.shape()[a];
  }
  if (record)
    autograd::record("concat", parts, {&y}, [sizes, a](Node& node, const Tensor* d_out, Tensor* d_in) {
      int64_t at = 0;
      for (size_t i = 0; i < sizes.size(); ++i) {
        if (node.wants(i)) d_in[i] = slice(d_out[0], a, at, sizes[i], 1);
        at += sizes[i];
      }
    });
  return y;
}

Tensor stack(const std::vector<Tensor>& parts, int64_t axis) {
  if (parts.empty()) throw ValueError("[stack] needs at least one tensor");
  const int a = normalize_axis("stack", axis, parts[0].ndim() + 1);
  std::vector<Tensor> expanded;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].shape() != parts[0].shape())
      throw ValueError(text("[stack] part ", i, " has shape ", parts[i].shape(), ", part 0 ", parts[0].shape()));
    expanded.push_back(expand_dims(parts[i], a));
  }
  return concat(expanded, a);
}

std::vector<Tensor> split(const Tensor& x, int64_t axis, const std::vector<int64_t>& sizes) {
  if (x.ndim() == 0) throw ValueError("[split] a zero-dimensional tensor has no axis to split");
  const int a = normalize_axis("split", axis, x.ndim());
  int64_t total = 0;
  for (int64_t size : sizes) {
    if (size < 0 || size > x.size(a) - total)
      throw ValueError(text("[split] the sizes leave axis ", a, " of shape ", x.shape()));
    total += size;
  }
  if (total != x.size(a)) throw ValueError(text("[split] the sizes do not fill axis ", a, " of shape ", x.shape()));
  std::vector<Tensor> parts;
  int64_t start = 0;
  for (int64_t size : sizes) {
    Dims shape = x.shape();
    shape[a] = size;
    parts.push_back(x.view(shape, x.strides(), x.offset() + (size > 0 ? start * x.stride(a) : 0)));
    start += size;
  }
  if (autograd::recording({&x}))
    // One node for all parts, so that their gradients are put together once.
    autograd::record("split", {&x}, parts, [sizes, a, whole = x.shape()](Node&, const Tensor* d_out, Tensor* d_in) {
      std::vector<Tensor> gradients(d_out, d_out + sizes.size());
      const auto some = std::find_if(gradients.begin(), gradients.end(), [](const Tensor& g) { return g.defined(); });
      const DType dtype = some->dtype();
      const Device device = some->device();
      for (size_t i = 0; i < sizes.size(); ++i) {
        if (gradients[i].defined()) continue;
        Dims shape = whole;
        shape[a] = sizes[i];
        gradients[i] = zeros(shape, dtype, device);
      }
      d_in[0] = concat(gradients, a);
    });
  return parts;
}

Tensor repeat(const Tensor& x, const Dims& repeats0) {
  Dims repeats = repeats0;
  Dims shape = x.shape();
  while (repeats.size() < shape.size()) repeats.insert(0, 1);
  while (shape.size() < repeats.size()) shape.insert(0, 1);
  // (r0, n0, r1, n1, ...) by broadcasting, then joined pairwise.
  Dims spread, source, joined;
  for (int i = 0; i < shape.size(); ++i) {
    if (repeats[i] < 0) throw ValueError(text("[repeat] repeats must not be negative, got ", repeats0));
    joined.push_back(shape[i] * repeats[i]);
    if (repeats[i] != 1) {
      spread.push_back(repeats[i]);
      source.push_back(1);
    }
    spread.push_back(shape[i]);
    source.push_back(shape[i]);
  }
  return reshape(contiguous(broadcast_to(reshape(x, source), spread)), joined);
}

Tensor roll(const Tensor& x, const Dims& shifts, const Dims& axes) {
  if (axes.empty()) {
    if (shifts.size() != 1) throw ValueError(text("[roll] without axes one shift is needed, got ", shifts));
    return reshape(roll(reshape(x, {x.count()}), shifts, {0}), x.shape());
  }
  if (shifts.size() != axes.size())
    throw ValueError(text("[roll] got ", shifts.size(), " shifts for ", axes.size(), " axes"));
  Tensor y = x;
  for (int i = 0; i < axes.size(); ++i) {
    const int a = normalize_axis("roll", axes[i], x.ndim());
    if (x.ndim() == 0 || x.size(a) == 0) continue;
    const int64_t n = x.size(a), shift = ((shifts[i] % n) + n) % n;
    if (shift) y = concat({slice(y, a, n - shift, shift, 1), slice(y, a, 0, n - shift, 1)}, a);
  }
  return y;
}

Tensor pad(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& widths, Number value) {
  if (static_cast<int>(widths.size()) != x.ndim())
    throw ValueError(text("[pad] got widths for ", widths.size(), " axes, the tensor has ", x.ndim()));
  // Negative widths crop.
  Tensor kept = x;
  Dims shape = x.shape();
  int64_t offset = 0;
  for (int i = 0; i < x.ndim(); ++i) {
    const auto [before, after] = widths[static_cast<size_t>(i)];
    const int64_t start = std::max<int64_t>(0, -before), end = kept.size(i) - std::max<int64_t>(0, -after);
    if (__builtin_add_overflow(shape[i], before, &shape[i]) || __builtin_add_overflow(shape[i], after, &shape[i]))
      throw ValueError(
          text("[pad] widths ", before, " and ", after, " are too large for axis ", i, " of shape ", x.shape()));
    if (shape[i] < 0) throw ValueError(text("[pad] widths crop more than axis ", i, " of shape ", x.shape(), " has"));
    if (start > 0 || end < kept.size(i)) kept = slice(kept, i, start, std::max<int64_t>(0, end - start), 1);
  }
  Tensor y = full(shape, value, x.dtype(), x.device());
  for (int i = 0; i < x.ndim(); ++i) offset += std::max<int64_t>(0, widths[static_cast<size_t>(i)].first) * y.stride(i);
  copy_into(y.view(kept.shape(), y.strides(), kept.count() ? offset : 0), kept);
  if (autograd::recording({&kept}))
    autograd::record("pad", {&kept}, {&y}, [widths, inner = kept.shape()](Node&, const Tensor* d_out, Tensor* d_in) {
      Tensor g = d_out[0];
      for (int i = 0; i < g.ndim(); ++i)
        g = slice(g, i, std::max<int64_t>(0, widths[static_cast<size_t>(i)].first), inner[i], 1);
      d_in[0] = g;
    });
  return y;
}

namespace {

Tensor triangle(const char* op, const Tensor& x, int64_t diagonal, bool lower) {
  if (x.ndim() < 2) throw ValueError(text("[", op, "] needs at least 2 axes, got shape ", x.shape()));
  const int64_t rows = x.size(-2), columns = x.size(-1);
  Tensor mask = Tensor::empty({rows, columns}, DType::boolean, Device{});
  diagonal = std::clamp(diagonal, -rows, columns);
  bool* row = mask.data<bool>();
  for (int64_t r = 0; r < rows; ++r, row += columns) {
    const int64_t first_above = std::clamp<int64_t>(lower ? r + diagonal + 1 : r + diagonal, 0, columns);
    std::fill(row, row + first_above, lower);
    std::fill(row + first_above, row + columns, !lower);
  }
  return where(to_device(mask, x.device()), x, scalar(Number::of(int64_t{0}), x.dtype()));
}

}  // namespace

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle("tril", x, diagonal, true); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle("triu", x, diagonal, false); }

}  // namespace pydl::ops
