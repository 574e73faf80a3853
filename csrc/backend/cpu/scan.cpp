// Running sums and products along an axis. Floats are accumulated in float64, integers wrap around.
#include "backend/cpu/columns.h"
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kScanGrain = 8192;
constexpr int64_t kScanColumns = 64;  // of an inner axis, whose totals run beside each other
constexpr int64_t kScanBeside = 8;    // columns that fill enough of a vector; fewer are gone through as rows

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

// `rows` rows at a time, of (outer, n, inner) from `row` = o * inner + i on.
template <class Op, class T, class A, int rows>
PYDL_INLINE void scan_rows(const ScanArgs& args, int64_t row) {
  const int64_t n = args.n, inner = args.inner, step = args.reverse ? -inner : inner;
  int64_t first[rows], o = row / inner, i = row - o * inner;
  A sum[rows];
  for (int r = 0; r < rows; ++r) {
    first[r] = o * n * inner + i;
    sum[r] = A(Op::kStart);
    if (++i == inner) i = 0, ++o;
  }
  const T* src = static_cast<const T*>(args.src);
  T* dst = static_cast<T*>(args.dst);
  int64_t at = args.reverse ? (n - 1) * inner : 0;
  for (int64_t k = 0; k < n; ++k, at += step) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      sum[r] = Op::join(sum[r], static_cast<A>(src[first[r] + at]));
      dst[first[r] + at] = static_cast<T>(sum[r]);
    }
  }
}

// T is the elements' type, A what they are accumulated in.
template <class Op, class T, class A>
void scan(const ScanArgs& args, Exec& exec) {
  const int64_t n = args.n, inner = args.inner;
  if (inner < kScanBeside) {
    ScanArgs rows_of = args;
    rows_of.outer *= inner;
    each_few_rows(exec, rows_of, kScanGrain, [&](int64_t row, auto rows) { scan_rows<Op, T, A, rows>(args, row); });
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
