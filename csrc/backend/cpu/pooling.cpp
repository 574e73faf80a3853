// Maximum and average over windows of channels-last images, forward and backward, a vector of channels at a time. Every
// output, and in backward every input, is made by one task that gathers what belongs to it: nothing is added to memory.
// Images of one channel are in pool_planes.h.
#include "backend/cpu/pool_planes.h"

namespace pydl {
namespace {

constexpr int64_t kSplitChannels = 64;  // channels of a task where an image has few rows

// Whole numbers below 256, or of 32 bits, in the lanes of a vector of T.
template <class T, class I>
struct Places {
  using Lanes = Vec<LaneInt<T>>;
  using Packed __attribute__((vector_size(Lanes::size * sizeof(I)))) = I;
  static PYDL_INLINE Lanes load(const I* p, int n) {
    Packed packed{};
    if (n == Lanes::size)
      __builtin_memcpy(&packed, p, sizeof packed);
    else
      for (int i = 0; i < n; ++i) packed[i] = p[i];
#if defined(__x86_64__)  // the compilers' conversion goes through single lanes
    if constexpr (sizeof(I) == 1) {
      __m128i bytes = _mm_setzero_si128();
      __builtin_memcpy(&bytes, &packed, sizeof packed);
#if defined(PYDL_VEC_AVX512)
      if constexpr (sizeof(T) == 4) return Lanes((typename Lanes::Raw)_mm512_cvtepu8_epi32(bytes));
      if constexpr (sizeof(T) == 8) return Lanes((typename Lanes::Raw)_mm512_cvtepu8_epi64(bytes));
#elif defined(PYDL_VEC_AVX2)
      if constexpr (sizeof(T) == 4) return Lanes((typename Lanes::Raw)_mm256_cvtepu8_epi32(bytes));
      if constexpr (sizeof(T) == 8) return Lanes((typename Lanes::Raw)_mm256_cvtepu8_epi64(bytes));
#else
      if constexpr (sizeof(T) == 4) return Lanes((typename Lanes::Raw)_mm_cvtepu8_epi32(bytes));
      if constexpr (sizeof(T) == 8) return Lanes((typename Lanes::Raw)_mm_cvtepu8_epi64(bytes));
#endif
    }
#endif
    return Lanes(__builtin_convertvector(packed, typename Lanes::Raw));
  }
  static PYDL_INLINE void store(Lanes v, I* p, int n) {
    Packed packed = pack(v);
    if (n == Lanes::size)
      __builtin_memcpy(p, &packed, sizeof packed);
    else
      for (int i = 0; i < n; ++i) p[i] = packed[i];
  }

 private:
  static PYDL_INLINE Packed pack(Lanes v) {
    Packed packed;
#if defined(PYDL_VEC_AVX512)
    if constexpr (sizeof(I) == 1) {
      const __m128i bytes = sizeof(T) == 4 ? _mm512_maskz_cvtepi32_epi8(0xFFFF, (__m512i)v.raw)
                                           : _mm512_maskz_cvtepi64_epi8(0xFF, (__m512i)v.raw);
      __builtin_memcpy(&packed, &bytes, sizeof packed);
      return packed;
    }
#elif defined(__x86_64__)
    if constexpr (sizeof(I) == 1) {  // the lanes are small enough for the signed saturation
#if defined(PYDL_VEC_AVX2)
      const __m128i low = _mm256_castsi256_si128((__m256i)v.raw), high = _mm256_extracti128_si256((__m256i)v.raw, 1);
#else
      const __m128i low = (__m128i)v.raw, high = low;
#endif
      __m128i words;
      if constexpr (sizeof(T) == 4)
        words = _mm_packus_epi32(low, high);
      else
        words = _mm_packus_epi32((__m128i)_mm_shuffle_ps((__m128)low, (__m128)high, 0x88), low);
      const __m128i bytes = _mm_packus_epi16(words, words);
      __builtin_memcpy(&packed, &bytes, sizeof packed);
      return packed;
    }
#endif
    packed = __builtin_convertvector(v.raw, Packed);
    return packed;
  }
};

// Tasks are rows of the image that is written, and of its channels where there are few rows.
template <class F>
PYDL_INLINE void each_row_of_image(const PoolArgs& args, const int64_t (&size)[3], int64_t work, Exec& exec, F body) {
  const int64_t rows = args.batch * size[0] * size[1];
  const int64_t split = rows < 64 ? (args.channels + kSplitChannels - 1) / kSplitChannels : 1;
  const int64_t share = split == 1 ? args.channels : kSplitChannels;
  parallel_for(exec, rows * split, 1 + kPoolGrain / (work * share + 1), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / split, first = task % split * share;
      const int64_t last = first + share < args.channels ? first + share : args.channels;
      body(row / (size[0] * size[1]), row / size[1] % size[0], row % size[1], first, last);
    }
  });
}

