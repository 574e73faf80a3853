// Moving elements: copies between any two layouts and types, filling, adding up. Bound by memory.
//
// A copy takes one of three ways. Both contiguous: one run. Contiguous along different axes (a transpose): tiles that
// use whole cache lines of both sides, turned in registers, or in a buffer where the type changes. Anything else: runs
// along the innermost axis.
#include "backend/cpu/convert.h"
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/transpose_squares.h"

namespace pydl {
namespace {

constexpr int64_t kCopyGrain = 32768;    // elements
constexpr int64_t kTileElements = 4096;  // of a transposing tile
constexpr int64_t kTileDepth = 64;       // of one in a buffer, along the axis that is contiguous in src
constexpr int64_t kTurnedRun = 256;      // of one without: elements of dst without a gap, at most
constexpr int64_t kLongRun = 64;         // so many keep a tile busy with one line of src each
// Of a transpose that goes past the cache: plain stores to so many rows at a time cost more than they save.
constexpr int64_t kTurnedBytes = 2 << 20;

template <class R, int... lane>
PYDL_INLINE R backwards(R x, std::integer_sequence<int, lane...>) {
  return __builtin_shufflevector(x, x, (static_cast<int>(sizeof...(lane)) - 1 - lane)...);
}

template <class F>
PYDL_INLINE void dispatch_size(size_t size, F f) {
  switch (size) {
    case 1:
      return f(uint8_t());
    case 2:
      return f(uint16_t());
    case 4:
      return f(uint32_t());
    default:
      return f(uint64_t());
  }
}

// body(place in src, place in dst, rows, cols) of each tile; dst is contiguous along axis a, src along axis b.
template <class F>
void each_tile(const CopyArgs& args, int axis_a, int axis_b, int64_t tile_a, int64_t tile_b, Exec& exec, F body) {
  const int64_t size_a = args.shape[axis_a], size_b = args.shape[axis_b];
  const int64_t tiles_a = ceil_div(size_a, tile_a), tiles_b = ceil_div(size_b, tile_b);
  const int64_t tiles = args.count / (size_a * size_b) * tiles_a * tiles_b;
  parallel_for(exec, tiles, 1 + kCopyGrain / (tile_a * tile_b), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      int64_t rest = tile;
      const int64_t a = rest % tiles_a * tile_a;
      rest /= tiles_a;
      const int64_t b = rest % tiles_b * tile_b;
      rest /= tiles_b;
      int64_t src_offset = a * args.src_stride[axis_a] + b;
      int64_t dst_offset = a + b * args.dst_stride[axis_b];
      for (int d = 0; d < args.ndim; ++d) {
        if (d == axis_a || d == axis_b) continue;
        const int64_t index = rest % args.shape[d];
        rest /= args.shape[d];
        src_offset += index * args.src_stride[d];
        dst_offset += index * args.dst_stride[d];
      }
      body(src_offset, dst_offset, size_a - a < tile_a ? size_a - a : tile_a,
           size_b - b < tile_b ? size_b - b : tile_b);
    }
    stream_fence();
  });
}

// Of one type. Tiles are whole lines of src, and as long runs of dst as there are.
template <class T>
void turn(const CopyArgs& args, int axis_a, int axis_b, Exec& exec) {
  const int64_t size_a = args.shape[axis_a], size_b = args.shape[axis_b];
  const int64_t tile_a = size_a < kTurnedRun ? size_a : kTurnedRun;
  const int64_t wide = tile_a >= kLongRun ? kLine<T> : round_up(kTileElements / tile_a, kLine<T>);
  const int64_t tile_b = size_b < wide ? size_b : wide;
  int64_t distances = size_a;
  for (int d = 0; d < args.ndim; ++d) distances |= d == axis_a ? 0 : args.dst_stride[d];
  const int64_t item = static_cast<int64_t>(sizeof(T));
  const bool past_cache = worth_streaming(args.dst, distances * item, args.count * item, kTurnedBytes);
  const int64_t ahead = tile_b < size_b && tile_a >= kLine<T> ? tile_b + kLine<T> - 1 : 0;
  each_tile(args, axis_a, axis_b, tile_a, tile_b, exec, [&](int64_t src, int64_t dst, int64_t rows, int64_t cols) {
    transpose_copy(rows, cols, reinterpret_cast<const T*>(args.src) + src, args.src_stride[axis_a],
                   reinterpret_cast<T*>(args.dst) + dst, args.dst_stride[axis_b], ahead, past_cache);
  });
}

