// Tensors from nothing: constants and ranges.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/registry.h"
#include "ops/ops.h"

namespace pydl::ops {

Tensor full(const Dims& shape, Number value, DType dtype, Device device) {
  for (int64_t n : shape)
    if (n < 0) throw ValueError(text("[full] sizes must not be negative, got ", shape));
  Tensor y = Tensor::empty(shape, dtype, device);
  if (y.count() == 0) return y;
  FillArgs args;
  args.dtype = dtype;
  args.count = y.count();
  args.dst = y.bytes();
  args.value = value.f;
  args.int_value = value.i;
  PYDL_LAUNCH(y.device(), args.count, fill, args);
  return y;
}

Tensor arange(Number start, Number stop, Number step, DType dtype, Device device) {
  if (step.f == 0) throw ValueError("[arange] step must not be 0");
  const bool integers =
      start.kind != Number::floating && stop.kind != Number::floating && step.kind != Number::floating;
  int64_t count;
  if (integers) {
    // Unsigned: the distance between two int64 may exceed int64.
    const bool up = step.i > 0, some = up ? start.i < stop.i : start.i > stop.i;
    const uint64_t from = static_cast<uint64_t>(start.i), to = static_cast<uint64_t>(stop.i);
    const uint64_t span = up ? to - from : from - to;
    const uint64_t size = up ? static_cast<uint64_t>(step.i) : -static_cast<uint64_t>(step.i);
    const uint64_t exact = some ? (span - 1) / size + 1 : 0;
    if (exact > std::numeric_limits<int64_t>::max())
      throw ValueError(
          text("[arange] from ", start.i, " to ", stop.i, " by ", step.i, " has more elements than memory can hold"));
    count = static_cast<int64_t>(exact);
  } else {
    const double exact = std::ceil((stop.f - start.f) / step.f);
    if (!(exact < 9e15))
      throw ValueError(text("[arange] from ", start.f, " to ", stop.f, " by ", step.f, " never ends"));
    count = exact > 0 ? static_cast<int64_t>(exact) : 0;
  }
  const DType wide = integers ? DType::int64 : DType::float64;
  Tensor y = Tensor::empty({count}, wide, Device{});
  if (integers)
    for (int64_t i = 0; i < count; ++i) y.data<int64_t>()[i] = start.i + i * step.i;
  else
    for (int64_t i = 0; i < count; ++i) y.data<double>()[i] = start.f + static_cast<double>(i) * step.f;
  return to_device(cast(y, dtype), device);
}

Tensor linspace(double start, double stop, int64_t count, bool endpoint, DType dtype, Device device) {
  if (count < 0) throw ValueError(text("[linspace] num must not be negative, got ", count));
  Tensor y = Tensor::empty({count}, DType::float64, Device{});
  const int64_t parts = endpoint ? count - 1 : count;
  const double step = parts > 0 ? (stop - start) / static_cast<double>(parts) : 0;
  for (int64_t i = 0; i < count; ++i) y.data<double>()[i] = start + step * static_cast<double>(i);
  if (endpoint && count > 1) y.data<double>()[count - 1] = stop;
  return to_device(cast(y, dtype), device);
}

Tensor eye(int64_t rows, int64_t columns, int64_t diagonal, DType dtype, Device device) {
  Tensor y = zeros({rows, columns}, dtype, device);
  diagonal = std::min(std::max(diagonal, -rows), columns);
  const int64_t row = diagonal < 0 ? -diagonal : 0, column = diagonal > 0 ? diagonal : 0;
  const int64_t count = std::min(rows - row, columns - column);
  if (count > 0)
    copy_into(y.view({count}, {columns + 1}, row * columns + column), scalar(Number::of(int64_t{1}), dtype));
  return y;
}

}  // namespace pydl::ops