template <class T>
PYDL_INLINE Vec<T> keep(Mask<T> mask, Vec<T> v) {  // v where the mask holds, else 0
  return Vec<T>((Register<T>)((Register<LaneInt<T>>)v.raw & mask.raw));
}

// Which place of its window p is, or -1 where the window's steps miss it.
inline int64_t place_in(int64_t p, int64_t begin, int64_t step) {
  if (step == 1) return p - begin;
  const int64_t steps = (p - begin) / step;
  return steps * step == p - begin ? steps : -1;
}

// True where no place is seen by two outputs: then backward goes over the outputs and writes each window.
bool windows_apart(const PoolArgs& args) {
  for (int a = 0; a < 3; ++a) {
    if (args.step[a] != 1) return false;
    for (int64_t o = 1; o < args.out[a]; ++o)
      if (args.begin[a][o] < args.end[a][o - 1]) return false;
  }
  return true;
}

// For windows apart: value(c, place) at every place that an output sees, 0 at the others. start(at, vectors, lanes)
// makes `value` of the output's elements at ... The places of output o are those from its own begin to the next one's,
// the first output's also those before it.
template <bool past_cache, class T, class F>
PYDL_INLINE void write_windows(const PoolArgs& args, T* d_x, Exec& exec, F start) {
  using V = Vec<T>;
  const int64_t channels = args.channels, width = args.in[2] * channels, plane = args.in[1] * width;
  const auto from = [&](int a, int64_t o) { return o == 0 ? 0 : args.begin[a][o]; };
  const auto to = [&](int a, int64_t o) { return o + 1 == args.out[a] ? args.in[a] : args.begin[a][o + 1]; };
  const int64_t work = args.in[2] * (args.in[1] / args.out[1] + 1) * (args.in[0] / args.out[0] + 1);
  each_row_of_image(args, args.out, work, exec, [&](int64_t n, int64_t od, int64_t oh, int64_t first, int64_t last) {
    T* image = d_x + n * args.in[0] * plane;
    const int64_t row = ((n * args.out[0] + od) * args.out[1] + oh) * args.out[2] * channels;
    for (int64_t ow = 0; ow < args.out[2]; ++ow) {
      const int64_t w_from = from(2, ow), w_to = to(2, ow), w_begin = args.begin[2][ow], w_end = args.end[2][ow];
      each_panel<T>(first, last, [&](int64_t c, auto vectors, int lanes) {
        constexpr int k = decltype(vectors)::value;
        const auto value = start(row + ow * channels + c, vectors, lanes, od, oh, ow);
        // copies, because stores might change what the lambda refers to
        const int64_t step = channels, w_first = w_from, w_last = w_to, seen_from = w_begin, seen_to = w_end;
        for (int64_t d = from(0, od); d < to(0, od); ++d) {
          for (int64_t h = from(1, oh); h < to(1, oh); ++h) {
            T* dst = image + d * plane + h * width + c;
            const bool inside =
                d >= args.begin[0][od] && d < args.end[0][od] && h >= args.begin[1][oh] && h < args.end[1][oh];
            const int64_t number =
                ((d - args.begin[0][od]) * args.window[1] + h - args.begin[1][oh]) * args.window[2] - w_begin;
            for (int64_t w = w_first; w < w_last; ++w) {
              const bool seen = inside && w >= seen_from && w < seen_to;
              for (int j = 0; j < k; ++j)
                put<past_cache>(seen ? value(j, number + w) : V(0.0), dst + w * step + j * V::size, lanes);
            }
          }
        }
      });
    }
    if (past_cache) stream_fence();
  });
}

