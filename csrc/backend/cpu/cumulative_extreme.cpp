// Running extremes along an axis, with their places. Scalar code: each element is two stores, one of them of 8 bytes.
#include "backend/cpu/columns.h"
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kExtremeGrain = 8192;
constexpr int64_t kExtremeColumns = 64;  // of an inner axis, beside each other

// Whether x takes the place of the extreme so far: where that is NaN, only another NaN does.
template <bool is_max, class T>
PYDL_INLINE bool succeeds(T x, T extreme) {
  return (is_max ? x >= extreme : x <= extreme) | (x != x);
}

// inner == 1: `rows` rows beside each other.
template <bool is_max, int rows, class T>
PYDL_INLINE void extreme_rows(const T* src, T* value, int64_t* index, int64_t n) {
  T best[rows];
  int64_t place[rows];
  for (int r = 0; r < rows; ++r) {
    best[r] = src[r * n];
    place[r] = 0;
  }
  for (int64_t k = 0; k < n; ++k) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const T x = src[r * n + k];
      const bool taken = succeeds<is_max>(x, best[r]);
      best[r] = taken ? x : best[r];
      place[r] = taken ? k : place[r];
      value[r * n + k] = best[r];
      index[r * n + k] = place[r];
    }
  }
}

template <bool is_max, class T>
void cumulative_extreme(const CumulativeExtremeArgs& args, Exec& exec) {
  const T* src = static_cast<const T*>(args.src);
  T* value = static_cast<T*>(args.value);
  int64_t* index = args.index;
  const int64_t n = args.n, inner = args.inner;
  if (inner == 1) {
    each_few_rows(exec, args, kExtremeGrain, [&](int64_t row, auto rows) {
      extreme_rows<is_max, rows>(src + row * n, value + row * n, index + row * n, n);
    });
    return;
  }
  each_column_block(exec, args, kExtremeColumns, kExtremeGrain, [&](int64_t o, int64_t col, int64_t cols) {
    const int64_t first = o * n * inner + col;
    T best[kExtremeColumns];
    int64_t place[kExtremeColumns];
    for (int64_t c = 0; c < cols; ++c) {
      best[c] = src[first + c];
      place[c] = 0;
    }
    for (int64_t k = 0; k < n; ++k) {
      const int64_t line = first + k * inner;
      for (int64_t c = 0; c < cols; ++c) {
        const T x = src[line + c];
        const bool taken = succeeds<is_max>(x, best[c]);
        best[c] = taken ? x : best[c];
        place[c] = taken ? k : place[c];
        value[line + c] = best[c];
        index[line + c] = place[c];
      }
    }
  });
}

template <bool is_max>
void cumulative_extreme_any(const CumulativeExtremeArgs& args, Exec& exec) {
  if (args.n <= 0) return;
  switch (args.dtype) {
    case DType::float32:
      return cumulative_extreme<is_max, float>(args, exec);
    case DType::float64:
      return cumulative_extreme<is_max, double>(args, exec);
    default:
      return cumulative_extreme<is_max, int64_t>(args, exec);
  }
}

void cumulative_extreme_kernel(const CumulativeExtremeArgs& args, Exec& exec) noexcept {
  args.max ? cumulative_extreme_any<true>(args, exec) : cumulative_extreme_any<false>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(cumulative_extreme) { table.cumulative_extreme = pydl::cumulative_extreme_kernel; }
