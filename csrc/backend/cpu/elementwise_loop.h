// The one loop of all element-wise kernels: broadcasting and strides are turned into short contiguous runs, on which a
// body written for contiguous vectors works. Operands that are not contiguous pass through small buffers on the stack;
// those that are contiguous along another axis than the destination, in tiles that use whole cache lines of both.
// The loop is compiled once per file and calls bodies by pointer, so an op costs one small function per dtype.
#pragma once
#include "backend/cpu/transpose.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kElementwiseGrain = 16384;
constexpr int kRun = 1024;  // elements per buffered run

// operand[0] is the destination (which may be one of the sources); all contiguous, n elements each.
using RunBody = void (*)(char* const* operand, int64_t n, double p, double q);

// Walks operands through memory in logical order, innermost axis first.
struct StridedCursor {
  const ElementwiseArgs& args;
  const int operands;
  int64_t index[kMaxRank];
  int64_t offset[kMaxOperands];

  StridedCursor(const ElementwiseArgs& a, int count, int64_t start) : args(a), operands(count) {
    for (int o = 0; o < operands; ++o) offset[o] = 0;
    for (int d = 0; d < a.ndim; ++d) {
      index[d] = start % a.shape[d];
      start /= a.shape[d];
      for (int o = 0; o < operands; ++o) offset[o] += index[d] * a.stride[o][d];
    }
  }
  int64_t run() const { return args.shape[0] - index[0]; }
  void advance(int64_t n, int axis) {
    index[axis] += n;
    for (int o = 0; o < operands; ++o) offset[o] += n * args.stride[o][axis];
    for (int d = axis; index[d] == args.shape[d] && d + 1 < args.ndim; ++d) {
      index[d] = 0;
      ++index[d + 1];
      for (int o = 0; o < operands; ++o) offset[o] += args.stride[o][d + 1] - args.shape[d] * args.stride[o][d];
    }
  }
};

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

// A tile of transposed operands: elements along axis 0, where the destination is contiguous, and the other axis.
constexpr int64_t kTileRun = 64, kTileRows = 16;

// The axis along which operands are contiguous that are not along axis 0, where the destination is; 0 if there is none.
inline int transposed_axis(const ElementwiseArgs& args, int operands, const int* size) {
  int axis = 0;
  if (args.stride[0][0] != 1 || args.shape[0] < kTileRows) return 0;
  for (int o = 1; o < operands; ++o) {
    if (args.stride[o][0] == 0 || args.stride[o][0] == 1) continue;
    int inner = args.ndim - 1;
    while (inner > 0 && args.stride[o][inner] != 1) --inner;
    if (inner == 0 || (axis != 0 && axis != inner) || size[o] < 4) return 0;
    axis = inner;
  }
  return axis > 0 && args.shape[axis] >= kTileRows ? axis : 0;
}

inline __attribute__((noinline)) void elementwise_tiled(const ElementwiseArgs& args, Exec& exec, int operands,
                                                        const int* size, int axis, RunBody body) {
  const int64_t cols = args.shape[0], rows = args.shape[axis];
  const int64_t tiles_a = ceil_div(cols, kTileRun), tiles_b = ceil_div(rows, kTileRows);
  const int64_t tiles = args.count / (cols * rows) * tiles_a * tiles_b;
  parallel_for(exec, tiles, kElementwiseGrain / (kTileRun * kTileRows), [&](int64_t begin, int64_t end) {
    alignas(64) char buffer[kMaxOperands][kTileRun * kTileRows * 8];
    for (int64_t tile = begin; tile < end; ++tile) {
      int64_t rest = tile;
      const int64_t a = rest % tiles_a * kTileRun;
      rest /= tiles_a;
      const int64_t b = rest % tiles_b * kTileRows;
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
      const int64_t height = rows - b < kTileRows ? rows - b : kTileRows;
      for (int o = 1; o < operands; ++o) {
        const int64_t step = args.stride[o][0];
        const char* src = args.ptr[o] + offset[o] * size[o];
        if (step == 0) {
          for (int64_t r = 0; r < height; ++r)
            gather_elements(size[o], buffer[o] + r * n * size[o], src + r * args.stride[o][axis] * size[o], 0, n);
        } else if (step != 1 && size[o] == 4) {
          transpose_copy(n, height, reinterpret_cast<const uint32_t*>(src), step,
                         reinterpret_cast<uint32_t*>(buffer[o]), n, int64_t{0});
        } else if (step != 1) {
          transpose_copy(n, height, reinterpret_cast<const uint64_t*>(src), step,
                         reinterpret_cast<uint64_t*>(buffer[o]), n, int64_t{0});
        }
      }
      for (int64_t r = 0; r < height; ++r) {
        char* at[kMaxOperands];
        for (int o = 0; o < operands; ++o)
          at[o] = args.stride[o][0] == 1 ? args.ptr[o] + (offset[o] + r * args.stride[o][axis]) * size[o]
                                         : buffer[o] + r * n * size[o];
        body(at, n, args.p, args.q);
      }
    }
  });
}

