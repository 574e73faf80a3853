// Reading and writing by index: rows, places along an axis, precomputed offsets. Bound by memory and its latency.
//
// What is added to one element is added in the order of the index, whoever does it: work is split by where it goes
// (columns, or ranges of destinations), never by where it comes from. Each thread then reads the whole index, which is
// cheap beside the rows.
#include <type_traits>

#include "backend/cpu/convert.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kIndexGrain = 4096;     // single elements
constexpr int64_t kBytesGrain = 65536;    // of rows
constexpr int64_t kColumnBytes = 256;     // a share of a row that is worth its own thread
constexpr int64_t kSerialScatter = 8192;  // elements up to which one thread does it all
constexpr int64_t kRanges = 4;            // of destinations, when rows are too short to be cut

template <class F>
PYDL_INLINE void dispatch_item(size_t size, F f) {
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

// A 16-bit float in memory, added in float32.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

PYDL_INLINE void add_to(Float16* dst, Float16 x) {
  dst->bits = float_to_float16(float16_to_float(dst->bits) + float16_to_float(x.bits));
}
PYDL_INLINE void add_to(BFloat16* dst, BFloat16 x) {
  dst->bits = float_to_bfloat16(bfloat16_to_float(dst->bits) + bfloat16_to_float(x.bits));
}
template <class T>
PYDL_INLINE void add_to(T* dst, T x) {
  *dst = static_cast<T>(*dst + x);
}

// Calls f with an element of the type to add in (unsigned for integers: they wrap), or to store.
template <class F>
PYDL_INLINE void dispatch_scatter(DType dtype, bool accumulate, F f) {
  if (accumulate) {
    switch (dtype) {
      case DType::float32:
        return f(float(), std::true_type());
      case DType::float64:
        return f(double(), std::true_type());
      case DType::float16:
        return f(Float16(), std::true_type());
      case DType::bfloat16:
        return f(BFloat16(), std::true_type());
      default:
        break;
    }
  }
  dispatch_item(item_size(dtype), [&](auto zero) {
    if (accumulate)
      f(zero, std::true_type());
    else
      f(zero, std::false_type());
  });
}

template <bool accumulate, class T>
PYDL_INLINE void put(T* dst, T x) {
  if constexpr (accumulate)
    add_to(dst, x);
  else
    *dst = x;
}

template <bool accumulate, class T>
PYDL_INLINE void put_run(T* dst, const T* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) put<accumulate>(dst + i, src[i]);
}

void check_indices_kernel(const CheckIndicesArgs& args, Exec& exec) noexcept {
  (void)exec;
  // As most are: nothing to correct. The sign of i | (n - 1 - i) says where i is, without a branch.
  uint64_t signs = 0;
  for (int64_t i = 0; i < args.count; ++i) {
    const uint64_t at = static_cast<uint64_t>(args.index[i]);
    signs |= at | (static_cast<uint64_t>(args.n - 1) - at);
  }
  const bool plain = static_cast<int64_t>(signs) >= 0;
  if (args.plain != nullptr) *args.plain = plain;
  *args.first_bad = -1;
  if (plain) {
    if (args.normalized != nullptr && args.count > 0)
      __builtin_memcpy(args.normalized, args.index, static_cast<size_t>(args.count) * sizeof(int64_t));
    return;
  }
  int64_t first_bad = -1;
  for (int64_t i = 0; i < args.count; ++i) {
    int64_t at = args.index[i];
    if (at < 0) at += args.n;
    if (static_cast<uint64_t>(at) >= static_cast<uint64_t>(args.n)) {
      if (first_bad < 0) first_bad = i;
      at = 0;
    }
    if (args.normalized != nullptr) args.normalized[i] = at;
  }
  *args.first_bad = first_bad;
}

// copy(dst, src) of `bytes`: what is short goes as two pieces that overlap, for a call costs more than the copy.
template <int size>
struct CopyOverlapping {
  int64_t bytes;
  PYDL_INLINE void operator()(char* dst, const char* src) const {
    struct Piece {
      char bytes[size];
    } first, last;
    __builtin_memcpy(&first, src, size);
    __builtin_memcpy(&last, src + bytes - size, size);
    __builtin_memcpy(dst, &first, size);
    __builtin_memcpy(dst + bytes - size, &last, size);
  }
};
template <class F>
PYDL_INLINE void with_copy(int64_t bytes, F f) {
  if (bytes == 4) return f([](char* dst, const char* src) { __builtin_memcpy(dst, src, 4); });
  if (bytes == 8) return f([](char* dst, const char* src) { __builtin_memcpy(dst, src, 8); });
  if (bytes > 8 && bytes <= 16) return f(CopyOverlapping<8>{bytes});
  if (bytes > 16 && bytes <= 32) return f(CopyOverlapping<16>{bytes});
  if (bytes > 32 && bytes <= 64) return f(CopyOverlapping<32>{bytes});
  f([bytes](char* dst, const char* src) { __builtin_memcpy(dst, src, static_cast<size_t>(bytes)); });
}

