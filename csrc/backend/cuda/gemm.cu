// The matrix product of the kernel table, our own: tiles in shared memory (gemm_tile.h), any strides, and what follows
// the product in its registers: alpha, beta, bias, activation. Where a product has few tiles and a long inner axis, that
// axis is split between blocks; their parts are added up in order by a second kernel, so the bits stay the same.
//
// Bound by FMA at large sizes and by launches at small ones. No tensor cores here: blas.h has cuBLASLt where it is found.
#include "backend/cuda/blas.h"
#include "backend/cuda/gemm_tile.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

enum Activation { kNone = 0, kRelu = 1, kTanh = 2, kSigmoid = 3 };

// The fields of GemmArgs that the device reads.
template <class T>
struct Product {
  int64_t m, n, k, batch;
  const T* a;
  const T* b;
  T* dst;
  const T* bias;
  int64_t a_batch, a_row, a_col, b_batch, b_row, b_col, dst_batch, dst_row;
  T alpha, beta;
  int activation;
  int64_t splits, tiles_n;
  T* parts;      // (splits, batch, m, n) where splits > 1
  bool vectors;  // rows of what the tiles write begin at multiples of 16 bytes
};

template <class T>
__device__ __forceinline__ T finish(const Product<T>& p, T sum, T bias, const T* dst) {
  T y = p.alpha * sum;
  if (p.beta != T(0)) y += p.beta * *dst;
  y += bias;
  return p.activation == kRelu ? max(Scalar<T>(y), Scalar<T>(0)).raw : y;
}

template <class T, int TM, int TN>
__global__ void __launch_bounds__(256, TM * TN >= 64 ? 1 : 2) gemm_tiles(Product<T> p) {
  using Block = Tile<T, TM, TN>;
  constexpr int kVec = Block::kVecN;
  __shared__ typename Block::Shared shared;
  const int64_t tile = blockIdx.x;
  const int64_t i0 = tile / p.tiles_n * Block::kRows, j0 = tile % p.tiles_n * Block::kCols;
  const int64_t each = split_length(p.k, p.splits), begin = each * blockIdx.y;
  const int64_t end = begin + each < p.k ? begin + each : p.k;
  for (int64_t z = blockIdx.z; z < p.batch; z += gridDim.z) {
    StridedLoader<T> a(p.a + z * p.a_batch, i0, p.m, p.a_row, p.a_col, end);
    StridedLoader<T> b(p.b + z * p.b_batch, j0, p.n, p.b_col, p.b_row, end);
    Block block;
    block.clear();
    block.multiply(shared, a, b, begin, end);
    const bool in_parts = p.splits > 1;
    T* dst = in_parts ? p.parts + (blockIdx.y * p.batch + z) * p.m * p.n : p.dst + z * p.dst_batch;
    const int64_t dst_row = in_parts ? p.n : p.dst_row;
#pragma unroll
    for (int c = 0; c < TN; c += kVec) {
      const int64_t j = j0 + Block::col(c);
      Pack<T, kVec> bias;
#pragma unroll
      for (int v = 0; v < kVec; ++v) bias.at[v] = p.bias == nullptr || in_parts || j + v >= p.n ? T(0) : p.bias[j + v];
#pragma unroll
      for (int r = 0; r < TM; ++r) {
        const int64_t i = i0 + Block::row(r);
        if (i >= p.m) continue;
        T* to = dst + i * dst_row + j;
        if (p.vectors && j + kVec <= p.n) {
          Pack<T, kVec> y;
#pragma unroll
          for (int v = 0; v < kVec; ++v)
            y.at[v] = in_parts ? block.sum[r][c + v] : finish(p, block.sum[r][c + v], bias.at[v], to + v);
          *reinterpret_cast<Pack<T, kVec>*>(to) = y;
        } else {
#pragma unroll
          for (int v = 0; v < kVec; ++v)
            if (j + v < p.n) to[v] = in_parts ? block.sum[r][c + v] : finish(p, block.sum[r][c + v], bias.at[v], to + v);
        }
      }
    }
  }
}

template <class T>
__global__ void gemm_parts(Product<T> p) {
  const int64_t all = p.batch * p.m * p.n;
  PYDL_CUDA_LOOP(at, all) {
    T sum = p.parts[at];
    for (int64_t s = 1; s < p.splits; ++s) sum += p.parts[s * all + at];
    const int64_t j = at % p.n, row = at / p.n;
    T* dst = p.dst + row / p.m * p.dst_batch + row % p.m * p.dst_row + j;
    *dst = finish(p, sum, p.bias == nullptr ? T(0) : p.bias[j], dst);
  }
}

