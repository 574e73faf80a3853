// One tile of a matrix product, for every kernel that multiplies: 256 threads hold a tile of kRows x kCols sums in
// registers, kDepth steps of the inner axis at a time pass through shared memory, the next ones on their way while
// these are multiplied. Each sum is made by one thread in the order of the inner axis, so its bits depend on the shape
// alone.
//
// What A and B are is a loader's business: a loader fills registers with its share of the next kDepth steps, zeros
// where there is nothing. Bound by the FMA units at full tiles: TM * TN multiplications for TM + TN shared loads, as
// vectors.
#pragma once
#include "backend/cuda/convert.h"

namespace pydl {
namespace {

template <class T, int N>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Pack {
  T at[N];
};

// Elements are stored as S and added up as SumType<S>: the 16-bit types in float.
template <class S>
struct SumOf {
  using Type = float;
};
template <>
struct SumOf<double> {
  using Type = double;
};
template <class S>
using SumType = typename SumOf<S>::Type;
__device__ __forceinline__ double widened(double x) { return x; }
template <class S>
__device__ __forceinline__ float widened(S x) {
  return to_float(x);
}
template <class S>
__device__ __forceinline__ S narrowed(SumType<S> x) {
  if constexpr (sizeof(S) == 8)
    return x;
  else
    return from_float<S>(x);
}

// A thread's share of a tile's side: element e lies at place + e * place_step of the side and at step + e * depth_step
// of the inner axis. along_depth: neighbouring threads take neighbouring steps, else neighbouring places.
template <int kSide, int kDepth>
struct Share {
  static constexpr int kEach = kSide * kDepth / 256;
  static_assert(kSide * kDepth % 256 == 0 && 256 % kDepth == 0 && 256 % kSide == 0, "");
  int place, place_step, step, depth_step;
  __device__ __forceinline__ explicit Share(bool along_depth) {
    const int thread = static_cast<int>(threadIdx.x);
    place = along_depth ? thread / kDepth : thread % kSide;
    place_step = along_depth ? 256 / kDepth : 0;
    step = along_depth ? thread % kDepth : thread / kSide;
    depth_step = along_depth ? 0 : 256 / kSide;
  }
};

// A matrix with two strides: the loader of plain products. sides: how many places of the tile there are; end: the inner
// axis's.
template <class S>
struct StridedLoader {
  const S* data;  // at the tile's first place and step 0
  int64_t side_stride, depth_stride, end;
  int sides;
  bool along_depth;

  __device__ StridedLoader(const S* matrix, int64_t first, int64_t all, int64_t side_step, int64_t depth_step,
                           int64_t depth_end)
      : data(matrix + first * side_step),
        side_stride(side_step),
        depth_stride(depth_step),
        end(depth_end),
        sides(static_cast<int>(all - first < 256 ? all - first : 256)),
        along_depth(depth_step == 1) {}

  template <int kSide, int kDepth, int kEach, class T>
  __device__ __forceinline__ void load(int64_t k0, T (&out)[kEach]) const {
    const Share<kSide, kDepth> share(along_depth);
    const int left = static_cast<int>(end - k0 < kDepth ? end - k0 : kDepth);
    int k = share.step, i = share.place;
    const S* src = data + i * side_stride + (k0 + k) * depth_stride;
    const int64_t src_step = share.place_step * side_stride + share.depth_step * depth_stride;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      out[e] = i < sides && k < left ? widened(*src) : T(0);
      i += share.place_step;
      k += share.depth_step;
      src += src_step;
    }
  }
};

template <class T, int TM, int TN>
struct Tile {
  static constexpr int kThreads = 256;
  static constexpr int kRows = 16 * TM, kCols = 16 * TN;
  static constexpr int kDepth = TM == 1 || TN == 1 ? 16 : 8;
  static constexpr int kVecM = TM < 4 ? TM : 4, kVecN = TN < 4 ? TN : 4;
  static constexpr int kPitchA = kRows + 4, kPitchB = kCols + 4;

  struct alignas(16) Shared {
    T a[2][kDepth][kPitchA];
    T b[2][kDepth][kPitchB];
  };
  T sum[TM][TN];

