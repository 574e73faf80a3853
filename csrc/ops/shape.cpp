// Views: reshaping, axes, broadcasting, slices. No data moves, except where reshape has to; every gradient is a view
// too, or a scatter into zeros.
#include <algorithm>

#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;

template <class F>
Tensor recorded(const char* name, const Tensor& x, Tensor y, F&& gradient) {
  if (autograd::recording({&x}))
    autograd::record(name, {&x}, {&y},
                     [gradient](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = gradient(d_out[0]); });
  return y;
}

// Strides under which x's memory reads as `shape`, if there are any.
bool view_strides(const Tensor& x, const Dims& shape, Dims* strides) {
  if (x.contiguous() || x.count() == 0) {
    *strides = contiguous_strides(shape);
    return true;
  }
  *strides = Dims::filled(shape.size(), 1);
  int to = shape.size() - 1;
  // Take x's axes from the inside as long as they step evenly; each such chunk must be filled by whole axes of `shape`.
  for (int from = x.ndim() - 1; from >= 0;) {
    int64_t chunk = x.size(from);
    const int64_t base = x.stride(from);
    int outer = from - 1;
    while (outer >= 0 && (x.size(outer) == 1 || x.stride(outer) == base * chunk || chunk == 1)) {
      if (chunk == 1 && x.size(outer) != 1) break;
      chunk *= x.size(outer--);
    }
    int64_t filled = 1;
    while (to >= 0 && (filled < chunk || shape[to] == 1)) {
      (*strides)[to] = base * filled;
      filled *= shape[to--];
    }
    if (filled != chunk) return false;
    from = outer;
  }
  return true;
}

Dims resolve(const char* op, const Tensor& x, Dims shape) {
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1) {
      if (unknown >= 0) throw ValueError(text("[", op, "] only one size may be -1, got ", shape));
      unknown = i;
    } else if (shape[i] < 0) {
      throw ValueError(text("[", op, "] sizes must not be negative (but for one -1), got ", shape));
    } else {
      known *= shape[i];
    }
  }
  const Dims asked = shape;
  if (unknown >= 0) {
    if (known == 0 || x.count() % known != 0)
      throw ValueError(text("[", op, "] ", x.count(), " elements of shape ", x.shape(), " do not fit into ", asked));
    shape[unknown] = x.count() / known;
  }
  if (element_count(shape) != x.count())
    throw ValueError(text("[", op, "] ", x.count(), " elements of shape ", x.shape(), " do not fit into ", asked));
  return shape;
}

Tensor as_view(const char* op, const Tensor& x, const Dims& shape, const Dims& strides) {
  return recorded(op, x, x.view(shape, strides, x.offset()),
                  [before = x.shape()](const Tensor& g) { return reshape(g, before); });
}

// g placed into zeros of `shape`, where `take` (a view) of them is what g belongs to.
template <class F>
Tensor into_zeros(const Tensor& g, const Dims& shape, F take) {
  if (!autograd::grad_enabled()) {
    Tensor d = zeros(shape, g.dtype(), g.device());
    copy_into(take(d), g);
    return d;
  }
  Tensor d;
  {
    autograd::GradMode off(false);
    d = zeros(shape, g.dtype(), g.device());
    copy_into(take(d), g);
  }
  return recorded("into_zeros", g, d, take);
}

}  // namespace

Tensor view(const Tensor& x, Dims shape) {
  shape = resolve("view", x, shape);
  Dims strides;
  if (!view_strides(x, shape, &strides)) {
    // How images lie between layers is not for their user to know.
    if (x.channels_last()) return reshape(x, shape);
    throw ValueError(text("[view] shape ", shape, " is no view of shape ", x.shape(), " with strides ", x.strides(),
                          "; use reshape, which copies where it must"));
  }
  return as_view("view", x, shape, strides);
}

Tensor reshape(const Tensor& x, Dims shape) {
  shape = resolve("reshape", x, shape);
  Dims strides;
  if (view_strides(x, shape, &strides)) return as_view("reshape", x, shape, strides);
  const Tensor copy = clone(x);
  return as_view("reshape", copy, shape, contiguous_strides(shape));
}

Tensor permute_dims(const Tensor& x, const Dims& axes) {
  const Dims order = normalize_axes("permute_dims", axes, x.ndim());
  if (order.size() != x.ndim())
    throw ValueError(text("[permute_dims] got ", axes, " for a tensor of ", x.ndim(), " axes; name each axis once"));
  Dims shape, strides, inverse = order;
  for (int i = 0; i < order.size(); ++i) {
    shape.push_back(x.size(static_cast<int>(order[i])));
    strides.push_back(x.stride(static_cast<int>(order[i])));
    inverse[static_cast<int>(order[i])] = i;
  }
  return recorded("permute_dims", x, x.view(shape, strides, x.offset()),
                  [inverse](const Tensor& g) { return permute_dims(g, inverse); });
}

Tensor swap_axes(const Tensor& x, int64_t a, int64_t b) {
  Dims order;
  for (int i = 0; i < x.ndim(); ++i) order.push_back(i);
  if (x.ndim() > 0)
    std::swap(order[normalize_axis("swap_axes", a, x.ndim())], order[normalize_axis("swap_axes", b, x.ndim())]);
  return permute_dims(x, order);
}

Tensor expand_dims(const Tensor& x, int64_t axis) {
  if (x.ndim() == kMaxRank) throw ValueError(text("[expand_dims] a tensor has at most ", kMaxRank, " axes"));
  const int at = normalize_axis("expand_dims", axis, x.ndim() + 1);
  Dims shape = x.shape(), strides = x.strides();
  shape.insert(at, 1);
  strides.insert(at, at < x.ndim() ? x.stride(at) * x.size(at) : 1);
  return as_view("expand_dims", x, shape, strides);
}