template <class T, class I>
void max_pool_typed(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  using P = Places<T, I>;
  using L = typename P::Lanes;
  const int64_t channels = args.channels, width = args.in[2] * channels, plane = args.in[1] * width;
  I* places = static_cast<I*>(args.ws_place);
  each_row_of_image(args, args.out, args.out[2] * window_of(args), exec,
                    [&](int64_t n, int64_t od, int64_t oh, int64_t first, int64_t last) {
                      const T* image = static_cast<const T*>(args.x) + n * args.in[0] * plane;
                      const int64_t row = ((n * args.out[0] + od) * args.out[1] + oh) * args.out[2] * channels;
                      for (int64_t ow = 0; ow < args.out[2]; ++ow) {
                        const int64_t w_begin = args.begin[2][ow], w_end = args.end[2][ow];
                        const int64_t h_begin = args.begin[1][oh], h_end = args.end[1][oh];
                        const int64_t d_begin = args.begin[0][od], d_end = args.end[0][od];
                        each_panel<T>(first, last, [&](int64_t c, auto vectors, int lanes) {
                          constexpr int k = decltype(vectors)::value;
                          V best[k];
                          L place[k];
                          for (int j = 0; j < k; ++j) best[j] = V(-__builtin_inf());
                          int64_t from_d = 0;
                          for (int64_t d = d_begin; d < d_end;
                               d += args.step[0], from_d += args.window[1] * args.window[2]) {
                            int64_t from_h = from_d;
                            for (int64_t h = h_begin; h < h_end; h += args.step[1], from_h += args.window[2]) {
                              const T* src = image + d * plane + h * width + c;
                              LaneInt<T> number = static_cast<LaneInt<T>>(from_h);
                              for (int64_t w = w_begin; w < w_end; w += args.step[2], ++number) {
                                for (int j = 0; j < k; ++j) {
                                  const V v = load_some<V>(src + w * channels + j * V::size, lanes);
                                  if (places != nullptr) {  // the first of equal ones; the last NaN, as PyTorch's
                                    const auto better = (v > best[j]) | isnan(v);
                                    best[j] = select(better, v, best[j]);
                                    place[j] = select(Mask<LaneInt<T>>(better), L(number), place[j]);
                                  } else {
                                    best[j] = max(v, best[j]);
                                  }
                                }
                              }
                            }
                          }
                          for (int j = 0; j < k; ++j) {
                            const int64_t at = row + ow * channels + c + j * V::size;
                            store_some(best[j], const_cast<T*>(static_cast<const T*>(args.y)) + at, lanes);
                            if (places != nullptr) P::store(place[j], places + at, lanes);
                          }
                        });
                      }
                    });
}

template <class T, class I>
void max_pool_backward_typed(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  using P = Places<T, I>;
  using L = typename P::Lanes;
  const int64_t channels = args.channels, width = args.out[2] * channels, plane = args.out[1] * width;
  T* d_x = const_cast<T*>(static_cast<const T*>(args.x));
  if (windows_apart(args)) {
    const T* g = static_cast<const T*>(args.y);
    const I* places = static_cast<const I*>(args.ws_place);
    const auto start = [&](int64_t at, auto vectors, int lanes, int64_t, int64_t, int64_t) {
      struct Value {
        V g[decltype(vectors)::value];
        L place[decltype(vectors)::value];
        PYDL_INLINE V operator()(int j, int64_t number) const {
          return keep(Mask<T>(place[j] == L(static_cast<LaneInt<T>>(number))), g[j]);
        }
      } value;
      for (int j = 0; j < decltype(vectors)::value; ++j) {
        value.g[j] = load_some<V>(g + at + j * V::size, lanes);
        value.place[j] = P::load(places + at + j * V::size, lanes);
      }
      return value;
    };
    const int64_t row = args.channels * static_cast<int64_t>(sizeof(T));
    if (worth_streaming(d_x, row, args.batch * args.in[0] * args.in[1] * args.in[2] * row))
      write_windows<true>(args, d_x, exec, start);
    else
      write_windows<false>(args, d_x, exec, start);
    return;
  }
  each_row_of_image(
      args, args.in, args.in[2] * 2, exec, [&](int64_t n, int64_t d, int64_t h, int64_t first, int64_t last) {
        const T* g = static_cast<const T*>(args.y) + n * args.out[0] * plane;
        const I* places = static_cast<const I*>(args.ws_place) + n * args.out[0] * plane;
        T* dst = d_x + ((n * args.in[0] + d) * args.in[1] + h) * args.in[2] * channels;
        for (int64_t w = 0; w < args.in[2]; ++w) {
          each_panel<T>(first, last, [&](int64_t c, auto vectors, int lanes) {
            constexpr int k = decltype(vectors)::value;
            V sum[k];
            for (int64_t od = args.cover_begin[0][d]; od < args.cover_end[0][d]; ++od) {
              const int64_t kd = place_in(d, args.begin[0][od], args.step[0]);
              if (kd < 0) continue;
              for (int64_t oh = args.cover_begin[1][h]; oh < args.cover_end[1][h]; ++oh) {
                const int64_t kh = place_in(h, args.begin[1][oh], args.step[1]);
                if (kh < 0) continue;
                for (int64_t ow = args.cover_begin[2][w]; ow < args.cover_end[2][w]; ++ow) {
                  const int64_t kw = place_in(w, args.begin[2][ow], args.step[2]);
                  if (kw < 0) continue;
                  const L number(static_cast<LaneInt<T>>((kd * args.window[1] + kh) * args.window[2] + kw));
                  const int64_t at = od * plane + oh * width + ow * channels + c;
                  for (int j = 0; j < k; ++j) {
                    const auto here = Mask<T>(P::load(places + at + j * V::size, lanes) == number);
                    sum[j] += keep(here, load_some<V>(g + at + j * V::size, lanes));
                  }
                }
              }
            }
            for (int j = 0; j < k; ++j) store_some(sum[j], dst + w * channels + c + j * V::size, lanes);
          });
        }
      });
}

