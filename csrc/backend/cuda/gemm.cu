// The matrix product of the kernel table, our own: tiles in shared memory (gemm_tile.h), any strides, and what follows
// the product in its registers: alpha, beta, bias, relu. 16-bit elements are added up in float. Where a product has few
// tiles and a long inner axis, that axis is split between blocks; their parts are added up in order by a second kernel,
// so the bits stay the same.
//
// Bound by FMA at large sizes and by launches at small ones. No tensor cores here: blas.h has cuBLASLt where it is
// found.
#include "backend/cuda/blas.h"
#include "backend/cuda/gemm_tile.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/scalar.h"

namespace pydl {
namespace {

enum Activation { kNone = 0, kRelu = 1, kTanh = 2, kSigmoid = 3 };

// The fields of GemmArgs that the device reads.
template <class S>
struct Product {
  using T = SumType<S>;
  int64_t m, n, k, batch;
  const S* a;
  const S* b;
  S* dst;
  const S* bias;
  int64_t a_batch, a_row, a_col, b_batch, b_row, b_col, dst_batch, dst_row;
  T alpha, beta;
  int activation;
  int64_t splits, tiles_n;
  T* parts;      // (splits, batch, m, n) where splits > 1
  bool vectors;  // rows of what the tiles write begin at multiples of 16 bytes
};

template <class S, class T = SumType<S>>
__device__ __forceinline__ T finish(const Product<S>& p, T sum, T bias, const S* dst) {
  T y = p.alpha * sum;
  if (p.beta != T(0)) y += p.beta * widened(*dst);
  y += bias;
  return p.activation == kRelu ? max(Scalar<T>(y), Scalar<T>(0)).raw : y;
}

// One row of a thread's sums: to = f(v, place), as one vector where it can be.
template <int kVec, class S, class F>
__device__ __forceinline__ void write_vector(S* to, int64_t left, bool vectors, F f) {
  if (vectors && kVec <= left) {
    Pack<S, kVec> y;
#pragma unroll
    for (int v = 0; v < kVec; ++v) y.at[v] = narrowed<S>(f(v, to + v));
    *reinterpret_cast<Pack<S, kVec>*>(to) = y;
  } else {
#pragma unroll
    for (int v = 0; v < kVec; ++v)
      if (v < left) to[v] = narrowed<S>(f(v, to + v));
  }
}

template <class S, int TM, int TN>
__global__ void __launch_bounds__(256, TM* TN >= 64 ? 1 : 2) gemm_tiles(Product<S> p) {
  using T = SumType<S>;
  using Block = Tile<T, TM, TN>;
  constexpr int kVec = Block::kVecN;
  __shared__ typename Block::Shared shared;
  const int64_t tile = blockIdx.x;
  const int64_t i0 = tile / p.tiles_n * Block::kRows, j0 = tile % p.tiles_n * Block::kCols;
  const int64_t each = split_length(p.k, p.splits), begin = each * blockIdx.y;
  const int64_t end = begin + each < p.k ? begin + each : p.k;
  for (int64_t z = blockIdx.z; z < p.batch; z += gridDim.z) {
    StridedLoader<S> a(p.a + z * p.a_batch, i0, p.m, p.a_row, p.a_col, end);
    StridedLoader<S> b(p.b + z * p.b_batch, j0, p.n, p.b_col, p.b_row, end);
    Block block;
    block.clear();
    block.multiply(shared, a, b, begin, end);
    T* parts = p.splits > 1 ? p.parts + (blockIdx.y * p.batch + z) * p.m * p.n : nullptr;
#pragma unroll
    for (int c = 0; c < TN; c += kVec) {
      const int64_t j = j0 + Block::col(c);
      T bias[kVec];
#pragma unroll
      for (int v = 0; v < kVec; ++v) bias[v] = p.bias == nullptr || j + v >= p.n ? T(0) : widened(p.bias[j + v]);
#pragma unroll
      for (int r = 0; r < TM; ++r) {
        const int64_t i = i0 + Block::row(r);
        if (i >= p.m) continue;
        if (parts != nullptr) {
          write_vector<kVec>(parts + i * p.n + j, p.n - j, p.vectors, [&](int v, T*) { return block.sum[r][c + v]; });
        } else {
          write_vector<kVec>(p.dst + z * p.dst_batch + i * p.dst_row + j, p.n - j, p.vectors,
                             [&](int v, S* at) { return finish(p, block.sum[r][c + v], bias[v], at); });
        }
      }
    }
  }
}

template <class S>
__global__ void gemm_parts(Product<S> p) {
  using T = SumType<S>;
  const int64_t all = p.batch * p.m * p.n;
  PYDL_CUDA_LOOP(at, all) {
    T sum = p.parts[at];
    for (int64_t s = 1; s < p.splits; ++s) sum += p.parts[s * all + at];
    const int64_t j = at % p.n, row = at / p.n;
    S* dst = p.dst + row / p.m * p.dst_batch + row % p.m * p.dst_row + j;
    *dst = narrowed<S>(finish(p, sum, p.bias == nullptr ? T(0) : widened(p.bias[j]), dst));
  }
}

// tanh and sigmoid would cost the tiles their registers.
template <class S>
__global__ void gemm_activation(Product<S> p) {
  using V = Scalar<SumType<S>>;
  PYDL_CUDA_LOOP(at, p.batch * p.m * p.n) {
    const int64_t j = at % p.n, row = at / p.n;
    S* dst = p.dst + row / p.m * p.dst_batch + row % p.m * p.dst_row + j;
    const V x(widened(*dst));
    *dst = narrowed<S>((p.activation == kTanh ? tanh(x) : sigmoid(x)).raw);
  }
}

int64_t tiles_along(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

template <class S, int TM, int TN>
void run_tiles(Product<S> p, Exec& exec) {
  using T = SumType<S>;
  using Block = Tile<T, TM, TN>;
  p.tiles_n = tiles_along(p.n, Block::kCols);
  const int64_t tiles = tiles_along(p.m, Block::kRows) * p.tiles_n;
  p.splits = choose_splits(tiles * p.batch, p.k);
  DeviceScratch<T> parts(exec, p.splits > 1 ? p.splits * p.batch * p.m * p.n : 0);
  if (p.splits > 1 && !parts) return;
  p.parts = parts.get();
  // A vector is 4 elements, of at most 16 bytes that must be aligned.
  constexpr uintptr_t kAligned = sizeof(Pack<S, 4>) < 16 ? sizeof(Pack<S, 4>) : 16;
  const auto bytes = [](int64_t count) { return static_cast<uintptr_t>(count) * sizeof(S); };
  const uintptr_t in_dst =
      reinterpret_cast<uintptr_t>(p.dst) | bytes(p.dst_row) | (p.batch > 1 ? bytes(p.dst_batch) : 0);
  p.vectors = p.splits > 1 ? p.n % 4 == 0 : in_dst % kAligned == 0;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(p.splits),
                  static_cast<unsigned>(p.batch < 65535 ? p.batch : 65535));
  PYDL_CUDA_LAUNCH((gemm_tiles<S, TM, TN>), grid, dim3(Block::kThreads), 0, exec, p);
  if (p.splits > 1) {
    PYDL_CUDA_LAUNCH((gemm_parts<S>), dim3(grid_for(p.batch * p.m * p.n)), dim3(kBlock), 0, exec, p);
  }
  if (p.activation > kRelu)
    PYDL_CUDA_LAUNCH((gemm_activation<S>), dim3(grid_for(p.batch * p.m * p.n)), dim3(kBlock), 0, exec, p);
}

template <class S>
void gemm_typed(const GemmArgs& args, Exec& exec) {
  using T = SumType<S>;
  Product<S> p;
  p.m = args.m;
  p.n = args.n;
  p.k = args.k;
  p.batch = args.batch;
  p.a = static_cast<const S*>(args.a);
  p.b = static_cast<const S*>(args.b);
  p.dst = static_cast<S*>(args.dst);
  p.bias = static_cast<const S*>(args.bias);
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
  if (p.n <= 16) return run_tiles<S, 4, 1>(p, exec);
  if (p.m <= 32) return run_tiles<S, 2, 4>(p, exec);
  constexpr int kLarge = sizeof(T) == 4 ? 8 : 4;
  if (large >= 96) return run_tiles<S, kLarge, kLarge>(p, exec);
  run_tiles<S, 4, 4>(p, exec);
}

// Integers, modulo 2^64: rare enough for the plain loop, whose reads of b neighbours share. Bound by its reads.
__global__ void __launch_bounds__(kBlock) gemm_integers(GemmArgs args) {
  const auto* a = static_cast<const uint64_t*>(args.a);
  const auto* b = static_cast<const uint64_t*>(args.b);
  PYDL_CUDA_LOOP(at, args.batch * args.m * args.n) {
    const int64_t j = at % args.n, i = at / args.n % args.m, z = at / args.n / args.m;
    uint64_t sum = 0;
    for (int64_t k = 0; k < args.k; ++k)
      sum +=
          a[z * args.a_batch + i * args.a_row + k * args.a_col] * b[z * args.b_batch + k * args.b_row + j * args.b_col];
    static_cast<uint64_t*>(args.dst)[z * args.dst_batch + i * args.dst_row + j] = sum;
  }
}

void gemm(const GemmArgs& args, Exec& exec) noexcept {
  if (args.dtype == DType::int64 && args.m > 0 && args.n > 0 && args.batch > 0) {
    PYDL_CUDA_LAUNCH((gemm_integers), dim3(grid_for(args.batch * args.m * args.n)), dim3(kBlock), 0, exec, args);
    return;
  }
  if (args.m <= 0 || args.n <= 0 || args.batch <= 0 || Blas::instance().gemm(args, exec)) return;
  switch (args.dtype) {
    case DType::float64:
      return gemm_typed<double>(args, exec);
    case DType::float16:
      return gemm_typed<Half>(args, exec);
    case DType::bfloat16:
      return gemm_typed<BFloat16>(args, exec);
    default:
      return gemm_typed<float>(args, exec);
  }
}

}  // namespace

namespace cuda {

const char* gemm_library() noexcept { return Blas::instance().name(); }
void allow_tf32_products(int on) noexcept { Blas::instance().allow_tf32(on != 0); }

}  // namespace cuda
}  // namespace pydl

PYDL_FILL(gemm) { table.gemm = table.gemm_bf16 = pydl::gemm; }
