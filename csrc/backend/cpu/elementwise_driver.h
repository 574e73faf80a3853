// How the elementwise kernels walk their operands. Operands that are not contiguous pass through small buffers on the
// stack; those that are contiguous along another axis than the destination, in tiles that use whole cache lines of
// both.
#pragma once
#include "backend/cpu/elementwise_loop.h"
#include "backend/cpu/stream.h"
#include "backend/cpu/transpose.h"

namespace pydl {
namespace {

template <class T>
void gather_run(char* dst, const char* src, int64_t stride, int64_t n) {
  T* d = reinterpret_cast<T*>(dst);
  const T* s = reinterpret_cast<const T*>(src);
  if (stride == 0) {
    const T value = *s;
    for (int64_t i = 0; i < n; ++i) d[i] = value;
  } else if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) d[i] = s[i];
  } else if (stride == 2) {  // a constant, for the compiler
    for (int64_t i = 0; i < n; ++i) d[i] = s[i * 2];
  } else {
    for (int64_t i = 0; i < n; ++i) d[i] = s[i * stride];
  }
}
template <class T>
void scatter_run(char* dst, const char* src, int64_t stride, int64_t n) {
  T* d = reinterpret_cast<T*>(dst);
  const T* s = reinterpret_cast<const T*>(src);
  for (int64_t i = 0; i < n; ++i) d[i * stride] = s[i];
}
inline void gather_elements(int size, char* dst, const char* src, int64_t stride, int64_t n) {
  switch (size) {
    case 1:
      return gather_run<uint8_t>(dst, src, stride, n);
    case 2:
      return gather_run<uint16_t>(dst, src, stride, n);
    case 4:
      return gather_run<uint32_t>(dst, src, stride, n);
    default:
      return gather_run<uint64_t>(dst, src, stride, n);
  }
}
inline void scatter_elements(int size, char* dst, const char* src, int64_t stride, int64_t n) {
  switch (size) {
    case 1:
      return scatter_run<uint8_t>(dst, src, stride, n);
    case 2:
      return scatter_run<uint16_t>(dst, src, stride, n);
    case 4:
      return scatter_run<uint32_t>(dst, src, stride, n);
    default:
      return scatter_run<uint64_t>(dst, src, stride, n);
  }
}

// Whether `rows` rows of operand o follow each other in memory.
inline bool in_place(const ElementwiseArgs& args, int o, int64_t rows) {
  return args.stride[o][0] == 1 && (rows == 1 || args.stride[o][1] == args.shape[0]);
}

// A tile of transposed operands: elements along axis 0, where the destination is contiguous, and the other axis; and
// how far ahead the rows of large ones are asked for, the next tile's among them.
constexpr int64_t kTileRun = 64, kTileBytes = 64 * kTileRun * 4, kLeastTileRows = 32;
constexpr int64_t kTileAhead = 32, kLargeOperand = 1 << 18;  // elements

constexpr int64_t kLeastRun = 8;   // elements of a row that is worth a call
constexpr int64_t kManyRows = 64;  // elements of rows that are worth copies of the one that they share

// Whether operand o has rows one after the other, or the same row again and again.
inline bool rows_follow_or_repeat(const ElementwiseArgs& args, int o) {
  return args.stride[o][0] == 1 && (args.stride[o][1] == args.shape[0] || args.stride[o][1] == 0);
}

// The axis along which operands are contiguous that are not along axis 0, where the destination is; 0 if there is none.
inline int transposed_axis(const ElementwiseArgs& args, int operands, const int* size) {
  int axis = 0;
  if (args.stride[0][0] != 1 || args.shape[0] < kLeastTileRows) return 0;
  for (int o = 1; o < operands; ++o) {
    if (args.stride[o][0] == 0 || args.stride[o][0] == 1) continue;
    int inner = args.ndim - 1;
    while (inner > 0 && args.stride[o][inner] != 1) --inner;
    if (inner == 0 || (axis != 0 && axis != inner) || size[o] < 4) return 0;
    axis = inner;
  }
  return axis > 0 && args.shape[axis] >= kLeastTileRows ? axis : 0;
}

