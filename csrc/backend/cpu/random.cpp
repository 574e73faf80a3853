// Random numbers: bits, distributions, permutations, dropout, draws of categories. Every number is a function of (seed,
// position, index), by the layout in core/philox.h; so dropout's gradient makes its mask again instead of reading it.
//
// Blocks are generated in batches, a vector of counters at a time.
#include "backend/cpu/stream.h"
#include "backend/cpu/vec_math.h"
#include "backend/kernel_table.h"
#include "core/philox.h"

namespace pydl {
namespace {

constexpr int64_t kBatchBlocks = 64;               // Philox blocks made at a time
constexpr int64_t kBatchWords = 4 * kBatchBlocks;  // and their 32-bit words
constexpr int64_t kRandomGrain =
    16 * kBatchWords;  // elements; a multiple of a batch, so that ranges begin with a block

// The product of the lower halves of 64-bit lanes.
using Wide = Register<uint64_t>;
PYDL_INLINE Wide multiply_low_halves(Wide a, Wide b) {
#if defined(PYDL_VEC_AVX512)
  return (Wide)_mm512_maskz_mul_epu32(static_cast<__mmask8>(0xff), (__m512i)a, (__m512i)b);  // see vec.h
#elif defined(PYDL_VEC_AVX2)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(PYDL_VEC_SSE)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return vmull_u32(vmovn_u64(a), vmovn_u64(b));
#endif
}

constexpr int kLanes = Vec<uint64_t>::size;
template <int... i>
PYDL_INLINE void store_interleaved(Wide a, Wide b, uint32_t* dst, std::integer_sequence<int, i...>) {
  const Wide low = __builtin_shufflevector(a, b, (i % 2 * kLanes + i / 2)...);
  const Wide high = __builtin_shufflevector(a, b, (i % 2 * kLanes + (i + kLanes) / 2)...);
  __builtin_memcpy(dst, &low, sizeof low);
  __builtin_memcpy(dst + 2 * kLanes, &high, sizeof high);
}

// words[w] = 32-bit word w from block `block` on. A lane of 64 bits holds one word of one counter; what is above its
// lower half does not matter until the end.
void make_words(uint64_t seed, uint64_t block, uint32_t* words) {
  constexpr int kChains = 4;  // independent ones, to hide the multiplications' latency
  const Wide lane = Vec<uint64_t>::iota().raw;
  for (int64_t first = 0; first < kBatchBlocks; first += kChains * kLanes) {
    Wide c0[kChains], c1[kChains], c2[kChains], c3[kChains];
    for (int j = 0; j < kChains; ++j) {
      c0[j] = lane + (block + static_cast<uint64_t>(first + j * kLanes));
      c1[j] = c0[j] >> 32;
      c2[j] = lane - lane;
      c3[j] = lane - lane;
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      for (int j = 0; j < kChains; ++j) {
        const Wide m0 = multiply_low_halves(c0[j], Vec<uint64_t>(0xD2511F53u).raw);
        const Wide m1 = multiply_low_halves(c2[j], Vec<uint64_t>(0xCD9E8D57u).raw);
        c0[j] = (m1 >> 32) ^ c1[j] ^ uint64_t { k0 };
        c2[j] = (m0 >> 32) ^ c3[j] ^ uint64_t { k1 };
        c1[j] = m1;
        c3[j] = m0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int j = 0; j < kChains; ++j) {
      const Wide low_half = Vec<uint64_t>(0xffffffffu).raw;
      store_interleaved((c0[j] & low_half) | c1[j] << 32, (c2[j] & low_half) | c3[j] << 32,
                        words + 4 * (first + j * kLanes), std::make_integer_sequence<int, kLanes>());
    }
  }
}

// body(first element, number of elements, words) over `count` elements of words_per_element words each, batch by batch.
template <int words_per_element, class F>
PYDL_INLINE void each_batch(Exec& exec, uint64_t seed, uint64_t position, int64_t count, F body) {
  constexpr int64_t kBatch = kBatchWords / words_per_element;
  parallel_for(exec, count, kRandomGrain, [&](int64_t begin, int64_t end) {
    alignas(64) uint32_t words[kBatchWords];
    for (int64_t i = begin; i < end; i += kBatch) {
      make_words(seed, position + static_cast<uint64_t>(i / (4 / words_per_element)), words);
      body(i, end - i < kBatch ? end - i : kBatch, static_cast<const uint32_t*>(words));
    }
  });
}

// One block, for draws that are not a long run: 64-bit element i of a draw.
struct Word64 {
  uint32_t low, high;
};
Word64 word64_at(uint64_t seed, uint64_t position, int64_t i) {
  const Philox4 block = philox4x32(seed, 0, position + static_cast<uint64_t>(i / 2));
  return i % 2 == 0 ? Word64{block.v[0], block.v[1]} : Word64{block.v[2], block.v[3]};
}

void random_bits_kernel(const RandomArgs& args, Exec& exec) noexcept {
  const auto fill = [&](auto word, auto words_per_element) {
    using T = decltype(word);
    each_batch<decltype(words_per_element)::value>(
        exec, args.seed, args.position, args.count, [&](int64_t first, int64_t n, const uint32_t* words) {
          T* dst = static_cast<T*>(args.dst) + first;
          for (int64_t i = 0; i < n; ++i) {
            if constexpr (sizeof(T) == 4)
              dst[i] = words[i];
            else
              dst[i] = static_cast<uint64_t>(words[2 * i + 1]) << 32 | words[2 * i];
          }
        });
  };
  if (item_size(args.dtype) == 4)
    fill(uint32_t(), std::integral_constant<int, 1>());
  else
    fill(uint64_t(), std::integral_constant<int, 2>());
}

// [0, 1) and (0, 1] of the i-th element of a batch.
template <class T>
PYDL_INLINE T unit(const uint32_t* words, int64_t i) {
  if constexpr (sizeof(T) == 4)
    return philox_float(words[i]);
  else
    return philox_double(words[2 * i], words[2 * i + 1]);
}
template <class T>
PYDL_INLINE T unit_open(const uint32_t* words, int64_t i) {
  if constexpr (sizeof(T) == 4)
    return philox_float_open(words[i]);
  else
    return philox_double_open(words[2 * i], words[2 * i + 1]);
}

template <class T>
void uniform(const RandomArgs& args, Exec& exec) {
  const T low = static_cast<T>(args.low), high = static_cast<T>(args.high), span = high - low;
  each_batch<sizeof(T) / 4>(exec, args.seed, args.position, args.count,
                            [&](int64_t first, int64_t n, const uint32_t* words) {
                              T* dst = static_cast<T*>(args.dst) + first;
                              for (int64_t i = 0; i < n; ++i) {
                                const T x = low + span * unit<T>(words, i);
                                dst[i] = x >= high && low < high ? low : x;  // rounding may reach high
                              }
                            });
}

template <class T>
void normal(const RandomArgs& args, Exec& exec) {
  using V = Vec<T>;
  constexpr int64_t kBatch = kBatchWords / static_cast<int64_t>(sizeof(T) / 4), kPairs = kBatch / 2;
  const V mean(args.low), deviation(args.high);
  each_batch<sizeof(T) / 4>(exec, args.seed, args.position, args.count,
                            [&](int64_t first, int64_t n, const uint32_t* words) {
                              alignas(64) T u[kPairs], v[kPairs];
                              for (int64_t j = 0; j < kPairs; ++j) {
                                u[j] = unit_open<T>(words, 2 * j);
                                v[j] = unit<T>(words, 2 * j + 1);
                              }
                              for (int64_t j = 0; j < (n + 1) / 2; j += V::size) {
                                const V radius = sqrt(log(V::load(u + j)) * -2.0);
                                const V angle = V::load(v + j) * 6.283185307179586;
                                (mean + deviation * (radius * cos(angle))).store(u + j);
                                (mean + deviation * (radius * sin(angle))).store(v + j);
                              }
                              T* dst = static_cast<T*>(args.dst) + first;
                              for (int64_t j = 0; j < n / 2; ++j) {
                                dst[2 * j] = u[j];
                                dst[2 * j + 1] = v[j];
                              }
                              if (n % 2 == 1) dst[n - 1] = u[n / 2];
                            });
}

template <class T>
void exponential(const RandomArgs& args, Exec& exec) {
  using V = Vec<T>;
  constexpr int64_t kBatch = kBatchWords / static_cast<int64_t>(sizeof(T) / 4);
  const V rate(args.low);
  each_batch<sizeof(T) / 4>(
      exec, args.seed, args.position, args.count, [&](int64_t first, int64_t n, const uint32_t* words) {
        alignas(64) T u[kBatch];
        for (int64_t i = 0; i < kBatch; ++i) u[i] = unit_open<T>(words, i);
        for (int64_t i = 0; i < n; i += V::size) ((0.0 - log(V::load(u + i))) / rate).store(u + i);
        __builtin_memcpy(static_cast<T*>(args.dst) + first, u, static_cast<size_t>(n) * sizeof(T));
      });
}

// The high half of a 128-bit product: range values of 2^64 / range or one more inputs each.
PYDL_INLINE uint64_t scale_to(uint64_t bits, uint64_t range) {
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<uint64_t>((static_cast<Wide>(bits) * range) >> 64);
}

void random_integers_kernel(const RandomArgs& args, Exec& exec) noexcept {
  const uint64_t low = static_cast<uint64_t>(args.int_low), range = static_cast<uint64_t>(args.int_high) - low;
  each_batch<2>(exec, args.seed, args.position, args.count, [&](int64_t first, int64_t n, const uint32_t* words) {
    int64_t* dst = static_cast<int64_t*>(args.dst) + first;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t bits = static_cast<uint64_t>(words[2 * i + 1]) << 32 | words[2 * i];
      dst[i] = static_cast<int64_t>(low + scale_to(bits, range));
    }
  });
}

// Fisher and Yates, from the front ("inside out"): element i is drawn into one of the places 0 ... i.
void random_permutation_kernel(const RandomArgs& args, Exec&) noexcept {
  int64_t* dst = static_cast<int64_t*>(args.dst);
  alignas(64) uint32_t words[kBatchWords];
  constexpr int64_t kBatch = kBatchWords / 2;
  for (int64_t begin = 0; begin < args.count; begin += kBatch) {
    make_words(args.seed, args.position + static_cast<uint64_t>(begin / 2), words);
    const int64_t n = args.count - begin < kBatch ? args.count - begin : kBatch;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t bits = static_cast<uint64_t>(words[2 * i + 1]) << 32 | words[2 * i];
      const int64_t at = begin + i, place = static_cast<int64_t>(scale_to(bits, static_cast<uint64_t>(at) + 1));
      dst[at] = dst[place];  // of itself, where place is at: overwritten next
      dst[place] = at;
    }
  }
}

template <class T>
void bernoulli(const BernoulliArgs& args, Exec& exec) {
  each_batch<1>(exec, args.seed, args.position, args.count, [&](int64_t first, int64_t n, const uint32_t* words) {
    T* dst = static_cast<T*>(args.dst) + first;
    if (args.probability == nullptr) {
      for (int64_t i = 0; i < n; ++i) dst[i] = static_cast<T>(static_cast<double>(words[i]) * 0x1p-32 < args.p);
      return;
    }
    const T* probability = static_cast<const T*>(args.probability) + first;
    for (int64_t i = 0; i < n; ++i)
      dst[i] = static_cast<T>(static_cast<double>(words[i]) * 0x1p-32 < static_cast<double>(probability[i]));
  });
}

// All bits of lane i where words[i] >= least.
template <class T>
PYDL_INLINE Register<LaneInt<T>> at_least(const uint32_t* words, uint32_t least) {
  typedef uint32_t Words __attribute__((vector_size(sizeof(uint32_t) * Vec<T>::size)));
  Words w;
  __builtin_memcpy(&w, words, sizeof w);
  return __builtin_convertvector(w >= least, Register<LaneInt<T>>);
}

template <class T>
void dropout(const DropoutArgs& args, Exec& exec) {
  using V = Vec<T>;
  // Kept where the word is at least p * 2^32, which is 2^32 itself only for p == 1.
  const double threshold = __builtin_ceil(args.p * 0x1p32);
  const bool none = threshold >= 0x1p32;
  const uint32_t least = none ? 0xffffffffu : static_cast<uint32_t>(threshold);
  const V scale(none ? 0.0 : 1.0 / (1.0 - args.p));
  each_batch<1>(exec, args.seed, args.position, args.count, [&](int64_t first, int64_t n, const uint32_t* words) {
    const T* src = static_cast<const T*>(args.src) + first;
    T* dst = static_cast<T*>(args.dst) + first;
    if (none) {
      for (int64_t i = 0; i < n; ++i) dst[i] = T(0);
      return;
    }
    each_vector<T>(n, [&](int64_t i, int lanes) {
      const auto bits =
          (Register<LaneInt<T>>)(load_some<V>(src + i, lanes) * scale).raw & at_least<T>(words + i, least);
      store_some(V((Register<T>)bits), dst + i, lanes);
    });
  });
}

// With replacement: the place of u * total in the running sum. Without: each category waits -log(u) / p, and those that
// come first are drawn (exponential races, which draw in order without replacement).
template <class T>
bool draw_row(const MultinomialArgs& args, Exec& exec, int64_t row) {
  const int64_t n = args.n, samples = args.samples;
  const T* p = static_cast<const T*>(args.probability) + row * n;
  int64_t* dst = args.dst + row * samples;
  Scratch<double> key(exec, n);
  double total = 0.0;
  int64_t possible = 0, last = 0;
  bool valid = true;
  for (int64_t c = 0; c < n; ++c) {
    valid = valid && p[c] >= T(0);
    if (p[c] > T(0)) {
      ++possible;
      last = c;
    }
    total += static_cast<double>(p[c]);
    key[c] = total;
  }
  if (!valid || !__builtin_isfinite(total) || possible < (args.replacement ? 1 : samples)) {
    for (int64_t j = 0; j < samples; ++j) dst[j] = 0;
    return samples == 0;
  }
  if (args.replacement) {
    for (int64_t j = 0; j < samples; ++j) {
      const Word64 word = word64_at(args.seed, args.position, row * samples + j);
      const double at = philox_double(word.low, word.high) * total;
      int64_t low = 0, high = last;  // the first category whose running sum exceeds `at`
      while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (key[middle] > at)
          high = middle;
        else
          low = middle + 1;
      }
      dst[j] = low;
    }
    return true;
  }
  for (int64_t c = 0; c < n; ++c) {
    const Word64 word = word64_at(args.seed, args.position, row * n + c);
    const double wait = -__builtin_log(philox_double_open(word.low, word.high));
    key[c] = p[c] > T(0) ? wait / static_cast<double>(p[c]) : __builtin_inf();
  }
  // A heap of the `samples` least, the greatest on top; then sorted by taking it apart.
  const auto later = [&](int64_t a, int64_t b) { return key[a] > key[b] || (key[a] == key[b] && a > b); };
  const auto sink = [&](int64_t at, int64_t size) {
    for (int64_t child = 2 * at + 1; child < size; at = child, child = 2 * at + 1) {
      if (child + 1 < size && later(dst[child + 1], dst[child])) ++child;
      if (!later(dst[child], dst[at])) return;
      const int64_t moved = dst[at];
      dst[at] = dst[child];
      dst[child] = moved;
    }
  };
  for (int64_t j = 0; j < samples; ++j) dst[j] = j;
  for (int64_t j = samples / 2 - 1; j >= 0; --j) sink(j, samples);
  for (int64_t c = samples; samples > 0 && c < n; ++c) {
    if (!later(dst[0], c)) continue;
    dst[0] = c;
    sink(0, samples);
  }
  for (int64_t size = samples - 1; size > 0; --size) {
    const int64_t moved = dst[0];
    dst[0] = dst[size];
    dst[size] = moved;
    sink(0, size);
  }
  return true;
}

