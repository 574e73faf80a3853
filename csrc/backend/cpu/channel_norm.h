// What normalizations per channel are made of: moments, sums for the gradient, and the two maps that follow from them,
// for memory in rows of channels (channels last) and in planes (one channel's run). Sums are float blocks, joined in
// float64; callers split the work.
#pragma once
#include "backend/cpu/moments.h"
#include "backend/cpu/stream.h"

namespace pydl {
namespace {

constexpr int64_t kRowsBlock = 4096;    // elements of a block of rows that stays in cache for two passes
constexpr int64_t kColumnBlock = 1024;  // columns that a map takes at a time
constexpr int64_t kRowsInBlock = 128;   // rows that are added up in T, at most
constexpr int kPanel = 4;               // vectors of channels side by side

// The map x -> scale * (x - mean) + shift, one each for every channel of a row.
template <class T>
struct ChannelMap {
  const T* mean;
  const T* scale;
  const T* shift;
};
// The gradient g -> scale * g + slope * (x - mean) + constant; slope is null where it and constant are 0.
template <class T>
struct ChannelGradient {
  const T* scale;
  const T* slope;
  const T* constant;
};

inline int64_t rows_in_block(int64_t width) {
  const int64_t rows = kRowsBlock / width;
  return rows < 64 ? 64 : rows > kRowsInBlock ? kRowsInBlock : rows;
}

// Calls body(column, count of vectors as a constant, lanes of the last) over the width, four vectors at a time.
template <class T, class F>
PYDL_INLINE void each_panel(int64_t width, F body) {
  constexpr int size = Vec<T>::size;
  int64_t c = 0;
  for (; c + kPanel * size <= width; c += kPanel * size) body(c, std::integral_constant<int, kPanel>(), size);
  for (; c < width; c += size) {
    const int64_t left = width - c;
    body(c, std::integral_constant<int, 1>(), left < size ? static_cast<int>(left) : size);
  }
}

// body(row, first column, columns): all rows of a block of columns, whose coefficients then stay in cache.
template <class F>
PYDL_INLINE void each_block_of_columns(int64_t rows, int64_t width, F body) {
  for (int64_t first = 0; first < width; first += kColumnBlock) {
    const int64_t columns = width - first < kColumnBlock ? width - first : kColumnBlock;
    for (int64_t r = 0; r < rows; ++r) body(r, first, columns);
  }
}

// Mean and sum of squared deviations of each column of x (rows, width), rows one after the other.
template <class T>
void rows_moments(const T* x, int64_t rows, int64_t width, int64_t pitch, double* mean, double* m2) {
  using V = Vec<T>;
  const int64_t block = rows_in_block(width);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = rows - first < block ? rows - first : block;
    const double n = static_cast<double>(count), before = static_cast<double>(first), total = before + n;
    const double weight = n / total, cross = before * n / total;
    each_panel<T>(width, [&](int64_t c, auto vectors, int lanes) {
      constexpr int k = decltype(vectors)::value;
      const T* src = x + first * pitch + c;
      V sum[k], square[k], center[k];
      for (int64_t r = 0; r < count; ++r)
        for (int j = 0; j < k; ++j) sum[j] += load_some<V>(src + r * pitch + j * V::size, lanes);
      for (int j = 0; j < k; ++j) {
        center[j] = sum[j] / V(n);
        sum[j] = V();
      }
      for (int64_t r = 0; r < count; ++r)
        for (int j = 0; j < k; ++j) {
          const V d = load_some<V>(src + r * pitch + j * V::size, lanes) - center[j];
          sum[j] += d;
          square[j] = fma(d, d, square[j]);
        }
      T centers[k * V::size], offs[k * V::size], squares[k * V::size];
      for (int j = 0; j < k; ++j) {
        center[j].store(centers + j * V::size);
        sum[j].store(offs + j * V::size);
        square[j].store(squares + j * V::size);
      }
      const int64_t columns = (k - 1) * V::size + lanes;
      for (int64_t i = 0; i < columns; ++i) {
        const double off = static_cast<double>(offs[i]);
        const double block_mean = static_cast<double>(centers[i]) + off / n;
        const double block_m2 = static_cast<double>(squares[i]) - off * off / n;
        if (first == 0) {
          mean[c + i] = block_mean;
          m2[c + i] = block_m2;
        } else {
          const double delta = block_mean - mean[c + i];
          mean[c + i] += delta * weight;
          m2[c + i] += block_m2 + delta * delta * cross;
        }
      }
    });
  }
}

template <class T, bool relu, bool past_cache>
void rows_map(const T* x, T* y, int64_t rows, int64_t width, int64_t pitch, const ChannelMap<T>& map) {
  using V = Vec<T>;
  each_block_of_columns(rows, width, [&](int64_t r, int64_t first, int64_t columns) {
    each_panel<T>(columns, [&](int64_t c, auto vectors, int lanes) {
      c += first;
      for (int j = 0; j < decltype(vectors)::value; ++j, c += V::size) {
        const V v = fma(load_some<V>(x + r * pitch + c, lanes) - load_some<V>(map.mean + c, lanes),
                        load_some<V>(map.scale + c, lanes), load_some<V>(map.shift + c, lanes));
        put<past_cache>(relu ? max_or_b(V(0.0), v) : v, y + r * pitch + c, lanes);
      }
    });
  });
}

// g where the map's value is positive, else 0: the gradient behind a relu.
template <class V>
PYDL_INLINE V through_relu(V g, V d, V scale, V shift) {
  return select(fma(d, scale, shift) > V(0.0), g, V(0.0));
}

// Adds sum(g) and sum(g * (x - mean)) of each column to sum_g and sum_gx.
template <class T, bool relu>
void rows_sums(const T* x, const T* g, int64_t rows, int64_t width, int64_t pitch, const ChannelMap<T>& map,
               double* sum_g, double* sum_gx) {
  using V = Vec<T>;
  const int64_t block = rows_in_block(width);
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t count = rows - first < block ? rows - first : block;
    each_panel<T>(width, [&](int64_t c, auto vectors, int lanes) {
      constexpr int k = decltype(vectors)::value < 2 ? 1 : 2;
      for (int part = 0; part < decltype(vectors)::value; part += k, c += k * V::size) {
        V plain[k], product[k], mean[k], scale[k], shift[k];
        for (int j = 0; j < k; ++j) {
          mean[j] = load_some<V>(map.mean + c + j * V::size, lanes);
          if constexpr (relu) {
            scale[j] = load_some<V>(map.scale + c + j * V::size, lanes);
            shift[j] = load_some<V>(map.shift + c + j * V::size, lanes);
          }
        }
        for (int64_t r = 0; r < count; ++r)
          for (int j = 0; j < k; ++j) {
            const int64_t at = (first + r) * pitch + c + j * V::size;
            const V d = load_some<V>(x + at, lanes) - mean[j];
            V v = load_some<V>(g + at, lanes);
            if constexpr (relu) v = through_relu(v, d, scale[j], shift[j]);
            plain[j] += v;
            product[j] = fma(v, d, product[j]);
          }
        T plains[k * V::size], products[k * V::size];
        for (int j = 0; j < k; ++j) {
          plain[j].store(plains + j * V::size);
          product[j].store(products + j * V::size);
        }
        const int64_t columns = (k - 1) * V::size + lanes;
        for (int64_t i = 0; i < columns; ++i) {
          sum_g[c + i] += static_cast<double>(plains[i]);
          sum_gx[c + i] += static_cast<double>(products[i]);
        }
      }
    });
  }
}