// To another type: through a buffer.
void turn_and_convert(const CopyArgs& args, int axis_a, int axis_b, Exec& exec) {
  const int64_t size_a = args.shape[axis_a], size_b = args.shape[axis_b];
  int64_t tile_b = size_b < kTileDepth ? size_b : kTileDepth;
  const int64_t tile_a = size_a < kTileElements / tile_b ? size_a : kTileElements / tile_b;
  if (tile_a < size_b && kTileElements / tile_a > tile_b) {
    tile_b = kTileElements / tile_a / kTileDepth * kTileDepth;
    if (tile_b > size_b) tile_b = size_b;
  }
  const int64_t src_item = static_cast<int64_t>(item_size(args.src_dtype));
  const int64_t dst_item = static_cast<int64_t>(item_size(args.dst_dtype));
  each_tile(args, axis_a, axis_b, tile_a, tile_b, exec, [&](int64_t src, int64_t dst, int64_t rows, int64_t cols) {
    alignas(64) unsigned char buffer[kTileElements * 8];
    dispatch_size(static_cast<size_t>(src_item), [&](auto zero) {
      using T = decltype(zero);
      transpose_copy(rows, cols, reinterpret_cast<const T*>(args.src) + src, args.src_stride[axis_a],
                     reinterpret_cast<T*>(buffer), rows);
    });
    if (args.dst_stride[axis_b] == rows)
      return convert_run(args.src_dtype, buffer, args.dst_dtype, args.dst + dst * dst_item, rows * cols);
    for (int64_t j = 0; j < cols; ++j)
      convert_run(args.src_dtype, buffer + j * rows * src_item, args.dst_dtype,
                  args.dst + (dst + j * args.dst_stride[axis_b]) * dst_item, rows);
  });
}

// d[i] = s[-i].
template <class T>
PYDL_INLINE void copy_backwards(const T* s, int64_t n, T* d) {
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  using R = Register<T>;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    R run;
    __builtin_memcpy(&run, s - i - (kLanes - 1), sizeof run);
    run = backwards(run, std::make_integer_sequence<int, kLanes>());
    __builtin_memcpy(d + i, &run, sizeof run);
  }
  for (; i < n; ++i) d[i] = s[-i];
}

// n elements along axis 0 of each of `rows` along axis 1.
struct Steps {
  int64_t src, src_row, dst, dst_row;
};
PYDL_NOINLINE void copy_strided(size_t size, const char* src, char* dst, const Steps& step, int64_t n, int64_t rows) {
  dispatch_size(size, [&](auto zero) {
    using T = decltype(zero);
    const T* s = reinterpret_cast<const T*>(src);
    T* d = reinterpret_cast<T*>(dst);
    for (int64_t r = 0; r < rows; ++r, s += step.src_row, d += step.dst_row) {
      if (step.dst != 1) {
        for (int64_t i = 0; i < n; ++i) d[i * step.dst] = s[i * step.src];
      } else if (step.src == 0) {
        const T value = *s;
        for (int64_t i = 0; i < n; ++i) d[i] = value;
      } else if (step.src == -1) {
        copy_backwards(s, n, d);
      } else if (step.src != 1) {
        for (int64_t i = 0; i < n; ++i) d[i] = s[i * step.src];
      } else if (n < 16) {
        for (int64_t i = 0; i < n; ++i) d[i] = s[i];
      } else {
        __builtin_memcpy(d, s, static_cast<size_t>(n) * sizeof(T));
      }
    }
  });
}

