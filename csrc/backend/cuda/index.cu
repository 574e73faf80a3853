// Reading and writing by index: rows, places along an axis, precomputed offsets. Bound by memory and its latency.
//
// What is added to one destination is added without atomics: the index is sorted (stable), and each run of equal ones
// has its own thread for every column. Runs are cut into windows of the sorted order, whose sums are joined, so that a
// row that is hit thousands of times does not wait for them one by one.
#include "backend/cuda/convert.h"
#include "backend/cuda/reduction.h"
#include "backend/cuda/sorting.h"

namespace pydl {
namespace {

constexpr int kWindow = 32;             // of the sorted order
constexpr int64_t kManyColumns = 4096;  // with as many independent destinations, each walks through its index
constexpr int64_t kShortIndex = 64;     // as it does through so short a one

__global__ void __launch_bounds__(kBlock) normalize_indices(CheckIndicesArgs args, FirstBad* first_bad) {
  PYDL_CUDA_LOOP(i, args.count) {
    int64_t at = args.index[i];
    if (at < 0) at += args.n;
    if (static_cast<uint64_t>(at) >= static_cast<uint64_t>(args.n)) {
      atomicMin(first_bad, static_cast<FirstBad>(i));  // of integers: the order does not matter
      at = 0;
    }
    if (args.normalized != nullptr) args.normalized[i] = at;
  }
}

void check_indices_kernel(const CheckIndicesArgs& args, Exec& exec) noexcept {
  if (args.first_bad != nullptr) *args.first_bad = -1;
  if (args.count <= 0) return;
  DeviceScratch<FirstBad> first_bad(exec, 1);
  if (!first_bad) return;
  fill_bytes(exec, first_bad.get(), 0xff, sizeof(FirstBad));
  PYDL_CUDA_LAUNCH((normalize_indices), grid_for(args.count), kBlock, 0, exec, args, first_bad.get());
  report_first_bad(exec, first_bad.get(), args.first_bad);
}

// Rows of `units` elements of U, the widest type that row and memory are aligned to.
template <class U>
__global__ void __launch_bounds__(kBlock)
    copy_rows(const U* src, const int64_t* index, U* dst, int64_t count, int64_t units) {
  PYDL_CUDA_LOOP(i, count * units) {
    const int64_t row = i / units;
    dst[i] = src[index[row] * units + (i - row * units)];
  }
}

template <class U>
bool copy_rows_as(const GatherRowsArgs& args, Exec& exec) {
  const uintptr_t places = reinterpret_cast<uintptr_t>(args.src) | reinterpret_cast<uintptr_t>(args.dst) |
                           static_cast<uintptr_t>(args.row_bytes);
  if (places % sizeof(U) != 0) return false;
  const int64_t units = args.row_bytes / static_cast<int64_t>(sizeof(U));
  PYDL_CUDA_LAUNCH((copy_rows<U>), grid_for(args.count * units), kBlock, 0, exec, static_cast<const U*>(args.src),
                   args.index, static_cast<U*>(args.dst), args.count, units);
  return true;
}

void gather_rows_kernel(const GatherRowsArgs& args, Exec& exec) noexcept {
  if (args.count <= 0 || args.row_bytes <= 0) return;
  copy_rows_as<uint4>(args, exec) || copy_rows_as<uint2>(args, exec) || copy_rows_as<uint32_t>(args, exec) ||
      copy_rows_as<uint16_t>(args, exec) || copy_rows_as<uint8_t>(args, exec);
}

// What elements are added in: integers wrap around, 16-bit floats are added in float32 and rounded once.
template <class T>
struct Addition {
  using Acc = std::conditional_t<std::is_integral<T>::value, uint64_t, T>;
  static __device__ Acc widen(T x) { return static_cast<Acc>(x); }
  static __device__ T narrow(Acc x) { return static_cast<T>(x); }
};
template <>
struct Addition<Half> {
  using Acc = float;
  static __device__ Acc widen(Half x) { return to_float(x); }
  static __device__ Half narrow(Acc x) { return from_float<Half>(x); }
};
template <>
struct Addition<BFloat16> {
  using Acc = float;
  static __device__ Acc widen(BFloat16 x) { return to_float(x); }
  static __device__ BFloat16 narrow(Acc x) { return from_float<BFloat16>(x); }
};

// f(element of the type to add in, accumulate as a constant).
template <class F>
void dispatch_scatter(DType dtype, bool accumulate, F f) {
  if (accumulate) {
    switch (dtype) {
      case DType::float32:
        return f(float(), std::true_type());
      case DType::float64:
        return f(double(), std::true_type());
      case DType::float16:
        return f(Half(), std::true_type());
      case DType::bfloat16:
        return f(BFloat16(), std::true_type());
      default:
        return dispatch_width(item_size(dtype), [&](auto zero) { f(zero, std::true_type()); });
    }
  }
  dispatch_width(item_size(dtype), [&](auto zero) { f(zero, std::false_type()); });
}

// A scatter of `count` rows: row i of src goes to dst + index(i) * scale; those with index `skip` are left out.
template <class T>
struct Scatter {
  int64_t count, row, scale, skip, src_stride;
  const T* src;
  T* dst;
};

// The sum of column c of the sorted rows [first, end), as far as they have this key.
template <class T>
__device__ typename Addition<T>::Acc sum_run(const Scatter<T>& s, const Item* items, int64_t first, int64_t end,
                                             int64_t c) {
  using A = Addition<T>;
  const uint64_t key = items[first].key;
  typename A::Acc sum = A::widen(s.src[items[first].at * s.src_stride + c]);
  for (int64_t p = first + 1; p < end && items[p].key == key; ++p)
    sum += A::widen(s.src[items[p].at * s.src_stride + c]);
  return sum;
}

// windows: (count / kWindow + 1, row): what a run that began earlier has in each window.
template <class T>
__global__ void __launch_bounds__(kBlock)
    sum_windows(Scatter<T> s, const Item* items, typename Addition<T>::Acc* windows) {
  PYDL_CUDA_LOOP(i, (s.count + kWindow - 1) / kWindow * s.row) {
    const int64_t window = i / s.row, first = window * kWindow;
    if (window == 0 || items[first].key != items[first - 1].key) continue;
    const int64_t end = first + kWindow < s.count ? first + kWindow : s.count;
    windows[i] = sum_run(s, items, first, end, i % s.row);
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    add_runs(Scatter<T> s, const Item* items, const typename Addition<T>::Acc* windows) {
  using A = Addition<T>;
  PYDL_CUDA_LOOP(i, s.count * s.row) {
    const int64_t first = i / s.row, c = i % s.row;
    const uint64_t key = items[first].key;
    if ((first > 0 && items[first - 1].key == key) || static_cast<int64_t>(key) == s.skip) continue;
    const int64_t end = (first / kWindow + 1) * kWindow;
    typename A::Acc sum = sum_run(s, items, first, end < s.count ? end : s.count, c);
    for (int64_t p = end; p < s.count && items[p].key == key; p += kWindow) sum += windows[p / kWindow * s.row + c];
    T* const to = s.dst + static_cast<int64_t>(key) * s.scale + c;
    *to = A::narrow(A::widen(*to) + sum);
  }
}

// The last of equal indices stays.
template <class T>
__global__ void __launch_bounds__(kBlock) put_last(Scatter<T> s, const Item* items) {
  PYDL_CUDA_LOOP(i, s.count * s.row) {
    const int64_t last = i / s.row, c = i % s.row;
    const uint64_t key = items[last].key;
    if (last + 1 < s.count && items[last + 1].key == key) continue;
    s.dst[static_cast<int64_t>(key) * s.scale + c] = s.src[items[last].at * s.src_stride + c];
  }
}

template <bool accumulate, class T, class Load>
void scatter_sorted(Exec& exec, const Scatter<T>& s, Load load) {
  using Acc = typename Addition<T>::Acc;
  if (s.count <= 0 || s.row <= 0) return;
  DeviceScratch<Item> items(exec, s.count);
  if (!items) return;
  sort_rows(exec, 1, s.count, s.count, load, StoreItem{items.get(), s.count});
  if constexpr (accumulate) {
    const int64_t count = (s.count + kWindow - 1) / kWindow * s.row;
    DeviceScratch<Acc> windows(exec, count);
    if (!windows) return;
    PYDL_CUDA_LAUNCH((sum_windows<T>), grid_for(count), kBlock, 0, exec, s, static_cast<const Item*>(items.get()),
                     windows.get());
    PYDL_CUDA_LAUNCH((add_runs<T>), grid_for(s.count * s.row), kBlock, 0, exec, s,
                     static_cast<const Item*>(items.get()), static_cast<const Acc*>(windows.get()));
  } else {
    PYDL_CUDA_LAUNCH((put_last<T>), grid_for(s.count * s.row), kBlock, 0, exec, s,
                     static_cast<const Item*>(items.get()));
  }
}

struct LoadIndex {
  const int64_t* index;
  __device__ Item operator()(int64_t, int64_t i) const { return {static_cast<uint64_t>(index[i]), i}; }
};

void scatter_add_rows_kernel(const ScatterAddRowsArgs& args, Exec& exec) noexcept {
  dispatch_scatter(args.dtype, true, [&](auto zero, auto) {
    using T = decltype(zero);
    const Scatter<T> s{args.count,
                       args.row,
                       args.row,
                       args.skip,
                       args.row,
                       static_cast<const T*>(args.src),
                       static_cast<T*>(args.dst)};
    scatter_sorted<true>(exec, s, LoadIndex{args.index});
  });
}

template <class T>
__global__ void __launch_bounds__(kBlock) take_places(TakeAlongArgs args) {
  PYDL_CUDA_LOOP(i, args.outer * args.n_index * args.inner) {
    const int64_t o = i / (args.n_index * args.inner);
    static_cast<T*>(args.dst)[i] = static_cast<const T*>(
        args.src)[o * args.step[0] + args.index[i] * args.step[1] + i % args.inner * args.step[2]];
  }
}

void take_along_kernel(const TakeAlongArgs& args, Exec& exec) noexcept {
  const int64_t count = args.outer * args.n_index * args.inner;
  if (count <= 0) return;
  dispatch_width(item_size(args.dtype), [&](auto zero) {
    PYDL_CUDA_LAUNCH((take_places<decltype(zero)>), grid_for(count), kBlock, 0, exec, args);
  });
}

// One thread for each column of (o, i): its index in order.
template <class T, bool accumulate>
__global__ void __launch_bounds__(kBlock) scatter_columns(ScatterAlongArgs args) {
  PYDL_CUDA_LOOP(column, args.outer * args.inner) {
    const int64_t o = column / args.inner, i = column % args.inner;
    for (int64_t k = 0; k < args.n_index; ++k) {
      const int64_t at = (o * args.n_index + k) * args.inner + i;
      const T x = static_cast<const T*>(args.src)[at];
      T* const to = static_cast<T*>(args.dst) + o * args.step[0] + args.index[at] * args.step[1] + i * args.step[2];
      if constexpr (accumulate)
        *to = Addition<T>::narrow(Addition<T>::widen(*to) + Addition<T>::widen(x));
      else
        *to = x;
    }
  }
}

struct LoadPlace {
  ScatterAlongArgs args;
  __device__ Item operator()(int64_t, int64_t at) const {
    const int64_t o = at / (args.n_index * args.inner);
    return {static_cast<uint64_t>(o * args.step[0] + args.index[at] * args.step[1] + at % args.inner * args.step[2]),
            at};
  }
};

void scatter_along_kernel(const ScatterAlongArgs& args, Exec& exec) noexcept {
  const int64_t columns = args.outer * args.inner, count = columns * args.n_index;
  if (count <= 0) return;
  dispatch_scatter(args.dtype, args.join == ScatterJoin::add, [&](auto zero, auto accumulate) {
    using T = decltype(zero);
    constexpr bool adds = decltype(accumulate)::value;
    if (columns >= kManyColumns || args.n_index <= kShortIndex) {
      PYDL_CUDA_LAUNCH((scatter_columns<T, adds>), grid_for(columns), kBlock, 0, exec, args);
      return;
    }
    const Scatter<T> s{count, 1, 1, -1, 1, static_cast<const T*>(args.src), static_cast<T*>(args.dst)};
    scatter_sorted<adds>(exec, s, LoadPlace{args});
  });
}

template <class T>
__global__ void __launch_bounds__(kBlock) gather_blocks(GatherOffsetsArgs args) {
  PYDL_CUDA_LOOP(i, args.count * args.block) {
    const int64_t at = i / args.block;
    static_cast<T*>(args.dst)[i] = static_cast<const T*>(args.src)[args.offset[at] + (i - at * args.block)];
  }
}

void gather_offsets_kernel(const GatherOffsetsArgs& args, Exec& exec) noexcept {
  if (args.count <= 0 || args.block <= 0) return;
  dispatch_width(item_size(args.dtype), [&](auto zero) {
    PYDL_CUDA_LAUNCH((gather_blocks<decltype(zero)>), grid_for(args.count * args.block), kBlock, 0, exec, args);
  });
}

void scatter_offsets_kernel(const ScatterOffsetsArgs& args, Exec& exec) noexcept {
  dispatch_scatter(args.dtype, args.accumulate, [&](auto zero, auto accumulate) {
    using T = decltype(zero);
    const Scatter<T> s{
        args.count, args.block, 1, -1, args.src_stride, static_cast<const T*>(args.src), static_cast<T*>(args.dst)};
    scatter_sorted<decltype(accumulate)::value>(exec, s, LoadIndex{args.offset});
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(index) {
  table.check_indices = pydl::check_indices_kernel;
  table.gather_rows = pydl::gather_rows_kernel;
  table.scatter_add_rows = pydl::scatter_add_rows_kernel;
  table.take_along = pydl::take_along_kernel;
  table.scatter_along = pydl::scatter_along_kernel;
  table.gather_offsets = pydl::gather_offsets_kernel;
  table.scatter_offsets = pydl::scatter_offsets_kernel;
}
