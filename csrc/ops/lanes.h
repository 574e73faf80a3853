// How ops along axes see a tensor: as (outer, n, inner), n the axis, or several axes that lie together in memory. And
// what a reduction does to a shape. No op is defined here.
#pragma once
#include "ops/ops.h"

namespace pydl::ops {

struct Reduced {
  Dims axes;      // ascending; none of a zero-dimensional tensor
  Dims expanded;  // x's shape with 1 for the reduced axes
  Dims shape;     // of the result
  int64_t n = 1;  // elements that become one
};
// An empty list of axes reduces all of them.
Reduced reduced(const char* op, const Tensor& x, const Dims& axes, bool keepdims);
// A result, or its gradient, with the reduced axes back as ones, so that it broadcasts against x.
Tensor expand(const Tensor& y, const Reduced& r);

// The memory that a kernel reads: x's own where that is possible, else a copy. Without history.
struct Lanes {
  Tensor x;
  int64_t outer = 1, n = 1, inner = 1;
};
// All of `axes` (ascending) as one. The result's elements are in the order of the other axes.
Lanes lanes(const Tensor& x, const Dims& axes);
// One axis, normalized; x is contiguous, and a result of x's shape has the same lanes.
Lanes lanes(const Tensor& x, int axis);

template <class Args>
void set_lanes(Args& args, const Lanes& l) {
  args.outer = l.outer;
  args.n = l.n;
  args.inner = l.inner;
  args.src = l.x.bytes();
}

// Runs the reduce kernel, over one group of neighbouring axes after the other where they do not all lie together. x has
// one of the kernel's dtypes; records nothing.
Tensor reduce_raw(ReduceOp op, const Tensor& x, const Reduced& r, DType dtype, double scale = 1);

void require_floating(const char* op, DType dtype);  // TypeError for integers and bool

}  // namespace pydl::ops
