// Many tensors in one pass, bound by memory: optimizer steps, norms, scaling, penalties.
//
// The tensors are seen as one long vector, tensor after tensor, cut into chunks of kManyGrain elements: a chunk may
// cross tensors, so that many small ones cost no more than a large one, and sums do not depend on who took which chunk.
#pragma once
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kManyGrain = 16384;

inline int64_t total_count(int tensors, const int64_t* sizes) {
  int64_t total = 0;
  for (int t = 0; t < tensors; ++t) total += sizes[t];
  return total;
}

// body(tensor, first element, end) for the pieces of [begin, end) of the long vector.
template <class F>
PYDL_INLINE void each_piece(int tensors, const int64_t* sizes, int64_t begin, int64_t end, F body) {
  int64_t start = 0;  // of tensor t
  for (int t = 0; t < tensors && start < end; ++t) {
    const int64_t first = begin > start ? begin - start : 0;
    const int64_t last = end - start < sizes[t] ? end - start : sizes[t];
    if (first < last) body(t, first, last);
    start += sizes[t];
  }
}

template <class F>
PYDL_INLINE void over_many(int tensors, const int64_t* sizes, Exec& exec, F body) {
  parallel_for(exec, total_count(tensors, sizes), kManyGrain,
               [&](int64_t begin, int64_t end) { each_piece(tensors, sizes, begin, end, body); });
}

// combine over the chunks, in order, of what piece(tensor, begin, end) gives for the pieces of each.
template <class F, class G>
PYDL_INLINE double fold_many(int tensors, const int64_t* sizes, Exec& exec, F piece, G combine) {
  const int64_t total = total_count(tensors, sizes);
  const int64_t chunks = (total + kManyGrain - 1) / kManyGrain;
  Scratch<double> partial(exec, chunks);
  parallel_for(exec, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t end = (chunk + 1) * kManyGrain < total ? (chunk + 1) * kManyGrain : total;
      double sum = 0.0;
      each_piece(tensors, sizes, chunk * kManyGrain, end,
                 [&](int t, int64_t from, int64_t to) { sum = combine(sum, piece(t, from, to)); });
      partial[chunk] = sum;
    }
  });
  double sum = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum = combine(sum, partial[chunk]);
  return sum;
}

// step(load, store) for each vector of [begin, end): load(p) and store(v, p) are whole or partial at that place.
template <class T, class F>
PYDL_INLINE void each_place(int64_t begin, int64_t end, F step) {
  using V = Vec<T>;
  int64_t i = begin;
  for (; i + V::size <= end; i += V::size) {
    step([i](const void* p) { return V::load(static_cast<const T*>(p) + i); },
         [i](V v, void* p) { v.store(static_cast<T*>(p) + i); });
  }
  if (i < end) {
    const int rest = static_cast<int>(end - i);
    step([i, rest](const void* p) { return V::load_partial(static_cast<const T*>(p) + i, rest); },
         [i, rest](V v, void* p) { v.store_partial(static_cast<T*>(p) + i, rest); });
  }
}

// Widens a vector of terms and adds it to two of float64.
struct WideSum {
  Vec<double> low, high;
  PYDL_INLINE void add(Vec<float> x) {
    low += widen_low(x);
    high += widen_high(x);
  }
  PYDL_INLINE void add(Vec<double> x) { low += x; }
  PYDL_INLINE void add_square(Vec<float> x) {  // exact in float64
    const Vec<double> a = widen_low(x), b = widen_high(x);
    low = fma(a, a, low);
    high = fma(b, b, high);
  }
  PYDL_INLINE void add_square(Vec<double> x) { low += x * x; }
  PYDL_INLINE double total() const { return reduce_add(low + high); }
};

}  // namespace
}  // namespace pydl