void gather_rows_kernel(const GatherRowsArgs& args, Exec& exec) noexcept {
  const char* src = static_cast<const char*>(args.src);
  char* dst = static_cast<char*>(args.dst);
  const int64_t bytes = args.row_bytes, ahead = bytes > 8 ? 4 : 0;
  parallel_for(exec, args.count, 1 + kBytesGrain / (bytes + 16), [&](int64_t begin, int64_t end) {
    with_copy(bytes, [&](auto copy) {
      int64_t i = begin;
      for (; i < end - ahead; ++i) {
        if (ahead > 0) __builtin_prefetch(src + args.index[i + ahead] * bytes);
        copy(dst + i * bytes, src + args.index[i] * bytes);
      }
      for (; i < end; ++i) copy(dst + i * bytes, src + args.index[i] * bytes);
    });
  });
}

// each(first, last of the destinations, first, last of the columns) over a grid that covers (rows, row).
template <class F>
PYDL_INLINE void over_destinations(Exec& exec, int64_t work, int64_t item, int64_t rows, int64_t row, F each) {
  const int64_t width = (kColumnBytes + item - 1) / item;
  if (work <= kSerialScatter || exec.threads == 1) {
    each(int64_t{0}, rows, int64_t{0}, row);
  } else if (row >= 2 * width) {
    parallel_for(exec, row, width, [&](int64_t begin, int64_t end) { each(int64_t{0}, rows, begin, end); });
  } else {
    parallel_for(exec, kRanges, 1, [&](int64_t begin, int64_t end) {
      each(rows * begin / kRanges, rows * end / kRanges, int64_t{0}, row);
    });
  }
}

void scatter_add_rows_kernel(const ScatterAddRowsArgs& args, Exec& exec) noexcept {
  const int64_t row = args.row, item = static_cast<int64_t>(item_size(args.dtype));
  dispatch_scatter(args.dtype, true, [&](auto zero, auto) {
    using T = decltype(zero);
    const T* src = static_cast<const T*>(args.src);
    T* dst = static_cast<T*>(args.dst);
    over_destinations(exec, args.count * row, item, args.rows, row,
                      [&](int64_t first, int64_t last, int64_t begin, int64_t end) {
                        for (int64_t i = 0; i < args.count; ++i) {
                          const int64_t at = args.index[i];
                          if (at < first || at >= last || at == args.skip) continue;
                          put_run<true>(dst + at * row + begin, src + i * row + begin, end - begin);
                        }
                      });
  });
}

void take_along_kernel(const TakeAlongArgs& args, Exec& exec) noexcept {
  const int64_t inner = args.inner, along = args.step[1], beside = args.step[2];
  dispatch_item(item_size(args.dtype), [&](auto zero) {
    using T = decltype(zero);
    // A line is the inner axis at one (o, k).
    parallel_for(exec, args.outer * args.n_index, 1 + kIndexGrain / (inner + 1), [&](int64_t begin, int64_t end) {
      for (int64_t line = begin, outer = begin / args.n_index; line < end; ++outer) {
        const int64_t last = (outer + 1) * args.n_index < end ? (outer + 1) * args.n_index : end;
        const T* src = static_cast<const T*>(args.src) + outer * args.step[0];
        const int64_t* index = args.index + line * inner;
        T* dst = static_cast<T*>(args.dst) + line * inner;
        if (inner == 1) {
          for (int64_t k = 0; k < last - line; ++k) dst[k] = src[index[k] * along];
          line = last;
        }
        for (; line < last; ++line, index += inner, dst += inner) {
          for (int64_t i = 0; i < inner; ++i) dst[i] = src[index[i] * along + i * beside];
        }
      }
    });
  });
}

