// Borders made of the tensor's own elements. The gradient adds up what was repeated; it and the padding are each
// other's gradient, so there is any number of derivatives.
#include "backend/registry.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;

struct Borders {
  Dims src, dst;  // whole shapes
  int first = 0;  // the first padded axis
  int axes = 0;
  std::vector<int64_t> map[3];
  int64_t first_inside[3] = {0, 0, 0}, inside[3] = {1, 1, 1};
};
using BordersPtr = std::shared_ptr<const Borders>;

PadBorderArgs arguments(const Borders& b, const Tensor& src, const Tensor& dst) {
  PadBorderArgs args;
  args.dtype = src.dtype();
  args.outer = args.inner = 1;
  for (int i = 0; i < b.first; ++i) args.outer *= b.src[i];
  for (int i = b.first + b.axes; i < b.src.size(); ++i) args.inner *= b.src[i];
  for (int d = 0; d < 3; ++d) {
    const int axis = b.first + b.axes - 3 + d;
    const bool padded = d >= 3 - b.axes;
    args.src_size[d] = padded ? b.src[axis] : 1;
    args.dst_size[d] = padded ? b.dst[axis] : 1;
    args.map[d] = b.map[d].data();
    args.first_inside[d] = b.first_inside[d];
    args.inside[d] = b.inside[d];
  }
  args.src = src.bytes();
  args.dst = dst.bytes();
  return args;
}

Tensor gather_border(const Tensor& x, const BordersPtr& borders);

Tensor fold_border(const Tensor& g0, const BordersPtr& borders) {
  if (is_half(g0.dtype())) return cast(fold_border(cast(g0, DType::float32), borders), g0.dtype());
  const Tensor g = contiguous(g0);
  Tensor d_x = Tensor::empty(borders->src, g.dtype(), g.device());
  PYDL_LAUNCH(g.device(), g.count(), pad_border_backward, arguments(*borders, d_x, g));
  if (autograd::recording({&g}))
    autograd::record("pad_backward", {&g}, {&d_x}, [borders](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = gather_border(d_out[0], borders);
    });
  return d_x;
}

Tensor gather_border(const Tensor& x0, const BordersPtr& borders) {
  const Tensor x = contiguous(x0);
  Tensor y = Tensor::empty(borders->dst, x.dtype(), x.device());
  PYDL_LAUNCH(x.device(), y.count(), pad_border, arguments(*borders, x, y));
  if (autograd::recording({&x}))
    autograd::record("pad", {&x}, {&y},
                     [borders](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = fold_border(d_out[0], borders); });
  return y;
}

int64_t source_of(Border mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (mode == Border::replicate) return i < 0 ? 0 : n - 1;
  if (mode == Border::reflect) return i < 0 ? -i : 2 * (n - 1) - i;
  return i < 0 ? i + n : i - n;
}

}  // namespace

Tensor pad_border(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& widths, Border mode) {
  const int axes = static_cast<int>(widths.size());
  if (axes < 1 || axes > 3 || axes > x.ndim())
    throw ValueError(text("[pad] got widths for ", axes, " axes and input of shape ", x.shape(),
                          ", expected 1 to 3 axes, and as many in the input"));
  // Images that are kept channels-last stay so.
  const bool images = x.ndim() == axes + 2 && !x.contiguous();
  Dims order{0}, back{0, x.ndim() - 1};
  for (int i = 2; i < x.ndim(); ++i) order.push_back(i), back.push_back(i - 1);
  order.push_back(1);
  const Tensor last = images ? permute_dims(x, order) : x;
  const bool channels_last = images && last.contiguous();
  const Tensor& src = channels_last ? last : x;
  const int first = channels_last ? 1 : x.ndim() - axes;

  auto borders = std::make_shared<Borders>();
  borders->src = borders->dst = src.shape();
  borders->first = first;
  borders->axes = axes;
  for (int d = 0; d < 3; ++d) borders->map[d].assign(1, 0);
  for (int a = 0; a < axes; ++a) {
    const auto [before, after] = widths[static_cast<size_t>(a)];
    const int64_t n = src.size(first + a), size = n + before + after;
    const int64_t widest = std::max(before, after);
    const int64_t limit = mode == Border::reflect ? n - 1 : n;
    if (mode != Border::replicate && widest > std::max<int64_t>(limit, 0))
      throw ValueError(text("[pad] got the width ", widest, " for axis ", x.ndim() - axes + a, " of shape ", x.shape(),
                            ", expected at most ", limit, " where the mode is ",
                            mode == Border::reflect ? "'reflect'" : "'circular'"));
    if (size < 1 || n < 1)
      throw ValueError(text("[pad] got the widths (", before, ", ", after, ") for axis ", x.ndim() - axes + a,
                            " of shape ", x.shape(), ", expected a result that is not empty"));
    const int d = 3 - axes + a;
    borders->dst[first + a] = size;
    borders->map[d].resize(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) borders->map[d][static_cast<size_t>(i)] = source_of(mode, i - before, n);
    borders->first_inside[d] = std::max<int64_t>(before, 0);
    borders->inside[d] = std::max<int64_t>(0, std::min(size, n + before) - borders->first_inside[d]);
  }
  const Tensor y = gather_border(src, borders);
  return channels_last ? permute_dims(y, back) : y;
}

}  // namespace pydl::ops