template <class I>
void max_pool_indices_typed(const PoolArgs& args, Exec& exec) {
  const I* places = static_cast<const I*>(args.ws_place);
  const int64_t image = args.window[1] * args.window[2];
  each_row_of_image(args, args.out, args.out[2] * 4, exec,
                    [&](int64_t n, int64_t od, int64_t oh, int64_t first, int64_t last) {
                      const int64_t row = ((n * args.out[0] + od) * args.out[1] + oh) * args.out[2];
                      for (int64_t ow = 0; ow < args.out[2]; ++ow) {
                        for (int64_t c = first; c < last; ++c) {
                          const int64_t at = (row + ow) * args.channels + c, place = places[at];
                          const int64_t d = args.begin[0][od] + place / image * args.step[0];
                          const int64_t h = args.begin[1][oh] + place % image / args.window[2] * args.step[1];
                          const int64_t w = args.begin[2][ow] + place % args.window[2] * args.step[2];
                          args.index[at] = (d * args.in[1] + h) * args.in[2] + w;
                        }
                      }
                    });
}

inline double divisor_of(const PoolArgs& args, int64_t od, int64_t oh, int64_t ow) {
  if (args.divisor_override != 0.0) return args.divisor_override;
  return static_cast<double>(args.divisor[0][od] * args.divisor[1][oh] * args.divisor[2][ow]);
}

template <class T>
void avg_pool_typed(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t channels = args.channels, width = args.in[2] * channels, plane = args.in[1] * width;
  T* y = const_cast<T*>(static_cast<const T*>(args.y));
  each_row_of_image(args, args.out, args.out[2] * window_of(args), exec,
                    [&](int64_t n, int64_t od, int64_t oh, int64_t first, int64_t last) {
                      const T* image = static_cast<const T*>(args.x) + n * args.in[0] * plane;
                      T* dst = y + ((n * args.out[0] + od) * args.out[1] + oh) * args.out[2] * channels;
                      for (int64_t ow = 0; ow < args.out[2]; ++ow) {
                        const int64_t w_begin = args.begin[2][ow], w_end = args.end[2][ow];
                        const V divisor(divisor_of(args, od, oh, ow));
                        each_panel<T>(first, last, [&](int64_t c, auto vectors, int lanes) {
                          constexpr int k = decltype(vectors)::value;
                          V total[k];
                          for (int64_t d = args.begin[0][od]; d < args.end[0][od]; ++d) {
                            for (int64_t h = args.begin[1][oh]; h < args.end[1][oh]; ++h) {
                              const T* src = image + d * plane + h * width + c;
                              for (int64_t w = w_begin; w < w_end;) {
                                const int64_t stop = w_end - w < kPoolBlock ? w_end : w + kPoolBlock;
                                V sum[k];
                                for (; w < stop; ++w)
                                  for (int j = 0; j < k; ++j)
                                    sum[j] += load_some<V>(src + w * channels + j * V::size, lanes);
                                for (int j = 0; j < k; ++j) total[j] += sum[j];
                              }
                            }
                          }
                          for (int j = 0; j < k; ++j)
                            store_some(total[j] / divisor, dst + ow * channels + c + j * V::size, lanes);
                        });
                      }
                    });
}