// Runs along axis 0; where types differ, a side that is not contiguous there passes through a buffer.
void copy_runs(const CopyArgs& args, const ElementwiseArgs& walk, int64_t begin, int64_t end) {
  StridedCursor at(walk, 2, begin);
  const int64_t dst_stride = args.dst_stride[0], src_stride = args.src_stride[0];
  const size_t src_item = item_size(args.src_dtype), dst_item = item_size(args.dst_dtype);
  const bool same = args.src_dtype == args.dst_dtype;
  const bool buffered = !same && (dst_stride != 1 || src_stride != 1);
  alignas(64) char gathered[kRun * 8], converted[kRun * 8];
  for (int64_t i = begin; i < end;) {
    int64_t n = at.run();
    if (n > end - i) n = end - i;
    if (buffered && n > kRun) n = kRun;
    char* dst = args.dst + at.offset[0] * static_cast<int64_t>(dst_item);
    const char* src = args.src + at.offset[1] * static_cast<int64_t>(src_item);
    if (same) {
      int64_t rows = 1;
      if (n == args.shape[0] && args.ndim > 1) {  // rows that are whole are copied together
        rows = args.shape[1] - at.index[1];
        if (rows > (end - i) / n) rows = (end - i) / n;
      }
      const Steps step{src_stride, rows > 1 ? args.src_stride[1] : 0, dst_stride, rows > 1 ? args.dst_stride[1] : 0};
      copy_strided(src_item, src, dst, step, n, rows);
      if (rows > 1) {
        at.advance(rows, 1);
        i += rows * n;
        continue;
      }
    } else {
      if (src_stride != 1) copy_strided(src_item, src, gathered, {src_stride, 0, 1, 0}, n, 1);
      convert_run(args.src_dtype, src_stride == 1 ? src : gathered, args.dst_dtype, dst_stride == 1 ? dst : converted,
                  n);
      if (dst_stride != 1) copy_strided(dst_item, converted, dst, {1, 0, dst_stride, 0}, n, 1);
    }
    at.advance(n, 0);
    i += n;
  }
}

// An axis that src has backwards and dst is not contiguous along, the other way round: a transpose then.
void turn_round(CopyArgs& args) {
  for (int d = 0; d < args.ndim; ++d) {
    if (args.src_stride[d] != -1 || args.dst_stride[d] == 1) continue;
    const int64_t last = args.shape[d] - 1;
    args.src -= last * static_cast<int64_t>(item_size(args.src_dtype));
    args.dst += last * args.dst_stride[d] * static_cast<int64_t>(item_size(args.dst_dtype));
    args.src_stride[d] = 1;
    args.dst_stride[d] = -args.dst_stride[d];
  }
}

void copy_kernel(const CopyArgs& given, Exec& exec) noexcept {
  if (given.count <= 0) return;
  CopyArgs args = given;
  turn_round(args);
  const size_t src_item = item_size(args.src_dtype), dst_item = item_size(args.dst_dtype);
  int axis_a = -1, axis_b = -1;
  for (int d = args.ndim - 1; d >= 0; --d) {
    if (args.shape[d] == 1) continue;
    if (args.dst_stride[d] == 1) axis_a = d;
    if (args.src_stride[d] == 1) axis_b = d;
  }
  if (args.count == 1 || (args.ndim == 1 && axis_a == 0 && axis_b == 0)) {
    const int64_t bytes = args.count * static_cast<int64_t>(dst_item);
    const bool past_cache =
        args.src_dtype == args.dst_dtype && worth_streaming(args.dst, kVectorBytes, bytes, kStreamedResults);
    parallel_for(exec, args.count, kCopyGrain, [&](int64_t begin, int64_t end) {
      const char* src = args.src + static_cast<size_t>(begin) * src_item;
      char* dst = args.dst + static_cast<size_t>(begin) * dst_item;
      if (!past_cache) return convert_run(args.src_dtype, src, args.dst_dtype, dst, end - begin);
      copy_past_cache(src, dst, (end - begin) * static_cast<int64_t>(dst_item));
      stream_fence();
    });
    return;
  }
  const bool repeats = axis_a >= 0 && args.src_stride[axis_a] == 0;  // runs of one value: nothing to turn
  if (axis_a >= 0 && axis_b >= 0 && axis_a != axis_b && !repeats) {
    if (args.src_dtype != args.dst_dtype) return turn_and_convert(args, axis_a, axis_b, exec);
    return dispatch_size(dst_item, [&](auto zero) { turn<decltype(zero)>(args, axis_a, axis_b, exec); });
  }
  ElementwiseArgs walk;
  walk.ndim = args.ndim;
  for (int d = 0; d < args.ndim; ++d) {
    walk.shape[d] = args.shape[d];
    walk.stride[0][d] = args.dst_stride[d];
    walk.stride[1][d] = args.src_stride[d];
  }
  parallel_for(exec, args.count, kCopyGrain, [&](int64_t begin, int64_t end) { copy_runs(args, walk, begin, end); });
}