// tanh and sigmoid would cost the tiles their registers.
template <class T>
__global__ void gemm_activation(Product<T> p) {
  PYDL_CUDA_LOOP(at, p.batch * p.m * p.n) {
    const int64_t j = at % p.n, row = at / p.n;
    T* dst = p.dst + row / p.m * p.dst_batch + row % p.m * p.dst_row + j;
    *dst = p.activation == kTanh ? tanh(Scalar<T>(*dst)).raw : sigmoid(Scalar<T>(*dst)).raw;
  }
}

int64_t tiles_along(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

template <class T, int TM, int TN>
void run_tiles(Product<T> p, Exec& exec) {
  using Block = Tile<T, TM, TN>;
  p.tiles_n = tiles_along(p.n, Block::kCols);
  const int64_t tiles = tiles_along(p.m, Block::kRows) * p.tiles_n;
  p.splits = choose_splits(tiles * p.batch, p.k);
  DeviceScratch<T> parts(exec, p.splits > 1 ? p.splits * p.batch * p.m * p.n : 0);
  if (p.splits > 1 && !parts) return;
  p.parts = parts.get();
  const auto bytes = [](int64_t count) { return static_cast<uintptr_t>(count) * sizeof(T); };
  p.vectors = (p.splits > 1 ? bytes(p.n) : reinterpret_cast<uintptr_t>(p.dst) | bytes(p.dst_row) |
                                               (p.batch > 1 ? bytes(p.dst_batch) : 0)) % 16 == 0;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(p.splits),
                  static_cast<unsigned>(p.batch < 65535 ? p.batch : 65535));
  PYDL_CUDA_LAUNCH((gemm_tiles<T, TM, TN>), grid, dim3(Block::kThreads), 0, exec, p);
  if (p.splits > 1) {
    PYDL_CUDA_LAUNCH((gemm_parts<T>), dim3(grid_for(p.batch * p.m * p.n)), dim3(kBlock), 0, exec, p);
  }
  if (p.activation > kRelu)
    PYDL_CUDA_LAUNCH((gemm_activation<T>), dim3(grid_for(p.batch * p.m * p.n)), dim3(kBlock), 0, exec, p);
}

template <class T>
void gemm_typed(const GemmArgs& args, Exec& exec) {
  Product<T> p;
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.batch = args.batch;
  p.a = static_cast<const T*>(args.a);
  p.b = static_cast<const T*>(args.b);
  p.dst = static_cast<T*>(args.dst);
  p.bias = static_cast<const T*>(args.bias);
  p.a_batch = args.a_batch;
  p.a_row = args.a_row;
  p.a_col = args.a_col;
  p.b_batch = args.b_batch;
  p.b_row = args.b_row;
  p.b_col = args.b_col;
  p.dst_batch = args.dst_batch;
  p.dst_row = args.dst_row;
  p.alpha = static_cast<T>(args.alpha);
  p.beta = static_cast<T>(args.beta);
  p.activation = args.activation;
  const int64_t large = tiles_along(p.m, 128) * tiles_along(p.n, 128) * p.batch;
  if (p.n <= 16) return run_tiles<T, 4, 1>(p, exec);
  if (p.m <= 32) return run_tiles<T, 2, 4>(p, exec);
  if (sizeof(T) == 4 && large >= 96) return run_tiles<T, sizeof(T) == 4 ? 8 : 4, sizeof(T) == 4 ? 8 : 4>(p, exec);
  run_tiles<T, 4, 4>(p, exec);
}

void gemm(const GemmArgs& args, Exec& exec) noexcept {
  if (args.m <= 0 || args.n <= 0 || args.batch <= 0 || Blas::instance().gemm(args, exec)) return;
  args.dtype == DType::float64 ? gemm_typed<double>(args, exec) : gemm_typed<float>(args, exec);
}

}  // namespace

namespace cuda {

const char* gemm_library() noexcept { return Blas::instance().name(); }
void allow_tf32(int on) noexcept { Blas::instance().allow_tf32(on != 0); }

}  // namespace cuda
}  // namespace pydl

PYDL_FILL(gemm) { table.gemm = pydl::gemm; }
