// Indexing as in NumPy: basic indices make views; integer tensors and boolean masks gather by element offsets, which
// are worked out here so that the kernels only move blocks. An integer beside an integer tensor counts as one too, as
// NumPy has it.
#include <algorithm>

#include "core/capture.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

int64_t element(const Tensor& flat, int64_t i) { return item(flat.view({}, {}, flat.offset() + i)).i; }

// int64, contiguous, in [0, n). Without `own` it may be index itself, which its owner may write to later.
Tensor checked(const char* op, const Tensor& index, int64_t n, bool own = true) {
  if (is_float(index.dtype()) || index.dtype() == DType::boolean)
    throw TypeError(text("[", op, "] indices must be integers, got ", index.dtype()));
  const Tensor wide = contiguous(cast(index, DType::int64));
  int64_t bad = -1;
  bool plain = false;
  CheckIndicesArgs args;
  args.index = wide.data<int64_t>();
  args.count = wide.count();
  args.n = n;
  args.normalized = nullptr;
  args.first_bad = &bad;
  args.plain = &plain;
  if (!own && wide.device().is_cpu()) {
    PYDL_LAUNCH(wide.device(), args.count, check_indices, args);
    if (plain) return wide;
  }
  Tensor out = Tensor::empty(wide.shape(), DType::int64, wide.device());
  args.normalized = out.data<int64_t>();
  {
    CapturedLaunch captured;
    if (captured)
      captured.check(text("[", op, "] the index at position "),
                     text(" is out of range for an axis of size ", n, ", in one of the replayed steps"));
    PYDL_LAUNCH(wide.device(), args.count, check_indices, args);
  }
  if (bad >= 0)
    throw IndexError(text("[", op, "] index ", element(wide, bad), " is out of range for an axis of size ", n));
  return out;
}

// How an advanced index reads a tensor of given strides. The result's axes: `lead` plain ones, the index's, then the
// rest.
struct Plan {
  std::vector<int> axes;        // indexed axes
  std::vector<Tensor> indices;  // for each, checked and broadcast to `index_shape`, contiguous
  Dims index_shape;
  std::vector<int> lead, tail;  // the plain axes before and after
  Dims shape;                   // of the result
};

struct Offsets {
  Tensor at;  // int64: element offsets of the blocks
  int64_t block;
  int64_t repeats = 1, step = 0;  // at stands for itself, and for itself + step, + 2 * step, ...
};

// The same by ops, where the indices are: a sum over all axes, of which each broadcasts along its own.
Offsets offsets_by_ops(const Plan& plan, const std::vector<int>& tail, const Dims& sizes, const Dims& strides,
                       int64_t base, int64_t block) {
  const int lead = static_cast<int>(plan.lead.size()), after = static_cast<int>(tail.size());
  const int ndim = lead + plan.index_shape.size() + after;
  const Device device = plan.indices[0].device();
  autograd::GradMode off(false);
  Dims whole = Dims::filled(ndim, 1);
  for (int i = 0; i < plan.index_shape.size(); ++i) whole[lead + i] = plan.index_shape[i];
  Tensor sum = scalar(Number::of(base), DType::int64);
  for (size_t k = 0; k < plan.axes.size(); ++k)
    sum = add(sum, multiply(reshape(plan.indices[k], whole), scalar(Number::of(strides[plan.axes[k]]), DType::int64)));
  const auto add_plain = [&](int axis, int at) {
    if (sizes[axis] == 1) return;
    Dims shape = Dims::filled(ndim, 1);
    shape[at] = sizes[axis];
    const Number zero = Number::of(int64_t{0}), step = Number::of(std::max<int64_t>(strides[axis], 1));
    const Tensor steps = strides[axis] > 0 ? arange(zero, Number::of(sizes[axis] * step.i), step, DType::int64, device)
                                           : multiply(arange(zero, Number::of(sizes[axis]), step, DType::int64, device),
                                                      scalar(Number::of(strides[axis]), DType::int64));
    sum = add(sum, reshape(steps, shape));
  };
  for (int i = 0; i < lead; ++i) add_plain(plan.lead[static_cast<size_t>(i)], i);
  for (int i = 0; i < after; ++i) add_plain(tail[static_cast<size_t>(i)], ndim - after + i);
  return {contiguous(sum), block};
}

