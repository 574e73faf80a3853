// Element-wise optimizer steps over many tensors in one launch. The rules are in formulas/update_rules.h, and are the
// CPU's. Bound by memory: each tensor of a step is read once, in packets of 16 bytes, and written once.
#include "backend/cuda/many.h"
#include "backend/cuda/scalar.h"
#include "backend/formulas/update_rules.h"
#include "core/capture.h"

namespace pydl {
namespace {

// The pointers of a step: parameter, states, and the gradient last, which is not written.
template <class T, class Rule>
__global__ void __launch_bounds__(kBlock)
    step_tensors(__grid_constant__ const TensorList<Rule::states + 2> list, UpdateScalars scalars,
                 const UpdateScalars* captured, bool maximize) {
  using V = Scalar<T>;
  if (captured != nullptr) scalars = *captured;
  const Rule rule(scalars);
  const Decay<V> decay(scalars, maximize);
  each_element<T, Rule::states + 2, Rule::states + 1>(list, [&](T* values, int) {
    V p = values[0], g = values[Rule::states + 1], s[Rule::states + 1];
    for (int k = 0; k < Rule::states; ++k) s[k] = values[1 + k];
    decay(p, g);
    rule(p, g, s);
    for (int k = 0; k < Rule::states; ++k) values[1 + k] = s[k].raw;
    values[0] = p.raw;
  });
}

template <class T>
struct StepPointers {
  T *param, *state[kMaxOptimizerStates];
  const T* grad;
};

// Rows whose gradient is 0 stay as they are: a block looks at a row first, then steps it.
template <class T, class Rule>
__global__ void __launch_bounds__(kBlock)
    step_rows(StepPointers<T> at, int64_t rows, int64_t row, UpdateScalars scalars, const UpdateScalars* captured,
              bool maximize) {
  using V = Scalar<T>;
  if (captured != nullptr) scalars = *captured;
  const Rule rule(scalars);
  const Decay<V> decay(scalars, maximize);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const int64_t begin = r * row;
    bool found = false;
    for (int64_t i = threadIdx.x; i < row; i += kBlock) found = found || !(at.grad[begin + i] == T(0));
    if (__syncthreads_or(found) == 0) continue;
    for (int64_t i = begin + static_cast<int64_t>(threadIdx.x); i < begin + row; i += kBlock) {
      V p = at.param[i], g = at.grad[i], s[Rule::states + 1];
      for (int k = 0; k < Rule::states; ++k) s[k] = at.state[k][i];
      decay(p, g);
      rule(p, g, s);
      for (int k = 0; k < Rule::states; ++k) at.state[k][i] = s[k].raw;
      at.param[i] = p.raw;
    }
  }
}

template <class T, class Rule>
void run(const OptimizerArgs& args, Exec& exec) {
  const CapturedValues* values = cuda::captured_values();
  const auto* captured = values ? static_cast<const UpdateScalars*>(values->scalars) : nullptr;
  if (args.row_sizes == nullptr) {
    const auto pointer = [&](int k, int t) {
      if (k == 0) return args.params[t];
      return k <= Rule::states ? args.states[k - 1][t] : const_cast<void*>(args.grads[t]);
    };
    each_group<Rule::states + 2>(args.tensors, args.sizes, pointer, [&](const auto& list, unsigned chunks, const int*) {
      PYDL_CUDA_LAUNCH((step_tensors<T, Rule>), chunks, kBlock, 0, exec, list, args.scalars, captured, args.maximize);
    });
    return;
  }
  for (int t = 0; t < args.tensors; ++t) {
    const int64_t row = args.row_sizes[t], rows = row > 0 ? args.sizes[t] / row : 0;
    if (rows <= 0) continue;
    StepPointers<T> at{};
    at.param = static_cast<T*>(args.params[t]);
    at.grad = static_cast<const T*>(args.grads[t]);
    for (int k = 0; k < Rule::states; ++k) at.state[k] = static_cast<T*>(args.states[k][t]);
    PYDL_CUDA_LAUNCH((step_rows<T, Rule>), grid_for(rows, 1), kBlock, 0, exec, at, rows, row, args.scalars, captured,
                     args.maximize);
  }
}

void optimizer_step_kernel(const OptimizerArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_rule<Scalar<T>>(args, [&](auto type) { run<T, typename decltype(type)::Rule>(args, exec); });
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(optimizer) { table.optimizer_step = pydl::optimizer_step_kernel; }