inline __attribute__((noinline)) void elementwise_tiled(const ElementwiseArgs& args, Exec& exec, int operands,
                                                        const int* size, int axis, RunBody body, double p, double q) {
  const int64_t cols = args.shape[0], rows = args.shape[axis];
  int largest = 4;
  for (int o = 0; o < operands; ++o) largest = size[o] > largest ? size[o] : largest;
  const int64_t tile_rows = kTileBytes / (kTileRun * largest);
  const int64_t tiles_a = ceil_div(cols, kTileRun), tiles_b = ceil_div(rows, tile_rows);
  const int64_t tiles = args.count / (cols * rows) * tiles_a * tiles_b;
  const int64_t ahead = args.count >= kLargeOperand ? kTileAhead : 0;
  parallel_for(exec, tiles, kElementwiseGrain / (kTileRun * tile_rows), [&](int64_t begin, int64_t end) {
    alignas(64) char buffer[kMaxOperands][kTileBytes];
    for (int64_t tile = begin; tile < end; ++tile) {
      int64_t rest = tile;
      const int64_t a = rest % tiles_a * kTileRun;
      rest /= tiles_a;
      const int64_t b = rest % tiles_b * tile_rows;
      rest /= tiles_b;
      int64_t offset[kMaxOperands];
      for (int o = 0; o < operands; ++o) offset[o] = a * args.stride[o][0] + b * args.stride[o][axis];
      for (int d = 1; d < args.ndim; ++d) {
        if (d == axis) continue;
        const int64_t index = rest % args.shape[d];
        rest /= args.shape[d];
        for (int o = 0; o < operands; ++o) offset[o] += index * args.stride[o][d];
      }
      const int64_t n = cols - a < kTileRun ? cols - a : kTileRun;
      const int64_t height = rows - b < tile_rows ? rows - b : tile_rows;
      for (int o = 1; o < operands; ++o) {
        const int64_t step = args.stride[o][0];
        const char* src = args.ptr[o] + offset[o] * size[o];
        if (step == 0) {
          for (int64_t r = 0; r < height; ++r)
            gather_elements(size[o], buffer[o] + r * n * size[o], src + r * args.stride[o][axis] * size[o], 0, n);
        } else if (step != 1 && size[o] == 4) {
          transpose_copy(n, height, reinterpret_cast<const uint32_t*>(src), step,
                         reinterpret_cast<uint32_t*>(buffer[o]), n, ahead * step);
        } else if (step != 1) {
          transpose_copy(n, height, reinterpret_cast<const uint64_t*>(src), step,
                         reinterpret_cast<uint64_t*>(buffer[o]), n, ahead * step);
        }
      }
      for (int64_t r = 0; r < height; ++r) {
        char* at[kMaxOperands];
        for (int o = 0; o < operands; ++o)
          at[o] = args.stride[o][0] == 1 ? args.ptr[o] + (offset[o] + r * args.stride[o][axis]) * size[o]
                                         : buffer[o] + r * n * size[o];
        body(at, n, p, q);
      }
    }
  });
}

// How many of n elements at p come before the first that is aligned to a vector, where that matters: most often, all
// operands of long runs lie alike, and a vector across two cache lines costs two accesses.
inline int64_t elements_to_vector(const void* p, int size, int64_t n) {
  const int64_t beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) % kVectorBytes);
  return n < kRun || beyond % size != 0 ? 0 : (kVectorBytes - beyond) % kVectorBytes / size;
}

// Whether results go past the cache: they are many, and do not replace an operand, whose lines are there.
inline bool results_past_cache(const ElementwiseArgs& args, int operands, const int* size) {
  bool replaces = false;
  for (int o = 1; o < operands; ++o) replaces = replaces || args.ptr[o] == args.ptr[0];
  return !replaces && args.stride[0][0] == 1 &&
         worth_streaming(args.ptr[0], kVectorBytes, args.count * size[0], kStreamedResults);
}

// The body over n elements from `at` on, by way of a buffer from which the results go past the cache. moved[o]: bytes
// from one element of an operand to the next.
inline void run_past_cache(char** at, int operands, int64_t n, const int* moved, char* buffer, RunBody body, double p,
                           double q) {
  char* const dst = at[0];
  at[0] = buffer;
  for (int64_t done = 0; done < n; done += kRun) {
    const int64_t some = n - done < kRun ? n - done : kRun;
    body(at, some, p, q);
    copy_past_cache(buffer, dst + done * moved[0], some * moved[0]);
    for (int o = 1; o < operands; ++o) at[o] += some * moved[o];
  }
}

}  // namespace