// With `repeat`, leading axes that are one in memory are left to the kernel.
Offsets offsets_of(const Plan& plan, const Dims& sizes, const Dims& strides, int64_t base, bool repeat) {
  // The innermost plain axes that lie in memory without gaps move as one block.
  int64_t block = 1;
  std::vector<int> tail = plan.tail;
  while (!tail.empty() && (strides[tail.back()] == block || sizes[tail.back()] == 1)) {
    block *= sizes[tail.back()];
    tail.pop_back();
  }
  if (!plan.indices[0].device().is_cpu()) return offsets_by_ops(plan, tail, sizes, strides, base, block);
  int64_t lead = 1, after = 1;
  for (int a : plan.lead) lead *= sizes[a];
  for (int a : tail) after *= sizes[a];
  const int64_t n = element_count(plan.index_shape);
  const auto plain = [&](const std::vector<int>& axes, int64_t i) {
    int64_t offset = 0;
    for (size_t k = axes.size(); k-- > 0;) {
      offset += i % sizes[axes[k]] * strides[axes[k]];
      i /= sizes[axes[k]];
    }
    return offset;
  };
  Tensor indexed = Tensor::empty({n}, DType::int64, Device{});  // what the indices alone say
  int64_t* from = indexed.data<int64_t>();
  std::fill(from, from + n, base);
  for (size_t k = 0; k < plan.axes.size(); ++k) {
    const int64_t* index = plan.indices[k].data<int64_t>();
    const int64_t stride = strides[plan.axes[k]];
    for (int64_t i = 0; i < n; ++i) from[i] += index[i] * stride;
  }
  if (lead == 1 && after == 1) return {indexed, block};
  bool uniform = repeat && lead > 1;
  for (size_t k = 0; k + 1 < plan.lead.size(); ++k) {
    const int inner = plan.lead[k + 1];
    uniform = uniform && strides[plan.lead[k]] == strides[inner] * sizes[inner];
  }
  const int64_t repeats = uniform ? lead : 1, step = uniform ? strides[plan.lead.back()] : 0;
  if (uniform) lead = 1;
  if (uniform && after == 1) return {indexed, block, repeats, step};
  std::vector<int64_t> steps(static_cast<size_t>(after));
  for (int64_t j = 0; j < after; ++j) steps[static_cast<size_t>(j)] = plain(tail, j);
  Tensor at = Tensor::empty({lead * n * after}, DType::int64, Device{});
  int64_t* out = at.data<int64_t>();
  for (int64_t l = 0; l < lead; ++l) {
    const int64_t first = plain(plan.lead, l);
    for (int64_t i = 0; i < n; ++i) {
      for (const int64_t step : steps) *out++ = from[i] + first + step;
    }
  }
  return {at, block, repeats, step};
}

Tensor gather(const Tensor& x, const Plan& plan) {
  Tensor y = Tensor::empty(plan.shape, x.dtype(), x.device());
  if (y.count() == 0) return y;
  const Offsets o = offsets_of(plan, x.shape(), x.strides(), x.offset(), true);
  GatherOffsetsArgs args;
  args.dtype = x.dtype();
  args.count = o.at.count();
  args.block = o.block;
  args.src = x.storage().data;
  args.offset = o.at.data<int64_t>();
  args.dst = y.bytes();
  args.repeats = o.repeats;
  args.src_step = o.step;
  PYDL_LAUNCH(x.device(), y.count(), gather_offsets, args);
  return y;
}

