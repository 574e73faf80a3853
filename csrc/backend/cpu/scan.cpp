// Running sums and products along an axis. Floats are accumulated in float64, integers wrap around.
#include "backend/cpu/columns.h"
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kScanGrain = 8192;
constexpr int64_t kScanColumns = 64;  // of an inner axis, whose totals run beside each other

struct RunningSum {
  static constexpr int kStart = 0;
  template <class A>
  static PYDL_INLINE A join(A a, A b) {
    return a + b;
  }
};
struct RunningProd {
  static constexpr int kStart = 1;
  template <class A>
  static PYDL_INLINE A join(A a, A b) {
    return a * b;
  }
};

// inner == 1: `rows` rows at a time.
template <class Op, class A, int rows, class T>
PYDL_INLINE void scan_rows(const T* src, T* dst, int64_t n, bool reverse) {
  A sum[rows];
  for (int r = 0; r < rows; ++r) sum[r] = A(Op::kStart);
  const int64_t step = reverse ? -1 : 1;
  int64_t at = reverse ? n - 1 : 0;
  for (int64_t k = 0; k < n; ++k, at += step) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      sum[r] = Op::join(sum[r], static_cast<A>(src[r * n + at]));
      dst[r * n + at] = static_cast<T>(sum[r]);
    }
  }
}

// T is the elements' type, A what they are accumulated in.
template <class Op, class T, class A>
void scan(const ScanArgs& args, Exec& exec) {
  const int64_t n = args.n, inner = args.inner;
  if (inner == 1) {
    each_few_rows(exec, args, kScanGrain, [&](int64_t row, auto rows) {
      scan_rows<Op, A, rows>(static_cast<const T*>(args.src) + row * n, static_cast<T*>(args.dst) + row * n, n,
                             args.reverse);
    });
    return;
  }
  each_column_block(exec, args, kScanColumns, kScanGrain, [&](int64_t o, int64_t col, int64_t cols) {
    const T* src = static_cast<const T*>(args.src) + o * n * inner + col;
    T* dst = static_cast<T*>(args.dst) + o * n * inner + col;
    A total[kScanColumns];
    for (int64_t c = 0; c < cols; ++c) total[c] = A(Op::kStart);
    for (int64_t k = 0; k < n; ++k) {
      const int64_t line = (args.reverse ? n - 1 - k : k) * inner;
      for (int64_t c = 0; c < cols; ++c) {
        total[c] = Op::join(total[c], static_cast<A>(src[line + c]));
        dst[line + c] = static_cast<T>(total[c]);
      }
    }
  });
}

template <class Op>
void scan_any(const ScanArgs& args, Exec& exec) {
  switch (args.dtype) {
    case DType::float32:
      return scan<Op, float, double>(args, exec);
    case DType::float64:
      return scan<Op, double, double>(args, exec);
    default:
      return scan<Op, uint64_t, uint64_t>(args, exec);
  }
}

void cumulative_sum_kernel(const ScanArgs& args, Exec& exec) noexcept { scan_any<RunningSum>(args, exec); }
void cumulative_prod_kernel(const ScanArgs& args, Exec& exec) noexcept { scan_any<RunningProd>(args, exec); }

}  // namespace
}  // namespace pydl

PYDL_FILL(scan) {
  table.cumulative_sum = pydl::cumulative_sum_kernel;
  table.cumulative_prod = pydl::cumulative_prod_kernel;
}
