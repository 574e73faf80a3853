// Kernels that need a whole row of (outer, n, inner) at a time: each row is handed over contiguous, whatever inner is,
// and the sums and extremes of a row that they share.
#pragma once
#include "backend/cpu/stream.h"
#include "backend/cpu/transpose.h"
#include "backend/cpu/unroll.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kRowGrain = 8192;     // elements that are worth a fork
constexpr int64_t kColumnsAtOnce = 16;  // a cache line of float32
constexpr int64_t kRowsAhead = 16;      // that are fetched before they are turned into columns
constexpr int64_t kSumBlock = 1024;     // elements that are added up before they are widened to float64

// Rows in a buffer are apart by this: no power of two, so that they do not compete for one set of the cache.
inline int64_t buffer_row(int64_t n) { return (n + 15) / 16 * 16 + 16; }

// body(row = o * inner + i, const T* const* in, T* const* out): row `row` of each of src and dst, in order. A source
// may be null where the body does not read it, a destination where it does not write it.
template <class T, int inputs, int outputs, class F>
PYDL_INLINE void each_row(Exec& exec, int64_t outer, int64_t n, int64_t inner, const T* const (&src)[inputs],
                          T* const (&dst)[outputs], F body) {
  if (inner == 1) {
    parallel_for(exec, outer, 1 + kRowGrain / (n + 8), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* in[inputs];
        T* out[outputs];
        for (int i = 0; i < inputs; ++i) in[i] = src[i] != nullptr ? src[i] + row * n : nullptr;
        for (int i = 0; i < outputs; ++i) out[i] = dst[i] != nullptr ? dst[i] + row * n : nullptr;
        body(row, in, out);
      }
    });
    return;
  }
  const int64_t blocks = (inner + kColumnsAtOnce - 1) / kColumnsAtOnce;
  const int64_t block_size = inner < kColumnsAtOnce ? inner : kColumnsAtOnce;
  const int64_t pitch = buffer_row(n), area = pitch * block_size;
  parallel_for(exec, outer * blocks, 1 + kRowGrain / (n * block_size + 8), [&](int64_t begin, int64_t end) {
    Scratch<T> buffer(exec, area * (inputs + outputs));
    for (int64_t block = begin; block < end; ++block) {
      const int64_t o = block / blocks, col = block % blocks * kColumnsAtOnce;
      const int64_t cols = inner - col < kColumnsAtOnce ? inner - col : kColumnsAtOnce;
      const int64_t place = o * n * inner + col;
      for (int i = 0; i < inputs; ++i) {
        if (src[i] != nullptr)
          transpose_copy(n, cols, src[i] + place, inner, buffer + area * i, pitch, kRowsAhead * inner);
      }
      for (int64_t c = 0; c < cols; ++c) {
        const T* in[inputs];
        T* out[outputs];
        for (int i = 0; i < inputs; ++i) in[i] = buffer + area * i + c * pitch;
        for (int i = 0; i < outputs; ++i) out[i] = buffer + area * (inputs + i) + c * pitch;
        body(o * inner + col + c, in, out);
      }
      for (int i = 0; i < outputs; ++i) {
        if (dst[i] != nullptr) transpose_copy(cols, n, buffer + area * (inputs + i), pitch, dst[i] + place, inner);
      }
    }
  });
}

// Elements up to which whole rows are handed over side by side: fewer than four lines of the cache.
template <class T>
constexpr int64_t kShortRow = sizeof(T) <= 4 ? 63 : 31;
constexpr int64_t kLongColumn = 4096;  // and columns
constexpr int64_t kLeastInner = 8;     // columns next to each other that fill enough of a vector
template <class T>
constexpr bool is_short_row(int64_t n, int64_t inner) {
  return n >= 1 && (inner == 1 ? n <= kShortRow<T> : inner >= kLeastInner && n <= kLongColumn);
}
// The same, or few short columns next to each other, which go side by side with those of the next blocks of (outer, n,
// inner).
template <class T>
constexpr bool is_short_row_or_block(int64_t n, int64_t inner) {
  return is_short_row<T>(n, inner) || (n >= 1 && inner > 1 && inner < kLeastInner && n * inner <= 2 * kShortRow<T>);
}

