// Maximum and average over windows of channels-last images, forward and backward: a thread for each element that is
// written, which gathers what belongs to it, so nothing is added to memory. Neighbouring threads are neighbouring
// channels. Bound by memory; windows that overlap are found in cache.
#include "backend/cuda/tables.h"

namespace pydl {
namespace {

// Element `place` of channels-last images of this size.
struct Pixel {
  int64_t n, d, h, w, c;
  template <class Index>
  __device__ static Pixel of(Index place, const int64_t (&size)[3], int64_t channels) {
    const Index width = static_cast<Index>(size[2]), height = static_cast<Index>(size[1]);
    const Index c = place % static_cast<Index>(channels);
    place /= static_cast<Index>(channels);
    const Index w = place % width;
    place /= width;
    const Index h = place % height;
    place /= height;
    const Index d = place % static_cast<Index>(size[0]), n = place / static_cast<Index>(size[0]);
    return {static_cast<int64_t>(n), static_cast<int64_t>(d), static_cast<int64_t>(h), static_cast<int64_t>(w),
            static_cast<int64_t>(c)};
  }
};
__device__ inline int64_t place_of(const int64_t (&size)[3], int64_t channels, int64_t n, int64_t d, int64_t h,
                                   int64_t w, int64_t c) {
  return (((n * size[0] + d) * size[1] + h) * size[2] + w) * channels + c;
}
inline int64_t count_of(const PoolArgs& args, const int64_t (&size)[3]) {
  return args.batch * size[0] * size[1] * size[2] * args.channels;
}
inline int64_t window_of(const PoolArgs& args) { return args.window[0] * args.window[1] * args.window[2]; }

// Which place of its window p is, or -1 where the window's steps miss it.
__device__ inline int64_t place_in(int64_t p, int64_t begin, int64_t step) {
  const int64_t steps = (p - begin) / step;
  return p >= begin && steps * step == p - begin ? steps : -1;
}
__device__ inline double divisor_of(const PoolArgs& args, int64_t od, int64_t oh, int64_t ow) {
  if (args.divisor_override != 0.0) return args.divisor_override;
  return static_cast<double>(args.divisor[0][od] * args.divisor[1][oh] * args.divisor[2][ow]);
}

template <class T, class I>
struct MaxPool {
  PoolArgs args;
  template <class Index>
  __device__ void at(Index place) const {
    const Pixel o = Pixel::of(place, args.out, args.channels);
    const T* x = static_cast<const T*>(args.x);
    T best = -static_cast<T>(__builtin_inf());
    int64_t number = 0, from_d = 0;
    for (int64_t d = args.begin[0][o.d]; d < args.end[0][o.d]; d += args.step[0], ++from_d) {
      int64_t from_h = from_d * args.window[1];
      for (int64_t h = args.begin[1][o.h]; h < args.end[1][o.h]; h += args.step[1], ++from_h) {
        int64_t at = from_h * args.window[2];
        for (int64_t w = args.begin[2][o.w]; w < args.end[2][o.w]; w += args.step[2], ++at) {
          const T v = x[place_of(args.in, args.channels, o.n, d, h, w, o.c)];
          if (v > best || v != v) {  // the first of equal ones; the last NaN, as PyTorch's
            best = v;
            number = at;
          }
        }
      }
    }
    const_cast<T*>(static_cast<const T*>(args.y))[place] = best;
    if (args.ws_place != nullptr) static_cast<I*>(args.ws_place)[place] = static_cast<I>(number);
  }
};

template <class T, class I>
struct MaxPoolGradient {
  PoolArgs args;
  template <class Index>
  __device__ void at(Index place) const {
    const Pixel p = Pixel::of(place, args.in, args.channels);
    T sum = T(0);
    for (int64_t od = args.cover_begin[0][p.d]; od < args.cover_end[0][p.d]; ++od) {
      const int64_t kd = place_in(p.d, args.begin[0][od], args.step[0]);
      if (kd < 0) continue;
      for (int64_t oh = args.cover_begin[1][p.h]; oh < args.cover_end[1][p.h]; ++oh) {
        const int64_t kh = place_in(p.h, args.begin[1][oh], args.step[1]);
        if (kh < 0) continue;
        for (int64_t ow = args.cover_begin[2][p.w]; ow < args.cover_end[2][p.w]; ++ow) {
          const int64_t kw = place_in(p.w, args.begin[2][ow], args.step[2]);
          if (kw < 0) continue;
          const int64_t number = (kd * args.window[1] + kh) * args.window[2] + kw;
          const int64_t at = place_of(args.out, args.channels, p.n, od, oh, ow, p.c);
          if (static_cast<int64_t>(static_cast<const I*>(args.ws_place)[at]) == number)
            sum += static_cast<const T*>(args.y)[at];
        }
      }
    }
    const_cast<T*>(static_cast<const T*>(args.x))[place] = sum;
  }
};

template <class I>
struct MaxPoolIndices {
  PoolArgs args;
  template <class Index>
  __device__ void at(Index place) const {
    const Pixel o = Pixel::of(place, args.out, args.channels);
    const int64_t number = static_cast<int64_t>(static_cast<const I*>(args.ws_place)[place]);
    const int64_t image = args.window[1] * args.window[2];
    const int64_t d = args.begin[0][o.d] + number / image * args.step[0];
    const int64_t h = args.begin[1][o.h] + number % image / args.window[2] * args.step[1];
    const int64_t w = args.begin[2][o.w] + number % args.window[2] * args.step[2];
    args.index[place] = (d * args.in[1] + h) * args.in[2] + w;
  }
};

template <class T>
struct AvgPool {
  PoolArgs args;
  template <class Index>
  __device__ void at(Index place) const {
    const Pixel o = Pixel::of(place, args.out, args.channels);
    const T* x = static_cast<const T*>(args.x);
    T total = T(0);
    for (int64_t d = args.begin[0][o.d]; d < args.end[0][o.d]; ++d) {
      for (int64_t h = args.begin[1][o.h]; h < args.end[1][o.h]; ++h) {
        T sum = T(0);  // of a row, so that errors of large windows do not add up
        for (int64_t w = args.begin[2][o.w]; w < args.end[2][o.w]; ++w)
          sum += x[place_of(args.in, args.channels, o.n, d, h, w, o.c)];
        total += sum;
      }
    }
    const_cast<T*>(static_cast<const T*>(args.y))[place] = total / static_cast<T>(divisor_of(args, o.d, o.h, o.w));
  }
};

template <class T>
struct AvgPoolGradient {
  PoolArgs args;
  template <class Index>
  __device__ void at(Index place) const {
    const Pixel p = Pixel::of(place, args.in, args.channels);
    T sum = T(0);
    for (int64_t od = args.cover_begin[0][p.d]; od < args.cover_end[0][p.d]; ++od)
      for (int64_t oh = args.cover_begin[1][p.h]; oh < args.cover_end[1][p.h]; ++oh)
        for (int64_t ow = args.cover_begin[2][p.w]; ow < args.cover_end[2][p.w]; ++ow)
          sum += static_cast<const T*>(args.y)[place_of(args.out, args.channels, p.n, od, oh, ow, p.c)] *
                 static_cast<T>(1.0 / divisor_of(args, od, oh, ow));
    const_cast<T*>(static_cast<const T*>(args.x))[place] = sum;
  }
};

template <class Index, class Body>
__global__ void __launch_bounds__(kBlock) each_element(Body body, int64_t count) {
  PYDL_CUDA_LOOP(i, count) body.at(static_cast<Index>(i));
}

// make(the arguments, their tables on the device) gives the body that is run for each of `count` elements.
template <class Make>
void run(const PoolArgs& host, int64_t count, Exec& exec, Make make) {
  if (count <= 0) return;
  PoolArgs args = host;
  Tables tables(exec);
  for (int a = 0; a < 3; ++a) {
    tables.add(&args.begin[a], args.out[a]);
    tables.add(&args.end[a], args.out[a]);
    tables.add(&args.divisor[a], args.out[a]);
    if (args.cover_begin[a] == nullptr) continue;
    tables.add(&args.cover_begin[a], args.in[a]);
    tables.add(&args.cover_end[a], args.in[a]);
  }
  if (!tables.upload()) return;
  const auto body = make(args);
  if (count_of(args, args.in) < int64_t{1} << 31 && count < int64_t{1} << 31)
    PYDL_CUDA_LAUNCH((each_element<uint32_t, decltype(make(args))>), grid_for(count), kBlock, 0, exec, body, count);
  else
    PYDL_CUDA_LAUNCH((each_element<int64_t, decltype(make(args))>), grid_for(count), kBlock, 0, exec, body, count);
}

// The type of places: uint8 where a window has at most 256.
template <class F>
void dispatch_places(const PoolArgs& args, F f) {
  window_of(args) <= 256 ? f(uint8_t()) : f(int32_t());
}

void max_pool_kernel(const PoolArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    dispatch_places(args, [&](auto place) {
      using Body = MaxPool<decltype(zero), decltype(place)>;
      run(args, count_of(args, args.out), exec, [](const PoolArgs& a) { return Body{a}; });
    });
  });
}
void max_pool_backward_kernel(const PoolArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    dispatch_places(args, [&](auto place) {
      using Body = MaxPoolGradient<decltype(zero), decltype(place)>;
      run(args, count_of(args, args.in), exec, [](const PoolArgs& a) { return Body{a}; });
    });
  });
}
void max_pool_indices_kernel(const PoolArgs& args, Exec& exec) noexcept {
  dispatch_places(args, [&](auto place) {
    using Body = MaxPoolIndices<decltype(place)>;
    run(args, count_of(args, args.out), exec, [](const PoolArgs& a) { return Body{a}; });
  });
}
void avg_pool_kernel(const PoolArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using Body = AvgPool<decltype(zero)>;
    run(args, count_of(args, args.out), exec, [](const PoolArgs& a) { return Body{a}; });
  });
}
void avg_pool_backward_kernel(const PoolArgs& args, Exec& exec) noexcept {
  dispatch_floating(args.dtype, [&](auto zero) {
    using Body = AvgPoolGradient<decltype(zero)>;
    run(args, count_of(args, args.in), exec, [](const PoolArgs& a) { return Body{a}; });
  });
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