template <class T>
void multinomial(const MultinomialArgs& args, Exec& exec) {
  Scratch<uint8_t> bad(exec, args.rows);
  parallel_for(exec, args.rows, 1 + kRandomGrain / (args.n + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) bad[row] = !draw_row<T>(args, exec, row);
  });
  *args.first_bad = -1;
  for (int64_t row = args.rows - 1; row >= 0; --row) {
    if (bad[row]) *args.first_bad = row;
  }
}

void random_uniform_kernel(const RandomArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? uniform<double>(args, exec) : uniform<float>(args, exec);
}
void random_normal_kernel(const RandomArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? normal<double>(args, exec) : normal<float>(args, exec);
}
void random_exponential_kernel(const RandomArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? exponential<double>(args, exec) : exponential<float>(args, exec);
}
void bernoulli_kernel(const BernoulliArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? bernoulli<double>(args, exec) : bernoulli<float>(args, exec);
}
void dropout_kernel(const DropoutArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? dropout<double>(args, exec) : dropout<float>(args, exec);
}
void multinomial_kernel(const MultinomialArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? multinomial<double>(args, exec) : multinomial<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(random) {
  table.random_bits = pydl::random_bits_kernel;
  table.random_uniform = pydl::random_uniform_kernel;
  table.random_normal = pydl::random_normal_kernel;
  table.random_exponential = pydl::random_exponential_kernel;
  table.random_integers = pydl::random_integers_kernel;
  table.random_permutation = pydl::random_permutation_kernel;
  table.bernoulli = pydl::bernoulli_kernel;
  table.dropout = pydl::dropout_kernel;
  table.multinomial = pydl::multinomial_kernel;
}