// size[o]: bytes per element of operand o.
inline __attribute__((noinline)) void elementwise(const ElementwiseArgs& args, Exec& exec, int operands,
                                                  const int* size, RunBody body) {
  bool contiguous = args.ndim <= 1;
  if (args.ndim == 1 && args.count > 1)
    for (int o = 0; o < operands; ++o) contiguous = contiguous && args.stride[o][0] == 1;
  if (!contiguous) {
    const int axis = transposed_axis(args, operands, size);
    if (axis > 0) return elementwise_tiled(args, exec, operands, size, axis, body);
  }
  parallel_for(exec, args.count, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    char* at[kMaxOperands];
    if (contiguous) {
      for (int o = 0; o < operands; ++o) at[o] = args.ptr[o] + begin * size[o];
      body(at, end - begin, args.p, args.q);
      return;
    }
    alignas(64) char buffer[kMaxOperands][kRun * 8];
    const char* repeated[kMaxOperands] = {};  // whose value fills the buffer up to
    int64_t filled[kMaxOperands] = {};        // here
    StridedCursor cursor(args, operands, begin);
    const int64_t inner = args.shape[0];
    bool plain = true;  // along the innermost axis, all of them
    for (int o = 0; o < operands; ++o) plain = plain && args.stride[o][0] == 1;
    for (int64_t i = begin; i < end;) {
      int64_t n = cursor.run(), rows = 1;
      if (n > kRun && !plain) n = kRun;
      if (n > end - i) n = end - i;
      if (n == inner && n <= kRun / 2 && args.ndim > 1) {  // short rows: as many as fit
        rows = args.shape[1] - cursor.index[1];
        if (rows > kRun / inner) rows = kRun / inner;
        if (rows > (end - i) / inner) rows = (end - i) / inner;
      }
      for (int o = 0; o < operands; ++o) {
        at[o] = args.ptr[o] + cursor.offset[o] * size[o];
        if (in_place(args, o, rows)) continue;
        const int64_t step = args.stride[o][0], row_step = rows > 1 ? args.stride[o][1] : step;
        const bool repeats = row_step == 0;
        if (o > 0 && !(repeats && repeated[o] == at[o] && filled[o] >= rows * n)) {
          for (int64_t r = 0; r < rows; ++r)
            gather_elements(size[o], buffer[o] + r * n * size[o], at[o] + r * row_step * size[o], step, n);
          repeated[o] = repeats ? at[o] : nullptr;
          filled[o] = rows * n;
        }
        at[o] = buffer[o];
      }
      body(at, rows * n, args.p, args.q);
      if (at[0] == buffer[0]) {
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
  });
}

// f(V...) -> V over contiguous runs. The elements after the last whole vector pass through the same loop in copies, so
// that f is compiled once and the loop has no other test.
template <class V, class F>
PYDL_INLINE void run_unary(char* const* operand, int64_t n, F f) {
  using T = typename V::Lane;
  T* y = reinterpret_cast<T*>(operand[0]);
  const T* a = reinterpret_cast<const T*>(operand[1]);
  T last[V::size];
  int64_t whole = n / V::size;
  for (int rest = static_cast<int>(n % V::size);; whole = 1) {
    for (; whole > 0; --whole, y += V::size, a += V::size) f(V::load(a)).store(y);
    if (rest == 0) return;
    if (y == last + V::size) {
      V::load(last).store_partial(reinterpret_cast<T*>(operand[0]) + (n - rest), rest);
      return;
    }
    V::load_partial(a, rest).store(last);
    y = last;
    a = last;
  }
}
template <class V, class F>
PYDL_INLINE void run_binary(char* const* operand, int64_t n, F f) {
  using T = typename V::Lane;
  T* y = reinterpret_cast<T*>(operand[0]);
  const T* a = reinterpret_cast<const T*>(operand[1]);
  const T* b = reinterpret_cast<const T*>(operand[2]);
  T last_a[V::size], last_b[V::size];
  int64_t whole = n / V::size;
  for (int rest = static_cast<int>(n % V::size);; whole = 1) {
    for (; whole > 0; --whole, y += V::size, a += V::size, b += V::size) f(V::load(a), V::load(b)).store(y);
    if (rest == 0) return;
    if (y == last_a + V::size) {
      V::load(last_a).store_partial(reinterpret_cast<T*>(operand[0]) + (n - rest), rest);
      return;
    }
    V::load_partial(a, rest).store(last_a);
    V::load_partial(b, rest).store(last_b);
    y = last_a;
    a = last_a;
    b = last_b;
  }
}

// Bodies by dtype: floating ones over Vec, integers (booleans as uint8) over Scalar, which the compiler vectorizes.
template <template <class> class Body, bool integers>
PYDL_INLINE RunBody body_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return Body<Vec<float>>::run;
    case DType::float64:
      return Body<Vec<double>>::run;
    default:
      break;
  }
  if constexpr (integers) {
    switch (dtype) {
      case DType::boolean:
      case DType::uint8:
        return Body<Scalar<uint8_t>>::run;
      case DType::int8:
        return Body<Scalar<int8_t>>::run;
      case DType::uint16:
        return Body<Scalar<uint16_t>>::run;
      case DType::int16:
        return Body<Scalar<int16_t>>::run;
      case DType::uint32:
        return Body<Scalar<uint32_t>>::run;
      case DType::int32:
        return Body<Scalar<int32_t>>::run;
      case DType::uint64:
        return Body<Scalar<uint64_t>>::run;
      case DType::int64:
        return Body<Scalar<int64_t>>::run;
      default:
        break;
    }
  }
  return nullptr;
}

}  // namespace
}  // namespace pydl
