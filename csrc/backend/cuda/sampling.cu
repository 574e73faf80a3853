// Permutations and draws of categories, with the CPU's results: the same Philox words in the same places.
//
// A permutation is Fisher and Yates's "inside out", whose steps each move one earlier element: step t copies place p(t)
// to place t and writes t to p(t). What a place holds in the end follows from who wrote to it last, and that from the
// sorted p; so all elements are found at once, each at the end of a short chain.
#include "backend/cuda/reduction.h"
#include "backend/cuda/sorting.h"
#include "core/philox.h"

namespace pydl {
namespace {

// 64-bit element i of a draw, low word first.
struct Words {
  uint32_t low, high;
};
__device__ inline Words words_at(uint64_t seed, uint64_t position, int64_t i) {
  const Philox4 block = philox4x32(seed, 0, position + static_cast<uint64_t>(i / 2));
  return i % 2 == 0 ? Words{block.v[0], block.v[1]} : Words{block.v[2], block.v[3]};
}

struct LoadStep {
  uint64_t seed, position;
  __device__ Item operator()(int64_t, int64_t t) const {
    const Words w = words_at(seed, position, t);
    const uint64_t bits = static_cast<uint64_t>(w.high) << 32 | w.low;
    return {__umul64hi(bits, static_cast<uint64_t>(t) + 1), t};
  }
};

struct Steps {
  int64_t* place;   // p(t)
  int64_t* before;  // the last step before t with the same place, or -1
  int64_t* last;    // the last step with place j, or -1
};
__global__ void __launch_bounds__(kBlock) link_steps(const Item* items, int64_t n, Steps steps) {
  PYDL_CUDA_LOOP(i, n) {
    const Item item = items[i];
    const int64_t place = static_cast<int64_t>(item.key);
    steps.place[item.at] = place;
    steps.before[item.at] = i > 0 && items[i - 1].key == item.key ? items[i - 1].at : -1;
    if (i + 1 == n || items[i + 1].key != item.key) steps.last[place] = item.at;
  }
}
__global__ void __launch_bounds__(kBlock) resolve_steps(Steps steps, int64_t n, int64_t* dst) {
  PYDL_CUDA_LOOP(j, n) {
    int64_t value = steps.last[j];
    for (int64_t t = j; value < 0; t = steps.place[t]) value = steps.before[t];
    dst[j] = value;
  }
}

void random_permutation_kernel(const RandomArgs& args, Exec& exec) noexcept {
  const int64_t n = args.count;
  if (n <= 0) return;
  DeviceScratch<Item> items(exec, n);
  DeviceScratch<int64_t> memory(exec, 3 * n);
  if (!items || !memory) return;
  const Steps steps{memory.get(), memory.get() + n, memory.get() + 2 * n};
  fill_bytes(exec, steps.last, 0xff, static_cast<size_t>(n) * sizeof(int64_t));
  sort_rows(exec, 1, n, n, LoadStep{args.seed, args.position}, StoreItem{items.get(), n});
  PYDL_CUDA_LAUNCH((link_steps), grid_for(n), kBlock, 0, exec, static_cast<const Item*>(items.get()), n, steps);
  PYDL_CUDA_LAUNCH((resolve_steps), grid_for(n), kBlock, 0, exec, steps, n, static_cast<int64_t*>(args.dst));
}

// --- categories. With replacement: the place of u * total in the running sum. Without: each category waits -log(u) /
// p, and those that come first are drawn. A row's sum is made in order, so that draws are the CPU's: bound by its
// latency.

struct Row {
  double total;
  int64_t last;  // category that is possible
  int64_t bad;
};

// sums: (rows, n), the running sums, or null.
template <class T>
__global__ void __launch_bounds__(kBlock)
    check_rows(MultinomialArgs args, Row* rows, double* sums, FirstBad* first_bad) {
  __shared__ T tile[kBlock];
  __shared__ double running[kBlock];
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const T* p = static_cast<const T*>(args.probability) + row * args.n;
    double total = 0.0;
    int64_t possible = 0, last = 0;
    bool valid = true;
    for (int64_t first = 0; first < args.n; first += kBlock) {
      const int64_t at = first + static_cast<int64_t>(threadIdx.x);
      const int count = args.n - first < kBlock ? static_cast<int>(args.n - first) : kBlock;
      if (at < args.n) tile[threadIdx.x] = p[at];
      __syncthreads();
      if (threadIdx.x == 0) {
        for (int i = 0; i < count; ++i) {
          const T x = tile[i];
          valid = valid && x >= T(0);
          if (x > T(0)) {
            ++possible;
            last = first + i;
          }
          total += static_cast<double>(x);
          running[i] = total;
        }
      }
      __syncthreads();
      if (sums != nullptr && at < args.n) sums[row * args.n + at] = running[threadIdx.x];
    }
    if (threadIdx.x != 0) continue;
    const bool bad = !valid || !(total - total == 0.0) || possible < (args.replacement ? 1 : args.samples);
    rows[row] = {total, last, bad ? 1 : 0};
    if (bad && args.samples > 0) atomicMin(first_bad, static_cast<FirstBad>(row));
  }
}

__global__ void __launch_bounds__(kBlock)
    draw_with_replacement(MultinomialArgs args, const Row* rows, const double* sums) {
  PYDL_CUDA_LOOP(i, args.rows * args.samples) {
    const int64_t row = i / args.samples;
    const Words word = words_at(args.seed, args.position, i);
    const double at = philox_double(word.low, word.high) * rows[row].total;
    int64_t low = 0, high = rows[row].last;  // the first category whose running sum exceeds `at`
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (sums[row * args.n + middle] > at)
        high = middle;
      else
        low = middle + 1;
    }
    args.dst[i] = rows[row].bad != 0 ? 0 : low;
  }
}

