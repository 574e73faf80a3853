// Interpolation of images: a linear map along each axis, given to the kernel as tables, and its transpose for the
// gradient. Either is the other's gradient, so both can be differentiated any number of times.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/registry.h"
#include "ops/channels.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;

// A sparse matrix of `rows` rows, in memory of tensors so that a tape may keep it.
struct Table {
  int64_t rows = 1;
  Tensor first, source, weight;
};

Table empty_table(int64_t rows, int64_t most) {
  Table t;
  t.rows = rows;
  t.first = Tensor::empty({rows + 1}, DType::int64, Device{});
  t.source = Tensor::empty({most}, DType::int64, Device{});
  t.weight = Tensor::empty({most}, DType::float64, Device{});
  return t;
}

// Of `columns` rows.
Table transposed(const Table& t, int64_t columns) {
  const int64_t* const first = t.first.data<int64_t>();
  const int64_t* const source = t.source.data<int64_t>();
  const double* const weight = t.weight.data<double>();
  const int64_t count = first[t.rows];
  const Table back = empty_table(columns, count);
  int64_t* const start = back.first.data<int64_t>();
  int64_t* const back_source = back.source.data<int64_t>();
  double* const back_weight = back.weight.data<double>();
  std::fill_n(start, columns + 1, int64_t{0});
  for (int64_t i = 0; i < count; ++i) ++start[source[i] + 1];
  for (int64_t c = 0; c < columns; ++c) start[c + 1] += start[c];
  std::vector<int64_t> next(start, start + columns);
  for (int64_t row = 0; row < t.rows; ++row) {
    for (int64_t i = first[row]; i < first[row + 1]; ++i) {
      const int64_t at = next[static_cast<size_t>(source[i])]++;
      back_source[at] = row;
      back_weight[at] = weight[i];
    }
  }
  return back;
}

// Keys, "Cubic convolution interpolation for digital image processing" (1981), with a = -0.75.
double cubic(double distance) {
  constexpr double a = -0.75;
  const double x = std::fabs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// scale: places of the input for one of the output, from the user, or 0: from the sizes.
Table table_of(int64_t in, int64_t out, double scale, Resampling kind, bool align_corners) {
  const Table t = empty_table(out, out * (kind == Resampling::cubic ? 4 : kind == Resampling::linear ? 2 : 1));
  int64_t* const first = t.first.data<int64_t>();
  int64_t* const source = t.source.data<int64_t>();
  double* const weight = t.weight.data<double>();
  int64_t count = 0;
  const auto put = [&](int64_t place, double share) {
    if (share == 0) return;
    source[count] = place < 0 ? 0 : place < in ? place : in - 1;
    weight[count++] = share;
  };
  const double ratio = align_corners ? (out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0)
                       : scale > 0   ? scale
                                     : static_cast<double>(in) / static_cast<double>(out);
  // in float32, as PyTorch's, whose rounding decides which place is met
  const float from = scale > 0 ? static_cast<float>(scale) : static_cast<float>(in) / static_cast<float>(out);
  for (int64_t o = 0; o < out; ++o) {
    first[o] = count;
    if (kind == Resampling::nearest || kind == Resampling::nearest_exact) {
      const float at = static_cast<float>(o) + (kind == Resampling::nearest ? 0.0f : 0.5f);
      put(static_cast<int64_t>(at * from), 1);
      continue;
    }
    double at = align_corners ? ratio * static_cast<double>(o) : ratio * (static_cast<double>(o) + 0.5) - 0.5;
    if (kind == Resampling::linear) {
      if (at < 0) at = 0;
      const int64_t left = std::min(static_cast<int64_t>(at), in - 1);
      const double part = std::min(at - static_cast<double>(left), 1.0);
      put(left, left < in - 1 ? 1 - part : 1);
      if (left < in - 1) put(left + 1, part);
    } else {
      const double left = std::floor(at);
      for (int k = -1; k <= 2; ++k) put(static_cast<int64_t>(left) + k, cubic(at - left - k));
    }
  }
  first[out] = count;
  return t;
}

struct Map {
  Dims in_shape, out_shape;
  DType dtype = DType::float32;
  int64_t in[3] = {1, 1, 1};
  Table tables[3], transposed[3];  // the latter where a gradient may be asked for
};

// The maps of the three axes, and the places that each reads.
struct Axes {
  const Table* map[3];
  int64_t in[3];
};

// x (batch, axes, channels) to y, both contiguous.
void resample(DType dtype, const Axes& axes, int64_t batch, int64_t channels, const Tensor& x, const Tensor& y) {
  ResampleArgs args;
  args.dtype = dtype;
  args.batch = batch;
  args.channels = channels;
  int64_t reads = y.count();
  for (int a = 0; a < 3; ++a) {
    const Table& t = *axes.map[a];
    args.in[a] = axes.in[a];
    args.out[a] = t.rows;
    args.first[a] = t.first.data<int64_t>();
    args.source[a] = t.source.data<int64_t>();
    args.weight[a] = t.weight.data<double>();
    reads *= args.first[a][t.rows] / t.rows + 1;
  }
  args.x = x.bytes();
  args.y = y.bytes();
  PYDL_LAUNCH(x.device(), reads, resample, args);
}

// Planes one axis after the other, vectors along the axes behind it; the last axis is turned to the front.
Tensor resample_planes(DType dtype, const Axes& axes, const Dims& shape, const Tensor& x) {
  const Table unit = table_of(1, 1, 0, Resampling::nearest, false);
  const int64_t planes = shape[0] * shape[1];
  int64_t before = planes, behind = x.count() / planes;
  Tensor t = detach(x);  // nothing of this is recorded
  for (int a = 0; a < 3; ++a) {
    const int64_t in = axes.in[a], out = axes.map[a]->rows;
    behind /= in;
    if (in > 1 || out > 1) {
      const Axes one = {{&unit, &unit, axes.map[a]}, {1, 1, in}};
      const bool last = a == 2;
      if (last) t = contiguous(permute_dims(reshape(t, {planes, before / planes, in}), {0, 2, 1}));
      const int64_t batch = last ? planes : before, channels = last ? before / planes : behind;
      const Tensor y = Tensor::empty({batch, out, channels}, dtype, x.device());
      resample(dtype, one, batch, channels, t, y);
      t = last ? contiguous(permute_dims(y, {0, 2, 1})) : y;
    }
    before *= out;
  }
  return reshape(t, shape);
}

constexpr int64_t kFewChannels = 15;    // of an image leave vectors half empty: those of all images are put together
constexpr int64_t kFewPlanes = 7;       // of all images are gone through axis by axis
constexpr int64_t kWorthPasses = 1024;  // elements of both sides

Tensor apply(const Map& map, bool transpose, const Tensor& x0) {
  const Dims& shape = transpose ? map.in_shape : map.out_shape;
  Axes axes;
  for (int a = 0; a < 3; ++a) {
    axes.map[a] = transpose ? &map.transposed[a] : &map.tables[a];
    axes.in[a] = transpose ? map.tables[a].rows : map.in[a];
  }
  const bool planes = shape.size() > 3 && shape[0] * shape[1] <= kFewPlanes && element_count(shape) > 0 &&
                      x0.count() + element_count(shape) >= kWorthPasses && x0.device().is_cpu();
  const Tensor wide = cast(x0, map.dtype), x = planes ? contiguous(wide) : channels_last(wide);
  Tensor y;
  if (planes) {
    y = resample_planes(map.dtype, axes, shape, x);
  } else {
    y = Tensor::empty_channels_last(shape, map.dtype, x.device());
    if (x.count() == 0)
      fill_(y, Number::of(0.0));
    else if (y.count() > 0)
      resample(map.dtype, axes, shape[0], shape[1], x, y);
  }
  if (autograd::recording({&x}))
    autograd::record("interpolate", {&x}, {&y}, [map, transpose](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = apply(map, !transpose, d_out[0]);
    });
  return y;
}

}  // namespace