void scatter_into(const Tensor& dst, const Plan& plan, const Tensor& src, bool accumulate) {
  if (element_count(plan.shape) == 0) return;
  const Offsets o = offsets_of(plan, dst.shape(), dst.strides(), dst.offset(), false);
  const bool uniform = src.count() == 1 && o.block == 1;
  const Tensor values = uniform ? to_device(src, dst.device())
                                : contiguous(src.shape() == plan.shape ? src : broadcast_to(src, plan.shape));
  ScatterOffsetsArgs args;
  args.dtype = dst.dtype();
  args.accumulate = accumulate;
  args.count = o.at.count();
  args.block = o.block;
  args.offset = o.at.data<int64_t>();
  args.src = values.bytes();
  args.src_stride = uniform ? 0 : o.block;
  args.dst = dst.storage().data;
  args.dst_extent = static_cast<int64_t>(dst.storage().bytes / item_size(dst.dtype()));
  PYDL_LAUNCH(dst.device(), args.count * args.block, scatter_offsets, args);
  autograd::note_inplace(dst);
}

// Where a mask is true, as numbers of its elements in row-major order; without a branch, which would be mispredicted.
Tensor true_places(const Tensor& mask0) {
  if (!mask0.device().is_cpu()) return to_device(true_places(on_host(mask0)), mask0.device());
  const Tensor mask = contiguous(mask0);
  const bool* m = mask.data<bool>();
  int64_t count = 0;
  for (int64_t i = 0; i < mask.count(); ++i) count += m[i];
  const Tensor places = Tensor::empty({count + 1}, DType::int64, Device{});
  int64_t* at = places.data<int64_t>();
  for (int64_t i = 0, k = 0; i < mask.count(); ++i) {
    at[k] = i;
    k += m[i];
  }
  return slice(places, 0, 0, count, 1);
}

// Whether `count` axes of x from `axis` on lie in memory as one.
bool joined(const Tensor& x, int axis, int count) {
  for (int d = axis; d + 1 < axis + count; ++d)
    if (x.stride(d) != x.stride(d + 1) * x.size(d + 1)) return false;
  return x.count() > 0;
}

// Gradient of gather, and its own gradient: gather again.
Tensor gather_recorded(const Tensor& x, const Plan& plan);
Tensor scatter_recorded(const Tensor& g, const Plan& plan, const Dims& shape) {
  Tensor d = zeros(shape, g.dtype(), g.device());
  scatter_into(d, plan, detach(g), true);
  if (autograd::recording({&g}))
    autograd::record("index_add", {&g}, {&d},
                     [plan](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = gather_recorded(d_out[0], plan); });
  return d;
}
Tensor gather_recorded(const Tensor& x, const Plan& plan) {
  Tensor y = gather(x, plan);
  if (autograd::recording({&x}))
    autograd::record("index", {&x}, {&y}, [plan, shape = x.shape()](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = scatter_recorded(d_out[0], plan, shape);
    });
  return y;
}

// Indices of the CPU serve tensors of any device.
Tensor index_on(Device device, const char* op, const Tensor& index) {
  if (index.device() == device || index.device().is_cpu()) return to_device(index, device);
  throw ValueError(
      text("[", op, "] got indices on ", index.device(), " for a tensor on ", device, "; move them with .to(device)"));
}

Plan make_plan(const char* op, const Tensor& x, const std::vector<int>& axes, const std::vector<Tensor>& indices,
               bool apart = false) {
  Plan plan;
  plan.axes = axes;
  plan.index_shape = {};
  for (const Tensor& t : indices) plan.index_shape = broadcast_shapes(op, plan.index_shape, t.shape());
  for (size_t k = 0; k < axes.size(); ++k)
    plan.indices.push_back(
        contiguous(broadcast_to(checked(op, index_on(x.device(), op, indices[k]), x.size(axes[k])), plan.index_shape)));
  const bool adjacent = !apart && axes.back() - axes.front() + 1 == static_cast<int>(axes.size());
  for (int a = 0; a < x.ndim(); ++a) {
    if (std::find(axes.begin(), axes.end(), a) != axes.end()) continue;
    (adjacent && a < axes.front() ? plan.lead : plan.tail).push_back(a);
  }
  for (int a : plan.lead) plan.shape.push_back(x.size(a));
  for (int64_t n : plan.index_shape) plan.shape.push_back(n);
  for (int a : plan.tail) plan.shape.push_back(x.size(a));
  return plan;
}