// put(place, element) for each that is sent.
template <class T, class Put>
PYDL_INLINE void scatter_lines(const ScatterAlongArgs& args, Exec& exec, Put put) {
  const bool rows = args.outer > 1;  // are shared out, or else columns
  const int64_t inner = args.inner;
  const int64_t grain = rows ? 1 + kIndexGrain / (args.n_index * inner + 1)
                             : kColumnBytes / static_cast<int64_t>(sizeof(T)) + kIndexGrain / (args.n_index + 1);
  parallel_for(exec, rows ? args.outer : inner, grain, [&](int64_t begin, int64_t end) {
    const int64_t n = args.n_index, width = args.inner, along = args.step[1], beside = args.step[2];
    const int64_t first = rows ? 0 : begin, last = rows ? width : end, outer_end = rows ? end : args.outer;
    int64_t o = rows ? begin : 0;
    T* dst = static_cast<T*>(args.dst) + o * args.step[0];
    const T* src = static_cast<const T*>(args.src) + o * n * width;
    const int64_t* index = args.index + o * n * width;
    for (const int64_t next = args.step[0]; o < outer_end; ++o, dst += next) {
      for (int64_t k = 0; k < n; ++k, src += width, index += width) {
        for (int64_t i = first; i < last; ++i) put(dst + index[i] * along + i * beside, src[i]);
      }
    }
  });
}

// a or b, without a branch, which would be mispredicted.
template <class T>
PYDL_INLINE T pick(bool first, T a, T b) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  Bits x, y;
  __builtin_memcpy(&x, &a, sizeof(T));
  __builtin_memcpy(&y, &b, sizeof(T));
  y ^= (x ^ y) & (Bits(0) - static_cast<Bits>(first));
  __builtin_memcpy(&a, &y, sizeof(T));
  return a;
}

// Products and extremes; a NaN that is sent stays.
template <class T>
void scatter_joined(const ScatterAlongArgs& args, Exec& exec) {
  using U = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // whose products wrap around
  if (args.join == ScatterJoin::multiply) {
    return scatter_lines<T>(args, exec,
                            [](T* dst, T x) { *dst = static_cast<T>(static_cast<U>(*dst) * static_cast<U>(x)); });
  }
  const bool up = args.join == ScatterJoin::largest;
  scatter_lines<T>(args, exec, [up](T* dst, T x) {
    const T old = *dst;
    *dst = pick((up & (x > old)) | (!up & (x < old)) | (x != x), x, old);
  });
}

void scatter_along_kernel(const ScatterAlongArgs& args, Exec& exec) noexcept {
  if (args.join > ScatterJoin::add) {
    return args.dtype == DType::float32   ? scatter_joined<float>(args, exec)
           : args.dtype == DType::float64 ? scatter_joined<double>(args, exec)
                                          : scatter_joined<int64_t>(args, exec);
  }
  dispatch_scatter(args.dtype, args.join == ScatterJoin::add, [&](auto zero, auto accumulate) {
    using T = decltype(zero);
    scatter_lines<T>(args, exec, [](T* dst, T x) { put<decltype(accumulate)::value>(dst, x); });
  });
}

void gather_offsets_kernel(const GatherOffsetsArgs& args, Exec& exec) noexcept {
  const int64_t block = args.block;
  dispatch_item(item_size(args.dtype), [&](auto zero) {
    using T = decltype(zero);
    parallel_for(exec, args.repeats * args.count, 1 + kIndexGrain / (block + 1), [&](int64_t begin, int64_t end) {
      const T* from = static_cast<const T*>(args.src) + begin / args.count * args.src_step;
      T* to = static_cast<T*>(args.dst) + begin * block;
      // The rest of a repeat, whole ones, a part.
      for (int64_t first = begin % args.count, left = end - begin; left > 0; first = 0, from += args.src_step) {
        const int64_t n = args.count - first < left ? args.count - first : left;
        const int64_t* offset = args.offset + first;
        if (block == 1) {
#pragma GCC unroll 4
          for (int64_t i = 0; i < n; ++i) to[i] = from[offset[i]];
        } else {
          const int64_t bytes = block * static_cast<int64_t>(sizeof(T));
          with_copy(bytes, [&](auto copy) {
            for (int64_t i = 0; i < n; ++i)
              copy(reinterpret_cast<char*>(to) + i * bytes, reinterpret_cast<const char*>(from + offset[i]));
          });
        }
        left -= n;
        to += n * block;
      }
    });
  });
}

void scatter_offsets_kernel(const ScatterOffsetsArgs& args, Exec& exec) noexcept {
  const int64_t block = args.block, item = static_cast<int64_t>(item_size(args.dtype));
  dispatch_scatter(args.dtype, args.accumulate, [&](auto zero, auto accumulate) {
    using T = decltype(zero);
    const T* src = static_cast<const T*>(args.src);
    T* dst = static_cast<T*>(args.dst);
    over_destinations(exec, args.count * block, item, args.dst_extent, block,
                      [&](int64_t first, int64_t last, int64_t begin, int64_t end) {
                        for (int64_t i = 0; i < args.count; ++i) {
                          const int64_t at = args.offset[i];
                          if (at < first || at >= last) continue;
                          put_run<decltype(accumulate)::value>(dst + at + begin, src + i * args.src_stride + begin,
                                                               end - begin);
                        }
                      });
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