Tensor interpolate(const Tensor& x, const Dims& size, const std::vector<double>& scales, Resampling kind,
                   bool align_corners) {
  constexpr const char* op = "interpolate";
  require_floating(op, x.dtype());
  const int rank = x.ndim() - 2;
  bool fits =
      rank >= 1 && rank <= 3 && size.size() == rank && (scales.empty() || static_cast<int>(scales.size()) == rank);
  for (int d = 1; fits && d < x.ndim(); ++d) fits = x.size(d) > 0;
  for (int a = 0; fits && a < rank; ++a) fits = size[a] > 0;
  if (!fits)
    throw ValueError(text("[", op, "] got an input of shape ", x.shape(), " and sizes ", size,
                          ", expected (N, C, 1 to 3 axes), none of C and the axes empty, and a size above 0 for each"));
  if (is_half(x.dtype()))
    return cast(interpolate(cast(x, DType::float32), size, scales, kind, align_corners), x.dtype());
  Map map;
  map.dtype = x.dtype();
  // Few channels in planes are seen as one image of N * C channels: they would leave vectors half empty.
  const bool fold = x.contiguous() && x.size(0) > 1 && x.size(1) <= kFewChannels;
  map.in_shape = x.shape();
  if (fold) {
    map.in_shape[0] = 1;
    map.in_shape[1] = x.size(0) * x.size(1);
  }
  map.out_shape = {map.in_shape[0], map.in_shape[1]};
  for (int a = 0; a < 3; ++a) {
    const int axis = a - (3 - rank);
    const int64_t in = axis < 0 ? 1 : x.size(2 + axis), out = axis < 0 ? 1 : size[axis];
    if (axis >= 0) map.out_shape.push_back(out);
    const double scale = axis < 0 || scales.empty() ? 0 : 1 / scales[static_cast<size_t>(axis)];
    map.in[a] = in;
    map.tables[a] = table_of(in, out, scale, axis < 0 ? Resampling::nearest : kind, align_corners);
    if (autograd::recording({&x})) map.transposed[a] = transposed(map.tables[a], in);
  }
  if (!fold) return apply(map, false, x);
  Dims shape = map.out_shape;
  shape[0] = x.size(0);
  shape[1] = x.size(1);
  return reshape(apply(map, false, reshape(x, map.in_shape)), shape);
}

}  // namespace pydl::ops