// Applies the basic indices as views; what is left are index tensors by axis of the view.
struct Parsed {
  Tensor view;
  std::vector<int> axes;
  std::vector<Tensor> indices;
  bool apart = false;  // an ellipsis stands between two of them, though it may cover no axis
};

int64_t clamp_bound(int64_t v, int64_t n, int64_t low, int64_t high) {
  if (v < 0) v += n;
  return std::min(std::max(v, low), high);
}

Parsed parse(const Tensor& x, const std::vector<Index>& index) {
  int consumed = 0, ellipses = 0;
  bool advanced = false;
  for (const Index& i : index) {
    if (i.kind == Index::tensor) {
      consumed += i.tensor_index.dtype() == DType::boolean ? i.tensor_index.ndim() : 1;
      advanced = true;
    } else {
      consumed += i.kind == Index::integer || i.kind == Index::slice;
    }
    ellipses += i.kind == Index::ellipsis;
  }
  if (ellipses > 1) throw IndexError("[index] an index can have only one ellipsis");
  if (consumed > x.ndim())
    throw IndexError(text("[index] too many indices: ", consumed, " for a tensor of ", x.ndim(), " axes"));
  Parsed out{x, {}, {}};
  size_t before_ellipsis = 0;
  int axis = 0;
  for (const Index& i : index) {
    const int64_t n = axis < out.view.ndim() ? out.view.size(axis) : 0;
    switch (i.kind) {
      case Index::integer:
        if (advanced) {
          if (i.start < -n || i.start >= n)
            throw IndexError(text("[index] ", i.start, " is out of range for axis ", axis, " of size ", n));
          out.axes.push_back(axis++);
          out.indices.push_back(scalar(Number::of(i.start), DType::int64));
        } else {
          out.view = select(out.view, axis, i.start);
        }
        break;
      case Index::slice: {
        int64_t start, length;
        if (i.step > 0) {
          start = i.has_start ? clamp_bound(i.start, n, 0, n) : 0;
          const int64_t stop = i.has_stop ? clamp_bound(i.stop, n, 0, n) : n;
          length = stop > start ? (stop - start - 1) / i.step + 1 : 0;
        } else {
          start = i.has_start ? clamp_bound(i.start, n, -1, n - 1) : n - 1;
          const int64_t stop = i.has_stop ? clamp_bound(i.stop, n, -1, n - 1) : -1;
          length = start > stop ? (stop - start + 1) / i.step + 1 : 0;
        }
        if (start != 0 || length != n || i.step != 1) out.view = slice(out.view, axis, start, length, i.step);
        ++axis;
        break;
      }
      case Index::new_axis:
        out.view = expand_dims(out.view, axis++);
        break;
      case Index::ellipsis:
        before_ellipsis = out.axes.size();
        axis += x.ndim() - consumed;
        break;
      case Index::tensor:
        if (i.tensor_index.dtype() != DType::boolean) {
          out.axes.push_back(axis++);
          out.indices.push_back(i.tensor_index);
          break;
        }
        for (int d = 0; d < i.tensor_index.ndim(); ++d)
          if (i.tensor_index.size(d) != out.view.size(axis + d))
            throw IndexError(text("[index] a boolean mask of shape ", i.tensor_index.shape(),
                                  " does not fit axes from ", axis, " of shape ", x.shape()));
        if (i.tensor_index.ndim() == 0) {
          out.view = expand_dims(out.view, axis);
          out.axes.push_back(axis++);
          out.indices.push_back(zeros({item(i.tensor_index).i ? 1 : 0}, DType::int64, x.device()));
          break;
        }
        if (i.tensor_index.ndim() > 1 && joined(out.view, axis, i.tensor_index.ndim())) {
          Dims shape;
          for (int d = 0; d < out.view.ndim(); ++d) {
            if (d <= axis || d >= axis + i.tensor_index.ndim())
              shape.push_back(out.view.size(d));
            else
              shape[axis] *= out.view.size(d);
          }
          out.view = reshape(out.view, shape);
          out.axes.push_back(axis++);
          out.indices.push_back(true_places(i.tensor_index));
          break;
        }
        const Tensor places = nonzero(i.tensor_index);
        for (int d = 0; d < i.tensor_index.ndim(); ++d) {
          out.axes.push_back(axis++);
          out.indices.push_back(contiguous(select(places, 1, d)));
        }
        break;
    }
  }
  out.apart = before_ellipsis > 0 && out.axes.size() > before_ellipsis;
  return out;
}

}  // namespace

