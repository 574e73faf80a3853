// Random numbers: bits, distributions, dropout. Permutations and draws of categories: sampling.cu. Element i of a draw
// depends on (seed, position, i) alone, by the layout in core/philox.h, so a mask is the CPU's.
//
// A thread makes one Philox block, that is four 32-bit elements or two 64-bit ones, and stores it with one wide access
// where the destination is aligned. Ten rounds cost some 60 integer instructions a block: bound by memory from two
// streams on, by the integer units where nothing is read.
#include "backend/cuda/launch.h"
#include "backend/cuda/scalar.h"
#include "core/philox.h"

namespace pydl {
namespace {

constexpr int kRandomThreads = 256;

template <class T>
constexpr int kPerBlock = static_cast<int>(16 / sizeof(T));  // elements that a Philox block makes

template <class T>
struct alignas(16) Quad {
  T v[kPerBlock<T>];
};

// make(block of bits, first element, how many count, values) for each Philox block of the draw, and their store.
template <class T, class Make>
__global__ void __launch_bounds__(kRandomThreads)
    fill_blocks(int64_t count, uint64_t seed, uint64_t position, T* dst, bool aligned, Make make) {
  constexpr int per = kPerBlock<T>;
  const int64_t blocks = (count + per - 1) / per;
  PYDL_GRID_STRIDE(block, blocks) {
    const int64_t first = block * per;
    const int n = count - first < per ? static_cast<int>(count - first) : per;
    Quad<T> values;
    make(philox4x32(seed, 0, position + static_cast<uint64_t>(block)), first, n, values.v);
    if (aligned && n == per) {
      *reinterpret_cast<Quad<T>*>(dst + first) = values;
    } else {
      for (int i = 0; i < n; ++i) dst[first + i] = values.v[i];
    }
  }
}

inline bool is_aligned(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15u) == 0; }

template <class T, class Make>
void fill(Exec& exec, int64_t count, uint64_t seed, uint64_t position, void* dst, const char* name, Make make) {
  if (count <= 0) return;
  const int64_t blocks = (count + kPerBlock<T> - 1) / kPerBlock<T>;
  PYDL_CUDA_LAUNCH((fill_blocks<T, Make>), grid_for(blocks, kRandomThreads), kRandomThreads, 0, exec, count, seed,
                   position, static_cast<T*>(dst), is_aligned(dst), make);
  (void)name;
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
// a + b * c, rounded twice as on the CPU: a compiler that joins them would change the bits.
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
    for (int i = 0; i < kPerBlock<T>; ++i) {
      const T x = add_product(low, span, unit<T>(bits, i));
      out[i] = x >= high && low < high ? low : x;  // rounding may reach high
    }
  }
};

template <class T>
struct Normal {
  T mean, deviation;
  __device__ void operator()(const Philox4& bits, int64_t, int, T* out) const {
    for (int i = 0; i < kPerBlock<T>; i += 2) {
      const T radius = ::sqrt(::log(unit_open<T>(bits, i)) * T(-2));
      const T angle = unit<T>(bits, i + 1) * T(6.283185307179586);
      T sine, cosine;
      circle(angle, &sine, &cosine);
      out[i] = add_product(mean, deviation, radius * cosine);
      out[i + 1] = add_product(mean, deviation, radius * sine);
    }
  }
  static __device__ void circle(float x, float* sine, float* cosine) { ::sincosf(x, sine, cosine); }
  static __device__ void circle(double x, double* sine, double* cosine) { ::sincos(x, sine, cosine); }
};

template <class T>
struct Exponential {
  T rate;
  __device__ void operator()(const Philox4& bits, int64_t, int, T* out) const {
    for (int i = 0; i < kPerBlock<T>; ++i) out[i] = (T(0) - ::log(unit_open<T>(bits, i))) / rate;
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
  const T* probability;
  double p;
  __device__ bool one(uint32_t word, int64_t at) const {
    return static_cast<double>(word) * 0x1p-32 < (probability != nullptr ? static_cast<double>(probability[at]) : p);
  }
};

// A block's four words are four elements whatever their type.
template <class T, class Make>
__global__ void __launch_bounds__(kRandomThreads)
    map_words(int64_t count, uint64_t seed, uint64_t position, T* dst, Make make) {
  PYDL_GRID_STRIDE(block, (count + 3) / 4) {
    const Philox4 bits = philox4x32(seed, 0, position + static_cast<uint64_t>(block));
    const int64_t first = block * 4;
    make(bits, first, count - first < 4 ? static_cast<int>(count - first) : 4, dst + first);
  }
}

template <class T>
struct MakeBernoulli {
  Bernoulli<T> test;
  __device__ void operator()(const Philox4& bits, int64_t first, int n, T* dst) const {
    for (int i = 0; i < n; ++i) dst[i] = test.one(bits.v[i], first + i) ? T(1) : T(0);
  }
};

template <class T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Four {
  T v[4];
};

template <class T>
struct MakeDropout {
  const T* src;
  uint32_t least;  // words below it are dropped
  T scale;
  bool none, aligned;
  __device__ T kept(T x, uint32_t word) const { return !none && word >= least ? x * scale : T(0); }
  __device__ void operator()(const Philox4& bits, int64_t first, int n, T* dst) const {
    if (aligned && n == 4) {
      Four<T> x = *reinterpret_cast<const Four<T>*>(src + first);
      for (int i = 0; i < 4; ++i) x.v[i] = kept(x.v[i], bits.v[i]);
      *reinterpret_cast<Four<T>*>(dst) = x;
      return;
    }
    for (int i = 0; i < n; ++i) dst[i] = kept(src[first + i], bits.v[i]);
  }
};

template <class T, class Make>
void map(Exec& exec, int64_t count, uint64_t seed, uint64_t position, void* dst, Make make) {
  if (count <= 0) return;
  PYDL_CUDA_LAUNCH((map_words<T, Make>), grid_for((count + 3) / 4, kRandomThreads), kRandomThreads, 0, exec, count, seed,
                   position, static_cast<T*>(dst), make);
}
