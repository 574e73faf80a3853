// Mean and sum of squared deviations along an axis. Bound by memory, where the device has float64 units enough.
#include "backend/cuda/moments.h"
#include "backend/cuda/reduction.h"

namespace pydl {
namespace {

template <class T>
struct AxisMoments {
  using Acc = Moments;
  MomentsArgs args;
  __device__ Acc identity() const { return no_moments(); }
  __device__ void run(Acc& acc, int64_t out, int64_t first, int64_t end, int64_t step) const {
    const T* src = static_cast<const T*>(args.src) + out / args.inner * args.n * args.inner + out % args.inner;
    add_moments(acc, first, end, step, [&](int64_t k) { return static_cast<double>(src[k * args.inner]); });
  }
  __device__ Acc combine(Acc a, Acc b) const { return joined(a, b); }
  __device__ void store(int64_t out, Acc acc) const {
    const double nothing = acc.count == 0.0 ? static_cast<double>(__builtin_nanf("")) : 0.0;
    static_cast<T*>(args.mean)[out] = static_cast<T>(acc.mean + nothing);
    static_cast<T*>(args.m2)[out] = static_cast<T>(squares_of(acc) + nothing);
  }
};

void moments_kernel(const MomentsArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    reduce_to(exec, args.outer * args.inner, args.n, args.inner == 1, AxisMoments<decltype(zero)>{args});
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(moments) { table.moments = pydl::moments_kernel; }
