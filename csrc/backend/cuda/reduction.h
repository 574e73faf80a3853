// Reductions to many outputs: one driver for sums, extremes and their places, moments, statistics of normalizations,
// gradients of parameters. A reducer says what is added up; the driver splits the work, by the shape alone, so that the
// order in which contributions are joined is fixed.
//
// A block of 256 threads takes `columns` outputs with `lanes` threads each; a lane runs over its share of the n
// elements, and lanes are joined as a tree in shared memory. Where outputs are few, n is cut into pieces whose partial
// results a second launch joins. Threads that are neighbours read neighbours in memory: lanes of one output where its
// elements are adjacent, outputs where they lie side by side. Bound by memory: every element is read once.
#pragma once
#include "backend/cuda/launch.h"
#include "core/capture.h"

namespace pydl {
namespace {

constexpr int64_t kMostPieces = 1024;  // blocks that n is cut into, about
constexpr int64_t kEnoughTiles = 256;  // blocks with which it is not cut at all
constexpr int64_t kLeastShare = 16;    // elements of a lane, before n is cut

// A reducer R has
//   using Acc = ...;                            trivially copyable, with a trivial default constructor
//   Acc identity() const
//   Acc load(int64_t out, int64_t k) const      what element k contributes to output `out`
//   Acc combine(Acc a, Acc b) const             a's elements come first
//   void store(int64_t out, Acc acc) const
// and run(), which Fold<R> makes of load and combine.
template <class R>
struct Fold {
  template <class A>
  __device__ void run(A& acc, int64_t out, int64_t first, int64_t end, int64_t step) const {
    const R& self = static_cast<const R&>(*this);
    for (int64_t k = first; k < end; k += step) acc = self.combine(acc, self.load(out, k));
  }
};

struct Split {
  int lanes;
  bool adjacent;
  int64_t tiles, pieces, piece;
  Split(int64_t outputs, int64_t n, bool elements_adjacent, int least_lanes = 1) : adjacent(elements_adjacent) {
    lanes = kBlock;
    if (!adjacent) {
      int columns = 32;
      while (columns > 1 && columns / 2 >= outputs) columns /= 2;
      lanes = kBlock / columns;
    }
    while (lanes > least_lanes && int64_t{lanes} * 2 > n) lanes /= 2;
    const int64_t columns = kBlock / lanes;
    tiles = (outputs + columns - 1) / columns;
    pieces = 1;
    if (tiles < kEnoughTiles) {
      const int64_t useful = n / (lanes * kLeastShare), wanted = (kMostPieces + tiles - 1) / tiles;
      pieces = useful < wanted ? useful : wanted;
      if (pieces < 1) pieces = 1;
    }
    piece = (n + pieces - 1) / pieces;
    piece = (piece + lanes - 1) / lanes * lanes;
    pieces = piece > 0 ? (n + piece - 1) / piece : 1;
    if (pieces < 1) pieces = 1;
  }
};

template <class R>
__global__ void __launch_bounds__(kBlock)
    reduce_pieces(R reducer, int64_t outputs, int64_t n, Split split, typename R::Acc* partial) {
  using Acc = typename R::Acc;
  __shared__ Acc shared[kBlock];
  const int thread = static_cast<int>(threadIdx.x), lanes = split.lanes, columns = kBlock / lanes;
  const int lane = split.adjacent ? thread % lanes : thread / columns;
  const int column = split.adjacent ? thread / lanes : thread % columns, stride = split.adjacent ? 1 : columns;
  const int64_t block = blockIdx.x, tile = block % split.tiles, piece = block / split.tiles;
  const int64_t out = tile * columns + column;
  Acc acc = reducer.identity();
  if (out < outputs) {
    const int64_t first = piece * split.piece, end = first + split.piece < n ? first + split.piece : n;
    reducer.run(acc, out, first + lane, end, int64_t{lanes});
  }
  if (lanes > 1) {
    shared[thread] = acc;
    __syncthreads();
    for (int step = lanes / 2; step > 0; step /= 2) {
      if (lane < step) shared[thread] = reducer.combine(shared[thread], shared[thread + step * stride]);
      __syncthreads();
    }
    acc = shared[thread];
  }
  if (lane != 0 || out >= outputs) return;
  if (partial == nullptr)
    reducer.store(out, acc);
  else
    partial[out * split.pieces + piece] = acc;
}

// The second level: joins partial results.
template <class R>
struct Joined : Fold<Joined<R>> {
  using Acc = typename R::Acc;
  R reducer;
  const Acc* partial;  // (outputs, pieces)
  int64_t pieces;
  __device__ Acc identity() const { return reducer.identity(); }
  __device__ Acc load(int64_t out, int64_t k) const { return partial[out * pieces + k]; }
  __device__ Acc combine(Acc a, Acc b) const { return reducer.combine(a, b); }
  __device__ void store(int64_t out, Acc acc) const { reducer.store(out, acc); }
};

// adjacent: elements k, k + 1, ... of an output are neighbours in memory; else its neighbours are.
template <class R>
void reduce_to(Exec& exec, int64_t outputs, int64_t n, bool adjacent, const R& reducer) {
  if (outputs <= 0) return;
  const Split split(outputs, n, adjacent);
  if (split.pieces == 1) {
    PYDL_CUDA_LAUNCH((reduce_pieces<R>), static_cast<unsigned>(split.tiles), kBlock, 0, exec, reducer, outputs, n,
                     split, static_cast<typename R::Acc*>(nullptr));
    return;
  }
  DeviceScratch<typename R::Acc> partial(exec, outputs * split.pieces);
  if (!partial) return;
  PYDL_CUDA_LAUNCH((reduce_pieces<R>), static_cast<unsigned>(split.tiles * split.pieces), kBlock, 0, exec, reducer,
                   outputs, n, split, partial.get());
  Joined<R> joined{{}, reducer, partial.get(), split.pieces};
  Split last(outputs, split.pieces, true);
  last.pieces = 1;
  last.piece = split.pieces;
  PYDL_CUDA_LAUNCH((reduce_pieces<Joined<R>>), static_cast<unsigned>(last.tiles), kBlock, 0, exec, joined, outputs,
                   split.pieces, last, static_cast<typename R::Acc*>(nullptr));
}

// The first place with a reason to complain; the greatest value, which is -1 as an int64, means none.
using FirstBad = unsigned long long;

template <int>
__global__ void note_first_bad(const FirstBad* found, FirstBad* noted) {
  if (*noted == ~FirstBad{0}) *noted = *found;
}

// For the op, which raises: waits for the stream, or leaves a note for later where a step is captured. host may be null
// where nobody asks.
inline void report_first_bad(Exec& exec, const FirstBad* device, int64_t* host) {
  const CapturedValues* values = cuda::captured_values();
  if (values && values->first_bad) {
    PYDL_CUDA_LAUNCH((note_first_bad<0>), 1, 1, 0, exec, device, reinterpret_cast<FirstBad*>(values->first_bad));
    return;
  }
  if (host != nullptr) download(exec, reinterpret_cast<const int64_t*>(device), host, 1);
}

}  // namespace
}  // namespace pydl