extern "C" void PYDL_ELEMENTWISE(const ElementwiseArgs& args, Exec& exec, int operands, const int* size, RunBody body,
                                 SourceSteps steps) noexcept {
  bool contiguous = args.ndim <= 1;
  if (args.ndim == 1 && args.count > 1)
    for (int o = 0; o < operands; ++o) contiguous = contiguous && args.stride[o][0] == 1;
  const double p = steps.p ? 1 : args.p, q = steps.q ? 1 : args.q;
  if (!contiguous) {
    const int axis = transposed_axis(args, operands, size);
    if (axis > 0) return elementwise_tiled(args, exec, operands, size, axis, body, p, q);
  }
  const bool past_cache = results_past_cache(args, operands, size);
  parallel_for(exec, args.count, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    char* at[kMaxOperands];
    alignas(64) char buffer[kMaxOperands][kRun * 8];
    if (contiguous) {
      for (int o = 0; o < operands; ++o) at[o] = args.ptr[o] + begin * size[o];
      if (!past_cache) {
        const int64_t lead = elements_to_vector(at[0], size[0], end - begin);
        if (lead > 0) {
          body(at, lead, p, q);
          for (int o = 0; o < operands; ++o) at[o] += lead * size[o];
        }
        return body(at, end - begin - lead, p, q);
      }
      run_past_cache(at, operands, end - begin, size, buffer[0], body, p, q);
      return stream_fence();
    }
    const char* repeated[kMaxOperands] = {};  // whose value fills the buffer up to
    int64_t filled[kMaxOperands] = {};        // here
    StridedCursor cursor(args, operands, begin);
    const int64_t inner = args.shape[0];
    bool plain = true;  // along the innermost axis, all of them, as the body takes them
    for (int o = 0; o < operands; ++o) {
      plain = plain && (args.stride[o][0] == 1 || (steps.of(o) && args.stride[o][0] == 0));
    }
    bool whole_rows = inner >= kLeastRun;  // that the body can take one by one, from where they are
    bool runs = args.ndim > 1 && args.shape[1] * inner >= kManyRows;  // rather: many at once, one row copied many times
    for (int o = 0; o < operands; ++o) {
      whole_rows = whole_rows && args.stride[o][0] == 1;
      runs = runs && rows_follow_or_repeat(args, o);
    }
    whole_rows = whole_rows && !runs;
    for (int64_t i = begin; i < end;) {
      int64_t n = cursor.run(), rows = 1;
      if (n > kRun && !plain) n = kRun;
      if (n > end - i) n = end - i;
      const int64_t lead =
          plain && i == begin ? elements_to_vector(args.ptr[0] + cursor.offset[0] * size[0], size[0], n) : 0;
      if (lead > 0) n = lead;
      if (n == inner && n <= kRun / 2 && args.ndim > 1) {  // short rows: as many as fit
        rows = args.shape[1] - cursor.index[1];
        if (rows > kRun / inner) rows = kRun / inner;
        if (rows > (end - i) / inner) rows = (end - i) / inner;
      }
      if (rows > 1 && whole_rows) {
        for (int o = 0; o < operands; ++o) at[o] = args.ptr[o] + cursor.offset[o] * size[o];
        for (int64_t r = 0; r < rows; ++r) {
          body(at, n, p, q);
          for (int o = 0; o < operands; ++o) at[o] += args.stride[o][1] * size[o];
        }
        cursor.advance(rows, 1);
        i += rows * n;
        continue;
      }
      double step[kMaxOperands] = {1, 1, 1, 1};
      int moved[kMaxOperands];
      for (int o = 0; o < operands; ++o) {
        at[o] = args.ptr[o] + cursor.offset[o] * size[o];
        moved[o] = size[o];
        if (in_place(args, o, rows)) continue;
        const int64_t stride = args.stride[o][0], row_stride = rows > 1 ? args.stride[o][1] : stride;
        const bool repeats = row_stride == 0, one_value = repeats && stride == 0;
        const int64_t wanted = steps.of(o) && one_value ? kVectorBytes / size[o] : rows * n;
        if (steps.of(o) && one_value) step[o] = moved[o] = 0;
        if (o > 0 && !(repeats && repeated[o] == at[o] && filled[o] >= wanted)) {
          if (one_value) {
            gather_elements(size[o], buffer[o], at[o], 0, wanted);
          } else if (repeats) {
            gather_elements(size[o], buffer[o], at[o], stride, n);
            for (int64_t done = n; done < wanted; done *= 2) {
              const int64_t more = wanted - done < done ? wanted - done : done;
              __builtin_memcpy(buffer[o] + done * size[o], buffer[o], static_cast<size_t>(more * size[o]));
            }
          } else {
            for (int64_t r = 0; r < rows; ++r)
              gather_elements(size[o], buffer[o] + r * n * size[o], at[o] + r * row_stride * size[o], stride, n);
          }
          repeated[o] = repeats ? at[o] : nullptr;
          filled[o] = wanted;
        }
        at[o] = buffer[o];
      }
      const bool scattered = at[0] == buffer[0];
      const double run_p = steps.p ? step[steps.p] : p, run_q = steps.q ? step[steps.q] : q;
      if (past_cache && !scattered && vectors_at(at[0], rows * n * size[0])) {
        run_past_cache(at, operands, rows * n, moved, buffer[0], body, run_p, run_q);
      } else {
        body(at, rows * n, run_p, run_q);
      }
      if (scattered) {
        char* dst = args.ptr[0] + cursor.offset[0] * size[0];
        for (int64_t r = 0; r < rows; ++r)
          scatter_elements(size[0], dst + (rows > 1 ? r * args.stride[0][1] * size[0] : 0), buffer[0] + r * n * size[0],
                           args.stride[0][0], n);
      }
      if (rows > 1)
        cursor.advance(rows, 1);
      else
        cursor.advance(n, 0);
      i += rows * n;
    }
    stream_fence();
  });
}

}  // namespace pydl