Tensor squeeze(const Tensor& x, const Dims& axes, bool all) {
  const Dims wanted = normalize_axes("squeeze", axes, x.ndim());
  Dims shape, strides;
  for (int i = 0; i < x.ndim(); ++i) {
    const bool named = std::find(wanted.begin(), wanted.end(), i) != wanted.end();
    if (x.size(i) == 1 && (all || named)) continue;
    shape.push_back(x.size(i));
    strides.push_back(x.stride(i));
  }
  return as_view("squeeze", x, shape, strides);
}

Tensor broadcast_to(const Tensor& x, const Dims& shape) {
  if (shape == x.shape()) return x;
  Dims target = shape;
  const int shift = shape.size() - x.ndim();
  for (int i = 0; i < shape.size(); ++i)
    if (target[i] == -1 && i >= shift) target[i] = x.size(i - shift);
  if (shift < 0 || broadcast_shapes("broadcast_to", x.shape(), target) != target)
    throw ValueError(text("[broadcast_to] shape ", x.shape(), " does not broadcast to ", shape));
  return recorded("broadcast_to", x, x.view(target, broadcast_strides(x, target), x.offset()),
                  [before = x.shape()](const Tensor& g) { return sum_to(g, before); });
}

Tensor slice(const Tensor& x, int axis, int64_t start, int64_t length, int64_t step) {
  Dims shape = x.shape(), strides = x.strides();
  shape[axis] = length;
  if (length > 1) strides[axis] *= step;  // a step that is never taken may be huge
  const int64_t offset = x.offset() + (length > 0 ? start * x.stride(axis) : 0);
  return recorded("slice", x, x.view(shape, strides, offset), [=, before = x.shape()](const Tensor& g) {
    return into_zeros(g, before, [=](const Tensor& d) { return slice(d, axis, start, length, step); });
  });
}

Tensor select(const Tensor& x, int axis, int64_t index) {
  const int64_t n = x.size(axis);
  if (index < -n || index >= n)
    throw IndexError(text("[index] ", index, " is out of range for axis ", axis, " of size ", n));
  const int64_t at = index < 0 ? index + n : index;
  Dims shape = x.shape(), strides = x.strides();
  shape.erase(axis);
  strides.erase(axis);
  return recorded("select", x, x.view(shape, strides, x.offset() + at * x.stride(axis)),
                  [=, before = x.shape()](const Tensor& g) {
                    return into_zeros(g, before, [=](const Tensor& d) { return select(d, axis, at); });
                  });
}

Tensor flip(const Tensor& x, const Dims& axes) {
  Dims flipped = normalize_axes("flip", axes, x.ndim());
  if (x.ndim() == 0) return x;
  if (axes.empty())
    for (int i = 0; i < x.ndim(); ++i) flipped.push_back(i);
  Dims strides = x.strides();
  int64_t offset = x.offset();
  for (int64_t a : flipped) {
    const int axis = static_cast<int>(a);
    if (x.count() > 0) offset += (x.size(axis) - 1) * x.stride(axis);
    strides[axis] = -strides[axis];
  }
  return recorded("flip", x, x.view(x.shape(), strides, offset),
                  [flipped](const Tensor& g) { return flip(g, flipped); });
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2) {
  if (x.ndim() < 2) throw ValueError(text("[diagonal] needs at least 2 axes, got shape ", x.shape()));
  const int a = normalize_axis("diagonal", axis1, x.ndim()), b = normalize_axis("diagonal", axis2, x.ndim());
  if (a == b) throw ValueError("[diagonal] the two axes must differ");
  offset = std::min(std::max(offset, -x.size(a)), x.size(b));
  const int64_t row = offset < 0 ? -offset : 0, column = offset > 0 ? offset : 0;
  const int64_t length = std::max<int64_t>(0, std::min(x.size(a) - row, x.size(b) - column));
  Dims shape = x.shape(), strides = x.strides();
  const int64_t step = x.stride(a) + x.stride(b);
  shape.erase(std::max(a, b));
  shape.erase(std::min(a, b));
  strides.erase(std::max(a, b));
  strides.erase(std::min(a, b));
  shape.push_back(length);
  strides.push_back(step);
  const int64_t start = x.offset() + (length > 0 ? row * x.stride(a) + column * x.stride(b) : 0);
  return recorded("diagonal", x, x.view(shape, strides, start), [=, before = x.shape()](const Tensor& g) {
    return into_zeros(g, before, [=](const Tensor& d) { return diagonal(d, offset, a, b); });
  });
}

Tensor unfold(const Tensor& x, int64_t axis, int64_t size, int64_t step) {
  const int a = normalize_axis("unfold", axis, x.ndim());
  if (x.ndim() == 0 || size < 0 || size > x.size(a) || step < 1)
    throw ValueError(
        text("[unfold] windows of ", size, " by steps of ", step, " don't fit axis ", axis, " of shape ", x.shape()));
  Dims shape = x.shape(), strides = x.strides();
  shape[a] = (x.size(a) - size) / step + 1;
  if (shape[a] > 1) strides[a] *= step;
  shape.push_back(size);
  strides.push_back(x.stride(a));
  return recorded("unfold", x, x.view(shape, strides, x.offset()), [=, before = x.shape()](const Tensor& g) {
    // Windows overlap: add them up one offset at a time.
    Tensor d = zeros(before, g.dtype(), g.device());
    for (int64_t i = 0; i < size; ++i) {
      const Tensor part = select(g, g.ndim() - 1, i);
      const int64_t count = g.size(a);
      d = add(d, into_zeros(part, before, [=](const Tensor& t) { return slice(t, a, i, count, step); }));
    }
    return d;
  });
}

}  // namespace pydl::ops
