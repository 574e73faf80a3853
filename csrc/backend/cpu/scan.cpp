// Running sums and products along an axis. Floats are accumulated in float64, integers wrap around.
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

// T is the elements' type, A what they are accumulated in.
template <class Op, class T, class A>
void scan(const ScanArgs& args, Exec& exec) {
  const int64_t n = args.n, inner = args.inner;
  const int64_t blocks = (inner + kScanColumns - 1) / kScanColumns;
  const int64_t width = inner < kScanColumns ? inner : kScanColumns;
  parallel_for(exec, args.outer * blocks, 1 + kScanGrain / (n * width + 1), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t col = block % blocks * kScanColumns;
      const int64_t cols = inner - col < kScanColumns ? inner - col : kScanColumns;
      const int64_t place = block / blocks * n * inner + col;
      const T* src = static_cast<const T*>(args.src) + place;
      T* dst = static_cast<T*>(args.dst) + place;
      if (inner == 1) {
        A sum(Op::kStart);
        const int64_t step = args.reverse ? -1 : 1;
        int64_t at = args.reverse ? n - 1 : 0;
        for (int64_t k = 0; k < n; ++k, at += step) {
          sum = Op::join(sum, static_cast<A>(src[at]));
          dst[at] = static_cast<T>(sum);
        }
        continue;
      }
      A total[kScanColumns];
      for (int64_t c = 0; c < cols; ++c) total[c] = A(Op::kStart);
      for (int64_t k = 0; k < n; ++k) {
        const int64_t line = (args.reverse ? n - 1 - k : k) * inner;
        for (int64_t c = 0; c < cols; ++c) {
          total[c] = Op::join(total[c], static_cast<A>(src[line + c]));
          dst[line + c] = static_cast<T>(total[c]);
        }
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
    case DType::uint8:
    case DType::int8:
      return scan<Op, uint8_t, uint32_t>(args, exec);
    case DType::uint16:
    case DType::int16:
      return scan<Op, uint16_t, uint32_t>(args, exec);
    case DType::uint32:
    case DType::int32:
      return scan<Op, uint32_t, uint32_t>(args, exec);
    case DType::uint64:
    case DType::int64:
      return scan<Op, uint64_t, uint64_t>(args, exec);
    default:
      return;
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
