// Recurrent networks made of ops: what the whole-sequence kernels compute, differentiable any number of times.
#pragma once
#include <functional>

#include "ops/ops.h"

namespace pydl::ops {

// dropped(x, l): x as the dropout above layer l made it, or x where there is none. lengths may be undefined; h0 and c0
// too.
RecurrentResult composed_recurrent(const RecurrentOptions& options, const Tensor& x, const Tensor& h0, const Tensor& c0,
                                   const std::vector<Tensor>& weights, int64_t per_layer, const Tensor& lengths,
                                   const std::function<Tensor(const Tensor&, size_t)>& dropped);

}  // namespace pydl::ops