template <class T, bool relu, bool past_cache>
void rows_gradient(const T* x, const T* g, T* d_x, int64_t rows, int64_t width, int64_t pitch, const ChannelMap<T>& map,
                   const ChannelGradient<T>& gradient) {
  using V = Vec<T>;
  const bool plain = gradient.slope == nullptr;
  each_block_of_columns(rows, width, [&](int64_t r, int64_t first, int64_t columns) {
    each_panel<T>(columns, [&](int64_t c, auto vectors, int lanes) {
      c += first;
      for (int j = 0; j < decltype(vectors)::value; ++j, c += V::size) {
        const int64_t at = r * pitch + c;
        V v = load_some<V>(g + at, lanes), d;
        if (relu || !plain) d = load_some<V>(x + at, lanes) - load_some<V>(map.mean + c, lanes);
        if (relu) v = through_relu(v, d, load_some<V>(map.scale + c, lanes), load_some<V>(map.shift + c, lanes));
        const V rest =
            plain ? V() : fma(load_some<V>(gradient.slope + c, lanes), d, load_some<V>(gradient.constant + c, lanes));
        put<past_cache>(fma(load_some<V>(gradient.scale + c, lanes), v, rest), d_x + at, lanes);
      }
    });
  });
}

// row_map, or past the cache, where dst is aligned to vectors. Unless it is 0, what lies so many elements ahead of
// those that are read is asked for meanwhile: writing leaves the way from memory free.
template <bool past_cache, class T, class F>
PYDL_INLINE void map_run(int64_t n, T* dst, int64_t ahead, F value) {
  const auto some = [&](int64_t i, int lanes, int64_t asked) PYDL_LAMBDA {
    const auto load = [i, lanes, asked](const T* p) PYDL_LAMBDA {
      if (asked != 0) __builtin_prefetch(p + i + asked, 0, 2);
      return load_some<Vec<T>>(p + i, lanes);
    };
    put<past_cache>(value(load), dst + i, lanes);
  };
  if (ahead != 0) return each_vector<T>(n, [&](int64_t i, int lanes) PYDL_LAMBDA { some(i, lanes, ahead); });
  each_vector<T>(n, [&](int64_t i, int lanes) PYDL_LAMBDA { some(i, lanes, 0); });
}