template <class T>
void avg_pool_backward_typed(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t channels = args.channels, width = args.out[2] * channels, plane = args.out[1] * width;
  T* d_x = const_cast<T*>(static_cast<const T*>(args.x));
  if (windows_apart(args)) {
    const T* g = static_cast<const T*>(args.y);
    const auto start = [&](int64_t at, auto vectors, int lanes, int64_t od, int64_t oh, int64_t ow) {
      struct Value {
        V g[decltype(vectors)::value];
        PYDL_INLINE V operator()(int j, int64_t) const { return g[j]; }
      } value;
      const V share(1.0 / divisor_of(args, od, oh, ow));
      for (int j = 0; j < decltype(vectors)::value; ++j) value.g[j] = load_some<V>(g + at + j * V::size, lanes) * share;
      return value;
    };
    const int64_t row = args.channels * static_cast<int64_t>(sizeof(T));
    if (worth_streaming(d_x, row, args.batch * args.in[0] * args.in[1] * args.in[2] * row))
      write_windows<true>(args, d_x, exec, start);
    else
      write_windows<false>(args, d_x, exec, start);
    return;
  }
  each_row_of_image(args, args.in, args.in[2] * 2, exec,
                    [&](int64_t n, int64_t d, int64_t h, int64_t first, int64_t last) {
                      const T* g = static_cast<const T*>(args.y) + n * args.out[0] * plane;
                      T* dst = d_x + ((n * args.in[0] + d) * args.in[1] + h) * args.in[2] * channels;
                      for (int64_t w = 0; w < args.in[2]; ++w) {
                        each_panel<T>(first, last, [&](int64_t c, auto vectors, int lanes) {
                          constexpr int k = decltype(vectors)::value;
                          V sum[k];
                          for (int64_t od = args.cover_begin[0][d]; od < args.cover_end[0][d]; ++od) {
                            for (int64_t oh = args.cover_begin[1][h]; oh < args.cover_end[1][h]; ++oh) {
                              for (int64_t ow = args.cover_begin[2][w]; ow < args.cover_end[2][w]; ++ow) {
                                const V share(1.0 / divisor_of(args, od, oh, ow));
                                const int64_t at = od * plane + oh * width + ow * channels + c;
                                for (int j = 0; j < k; ++j)
                                  sum[j] = fma(load_some<V>(g + at + j * V::size, lanes), share, sum[j]);
                              }
                            }
                          }
                          for (int j = 0; j < k; ++j) store_some(sum[j], dst + w * channels + c + j * V::size, lanes);
                        });
                      }
                    });
}

// Images of one channel, which are planes. Of float64, the gradient of the maximum alone is worth the code.
inline bool in_planes(const PoolArgs& args) { return args.channels == 1 && args.dtype == DType::float32; }

void max_pool_kernel(const PoolArgs& args, Exec& exec) noexcept {
  if (in_planes(args) && max_pool_planes<float>(args, exec)) return;
  const bool small = window_of(args) <= kPlaceTable;
  if (args.dtype == DType::float64)
    small ? max_pool_typed<double, uint8_t>(args, exec) : max_pool_typed<double, int32_t>(args, exec);
  else
    small ? max_pool_typed<float, uint8_t>(args, exec) : max_pool_typed<float, int32_t>(args, exec);
}
template <class T>
void max_pool_backward(const PoolArgs& args, Exec& exec) {
  if (args.channels == 1) return max_pool_planes_backward<T>(args, exec);
  window_of(args) <= kPlaceTable ? max_pool_backward_typed<T, uint8_t>(args, exec)
                                 : max_pool_backward_typed<T, int32_t>(args, exec);
}
void max_pool_backward_kernel(const PoolArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? max_pool_backward<double>(args, exec) : max_pool_backward<float>(args, exec);
}
void max_pool_indices_kernel(const PoolArgs& args, Exec& exec) noexcept {
  window_of(args) <= kPlaceTable ? max_pool_indices_typed<uint8_t>(args, exec)
                                 : max_pool_indices_typed<int32_t>(args, exec);
}
void avg_pool_kernel(const PoolArgs& args, Exec& exec) noexcept {
  if (in_planes(args)) return avg_pool_planes<float>(args, exec);
  args.dtype == DType::float64 ? avg_pool_typed<double>(args, exec) : avg_pool_typed<float>(args, exec);
}
void avg_pool_backward_kernel(const PoolArgs& args, Exec& exec) noexcept {
  if (in_planes(args) && avg_pool_planes_backward<float>(args, exec)) return;
  args.dtype == DType::float64 ? avg_pool_backward_typed<double>(args, exec)
                               : avg_pool_backward_typed<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(pooling) {
  table.max_pool = pydl::max_pool_kernel;
  table.max_pool_backward = pydl::max_pool_backward_kernel;
  table.max_pool_indices = pydl::max_pool_indices_kernel;
  table.avg_pool = pydl::avg_pool_kernel;
  table.avg_pool_backward = pydl::avg_pool_backward_kernel;
}