void fill_kernel(const FillArgs& args, Exec& exec) noexcept {
  uint64_t bits = 0;
  if (is_float(args.dtype))
    store_real(&args.value, args.dtype, &bits, 1);
  else
    store_integer<int64_t>(&args.int_value, args.dtype, &bits, 1);
  dispatch_size(item_size(args.dtype), [&](auto zero) {
    using T = decltype(zero);
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    parallel_for(exec, args.count, kCopyGrain, [&](int64_t begin, int64_t end) {
      T* dst = static_cast<T*>(args.dst);
      const T same = value;  // bytes written through dst might change `value`, for all that the compiler knows
      for (int64_t i = begin; i < end; ++i) dst[i] = same;
    });
  });
}

// The 16-bit types, in float32.
void accumulate_half(const AccumulateArgs& args, int64_t begin, int64_t end) {
  const float scale = static_cast<float>(args.scale);
  const uint16_t* src = static_cast<const uint16_t*>(args.src);
  uint16_t* dst = static_cast<uint16_t*>(args.dst);
  float sum[kConvertBlock], term[kConvertBlock];
  for (int64_t i = begin; i < end; i += kConvertBlock) {
    const int64_t n = end - i < kConvertBlock ? end - i : kConvertBlock;
    convert_run(args.dtype, src + i, DType::float32, term, n);
    convert_run(args.dtype, dst + i, DType::float32, sum, n);
    for (int64_t k = 0; k < n; ++k) sum[k] += scale * term[k];
    convert_run(DType::float32, sum, args.dtype, dst + i, n);
  }
}

// dst += scale * src, operand 2 being src and operand 1 dst again.
template <class V>
struct accumulate_body {
  static void run(char* const* operand, int64_t n, double p, double) {
    if (p == 1.0 || V::size == 1) {
      run_binary<V>(
          operand, n, [](V sum, V term) __attribute__((always_inline)) { return sum + term; });
    } else {
      const V scale(p);
      run_binary<V>(
          operand, n, [scale](V sum, V term) __attribute__((always_inline)) { return sum + scale * term; });
    }
  }
};

void accumulate_kernel(const AccumulateArgs& args, Exec& exec) noexcept {
  const RunBody body = body_of<accumulate_body, true>(args.dtype);
  const int64_t size = static_cast<int64_t>(item_size(args.dtype));
  parallel_for(exec, args.count, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    if (args.dtype == DType::float16 || args.dtype == DType::bfloat16) return accumulate_half(args, begin, end);
    char* dst = static_cast<char*>(args.dst) + begin * size;
    char* src = const_cast<char*>(static_cast<const char*>(args.src)) + begin * size;
    char* const operand[] = {dst, dst, src};
    body(operand, end - begin, args.scale, 0);
  });
}

}  // namespace
}  // namespace pydl

extern "C" void PYDL_TRANSPOSE(size_t item, int64_t rows, int64_t cols, const void* src, int64_t src_row, void* dst,
                               int64_t dst_row, int64_t ahead, bool past_cache) noexcept {
  pydl::dispatch_size(item, [&](auto zero) {
    using T = decltype(zero);
    pydl::transpose_blocks(rows, cols, static_cast<const T*>(src), src_row, static_cast<T*>(dst), dst_row, ahead,
                           past_cache);
  });
}

PYDL_FILL(copy) {
  table.copy = pydl::copy_kernel;
  table.fill = pydl::fill_kernel;
  table.accumulate = pydl::accumulate_kernel;
}
