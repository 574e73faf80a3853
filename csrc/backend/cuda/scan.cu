// Running sums and products along an axis. Floats are accumulated in float64, integers wrap around.
//
// Where columns lie side by side and are many, a thread runs down each. Else an axis is cut into chunks: the totals of
// the chunks, their running totals, then each chunk from where the one before it ended; two reads and one write.
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

constexpr int kScanEach = 8;                        // elements of a thread
constexpr int64_t kScanChunk = kBlock * kScanEach;  // and of a block
constexpr int64_t kScanColumns = 8192;              // columns that keep the device busy by themselves

struct RunningSum {
  static constexpr int kStart = 0;
  template <class A>
  static __device__ A join(A a, A b) {
    return a + b;
  }
};
struct RunningProd {
  static constexpr int kStart = 1;
  template <class A>
  static __device__ A join(A a, A b) {
    return a * b;
  }
};

// Element k of a row, in the order of the scan.
__device__ inline int64_t place_of(const ScanArgs& args, int64_t row, int64_t k) {
  const int64_t at = args.reverse ? args.n - 1 - k : k;
  return (row / args.inner * args.n + at) * args.inner + row % args.inner;
}

template <class Op, class T, class A>
__global__ void __launch_bounds__(kBlock) scan_columns(ScanArgs args) {
  PYDL_CUDA_LOOP(row, args.outer * args.inner) {
    A total(Op::kStart);
    for (int64_t k = 0; k < args.n; ++k) {
      const int64_t at = place_of(args, row, k);
      total = Op::join(total, static_cast<A>(static_cast<const T*>(args.src)[at]));
      static_cast<T*>(args.dst)[at] = static_cast<T>(total);
    }
  }
}

// What comes before this thread, joined in order; *all: the block's total.
template <class Op, class A>
__device__ A exclusive_scan(A mine, A* all) {
  __shared__ A shared[2][kBlock];
  const int thread = static_cast<int>(threadIdx.x);
  int from = 0;
  shared[0][thread] = mine;
  __syncthreads();
  for (int apart = 1; apart < kBlock; apart *= 2) {
    const A x = shared[from][thread];
    shared[1 - from][thread] = thread >= apart ? Op::join(shared[from][thread - apart], x) : x;
    from = 1 - from;
    __syncthreads();
  }
  *all = shared[from][kBlock - 1];
  const A before = thread > 0 ? shared[from][thread - 1] : A(Op::kStart);
  __syncthreads();
  return before;
}

// totals: (rows, chunks). dst is written where start, (rows, chunks) too, is given.
template <class Op, class T, class A>
__global__ void __launch_bounds__(kBlock) scan_chunks(ScanArgs args, int64_t chunks, A* totals, const A* start) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) / chunks, chunk = static_cast<int64_t>(blockIdx.x) % chunks;
  const int64_t first = chunk * kScanChunk + static_cast<int64_t>(threadIdx.x) * kScanEach;
  A values[kScanEach], mine(Op::kStart), all;
#pragma unroll
  for (int i = 0; i < kScanEach; ++i) {
    const int64_t k = first + i;
    const A x = k < args.n ? static_cast<A>(static_cast<const T*>(args.src)[place_of(args, row, k)]) : A(Op::kStart);
    mine = Op::join(mine, x);
    values[i] = mine;
  }
  A before = exclusive_scan<Op>(mine, &all);
  if (totals != nullptr && threadIdx.x == 0) totals[blockIdx.x] = all;
  if (totals != nullptr) return;
  if (start != nullptr) before = Op::join(start[blockIdx.x], before);
#pragma unroll
  for (int i = 0; i < kScanEach; ++i)
    if (first + i < args.n)
      static_cast<T*>(args.dst)[place_of(args, row, first + i)] = static_cast<T>(Op::join(before, values[i]));
}

// totals (rows, chunks) become what comes before each chunk.
template <class Op, class A>
__global__ void __launch_bounds__(kBlock) scan_totals(A* totals, int64_t chunks) {
  A* const row = totals + static_cast<int64_t>(blockIdx.x) * chunks;
  A carry(Op::kStart);
  for (int64_t first = 0; first < chunks; first += kBlock) {
    const int64_t at = first + static_cast<int64_t>(threadIdx.x);
    A all;
    const A before = exclusive_scan<Op>(at < chunks ? row[at] : A(Op::kStart), &all);
    if (at < chunks) row[at] = Op::join(carry, before);
    carry = Op::join(carry, all);
  }
}

template <class Op, class T, class A>
void scan(const ScanArgs& args, Exec& exec) {
  const int64_t rows = args.outer * args.inner;
  if (rows <= 0 || args.n <= 0) return;
  // A product of floats may not be cut: what follows a 0 stays 0, also where it would overflow by itself.
  const bool whole = Op::kStart == 1 && std::is_floating_point<T>::value;
  if (whole || args.n <= 4 || (args.inner > 1 && rows >= kScanColumns)) {
    PYDL_CUDA_LAUNCH((scan_columns<Op, T, A>), grid_for(rows), kBlock, 0, exec, args);
    return;
  }
  const int64_t chunks = (args.n + kScanChunk - 1) / kScanChunk;
  const unsigned blocks = static_cast<unsigned>(rows * chunks);
  A* const none = nullptr;
  if (chunks == 1) {
    PYDL_CUDA_LAUNCH((scan_chunks<Op, T, A>), blocks, kBlock, 0, exec, args, chunks, none, static_cast<const A*>(none));
    return;
  }
  DeviceScratch<A> totals(exec, rows * chunks);
  if (!totals) return;
  PYDL_CUDA_LAUNCH((scan_chunks<Op, T, A>), blocks, kBlock, 0, exec, args, chunks, totals.get(),
                   static_cast<const A*>(none));
  PYDL_CUDA_LAUNCH((scan_totals<Op, A>), static_cast<unsigned>(rows), kBlock, 0, exec, totals.get(), chunks);
  PYDL_CUDA_LAUNCH((scan_chunks<Op, T, A>), blocks, kBlock, 0, exec, args, chunks, none,
                   static_cast<const A*>(totals.get()));
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
