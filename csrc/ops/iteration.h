// From tensors to the flat argument structs of the element-wise kernels: broadcasting strides, merged axes.
#pragma once
#include <initializer_list>

#include "backend/registry.h"
#include "core/tensor.h"

namespace pydl::ops {

// Operand 0 is the destination, whose shape the others broadcast to.
ElementwiseArgs elementwise_args(DType dtype, std::initializer_list<const Tensor*> operands, double p = 0,
                                 double q = 0);

// Runs a kernel on them. cost: of one element, in additions.
using ElementwiseKernel = void (*KernelTable::*)(const ElementwiseArgs&, Exec&) noexcept;
void run_elementwise(const char* name, ElementwiseKernel kernel, DType dtype, int cost,
                     std::initializer_list<const Tensor*> operands, double p = 0, double q = 0);

// x's strides when seen in `shape`: 0 along broadcast axes.
Dims broadcast_strides(const Tensor& x, const Dims& shape);

inline bool is_half(DType t) { return t == DType::float16 || t == DType::bfloat16; }

}  // namespace pydl::ops
