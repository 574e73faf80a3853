// Rows of a table picked by index. The gradient of the table is dense: rows that no index names cost a fill. Where it
// is asked to be sparse it has the same shape and values, but lies in memory that is made when it is touched, and
// carries the list of its touched rows; whoever changes it in place ends that.
#include <algorithm>

#include "backend/registry.h"
#include "core/capture.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

Tensor gather_rows(const Tensor& index, const Tensor& table) {
  Dims shape = index.shape();
  shape.push_back(table.size(1));
  Tensor y = Tensor::empty(shape, table.dtype(), table.device());
  GatherRowsArgs args;
  args.count = index.count();
  args.row_bytes = table.size(1) * static_cast<int64_t>(item_size(table.dtype()));
  args.src = table.bytes();
  args.index = index.data<int64_t>();
  args.dst = y.bytes();
  PYDL_LAUNCH(y.device(), y.count(), gather_rows, args);
  return y;
}

struct TouchedRows : Origin {
  std::vector<int64_t> rows;
  uint32_t version;
  TouchedRows(std::vector<int64_t> rows, uint32_t version) : rows(std::move(rows)), version(version) {}
};

Tensor zeros_on_demand(const Dims& shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(element_count(shape)) * item_size(dtype);
  return Tensor::from_storage(Storage::zeros_on_demand(bytes), 0, shape, contiguous_strides(shape), dtype);
}

std::vector<int64_t> rows_of(const Tensor& index, int64_t skip) {
  const int64_t* begin = index.data<int64_t>();
  std::vector<int64_t> rows(begin, begin + index.count());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  rows.erase(std::remove(rows.begin(), rows.end(), skip), rows.end());
  return rows;
}

// Adds the rows of x into a table of zeros: the gradient of picking rows. Rows for index `skip` are left out.
Tensor add_rows(const Tensor& x0, const Tensor& index, int64_t rows, int64_t skip, bool sparse) {
  const Tensor x = contiguous(x0);
  const Dims shape = {rows, x.size(-1)};
  sparse = sparse && x.device().is_cpu();
  Tensor table = sparse ? zeros_on_demand(shape, x.dtype()) : zeros(shape, x.dtype(), x.device());
  ScatterAddRowsArgs args;
  args.dtype = x.dtype();
  args.count = index.count();
  args.rows = rows;
  args.row = x.size(-1);
  args.index = index.data<int64_t>();
  args.skip = skip;
  args.src = x.bytes();
  args.dst = table.bytes();
  PYDL_LAUNCH(x.device(), x.count(), scatter_add_rows, args);
  if (sparse) table.impl()->origin = std::make_unique<TouchedRows>(rows_of(index, skip), table.storage().version);
  if (autograd::recording({&x}))
    autograd::record("embedding_backward", {&x}, {&table},
                     [skip, si = Saved(index)](Node& node, const Tensor* d_out, Tensor* d_in) {
                       const Tensor index = si.get(node), g = embedding(index, d_out[0], -1);
                       if (skip < 0) {
                         d_in[0] = g;
                         return;
                       }
                       const Tensor kept = not_equal(index, scalar(Number::of(skip), DType::int64));
                       d_in[0] = where(expand_dims(kept, -1), g, scalar(Number::of(0.0), g.dtype()));
                     });
  return table;
}

// On a device, where values are only to be had by waiting: one look, and the details where it fails.
bool within(const Tensor& index, int64_t rows) {
  autograd::GradMode off(false);
  const Tensor low = scalar(Number::of(int64_t{0}), DType::int64), high = scalar(Number::of(rows), DType::int64);
  return !item(any(logical_or(less(index, low), greater_equal(index, high)), {}, false)).i;
}

// What a captured step reads: indices out of range are rows of 0, and are told of later.
Tensor checked_later(const Tensor& index, int64_t rows) {
  autograd::GradMode off(false);
  const Tensor zero = scalar(Number::of(int64_t{0}), DType::int64), none = scalar(Number::of(rows), DType::int64);
  const Tensor wide = contiguous(where(less(index, zero), none, index));  // negative ones are a mistake here
  const Tensor safe = Tensor::empty(index.shape(), DType::int64, index.device());
  CheckIndicesArgs args;
  args.index = wide.data<int64_t>();
  args.count = wide.count();
  args.n = rows;
  args.normalized = safe.data<int64_t>();
  args.first_bad = nullptr;
  args.plain = nullptr;
  CapturedLaunch captured;
  captured.check("[embedding] the index at position ",
                 text(" is out of range for a table of ", rows, " rows, in one of the replayed steps"));
  PYDL_LAUNCH(index.device(), args.count, check_indices, args);
  return safe;
}