Tensor getitem(const Tensor& x, const std::vector<Index>& index) {
  const Parsed parsed = parse(x, index);
  if (!parsed.axes.empty())
    return gather_recorded(parsed.view, make_plan("index", parsed.view, parsed.axes, parsed.indices, parsed.apart));
  if (parsed.view.impl() == x.impl()) return x.ndim() == 0 ? reshape(x, {}) : slice(x, 0, 0, x.size(0), 1);
  return parsed.view;
}

void setitem(const Tensor& x, const std::vector<Index>& index, const Tensor& value, bool accumulate) {
  const char* const op = accumulate ? "index_put" : "setitem";
  if (autograd::recording({&value, &x})) {
    autograd::check_inplace(op, x, true);
    return assign(op, x, index_put(x, index, value, accumulate));
  }
  autograd::check_inplace(op, x, false);
  autograd::GradMode off(false);
  if (accumulate && x.dtype() == DType::boolean) {  // a sum of booleans is "or"
    const Tensor counts = cast(x, DType::int32);
    setitem(counts, index, cast(value, DType::int32), true);
    return copy_into(x, cast(counts, DType::boolean));
  }
  const Parsed parsed = parse(x, index);
  Tensor source = cast(value, x.dtype());
  if (source.device() != x.device()) {
    Tensor target = x;
    meet(op, target, source);
  }
  if (share_memory(source, x)) source = clone(source);
  // As NumPy: leading axes of size 1 that the target lacks are dropped.
  const auto fit = [&](const Dims& shape) {
    while (source.ndim() > shape.size() && source.size(0) == 1) source = squeeze(source, {0}, false);
    if (broadcast_shapes(op, shape, source.shape()) != shape)
      throw ValueError(text("[", op, "] a value of shape ", value.shape(), " does not fit ", shape));
  };
  if (parsed.axes.empty()) {
    fit(parsed.view.shape());
    copy_into(parsed.view, accumulate ? add(parsed.view, source) : source);
    return;
  }
  const Plan plan = make_plan(op, parsed.view, parsed.axes, parsed.indices, parsed.apart);
  fit(plan.shape);
  scatter_into(parsed.view, plan, source, accumulate);
}

Tensor index_put(const Tensor& x, const std::vector<Index>& index, const Tensor& value0, bool accumulate) {
  const Tensor value = cast(value0, x.dtype());
  Tensor y;
  {
    autograd::GradMode off(false);
    y = clone(x);
    setitem(y, index, value, accumulate);
  }
  if (!autograd::recording({&x, &value})) return y;
  std::vector<Index> kept = index;  // what the indices are now
  for (Index& i : kept)
    if (i.kind == Index::tensor) i.tensor_index = clone(detach(i.tensor_index));
  autograd::record("index_put", {&x, &value}, {&y},
                   [kept, accumulate, ndim = value.ndim()](Node& node, const Tensor* d_out, Tensor* d_in) {
                     const Tensor& g = d_out[0];
                     if (node.wants(0))
                       d_in[0] = accumulate ? g : index_put(g, kept, scalar(Number::of(0.0), g.dtype()), false);
                     if (node.wants(1)) {
                       d_in[1] = getitem(g, kept);
                       while (d_in[1].ndim() < ndim) d_in[1] = expand_dims(d_in[1], 0);
                     }
                   });
  return y;
}

