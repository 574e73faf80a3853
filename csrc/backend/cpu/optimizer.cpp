// Element-wise optimizer steps over many tensors in one pass. The rules are in formulas/update_rules.h.
#include "backend/cpu/many.h"
#include "backend/formulas/update_rules.h"

namespace pydl {
namespace {

template <class T>
bool all_zero(const T* x, int64_t n) {
  Mask<T> found(false);
  each_place<T>(0, n, [&](auto load, auto) { found = found | !(load(x) == Vec<T>(0.0)); });
  return !any(found);
}

template <class T, class Rule>
void run(const OptimizerArgs& args, Exec& exec) {
  using V = Vec<T>;
  const Rule rule(args.scalars);
  const Decay<V> decay(args.scalars, args.maximize);
  const auto piece = [&](int t, int64_t begin, int64_t end) __attribute__((noinline)) {  // used thrice, some 2 KB each
    void* param = args.params[t];
    const void* grad = args.grads[t];
    void* state[Rule::states + 1];
    for (int k = 0; k < Rule::states; ++k) state[k] = args.states[k][t];
    each_place<T>(
        begin, end, [&](auto load, auto store) __attribute__((always_inline)) {
          V p = load(param), g = load(grad), s[Rule::states + 1];
          for (int k = 0; k < Rule::states; ++k) s[k] = load(state[k]);
          decay(p, g);
          rule(p, g, s);
          for (int k = 0; k < Rule::states; ++k) store(s[k], state[k]);
          store(p, param);
        });
  };
  if (args.row_sizes == nullptr) return over_many(args.tensors, args.sizes, exec, piece);
  for (int t = 0; t < args.tensors; ++t) {
    const int64_t row = args.row_sizes[t];
    const T* grad = static_cast<const T*>(args.grads[t]);
    parallel_for(exec, args.sizes[t] / row, 1 + kManyGrain / row, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r)
        if (!all_zero(grad + r * row, row)) piece(t, r * row, (r + 1) * row);
    });
  }
}

template <class T>
void update(const OptimizerArgs& args, Exec& exec) {
  with_rule<Vec<T>>(args, [&](auto type) { run<T, typename decltype(type)::Rule>(args, exec); });
}

void optimizer_step_kernel(const OptimizerArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? update<double>(args, exec) : update<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(optimizer) { table.optimizer_step = pydl::optimizer_step_kernel; }
