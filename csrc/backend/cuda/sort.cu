// Stable sort and top-k along an axis, with indices. Every element becomes an unsigned key whose order is the wanted
// one (NaN greatest, -0 the same as 0, inverted to descend), as in cpu/sort.cpp; sorting.h does the rest.
#include "backend/cuda/sorting.h"

namespace pydl {
namespace {

// The bits of a float, U wide with its exponent from bit `mantissa` on, in ascending order.
template <class U>
__device__ U float_key(U bits, int mantissa) {
  constexpr int kTop = static_cast<int>(sizeof(U)) * 8 - 1;
  const U sign = static_cast<U>(U(1) << kTop), magnitude = static_cast<U>(bits & static_cast<U>(~sign));
  const U infinity = static_cast<U>(static_cast<U>(static_cast<U>(~sign) >> mantissa) << mantissa);
  if (magnitude > infinity) return static_cast<U>(~U(0));
  if (magnitude == 0) return sign;
  return static_cast<U>((bits & sign) != 0 ? ~bits : bits | sign);
}

// The key of element i, in the low bytes.
__device__ inline uint64_t key_of(DType dtype, const void* src, int64_t i) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
      return static_cast<const uint8_t*>(src)[i];
    case DType::int8:
      return static_cast<const uint8_t*>(src)[i] ^ 0x80u;
    case DType::uint16:
      return static_cast<const uint16_t*>(src)[i];
    case DType::int16:
      return static_cast<const uint16_t*>(src)[i] ^ 0x8000u;
    case DType::uint32:
      return static_cast<const uint32_t*>(src)[i];
    case DType::int32:
      return static_cast<const uint32_t*>(src)[i] ^ 0x80000000u;
    case DType::uint64:
      return static_cast<const uint64_t*>(src)[i];
    case DType::int64:
      return static_cast<const uint64_t*>(src)[i] ^ uint64_t { 1 } << 63;
    case DType::float16:
      return float_key(static_cast<const uint16_t*>(src)[i], 10);
    case DType::bfloat16:
      return float_key(static_cast<const uint16_t*>(src)[i], 7);
    case DType::float32:
      return float_key(static_cast<const uint32_t*>(src)[i], 23);
    default:
      return float_key(static_cast<const uint64_t*>(src)[i], 52);
  }
}

struct LoadKey {
  TopKArgs args;
  __device__ Item operator()(int64_t row, int64_t k) const {
    const uint64_t key = key_of(args.dtype, args.src, (row / args.inner * args.n + k) * args.inner + row % args.inner);
    return {args.largest ? ~key : key, k};
  }
};

// Values go to `values`, (rows, k), where the source would be overwritten before it is read.
struct StoreOrder {
  TopKArgs args;
  int item;
  char* values;  // (outer, k, inner), or (rows, k) where packed
  bool packed;
  template <class T>
  __device__ void move(int64_t from, int64_t to) const {
    reinterpret_cast<T*>(values)[to] = static_cast<const T*>(args.src)[from];
  }
  __device__ void operator()(int64_t row, int64_t k, Item chosen) const {
    const int64_t o = row / args.inner, i = row % args.inner, place = (o * args.k + k) * args.inner + i;
    if (args.indices != nullptr) args.indices[place] = chosen.at;
    if (values == nullptr) return;
    const int64_t from = (o * args.n + chosen.at) * args.inner + i, to = packed ? row * args.k + k : place;
    if (item == 1)
      move<uint8_t>(from, to);
    else if (item == 2)
      move<uint16_t>(from, to);
    else if (item == 4)
      move<uint32_t>(from, to);
    else
      move<uint64_t>(from, to);
  }
};

template <class T>
__global__ void __launch_bounds__(kBlock) unpack_values(TopKArgs args, const T* packed) {
  PYDL_CUDA_LOOP(i, args.outer * args.inner * args.k) {
    const int64_t row = i / args.k, k = i % args.k;
    static_cast<T*>(args.values)[(row / args.inner * args.k + k) * args.inner + row % args.inner] = packed[i];
  }
}

void topk_kernel(const TopKArgs& args, Exec& exec) noexcept {
  const int64_t rows = args.outer * args.inner, item = static_cast<int64_t>(item_size(args.dtype));
  if (args.n <= 0 || args.k <= 0 || rows <= 0) return;
  const bool packed = args.values != nullptr && args.values == args.src;
  DeviceScratch<char> values(exec, packed ? rows * args.k * item : 1);
  if (!values) return;
  const StoreOrder store{args, static_cast<int>(item), packed ? values.get() : static_cast<char*>(args.values), packed};
  sort_rows(exec, rows, args.n, args.k, LoadKey{args}, store);
  if (!packed) return;
  dispatch_width(item_size(args.dtype), [&](auto zero) {
    using T = decltype(zero);
    PYDL_CUDA_LAUNCH((unpack_values<T>), grid_for(rows * args.k), kBlock, 0, exec, args,
                     reinterpret_cast<const T*>(values.get()));
  });
}

void sort_kernel(const SortArgs& args, Exec& exec) noexcept {
  topk_kernel(
      {args.dtype, args.descending, args.n, args.outer, args.n, args.inner, args.src, args.values, args.indices}, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(sort) {
  table.sort = pydl::sort_kernel;
  table.topk = pydl::topk_kernel;
}