void check_range(const Tensor& index0, int64_t rows) {
  if (!index0.device().is_cpu() && within(index0, rows)) return;
  const Tensor index = on_host(index0);
  int64_t bad = -1, lowest_at = 0, lowest = 0;
  CheckIndicesArgs range;
  range.index = index.data<int64_t>();
  range.count = index.count();
  range.n = rows;
  range.normalized = nullptr;
  range.first_bad = &bad;
  range.plain = nullptr;
  PYDL_LAUNCH(index.device(), index.count(), check_indices, range);
  if (bad < 0 && index.count() > 0) {  // negative ones are a mistake here, such as a -1 that was meant as padding
    ArgReduceArgs least;
    least.max = false;
    least.dtype = DType::int64;
    least.outer = least.inner = 1;
    least.n = index.count();
    least.src = index.bytes();
    least.index = &lowest_at;
    least.value = &lowest;
    PYDL_LAUNCH(index.device(), index.count(), arg_reduce, least);
    if (lowest < 0) bad = lowest_at;
  }
  if (bad >= 0)
    throw IndexError(text("[embedding] index ", index.data<int64_t>()[bad], " at position ", bad,
                          " is out of range for a table of ", rows, " rows, expected 0 to ", rows - 1));
}

}  // namespace

Tensor embedding(const Tensor& index0, const Tensor& weight0, int64_t padding_index, bool sparse) {
  if (!is_integer(index0.dtype()))
    throw TypeError(
        text("[embedding] got indices of ", index0.dtype(), ", expected integers; convert with astype(int64)"));
  if (weight0.ndim() != 2)
    throw ValueError(text("[embedding] got a weight of shape ", weight0.shape(), ", expected (rows, features)"));
  if (padding_index < -1 || padding_index >= weight0.size(0))
    throw ValueError(text("[embedding] got padding_idx ", padding_index, ", expected a row of the ", weight0.size(0)));
  common_device("embedding", {&index0, &weight0});
  const bool dense = weight0.contiguous() || index0.count() >= weight0.size(0);  // few rows of a view are read there
  const Tensor weight = dense ? contiguous(weight0) : weight0;
  Tensor index = contiguous(cast(index0, DType::int64));
  if (!index.device().is_cpu() && Graph::current())
    index = checked_later(index, weight.size(0));
  else
    check_range(index, weight.size(0));
  Tensor y = dense ? gather_rows(index, weight) : take(detach(weight), index, 0);
  if (!sparse && dense) y.impl()->origin = std::make_unique<PickedRows>(index, weight, padding_index, y);
  if (autograd::recording({&weight}))
    autograd::record("embedding", {&weight}, {&y},
                     [rows = weight.size(0), padding_index, sparse, si = Saved(index)](Node& node, const Tensor* d_out,
                                                                                       Tensor* d_in) {
                       d_in[0] = add_rows(d_out[0], si.get(node), rows, padding_index, sparse);
                     });
  return y;
}

const std::vector<int64_t>* touched_rows(const Tensor& gradient) {
  const auto* origin = dynamic_cast<const TouchedRows*>(gradient.impl()->origin.get());
  const Storage& memory = gradient.storage();
  return origin && origin->version == memory.version && !memory.exported ? &origin->rows : nullptr;
}

void add_touched_rows(const Tensor& dst, const Tensor& src) {
  const std::vector<int64_t>& rows = *touched_rows(src);
  const int64_t row = src.size(1), bytes = row * static_cast<int64_t>(item_size(src.dtype()));
  for (int64_t r : rows) {
    const AccumulateArgs args{dst.dtype(), row, src.bytes() + r * bytes, dst.bytes() + r * bytes, 1.0};
    PYDL_LAUNCH(dst.device(), args.count, accumulate, args);
  }
  const std::vector<int64_t>* before = touched_rows(dst);
  std::unique_ptr<TouchedRows> both;
  if (before) {
    both = std::make_unique<TouchedRows>(std::vector<int64_t>(), dst.storage().version + 1);
    std::set_union(before->begin(), before->end(), rows.begin(), rows.end(), std::back_inserter(both->rows));
  }
  autograd::note_inplace(dst);
  dst.impl()->origin = std::move(both);
}

const PickedRows* picked_rows(const Tensor& x) {
  const auto* origin = dynamic_cast<const PickedRows*>(x.impl()->origin.get());
  const bool own = x.storage().version == (origin ? origin->own_version : 0) && !x.storage().exported;
  return origin && own && origin->unchanged() ? origin : nullptr;
}

}  // namespace pydl::ops