  // Where sum[r][c] stands in the tile.
  __device__ static __forceinline__ int row(int r) {
    return r / kVecM * 16 * kVecM + static_cast<int>(threadIdx.x) / 16 * kVecM + r % kVecM;
  }
  __device__ static __forceinline__ int col(int c) {
    return c / kVecN * 16 * kVecN + static_cast<int>(threadIdx.x) % 16 * kVecN + c % kVecN;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int r = 0; r < TM; ++r) {
#pragma unroll
      for (int c = 0; c < TN; ++c) sum[r][c] = T(0);
    }
  }

  __device__ __forceinline__ void multiply_stage(const Shared& shared, int stage) {
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      T a[TM], b[TN];
#pragma unroll
      for (int r = 0; r < TM; r += kVecM) {
        const Pack<T, kVecM> p = *reinterpret_cast<const Pack<T, kVecM>*>(&shared.a[stage][k][row(r)]);
#pragma unroll
        for (int i = 0; i < kVecM; ++i) a[r + i] = p.at[i];
      }
#pragma unroll
      for (int c = 0; c < TN; c += kVecN) {
        const Pack<T, kVecN> p = *reinterpret_cast<const Pack<T, kVecN>*>(&shared.b[stage][k][col(c)]);
#pragma unroll
        for (int i = 0; i < kVecN; ++i) b[c + i] = p.at[i];
      }
#pragma unroll
      for (int r = 0; r < TM; ++r) {
#pragma unroll
        for (int c = 0; c < TN; ++c) sum[r][c] += a[r] * b[c];
      }
    }
  }

  // sum += A @ B over steps [begin, end) of the inner axis. Every thread of the block calls it; loaders are asked for
  // one stretch after the other.
  template <class LoadA, class LoadB>
  __device__ __forceinline__ void multiply(Shared& shared, LoadA& load_a, LoadB& load_b, int64_t begin, int64_t end) {
    using ShareA = Share<kRows, kDepth>;
    using ShareB = Share<kCols, kDepth>;
    T a[ShareA::kEach], b[ShareB::kEach];
    const auto store = [&](int stage) {
      const ShareA of_a(load_a.along_depth);
      const ShareB of_b(load_b.along_depth);
#pragma unroll
      for (int e = 0; e < ShareA::kEach; ++e)
        shared.a[stage][of_a.step + e * of_a.depth_step][of_a.place + e * of_a.place_step] = a[e];
#pragma unroll
      for (int e = 0; e < ShareB::kEach; ++e)
        shared.b[stage][of_b.step + e * of_b.depth_step][of_b.place + e * of_b.place_step] = b[e];
    };
    if (begin >= end) return;
    __syncthreads();  // whoever used the shared memory before is done
    load_a.template load<kRows, kDepth>(begin, a);
    load_b.template load<kCols, kDepth>(begin, b);
    store(0);
    __syncthreads();
    int stage = 0;
    for (int64_t k = begin; k < end; k += kDepth) {
      const bool more = k + kDepth < end;
      if (more) {
        load_a.template load<kRows, kDepth>(k + kDepth, a);
        load_b.template load<kCols, kDepth>(k + kDepth, b);
      }
      multiply_stage(shared, stage);
      if (more) store(stage ^ 1);
      __syncthreads();
      stage ^= 1;
    }
  }
};

// Steps of the inner axis for each of `splits` blocks, whole kDepth steps.
__host__ __device__ inline int64_t split_length(int64_t k, int64_t splits) {
  return ((k + splits - 1) / splits + 7) / 8 * 8;
}

// Into how many parts to split the inner axis, so that a product of few tiles keeps a large GPU busy.
inline int64_t choose_splits(int64_t tiles, int64_t k) {
  constexpr int64_t kBlocks = 256, kLeast = 128;
  if (tiles <= 0 || tiles * 2 > kBlocks || k < 2 * kLeast) return 1;
  int64_t splits = kBlocks / tiles;
  if (splits > k / kLeast) splits = k / kLeast;
  if (splits > 64) splits = 64;
  const int64_t each = split_length(k, splits);
  return (k + each - 1) / each;
}

}  // namespace
}  // namespace pydl