Tensor take(const Tensor& x, const Tensor& index, int64_t axis) {
  const int a = normalize_axis("take", axis, x.ndim());
  if (x.ndim() == 0) throw ValueError("[take] needs at least one axis");
  return gather_recorded(x, make_plan("take", x, {a}, {index}));
}

std::vector<std::vector<Tensor>> take_batches(const std::vector<Tensor>& sources, const Tensor& order,
                                              const std::vector<int64_t>& stops) {
  constexpr const char* op = "[take_batches] ";
  if (order.dtype() != DType::int64 || order.ndim() != 1 || !order.contiguous())
    throw TypeError(text(op, "got an order of ", order.dtype(), " and shape ", order.shape(), ", expected int64 (N,)"));
  if (stops.empty() || stops.front() < 0 || stops.back() > order.size(0) || !std::is_sorted(stops.begin(), stops.end()))
    throw ValueError(text(op, "the stops must ascend from 0 or more to at most ", order.size(0)));
  const Tensor readable = on_host(order);
  const int64_t* index = readable.data<int64_t>();
  for (const Tensor& x : sources) {
    if (x.ndim() == 0 || !x.contiguous())
      throw ValueError(text(op, "got a source of shape ", x.shape(), ", expected one contiguous row for each sample"));
    const auto rows = static_cast<uint64_t>(x.size(0));
    for (int64_t i = stops.front(); i < stops.back(); ++i)
      if (static_cast<uint64_t>(index[i]) >= rows)
        throw IndexError(text(op, "index ", index[i], " is out of range for ", x.size(0), " rows"));
  }
  std::vector<std::vector<Tensor>> batches(stops.size() - 1);
  for (size_t b = 0; b < batches.size(); ++b) {
    GatherRowsArgs args;
    args.count = stops[b + 1] - stops[b];
    batches[b].reserve(sources.size());
    for (const Tensor& x : sources) {
      Dims shape = x.shape();
      shape[0] = args.count;
      const Tensor y = Tensor::empty(shape, x.dtype(), x.device());
      batches[b].push_back(y);
      if (y.count() == 0) continue;
      args.row_bytes = y.count() / args.count * static_cast<int64_t>(item_size(x.dtype()));
      args.src = x.bytes();
      args.dst = y.bytes();
      const Tensor here = to_device(order, x.device());
      args.index = here.data<int64_t>() + stops[b];
      PYDL_LAUNCH(x.device(), y.count(), gather_rows, args);
    }
  }
  return batches;
}

