// Sorting rows of (key, place) pairs, which are all distinct: so the result is stable, and the same whatever the order
// of the work. Tiles of 1024 pairs are sorted in shared memory (a bitonic network); longer rows then merge neighbouring
// runs, each element finding its place in the other run by a binary search. A few of the best of a long row are kept
// tile by tile instead. Bound by shared memory for short rows, by the cache for long ones.
#pragma once
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

constexpr int kTile = 1024;

struct Item {
  uint64_t key;
  int64_t at;
  __device__ bool before(Item b) const { return key < b.key || (key == b.key && at < b.at); }
};

// Sorts `rows` rows of n items, load(row, k) each, segment by segment: a block has kTile / width segments. Calls
// store(row, place in the row, item) for the first `keep` of each segment.
template <class Load, class Store>
__global__ void __launch_bounds__(kBlock)
    sort_tiles(Load load, Store store, int64_t rows, int64_t n, int width, int64_t tiles, int64_t keep) {
  __shared__ Item items[kTile];
  const int segments = kTile / width;
  const auto place_of = [&](int i, int64_t* row, int64_t* tile) {
    const int64_t segment = static_cast<int64_t>(blockIdx.x) * segments + i / width;
    *row = segment / tiles;
    *tile = segment % tiles;
    return *row < rows;
  };
  for (int i = static_cast<int>(threadIdx.x); i < kTile; i += kBlock) {
    int64_t row, tile;
    const bool inside = place_of(i, &row, &tile);
    const int64_t k = tile * width + i % width;
    items[i] = inside && k < n ? load(row, k) : Item{~uint64_t{0}, static_cast<int64_t>(~uint64_t{0} >> 1)};
  }
  __syncthreads();
  for (int size = 2; size <= width; size *= 2) {
    for (int apart = size / 2; apart > 0; apart /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < kTile / 2; pair += kBlock) {
        const int low = pair / apart * apart * 2 + pair % apart, high = low + apart;
        const bool ascending = (low % width & size) == 0;
        const Item a = items[low], b = items[high];
        if (b.before(a) == ascending) {
          items[low] = b;
          items[high] = a;
        }
      }
      __syncthreads();
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < kTile; i += kBlock) {
    int64_t row, tile;
    const int j = i % width;
    if (!place_of(i, &row, &tile) || j >= keep || tile * width + j >= n) continue;
    store(row, tile * keep + j, items[i]);
  }
}

// from: (rows, n) in sorted runs; to: the same with runs twice as long.
__global__ void __launch_bounds__(kBlock) merge_runs(const Item* from, Item* to, int64_t rows, int64_t n, int64_t run) {
  PYDL_CUDA_LOOP(i, rows * n) {
    const int64_t k = i % n, start = i - k, pair = k / (2 * run) * (2 * run);
    const bool second = k - pair >= run;
    const int64_t other = second ? pair : pair + run;
    int64_t low = other < n ? other : n, high = other + run < n ? other + run : n;
    const int64_t first = low;
    const Item item = from[i];
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (from[start + middle].before(item))
        low = middle + 1;
      else
        high = middle;
    }
    to[start + (second ? k - run : k) + (low - first)] = item;
  }
}

template <class Store>
__global__ void __launch_bounds__(kBlock)
    store_items(const Item* items, Store store, int64_t rows, int64_t n, int64_t keep) {
  PYDL_CUDA_LOOP(i, rows * keep) store(i / keep, i % keep, items[i / keep * n + i % keep]);
}

struct StoreItem {
  Item* items;
  int64_t n;  // of a row
  __device__ void operator()(int64_t row, int64_t k, Item item) const { items[row * n + k] = item; }
};
struct LoadItem {
  const Item* items;
  int64_t n;
  __device__ Item operator()(int64_t row, int64_t k) const { return items[row * n + k]; }
};

template <class Load, class Store>
void sort_each_tile(Exec& exec, int64_t rows, int64_t n, int64_t keep, Load load, Store store) {
  int width = 2;
  while (width < kTile && width < n) width *= 2;
  const int64_t tiles = (n + width - 1) / width, segments = kTile / width;
  const int64_t blocks = (rows * tiles + segments - 1) / segments;
  PYDL_CUDA_LAUNCH((sort_tiles<Load, Store>), static_cast<unsigned>(blocks), kBlock, 0, exec, load, store, rows, n,
                   width, tiles, keep);
}

// store(row, k, item) for the first `keep` items of each sorted row, k < keep <= n.
template <class Load, class Store>
void sort_rows(Exec& exec, int64_t rows, int64_t n, int64_t keep, Load load, Store store) {
  if (rows <= 0 || n <= 0 || keep <= 0) return;
  if (n <= kTile) return sort_each_tile(exec, rows, n, keep, load, store);
  const int64_t tiles = (n + kTile - 1) / kTile;
  if (keep <= kTile / 4) {  // the first ones of each tile are all that can be among the first of the row
    const int64_t last = n - (tiles - 1) * kTile, left = (tiles - 1) * keep + (last < keep ? last : keep);
    DeviceScratch<Item> kept(exec, rows * left);
    if (!kept) return;
    sort_each_tile(exec, rows, n, keep, load, StoreItem{kept.get(), left});
    return sort_rows(exec, rows, left, keep, LoadItem{kept.get(), left}, store);
  }
  DeviceScratch<Item> items(exec, rows * n), spare(exec, rows * n);
  if (!items || !spare) return;
  sort_each_tile(exec, rows, n, kTile, load, StoreItem{items.get(), n});
  Item *from = items.get(), *to = spare.get();
  for (int64_t run = kTile; run < n; run *= 2) {
    PYDL_CUDA_LAUNCH((merge_runs), grid_for(rows * n), kBlock, 0, exec, static_cast<const Item*>(from), to, rows, n,
                     run);
    Item* const swap = from;
    from = to;
    to = swap;
  }
  PYDL_CUDA_LAUNCH((store_items<Store>), grid_for(rows * keep), kBlock, 0, exec, static_cast<const Item*>(from), store,
                   rows, n, keep);
}

}  // namespace
}  // namespace pydl