// Short rows or columns of (outer, n, inner), as many at a time as a vector has lanes: body(row = o * inner + i, count,
// in, out, step) for `count` rows from `row` on (every inner-th of short blocks), whose elements k are the vector at
// in[i] + k * step. A source or a destination may be null. Columns are used where they are, unless they would fall into
// a few sets of the cache.
template <class T, int inputs, int outputs, class F>
PYDL_INLINE void each_short_row(Exec& exec, int64_t outer, int64_t n, int64_t inner, const T* const (&src)[inputs],
                                T* const (&dst)[outputs], F body) {
  using V = Vec<T>;
  constexpr int64_t kLanes = V::size;
  const bool turned = inner < kLeastInner;  // whole rows, or blocks, side by side
  const int64_t beside = turned ? outer : inner, size = turned ? n * inner : n;
  const int64_t blocks = ceil_div(beside, kLanes), all = turned ? blocks : outer * blocks;
  const int64_t area = size * kLanes;
  const bool spread = n <= 8 || inner * static_cast<int64_t>(sizeof(T)) % 1024 != 0;
  parallel_for(exec, all, 1 + kRowGrain / area, [&](int64_t begin, int64_t end) {
    Scratch<T> buffer(exec, area * (inputs + outputs));
    for (int64_t block = begin; block < end; ++block) {
      const int64_t o = block / blocks, first = block % blocks * kLanes;
      const int count = static_cast<int>(beside - first < kLanes ? beside - first : kLanes);
      const int64_t place = turned ? first * size : o * n * inner + first;
      const bool in_place = !turned && count == kLanes && spread;
      const T* in[inputs];
      T* out[outputs];
      for (int i = 0; i < inputs; ++i) {
        in[i] = src[i] == nullptr ? nullptr : in_place ? src[i] + place : buffer + area * i;
        if (src[i] == nullptr || in_place) continue;
        T* rows_of = buffer + area * i;
        if (turned) {
          if (count < kLanes) __builtin_memset(rows_of, 0, static_cast<size_t>(area) * sizeof(T));
          transpose_copy(int64_t{count}, size, src[i] + place, size, rows_of, kLanes);
          continue;
        }
        for (int64_t k = 0; k < n; ++k) load_some<V>(src[i] + place + k * inner, count).store(rows_of + k * kLanes);
      }
      for (int i = 0; i < outputs; ++i)
        out[i] = dst[i] == nullptr ? nullptr : in_place ? dst[i] + place : buffer + area * (inputs + i);
      const int64_t columns = turned ? inner : 1, step = in_place ? inner : columns * kLanes;
      for (int64_t column = 0; column < columns; ++column) {
        body((turned ? first * inner : o * inner + first) + column, count, in, out, step);
        for (int i = 0; i < inputs; ++i) in[i] += src[i] == nullptr ? 0 : kLanes;
        for (int i = 0; i < outputs; ++i) out[i] += dst[i] == nullptr ? 0 : kLanes;
      }
      for (int i = 0; i < outputs; ++i) {
        if (dst[i] == nullptr || in_place) continue;
        const T* rows_of = buffer + area * (inputs + i);
        if (turned) {
          transpose_copy(size, int64_t{count}, rows_of, kLanes, dst[i] + place, size);
          continue;
        }
        for (int64_t k = 0; k < n; ++k) store_some(V::load(rows_of + k * kLanes), dst[i] + place + k * inner, count);
      }
    }
  });
}

// The sum over k < n of term(k), in four sums of at most 32 terms each, and their sums.
template <class V, class F>
PYDL_INLINE V short_sum(int64_t n, F term) {
  constexpr int64_t kTerms = 128;
  V total(0.0);
  for (int64_t k = 0; k < n;) {
    const int64_t end = n - k < kTerms ? n : k + kTerms;
    V sum[4] = {V(0.0), V(0.0), V(0.0), V(0.0)};
    for (; k + 4 <= end; k += 4) {
      for (int i = 0; i < 4; ++i) sum[i] += term(k + i);
    }
    for (; k < end; ++k) sum[0] += term(k);
    total += (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  return total;
}
// The largest of each lane, step apart.
template <class T>
PYDL_INLINE Vec<T> short_max(int64_t n, const T* x, int64_t step) {
  using V = Vec<T>;
  constexpr int64_t kAhead = 16;
  V most = V::load(x);
  for (int64_t k = 1; k < n; ++k) {
    if (k + kAhead < n) __builtin_prefetch(x + (k + kAhead) * step);
    most = max(most, V::load(x + k * step));
  }
  return most;
}

// Lanes below n.
template <class V>
PYDL_INLINE auto first_lanes(int n) {
  return V::iota() < V(n);
}

// NaN where there is one; -inf of nothing.
template <class T>
PYDL_INLINE T row_max(const T* x, int64_t n) {
  using V = Vec<T>;
  const V lowest(-__builtin_inf());
  if (n < V::size) {
    const int rest = static_cast<int>(n);
    return reduce_max(select(first_lanes<V>(rest), V::load_partial(x, rest), lowest));
  }
  V a = lowest, b = lowest;
  int64_t i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    a = max(a, V::load(x + i));
    b = max(b, V::load(x + i + V::size));
  }
  if (i + V::size <= n) a = max(a, V::load(x + i));
  return reduce_max(max(max(a, b), V::load(x + n - V::size)));  // the last ones, some of them again
}

// The sum over i of term(i, load), where load(p) reads p[i ...] whole or in part; terms beyond n are dropped.
template <class T, class F>
PYDL_INLINE double row_sum(int64_t n, F term) {
  using V = Vec<T>;
  double total = 0.0;
  int64_t i = 0;
  while (i < n) {
    const int64_t end = n - i < kSumBlock ? n : i + kSumBlock;
    V a(0.0), b(0.0);
    for (; i + 2 * V::size <= end; i += 2 * V::size) {
      a += term(i, [i](const T* p) { return V::load(p + i); });
      b += term(i + V::size, [i](const T* p) { return V::load(p + i + V::size); });
    }
    for (; i < end; i += V::size) {
      const int rest = end - i < V::size ? static_cast<int>(end - i) : V::size;
      const V x = term(i, [i, rest](const T* p) { return V::load_partial(p + i, rest); });
      a += select(first_lanes<V>(rest), x, V(0.0));
      if (rest < V::size) i = end - V::size;
    }
    total += static_cast<double>(reduce_add(a + b));
  }
  return total;
}

// dst[i] = value(load) for each i; src of the loads may be dst.
template <class T, class F>
PYDL_INLINE void row_map(int64_t n, T* dst, F value) {
  using V = Vec<T>;
  each_vector<T>(n, [&](int64_t i, int lanes) PYDL_LAMBDA {
    store_some(value([i, lanes](const T* p) PYDL_LAMBDA { return load_some<V>(p + i, lanes); }), dst + i, lanes);
  });
}

}  // namespace
}  // namespace pydl