namespace {

// An axis of x by an index that has x's sizes along the others.
struct Along {
  int axis;
  Tensor index;  // checked, contiguous
};

// Whether the axes on either side of `axis` each lie in memory as one, without an element met twice or backwards.
bool is_along(const Tensor& x, int axis) {
  const int behind = axis + 1;
  for (int d = 0; d < x.ndim(); ++d)
    if (x.size(d) > 1 && x.stride(d) <= 0) return false;
  return joined(x, 0, axis) && joined(x, behind, x.ndim() - behind);
}

// x is that of which the kernel reads or writes single places.
template <class Args>
void set_along(Args& args, const Along& along, const Tensor& x) {
  args.dtype = x.dtype();
  args.step[0] = along.axis > 0 ? x.stride(along.axis - 1) : 0;
  args.step[1] = x.stride(along.axis);
  args.step[2] = along.axis + 1 < x.ndim() ? x.stride(x.ndim() - 1) : 0;
  args.outer = args.inner = 1;
  for (int d = 0; d < along.index.ndim(); ++d)
    if (d != along.axis) (d < along.axis ? args.outer : args.inner) *= along.index.size(d);
  args.n_index = along.index.size(along.axis);
  args.index = along.index.data<int64_t>();
}

// dst (is_along) at the index joined with src.
void put_along(const Tensor& dst, const Along& along, const Tensor& src0, ScatterJoin join) {
  const Tensor src = contiguous(detach(src0));
  if (src.count() == 0) return;
  ScatterAlongArgs args;
  set_along(args, along, dst);
  args.join = join;
  args.src = src.bytes();
  args.dst = dst.bytes();
  PYDL_LAUNCH(dst.device(), src.count(), scatter_along, args);
}

Tensor take_along(const Tensor& x0, const Along& along);
Tensor add_along(const Tensor& g, const Along& along, const Dims& shape) {
  Tensor d = zeros(shape, g.dtype(), g.device());
  put_along(d, along, g, ScatterJoin::add);
  if (autograd::recording({&g}))
    autograd::record("scatter_add", {&g}, {&d},
                     [along](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = take_along(d_out[0], along); });
  return d;
}
Tensor take_along(const Tensor& x0, const Along& along) {
  const Tensor x = is_along(x0, along.axis) ? x0 : contiguous(x0);
  Tensor y = Tensor::empty(along.index.shape(), x.dtype(), x.device());
  if (y.count() > 0) {
    TakeAlongArgs args;
    set_along(args, along, x);
    args.src = x.bytes();
    args.dst = y.bytes();
    PYDL_LAUNCH(x.device(), y.count(), take_along, args);
  }
  if (autograd::recording({&x}))
    autograd::record("gather", {&x}, {&y}, [along, shape = x.shape()](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = add_along(d_out[0], along, shape);
    });
  return y;
}

Along along_axis(const char* op, const Tensor& x, int axis, const Tensor& index, bool recorded) {
  return {axis, checked(op, index_on(x.device(), op, index), x.size(axis), recorded)};
}

// The part of x that an index smaller than it reaches.
Tensor reached(const Tensor& x, int axis, const Tensor& index) {
  Tensor part = x;
  for (int d = 0; d < x.ndim(); ++d)
    if (d != axis && index.size(d) < x.size(d)) part = slice(part, d, 0, index.size(d), 1);
  return part;
}

// The same for an index that may be smaller than dst along the other axes.
void put_into(const Tensor& dst, const Along& along, const Tensor& src, ScatterJoin join) {
  const Tensor part = reached(dst, along.axis, along.index);
  const bool there = is_along(part, along.axis);
  const Tensor target = there ? part : contiguous(part);
  put_along(target, along, src, join);
  if (!there) copy_into(part, target);
  autograd::note_inplace(dst);
}

void check_along(const char* op, const Tensor& x, const Tensor& index) {
  if (x.ndim() != index.ndim() || x.ndim() == 0)
    throw ValueError(
        text("[", op, "] the index must have as many axes as the tensor, got ", index.shape(), " for ", x.shape()));
}

}  // namespace

Tensor take_along_axis(const Tensor& x0, const Tensor& index0, int64_t axis) {
  check_along("take_along_axis", x0, index0);
  const int a = normalize_axis("take_along_axis", axis, x0.ndim());
  Dims x_shape = x0.shape(), index_shape = index0.shape();
  x_shape[a] = index_shape[a] = 1;
  const Dims joined = broadcast_shapes("take_along_axis", x_shape, index_shape);
  x_shape = index_shape = joined;
  x_shape[a] = x0.shape()[a];
  index_shape[a] = index0.shape()[a];
  const Tensor x = broadcast_to(x0, x_shape), index = broadcast_to(index0, index_shape);
  return take_along(x, along_axis("take_along_axis", x, a, index, autograd::recording({&x})));
}

Tensor gather(const Tensor& x, int64_t axis, const Tensor& index) {
  check_along("gather", x, index);
  const int a = normalize_axis("gather", axis, x.ndim());
  for (int d = 0; d < x.ndim(); ++d)
    if (d != a && index.size(d) > x.size(d))
      throw ValueError(text("[gather] index shape ", index.shape(), " exceeds ", x.shape(), " along axis ", d));
  return take_along(reached(x, a, index), along_axis("gather", x, a, index, autograd::recording({&x})));
}

