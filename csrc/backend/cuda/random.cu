// Random numbers: bits, distributions, dropout. Permutations and draws of categories: sampling.cu. Element i of a draw
// depends on (seed, position, i) alone, by the layout in core/philox.h, so a mask is the CPU's.
//
// A thread makes one Philox block, that is four 32-bit elements or two 64-bit ones, and stores it with wide accesses
// where memory is aligned. Ten rounds cost some 60 integer instructions a block: bound by memory where something is
// read, else by the integer units.
#include "backend/cuda/real.h"
#include "core/capture.h"
#include "core/philox.h"

namespace pydl {
namespace {

// What a Philox block makes: elements of its own width, or one for each 32-bit word.
template <class T, int per>
struct alignas(per * sizeof(T) < 16 ? per * sizeof(T) : 16) Values {
  T v[per];
};
template <class T>
constexpr int kOwnWidth = static_cast<int>(16 / sizeof(T));
constexpr int kEachWord = 4;

inline bool is_aligned(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15u) == 0; }

// make(bits, first element, how many count, values) for each Philox block, then its store.
template <class T, int per, class Make>
__global__ void __launch_bounds__(kBlock)
    fill_blocks(int64_t count, GeneratorState at, const GeneratorState* captured, T* dst, bool aligned, Make make) {
  if (captured != nullptr) at = *captured;
  PYDL_CUDA_LOOP(block, (count + per - 1) / per) {
    const int64_t first = block * per;
    const int n = count - first < per ? static_cast<int>(count - first) : per;
    Values<T, per> values;
    make(philox4x32(at.seed, 0, at.offset + static_cast<uint64_t>(block)), first, n, values.v);
    if (aligned && n == per) {
      *reinterpret_cast<Values<T, per>*>(dst + first) = values;
    } else {
      for (int i = 0; i < n; ++i) dst[first + i] = values.v[i];
    }
  }
}

template <class T, int per, class Args, class Make>
void fill(const Args& args, Exec& exec, Make make) {
  if (args.count <= 0) return;
  const CapturedValues* values = cuda::captured_values();
  const GeneratorState at{args.seed, args.position};
  PYDL_CUDA_LAUNCH((fill_blocks<T, per, Make>), grid_for((args.count + per - 1) / per), kBlock, 0, exec, args.count, at,
                   values ? values->random : nullptr, static_cast<T*>(args.dst), is_aligned(args.dst), make);
}

__device__ inline uint64_t word64(const Philox4& bits, int i) {
  return static_cast<uint64_t>(bits.v[2 * i + 1]) << 32 | bits.v[2 * i];
}
// [0, 1) and (0, 1] of element i of a block.
template <class T>
__device__ T unit(const Philox4& bits, int i) {
  if constexpr (sizeof(T) == 4)
    return philox_float(bits.v[i]);
  else
    return philox_double(bits.v[2 * i], bits.v[2 * i + 1]);
}
template <class T>
__device__ T unit_open(const Philox4& bits, int i) {
  if constexpr (sizeof(T) == 4)
    return philox_float_open(bits.v[i]);
  else
    return philox_double_open(bits.v[2 * i], bits.v[2 * i + 1]);
}
// a + b * c, rounded twice as on the CPU: joined by the compiler it would have other bits.
__device__ inline float add_product(float a, float b, float c) { return __fadd_rn(a, __fmul_rn(b, c)); }
__device__ inline double add_product(double a, double b, double c) { return __dadd_rn(a, __dmul_rn(b, c)); }

struct Bits {
  __device__ void operator()(const Philox4& bits, int64_t, int, uint32_t* out) const {
    for (int i = 0; i < 4; ++i) out[i] = bits.v[i];
  }
  __device__ void operator()(const Philox4& bits, int64_t, int, uint64_t* out) const {
    for (int i = 0; i < 2; ++i) out[i] = word64(bits, i);
  }
};

template <class T>
struct Uniform {
  T low, high, span;
  __device__ void operator()(const Philox4& bits, int64_t, int, T* out) const {
    for (int i = 0; i < kOwnWidth<T>; ++i) {
      const T x = add_product(low, span, unit<T>(bits, i));
      out[i] = x >= high && low < high ? low : x;  // rounding may reach high
    }
  }
};

template <class T>
struct Normal {
  T mean, deviation;
  __device__ void operator()(const Philox4& bits, int64_t, int, T* out) const {
    for (int i = 0; i < kOwnWidth<T>; i += 2) {
      T first, second;
      pair(unit_open<T>(bits, i), unit<T>(bits, i + 1), &first, &second);
      out[i] = add_product(mean, deviation, first);
      out[i + 1] = add_product(mean, deviation, second);
    }
  }
  static __device__ void pair(T u, T v, T* first, T* second) {
    const T radius = real_sqrt(real_log(u) * T(-2));
    T sine, cosine;
    real_sincos(v * static_cast<T>(6.283185307179586), &sine, &cosine);
    *first = radius * cosine;
    *second = radius * sine;
  }
};

template <class T>
struct Exponential {
  T rate;
  __device__ void operator()(const Philox4& bits, int64_t, int, T* out) const {
    for (int i = 0; i < kOwnWidth<T>; ++i) out[i] = (T(0) - real_log(unit_open<T>(bits, i))) / rate;
  }
};

struct Integers {
  uint64_t low, range;
  __device__ void operator()(const Philox4& bits, int64_t, int, uint64_t* out) const {
    for (int i = 0; i < 2; ++i) out[i] = low + __umul64hi(word64(bits, i), range);
  }
};

template <class T>
struct Bernoulli {
  const T* probability;  // or null
  double p;
  __device__ void operator()(const Philox4& bits, int64_t first, int n, T* out) const {
    for (int i = 0; i < n; ++i) {
      const double limit = probability != nullptr ? static_cast<double>(probability[first + i]) : p;
      out[i] = static_cast<double>(bits.v[i]) * 0x1p-32 < limit ? T(1) : T(0);
    }
  }
};

template <class T>
struct Dropout {
  const T* src;
  uint32_t least;  // words below it are dropped
  T scale;
  bool none, aligned;
  __device__ void operator()(const Philox4& bits, int64_t first, int n, T* out) const {
    if (aligned && n == kEachWord) {
      const Values<T, kEachWord> x = *reinterpret_cast<const Values<T, kEachWord>*>(src + first);
      for (int i = 0; i < kEachWord; ++i) out[i] = x.v[i];
    } else {
      for (int i = 0; i < n; ++i) out[i] = src[first + i];
    }
    for (int i = 0; i < n; ++i) out[i] = !none && bits.v[i] >= least ? out[i] * scale : T(0);
  }
};

void random_bits_kernel(const RandomArgs& args, Exec& exec) noexcept {
  if (item_size(args.dtype) == 4)
    fill<uint32_t, kOwnWidth<uint32_t>>(args, exec, Bits());
  else
    fill<uint64_t, kOwnWidth<uint64_t>>(args, exec, Bits());
}
void random_uniform_kernel(const RandomArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T low = static_cast<T>(args.low), high = static_cast<T>(args.high);
    fill<T, kOwnWidth<T>>(args, exec, Uniform<T>{low, high, high - low});
  });
}
void random_normal_kernel(const RandomArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    fill<T, kOwnWidth<T>>(args, exec, Normal<T>{static_cast<T>(args.low), static_cast<T>(args.high)});
  });
}
void random_exponential_kernel(const RandomArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    fill<T, kOwnWidth<T>>(args, exec, Exponential<T>{static_cast<T>(args.low)});
  });
}
void random_integers_kernel(const RandomArgs& args, Exec& exec) noexcept {
  const uint64_t low = static_cast<uint64_t>(args.int_low);
  fill<uint64_t, kOwnWidth<uint64_t>>(args, exec, Integers{low, static_cast<uint64_t>(args.int_high) - low});
}
void bernoulli_kernel(const BernoulliArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    fill<T, kEachWord>(args, exec, Bernoulli<T>{static_cast<const T*>(args.probability), args.p});
  });
}
void dropout_kernel(const DropoutArgs& args, Exec& exec) noexcept {
  // Kept where the word is at least p * 2^32, which is 2^32 itself only for p == 1.
  const double threshold = __builtin_ceil(args.p * 0x1p32);
  const bool none = threshold >= 0x1p32;
  dispatch_floating(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    fill<T, kEachWord>(args, exec,
                       Dropout<T>{static_cast<const T*>(args.src), none ? 0u : static_cast<uint32_t>(threshold),
                                  none ? T(0) : static_cast<T>(1.0 / (1.0 - args.p)), none, is_aligned(args.src)});
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(random) {
  table.random_bits = pydl::random_bits_kernel;
  table.random_uniform = pydl::random_uniform_kernel;
  table.random_normal = pydl::random_normal_kernel;
  table.random_exponential = pydl::random_exponential_kernel;
  table.random_integers = pydl::random_integers_kernel;
  table.bernoulli = pydl::bernoulli_kernel;
  table.dropout = pydl::dropout_kernel;
}
