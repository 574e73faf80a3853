// Rows of a table picked by index. The gradient of the table is dense; rows that no index names cost a fill.
#include "backend/registry.h"
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

// Adds the rows of x into a table of zeros: the gradient of picking rows. Rows for index `skip` are left out.
Tensor add_rows(const Tensor& x0, const Tensor& index, int64_t rows, int64_t skip) {
  const Tensor x = contiguous(x0);
  Tensor table = zeros({rows, x.size(-1)}, x.dtype(), x.device());
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

Tensor embedding(const Tensor& index0, const Tensor& weight0, int64_t padding_index) {
  if (!is_integer(index0.dtype()))
    throw TypeError(
        text("[embedding] got indices of ", index0.dtype(), ", expected integers; convert with astype(int64)"));
  if (weight0.ndim() != 2)
    throw ValueError(text("[embedding] got a weight of shape ", weight0.shape(), ", expected (rows, features)"));
  if (padding_index < -1 || padding_index >= weight0.size(0))
    throw ValueError(text("[embedding] got padding_idx ", padding_index, ", expected a row of the ", weight0.size(0)));
  common_device("embedding", {&index0, &weight0});
  const Tensor index = contiguous(cast(index0, DType::int64)), weight = contiguous(weight0);
  check_range(index, weight.size(0));
  Tensor y = gather_rows(index, weight);
  y.impl()->origin = std::make_unique<PickedRows>(index, weight, padding_index, y);
  if (autograd::recording({&weight}))
    autograd::record(
        "embedding", {&weight}, {&y},
        [rows = weight.size(0), padding_index, si = Saved(index)](Node& node, const Tensor* d_out, Tensor* d_in) {
          d_in[0] = add_rows(d_out[0], si.get(node), rows, padding_index);
        });
  return y;
}

const PickedRows* picked_rows(const Tensor& x) {
  const auto* origin = dynamic_cast<const PickedRows*>(x.impl()->origin.get());
  return origin && origin->unchanged() && x.storage().version == origin->own_version ? origin : nullptr;
}

}  // namespace pydl::ops