namespace {

Tensor scatter_impl(const char* op, const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src0,
                    ScatterJoin join, bool in_place) {
  check_along(op, x, index);
  const int a = normalize_axis(op, axis, x.ndim());
  Tensor src = cast(src0, x.dtype());
  if (src.device() != x.device()) {
    Tensor target = x;
    meet(op, target, src);
  }
  if (src.ndim() == 0) src = broadcast_to(src, index.shape());
  check_along(op, src, index);
  for (int d = 0; d < x.ndim(); ++d) {
    if (index.size(d) > src.size(d) || (d != a && index.size(d) > x.size(d)))
      throw ValueError(text("[", op, "] index shape ", index.shape(), " exceeds the source ", src.shape(),
                            " or the tensor ", x.shape(), " along axis ", d));
    if (index.size(d) < src.size(d)) src = slice(src, d, 0, index.size(d), 1);
  }
  const bool recorded = autograd::recording({&x, &src});
  if (in_place) {
    if (recorded) return {};
    autograd::check_inplace(op, x, false);
    if (share_memory(src, x)) src = clone(src);
    put_into(x, along_axis(op, x, a, index, share_memory(index, x)), src, join);
    return x;
  }
  const Along along = along_axis(op, x, a, index, recorded);
  Tensor y;
  {
    autograd::GradMode off(false);
    y = clone(x);
    put_into(y, along, src, join);
  }
  if (recorded)
    autograd::record(op, {&x, &src}, {&y}, [along, join](Node& node, const Tensor* d_out, Tensor* d_in) {
      const Tensor& g = d_out[0];
      if (node.wants(0)) {
        d_in[0] = g;
        if (join == ScatterJoin::replace) {
          const Tensor hit = zeros(g.shape(), DType::uint8, g.device());
          put_into(hit, along, full(along.index.shape(), Number::of(int64_t{1}), DType::uint8, g.device()),
                   ScatterJoin::replace);
          d_in[0] = where(cast(hit, DType::boolean), scalar(Number::of(0.0), g.dtype()), g);
        }
      }
      if (node.wants(1)) d_in[1] = take_along(reached(g, along.axis, along.index), along);
    });
  return y;
}

}  // namespace

Tensor scatter_add(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, bool in_place) {
  return scatter_impl("scatter_add", x, axis, index, src, ScatterJoin::add, in_place);
}
Tensor scatter(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, bool in_place) {
  return scatter_impl("scatter", x, axis, index, src, ScatterJoin::replace, in_place);
}
Tensor scatter_joined(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& src, ScatterJoin join,
                      bool in_place) {
  constexpr const char* op = "scatter_reduce";
  const DType t = x.dtype();
  if (t != DType::float32 && t != DType::float64 && t != DType::int64)
    throw TypeError(text("[", op, "] got ", t, ", expected float32, float64 or int64"));
  if (!x.device().is_cpu() || autograd::recording({&x, &src}))
    throw ValueError(text("[", op, "] is for tensors of the CPU, without a gradient"));
  return scatter_impl(op, x, axis, index, src, join, in_place);
}

Tensor nonzero(const Tensor& x) {
  if (!x.device().is_cpu()) return to_device(nonzero(on_host(x)), x.device());
  const Tensor places = true_places(x.dtype() == DType::boolean ? x : cast(detach(x), DType::boolean));
  if (x.ndim() == 1) return expand_dims(places, 1);
  const int64_t count = places.size(0), last = x.ndim() - 1;
  Tensor out = Tensor::empty({count, x.ndim()}, DType::int64, Device{});
  if (x.ndim() == 0) return out;
  int64_t* row = out.data<int64_t>();
  const int64_t* place = places.data<int64_t>();
  for (int64_t i = 0; i < count;) {  // by stretches along the last axis
    const int64_t stretch = place[i] / x.size(last), begin = stretch * x.size(last), end = begin + x.size(last);
    const int64_t* const first = row;
    for (int64_t d = last, rest = stretch; d-- > 0; rest /= x.size(d)) row[d] = rest % x.size(d);
    for (; i < count && place[i] < end; ++i, row += x.ndim()) {
      for (int64_t d = 0; d < last; ++d) row[d] = first[d];
      row[last] = place[i] - begin;
    }
  }
  return out;
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, Number value) {
  return where(mask, scalar(value, x.dtype()), x);
}

}  // namespace pydl::ops