template <class T>
struct LoadWait {
  MultinomialArgs args;
  __device__ Item operator()(int64_t row, int64_t c) const {
    const double p = static_cast<double>(static_cast<const T*>(args.probability)[row * args.n + c]);
    const Words word = words_at(args.seed, args.position, row * args.n + c);
    const double wait = 0.0 - ::log(philox_double_open(word.low, word.high));  // +0 where u is 1
    return {static_cast<uint64_t>(__double_as_longlong(p > 0.0 ? wait / p : __builtin_inf())), c};
  }
};
struct StoreDraw {
  MultinomialArgs args;
  const Row* rows;
  __device__ void operator()(int64_t row, int64_t k, Item item) const {
    args.dst[row * args.samples + k] = rows[row].bad != 0 ? 0 : item.at;
  }
};

template <class T>
void multinomial(const MultinomialArgs& args, Exec& exec) {
  DeviceScratch<Row> rows(exec, args.rows);
  DeviceScratch<double> sums(exec, args.replacement ? args.rows * args.n : 1);
  DeviceScratch<FirstBad> first_bad(exec, 1);
  if (!rows || !sums || !first_bad) return;
  fill_bytes(exec, first_bad.get(), 0xff, sizeof(FirstBad));
  PYDL_CUDA_LAUNCH((check_rows<T>), grid_for(args.rows, 1), kBlock, 0, exec, args, rows.get(),
                   args.replacement ? sums.get() : nullptr, first_bad.get());
  if (args.replacement)
    PYDL_CUDA_LAUNCH((draw_with_replacement), grid_for(args.rows * args.samples), kBlock, 0, exec, args,
                     static_cast<const Row*>(rows.get()), static_cast<const double*>(sums.get()));
  else
    sort_rows(exec, args.rows, args.n, args.samples < args.n ? args.samples : args.n, LoadWait<T>{args},
              StoreDraw{args, rows.get()});
  report_first_bad(exec, first_bad.get(), args.first_bad);
}

void multinomial_kernel(const MultinomialArgs& args, Exec& exec) noexcept {
  if (args.first_bad != nullptr) *args.first_bad = -1;
  if (args.rows <= 0 || args.samples <= 0) return;
  dispatch_floating(args.dtype, [&](auto zero) { multinomial<decltype(zero)>(args, exec); });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(sampling) {
  table.random_permutation = pydl::random_permutation_kernel;
  table.multinomial = pydl::multinomial_kernel;
}