// The same of one channel's run of n elements.
template <class T, bool relu, bool past_cache>
void plane_map(const T* x, T* y, int64_t n, int64_t ahead, T mean0, T scale0, T shift0) {
  using V = Vec<T>;
  const V mean(mean0), scale(scale0), shift(shift0);
  map_run<past_cache>(n, y, ahead, [&](auto load) {
    const V v = fma(load(x) - mean, scale, shift);
    return relu ? max_or_b(V(0.0), v) : v;
  });
}

template <class T, bool relu>
void plane_sums(const T* x, const T* g, int64_t n, T mean0, T scale0, T shift0, double* sum_g, double* sum_gx) {
  using V = Vec<T>;
  const V mean(mean0), scale(scale0), shift(shift0);
  for (int64_t i = 0; i < n;) {
    const int64_t end = n - i < kSumBlock ? n : i + kSumBlock;
    V plain[2], product[2];
    const auto step = [&](int j, int64_t at, int lanes) __attribute__((always_inline)) {
      const V d = load_some<V>(x + at, lanes) - mean;
      V v = load_some<V>(g + at, lanes);
      if constexpr (relu) v = through_relu(v, d, scale, shift);
      plain[j] += v;
      product[j] = fma(v, d, product[j]);
    };
    for (; i + 2 * V::size <= end; i += 2 * V::size) {
      step(0, i, V::size);
      step(1, i + V::size, V::size);
    }
    for (; i < end; i += V::size) step(0, i, end - i < V::size ? static_cast<int>(end - i) : V::size);
    i = end;
    *sum_g += static_cast<double>(reduce_add(plain[0] + plain[1]));
    *sum_gx += static_cast<double>(reduce_add(product[0] + product[1]));
  }
}

template <class T, bool relu, bool past_cache>
void plane_gradient(const T* x, const T* g, T* d_x, int64_t n, int64_t ahead, T mean0, T scale0, T shift0, T outer0,
                    T slope0, T constant0, bool plain) {
  using V = Vec<T>;
  const V mean(mean0), scale(scale0), shift(shift0), outer(outer0), slope(slope0), constant(constant0);
  if (plain && !relu) return map_run<past_cache>(n, d_x, ahead, [&](auto load) { return outer * load(g); });
  map_run<past_cache>(n, d_x, ahead, [&](auto load) {
    const V d = load(x) - mean;
    V v = load(g);
    if constexpr (relu) v = through_relu(v, d, scale, shift);
    return plain ? outer * v : fma(outer, v, fma(slope, d, constant));
  });
}

}  // namespace
}  // namespace pydl
