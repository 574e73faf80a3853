// Normalization within a sample: of rows (layer and RMS norm) and of groups of channels (group and instance norm), with
// fused gradients. Gradients of parameters are made in shares of fixed size, joined in order.
#include "backend/cpu/channel_norm.h"

namespace pydl {
namespace {

constexpr int64_t kShareElements = 16384;  // of a share of the rows, at least
constexpr int64_t kMostShares = 32;

template <class T>
T element(const void* p, int64_t i, T otherwise) {
  return p != nullptr ? static_cast<const T*>(p)[i] : otherwise;
}

double square_mean_to_invstd(double mean_square, double eps) { return 1.0 / __builtin_sqrt(mean_square + eps); }

template <class T>
Moments moments_in_pieces(const T* x, int64_t n) {
  Moments m{0.0, 0.0, 0.0};
  for (int64_t i = 0; i < n; i += kMomentPiece) m.join(moments_of(x + i, n - i < kMomentPiece ? n - i : kMomentPiece));
  return m;
}

double variance(const Moments& m) { return (m.m2 > 0.0 || m.m2 != m.m2 ? m.m2 : 0.0) / m.count; }

// --- rows

// out[i] = value(load) with load(p, otherwise) reading p[i], or a constant where p is null.
template <class T, class F>
PYDL_INLINE void map_with(int64_t n, T* out, F value) {
  row_map(n, out, [&](auto load) {
    return value([&](const T* p, double otherwise) { return p != nullptr ? load(p) : Vec<T>(otherwise); });
  });
}

template <class T>
void layer_norm_typed(const LayerNormArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t n = args.n;
  const T* weight = static_cast<const T*>(args.weight);
  const T* bias = static_cast<const T*>(args.bias);
  parallel_for(exec, args.rows, 1 + kRowGrain / (n + 8), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* x = static_cast<const T*>(args.x) + row * n;
      T* y = static_cast<T*>(args.y) + row * n;
      double center = 0.0, spread;
      if (args.rms) {
        spread = row_sum<T>(n,
                            [&](int64_t, auto load) {
                              const V v = load(x);
                              return v * v;
                            }) /
                 static_cast<double>(n);
      } else {
        const Moments m = moments_in_pieces(x, n);
        center = m.mean;
        spread = variance(m);
      }
      const double inverse = square_mean_to_invstd(spread, args.eps);
      static_cast<T*>(args.ws_mean)[row] = static_cast<T>(center);
      static_cast<T*>(args.ws_invstd)[row] = static_cast<T>(inverse);
      const V mean(center), invstd(inverse);
      if (weight == nullptr && bias == nullptr)
        row_map(n, y, [&](auto load) { return (load(x) - mean) * invstd; });
      else if (weight != nullptr && bias != nullptr)
        row_map(n, y, [&](auto load) { return fma((load(x) - mean) * invstd, load(weight), load(bias)); });
      else
        map_with(n, y,
                 [&](auto load) { return fma((load(x, 0.0) - mean) * invstd, load(weight, 1.0), load(bias, 0.0)); });
    }
  });
}

// sum_w[i] += sum over the rows of g * (x - mean) * invstd, sum_b[i] += sum of g.
template <class T>
void parameter_sums(const T* x, const T* g, const T* mean, const T* invstd, int64_t rows, int64_t n, double* sum_w,
                    double* sum_b) {
  using V = Vec<T>;
  each_panel<T>(n, [&](int64_t c, auto vectors, int lanes) {
    constexpr int k = decltype(vectors)::value;
    V plain[k], product[k];
    for (int64_t r = 0; r < rows; ++r) {
      const V center(mean[r]), scale(invstd[r]);
      for (int j = 0; j < k; ++j) {
        const int64_t at = r * n + c + j * V::size;
        const V v = load_some<V>(g + at, lanes);
        plain[j] += v;
        product[j] = fma(v, (load_some<V>(x + at, lanes) - center) * scale, product[j]);
      }
    }
    T plains[k * V::size], products[k * V::size];
    for (int j = 0; j < k; ++j) {
      plain[j].store(plains + j * V::size);
      product[j].store(products + j * V::size);
    }
    const int64_t columns = (k - 1) * V::size + lanes;
    for (int64_t i = 0; i < columns; ++i) {
      sum_b[c + i] += static_cast<double>(plains[i]);
      sum_w[c + i] += static_cast<double>(products[i]);
    }
  });
}

// d_x of a row: invstd * (h - mean(h) - normal * mean(h * normal)), h = g * weight, normal = (x - mean) * invstd.
template <class T>
void row_gradient(const LayerNormArgs& f, const T* x, const T* g, T* d_x, T mean0, T invstd0) {
  using V = Vec<T>;
  const int64_t n = f.n;
  const T* weight = static_cast<const T*>(f.weight);
  const V mean(mean0), invstd(invstd0);
  double sum_h = 0.0, sum_hx = 0.0;
  for (int64_t i = 0; i < n;) {
    const int64_t end = n - i < kSumBlock ? n : i + kSumBlock;
    V plain[2], product[2];
    const auto step = [&](int j, int64_t at, int lanes) __attribute__((always_inline)) {
      V h = load_some<V>(g + at, lanes);
      if (weight != nullptr) h *= load_some<V>(weight + at, lanes);
      plain[j] += h;
      product[j] = fma(h, load_some<V>(x + at, lanes) - mean, product[j]);
    };
    for (; i + 2 * V::size <= end; i += 2 * V::size) {
      step(0, i, V::size);
      step(1, i + V::size, V::size);
    }
    for (; i < end; i += V::size) step(0, i, end - i < V::size ? static_cast<int>(end - i) : V::size);
    i = end;
    sum_h += static_cast<double>(reduce_add(plain[0] + plain[1]));
    sum_hx += static_cast<double>(reduce_add(product[0] + product[1]));
  }
  const double inverse = static_cast<double>(invstd0), count = static_cast<double>(n);
  const V slope(-inverse * inverse * inverse * sum_hx / count);
  const V constant(f.rms ? 0.0 : -inverse * sum_h / count);
  if (weight != nullptr)
    row_map(n, d_x,
            [&](auto load) { return fma(invstd * load(weight), load(g), fma(slope, load(x) - mean, constant)); });
  else
    row_map(n, d_x, [&](auto load) { return fma(invstd, load(g), fma(slope, load(x) - mean, constant)); });
}

template <class T>
void layer_norm_backward_typed(const LayerNormBackwardArgs& args, Exec& exec) {
  const LayerNormArgs& f = args.forward;
  const int64_t n = f.n, rows = f.rows;
  const T* x = static_cast<const T*>(f.x);
  const T* g = static_cast<const T*>(args.d_y);
  const T* mean = static_cast<const T*>(f.ws_mean);
  const T* invstd = static_cast<const T*>(f.ws_invstd);
  T* d_x = static_cast<T*>(args.d_x);
  const bool summing = args.d_weight != nullptr || args.d_bias != nullptr;
  const int64_t block = rows_in_block(n);
  int64_t share = kShareElements / n;
  if (share < (rows + kMostShares - 1) / kMostShares) share = (rows + kMostShares - 1) / kMostShares;
  share = (share + block - 1) / block * block;
  if (share < 16) share = 16;
  const int64_t shares = (rows + share - 1) / share;
  Scratch<double> partial(exec, summing ? shares * 2 * n : 0);
  parallel_for(exec, shares, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t last = (s + 1) * share < rows ? (s + 1) * share : rows;
      double* sum = partial + s * 2 * n;
      for (int64_t i = 0; summing && i < 2 * n; ++i) sum[i] = 0.0;
      for (int64_t first = s * share; first < last; first += block) {
        const int64_t stop = first + block < last ? first + block : last;
        for (int64_t r = first; d_x != nullptr && r < stop; ++r)
          row_gradient(f, x + r * n, g + r * n, d_x + r * n, mean[r], invstd[r]);
        if (summing)
          parameter_sums(x + first * n, g + first * n, mean + first, invstd + first, stop - first, n, sum, sum + n);
      }
    }
  });
  if (!summing) return;
  parallel_for(exec, n, 1 + kRowGrain / shares, [&](int64_t begin, int64_t end) {
    for (int64_t s = 1; s < shares; ++s) {
      for (int64_t i = begin; i < end; ++i) {
        partial[i] += partial[s * 2 * n + i];
        partial[n + i] += partial[s * 2 * n + n + i];
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[i] = static_cast<T>(partial[i]);
      if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[i] = static_cast<T>(partial[n + i]);
    }
  });
}

// --- groups of channels

template <class T>
struct GroupMemory {
  const GroupNormArgs& args;
  int64_t size, elements;  // channels of a group, elements of a sample's group
  explicit GroupMemory(const GroupNormArgs& a)
      : args(a), size(a.channels / a.groups), elements(a.channels / a.groups * a.inner) {}
  const T* mean() const { return static_cast<const T*>(args.ws_mean); }
  const T* invstd() const { return static_cast<const T*>(args.ws_invstd); }
  void save(int64_t group, const Moments& m) const {
    static_cast<T*>(args.ws_mean)[group] = static_cast<T>(m.mean);
    static_cast<T*>(args.ws_invstd)[group] = static_cast<T>(square_mean_to_invstd(variance(m), args.eps));
  }
  // body(task, sample, first row, rows): shares of each sample's rows, for memory (N, S, C).
  int64_t share() const {
    const int64_t rows = kShareElements / args.channels;
    const int64_t even = (args.inner + kMostShares - 1) / kMostShares;
    return rows > even ? (rows > 0 ? rows : 1) : even;
  }
  int64_t shares() const { return (args.inner + share() - 1) / share(); }
  template <class F>
  void each_share(Exec& exec, F body) const {
    const int64_t rows = share(), count = shares();
    parallel_for(exec, args.batch * count, 1 + kRowGrain / (rows * args.channels), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t first = task % count * rows;
        body(task, task / count, first, args.inner - first < rows ? args.inner - first : rows);
      }
    });
  }
};

// Of each sample's channels, from its groups' mean and invstd: (3, C) for the map of the rows.
template <class T>
void set_row_map(const GroupMemory<T>& memory, int64_t sample, T* out) {
  const GroupNormArgs& args = memory.args;
  for (int64_t c = 0; c < args.channels; ++c) {
    const int64_t group = sample * args.groups + c / memory.size;
    out[c] = memory.mean()[group];
    out[args.channels + c] = memory.invstd()[group] * element<T>(args.weight, c, 1);
    out[2 * args.channels + c] = element<T>(args.bias, c, 0);
  }
}

template <class T>
void group_norm_rows(const GroupNormArgs& args, Exec& exec) {
  const GroupMemory<T> memory(args);
  const int64_t channels = args.channels, shares = memory.shares();
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  Scratch<double> partial(exec, args.batch * shares * 2 * channels);
  memory.each_share(exec, [&](int64_t task, int64_t sample, int64_t first, int64_t rows) {
    double* mean = partial + task * 2 * channels;
    rows_moments(x + (sample * args.inner + first) * channels, rows, channels, channels, mean, mean + channels);
  });
  for (int64_t group = 0; group < args.batch * args.groups; ++group) {
    Moments m{0.0, 0.0, 0.0};
    const int64_t sample = group / args.groups, c0 = group % args.groups * memory.size;
    for (int64_t s = 0; s < shares; ++s) {
      const int64_t left = args.inner - s * memory.share();
      const double count = static_cast<double>(left < memory.share() ? left : memory.share());
      const double* mean = partial + (sample * shares + s) * 2 * channels + c0;
      double total = 0.0, spread = 0.0;
      for (int64_t c = 0; c < memory.size; ++c) total += mean[c];
      const double center = total / static_cast<double>(memory.size);
      for (int64_t c = 0; c < memory.size; ++c)
        spread += mean[channels + c] + count * (mean[c] - center) * (mean[c] - center);
      m.join({count * static_cast<double>(memory.size), center, spread});
    }
    memory.save(group, m);
  }
  Scratch<T> maps(exec, args.batch * 3 * channels);
  for (int64_t sample = 0; sample < args.batch; ++sample) set_row_map(memory, sample, maps + sample * 3 * channels);
  memory.each_share(exec, [&](int64_t, int64_t sample, int64_t first, int64_t rows) {
    const int64_t at = (sample * args.inner + first) * channels;
    const T* map = maps + sample * 3 * channels;
    rows_map<T, false, false>(x + at, y + at, rows, channels, channels, {map, map + channels, map + 2 * channels});
  });
}

// Where a channel is one element, the channels of a group are the vector: y = (x - mean) * invstd * weight + bias.
template <class T>
void map_of_ones(const GroupNormArgs& args, int64_t c0, int64_t size, T mean, T invstd, const T* x, T* y) {
  using V = Vec<T>;
  const T *weight = static_cast<const T*>(args.weight), *bias = static_cast<const T*>(args.bias);
  each_vector<T>(size, [&](int64_t k, int lanes) {
    V scale(invstd), shift;
    if (weight != nullptr) scale = scale * load_some<V>(weight + c0 + k, lanes);
    if (bias != nullptr) shift = load_some<V>(bias + c0 + k, lanes);
    store_some(fma(load_some<V>(x + k, lanes) - V(mean), scale, shift), y + k, lanes);
  });
}
// Its gradients: the sums of each channel, which are one term, and d_x.
template <class T>
void sums_of_ones(int64_t size, T mean, const T* x, const T* g, double* sum_g, double* sum_gx) {
  for (int64_t k = 0; k < size; ++k) {
    const double grad = static_cast<double>(g[k]);
    sum_g[k] = grad;
    sum_gx[k] = grad * (static_cast<double>(x[k]) - static_cast<double>(mean));
  }
}
template <class T>
void gradient_of_ones(const T* weight, int64_t size, T mean, T invstd, T slope, T constant, const T* x, const T* g,
                      T* d_x) {
  using V = Vec<T>;
  each_vector<T>(size, [&](int64_t k, int lanes) {
    V scale(invstd);
    if (weight != nullptr) scale = scale * load_some<V>(weight + k, lanes);
    const V rest = fma(load_some<V>(x + k, lanes) - V(mean), V(slope), V(constant));
    store_some(fma(load_some<V>(g + k, lanes), scale, rest), d_x + k, lanes);
  });
}

template <class T>
void group_norm_planes(const GroupNormArgs& args, Exec& exec) {
  const GroupMemory<T> memory(args);
  parallel_for(exec, args.batch * args.groups, 1 + kRowGrain / memory.elements, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const T* x = static_cast<const T*>(args.x) + group * memory.elements;
      T* y = static_cast<T*>(args.y) + group * memory.elements;
      memory.save(group, moments_in_pieces(x, memory.elements));
      const T mean = memory.mean()[group], invstd = memory.invstd()[group];
      if (args.inner == 1) {
        map_of_ones(args, group % args.groups * memory.size, memory.size, mean, invstd, x, y);
        continue;
      }
      for (int64_t k = 0; k < memory.size; ++k) {
        const int64_t c = group % args.groups * memory.size + k;
        plane_map<T, false, false>(x + k * args.inner, y + k * args.inner, args.inner, 0, mean,
                                   invstd * element<T>(args.weight, c, 1), element<T>(args.bias, c, 0));
      }
    }
  });
}

// From the sums of g and of g * (x - mean) of each channel of a group, the slope and constant of
//   d_x = invstd * weight * g + slope * (x - mean) + constant
template <class T>
void group_gradient(const GroupMemory<T>& memory, int64_t group, const double* sum_g, const double* sum_gx, T* slope,
                    T* constant) {
  const double invstd = static_cast<double>(memory.invstd()[group]), n = static_cast<double>(memory.elements);
  double h = 0.0, hx = 0.0;
  for (int64_t k = 0; k < memory.size; ++k) {
    const double w =
        static_cast<double>(element<T>(memory.args.weight, group % memory.args.groups * memory.size + k, 1));
    h += w * sum_g[k];
    hx += w * sum_gx[k];
  }
  *slope = static_cast<T>(-invstd * invstd * invstd * hx / n);
  *constant = static_cast<T>(-invstd * h / n);
}

// sums: (N, 2, C), the sums of g and of g * (x - mean) of each sample's channels.
template <class T>
void set_parameter_gradients(const GroupNormBackwardArgs& args, const GroupMemory<T>& memory, const double* sums,
                             Exec& exec) {
  const int64_t channels = args.forward.channels, groups = args.forward.groups;
  Scratch<double> total(exec, 2 * channels);
  for (int64_t i = 0; i < 2 * channels; ++i) total[i] = 0.0;
  for (int64_t sample = 0; sample < args.forward.batch; ++sample) {
    const double* sum = sums + sample * 2 * channels;
    for (int64_t c = 0; c < channels; ++c) total[c] += sum[c];
    for (int64_t group = 0; group < groups; ++group) {
      const double invstd = static_cast<double>(memory.invstd()[sample * groups + group]);
      for (int64_t c = channels + group * memory.size, left = memory.size; left > 0; --left, ++c)
        total[c] += sum[c] * invstd;
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[c] = static_cast<T>(total[channels + c]);
    if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[c] = static_cast<T>(total[c]);
  }
}

template <class T>
void group_norm_backward_rows(const GroupNormBackwardArgs& args, Exec& exec) {
  const GroupNormArgs& f = args.forward;
  const GroupMemory<T> memory(f);
  const int64_t channels = f.channels, shares = memory.shares();
  const T* x = static_cast<const T*>(f.x);
  const T* g = static_cast<const T*>(args.d_y);
  Scratch<T> maps(exec, f.batch * 5 * channels);  // those of set_row_map, then slope and constant
  Scratch<double> partial(exec, f.batch * shares * 2 * channels), sums(exec, f.batch * 2 * channels);
  for (int64_t sample = 0; sample < f.batch; ++sample) set_row_map(memory, sample, maps + sample * 5 * channels);
  memory.each_share(exec, [&](int64_t task, int64_t sample, int64_t first, int64_t rows) {
    const int64_t at = (sample * f.inner + first) * channels;
    double* sum = partial + task * 2 * channels;
    for (int64_t i = 0; i < 2 * channels; ++i) sum[i] = 0.0;
    const T* map = maps + sample * 5 * channels;
    rows_sums<T, false>(x + at, g + at, rows, channels, channels, {map, nullptr, nullptr}, sum, sum + channels);
  });
  for (int64_t sample = 0; sample < f.batch; ++sample) {
    double* sum = sums + sample * 2 * channels;
    for (int64_t i = 0; i < 2 * channels; ++i) sum[i] = partial[sample * shares * 2 * channels + i];
    for (int64_t s = 1; s < shares; ++s)
      for (int64_t i = 0; i < 2 * channels; ++i) sum[i] += partial[(sample * shares + s) * 2 * channels + i];
    T* slope = maps + (sample * 5 + 3) * channels;
    for (int64_t group = 0; group < f.groups; ++group) {
      const int64_t c0 = group * memory.size;
      T of_group[2];
      group_gradient(memory, sample * f.groups + group, sum + c0, sum + channels + c0, of_group, of_group + 1);
      for (int64_t c = c0; c < c0 + memory.size; ++c) {
        slope[c] = of_group[0];
        slope[channels + c] = of_group[1];
      }
    }
  }
  if (args.d_x != nullptr)
    memory.each_share(exec, [&](int64_t, int64_t sample, int64_t first, int64_t rows) {
      const int64_t at = (sample * f.inner + first) * channels;
      const T* map = maps + sample * 5 * channels;
      rows_gradient<T, false, false>(x + at, g + at, static_cast<T*>(args.d_x) + at, rows, channels, channels,
                                     {map, map + channels, map + 2 * channels},
                                     {map + channels, map + 3 * channels, map + 4 * channels});
    });
  set_parameter_gradients(args, memory, sums, exec);
}

template <class T>
void group_norm_backward_planes(const GroupNormBackwardArgs& args, Exec& exec) {
  const GroupNormArgs& f = args.forward;
  const GroupMemory<T> memory(f);
  Scratch<double> sums(exec, f.batch * 2 * f.channels);
  parallel_for(exec, f.batch * f.groups, 1 + kRowGrain / memory.elements, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const T* x = static_cast<const T*>(f.x) + group * memory.elements;
      const T* g = static_cast<const T*>(args.d_y) + group * memory.elements;
      const int64_t sample = group / f.groups, c0 = group % f.groups * memory.size;
      const T mean = memory.mean()[group], invstd = memory.invstd()[group];
      double* sum_g = sums + sample * 2 * f.channels + c0;
      double* sum_gx = sum_g + f.channels;
      if (f.inner == 1) sums_of_ones(memory.size, mean, x, g, sum_g, sum_gx);
      for (int64_t k = 0; k < memory.size && f.inner > 1; ++k) {
        sum_g[k] = sum_gx[k] = 0.0;
        plane_sums<T, false>(x + k * f.inner, g + k * f.inner, f.inner, mean, 0, 0, sum_g + k, sum_gx + k);
      }
      T slope, constant;
      group_gradient(memory, group, sum_g, sum_gx, &slope, &constant);
      if (args.d_x == nullptr) continue;
      T* d_x = static_cast<T*>(args.d_x) + group * memory.elements;
      if (f.inner == 1) {
        const T* weight = f.weight == nullptr ? nullptr : static_cast<const T*>(f.weight) + c0;
        gradient_of_ones(weight, memory.size, mean, invstd, slope, constant, x, g, d_x);
        continue;
      }
      for (int64_t k = 0; k < memory.size; ++k)
        plane_gradient<T, false, false>(x + k * f.inner, g + k * f.inner, d_x + k * f.inner, f.inner, 0, mean, 0, 0,
                                        invstd * element<T>(f.weight, c0 + k, 1), slope, constant, false);
    }
  });
  set_parameter_gradients(args, memory, sums, exec);
}

void layer_norm_kernel(const LayerNormArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? layer_norm_typed<double>(args, exec) : layer_norm_typed<float>(args, exec);
}
void layer_norm_backward_kernel(const LayerNormBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float64 ? layer_norm_backward_typed<double>(args, exec)
                                       : layer_norm_backward_typed<float>(args, exec);
}
void group_norm_kernel(const GroupNormArgs& args, Exec& exec) noexcept {
  const bool rows = args.last && args.inner > 1;  // of one element each, channels are planes too
  if (args.dtype == DType::float64)
    rows ? group_norm_rows<double>(args, exec) : group_norm_planes<double>(args, exec);
  else
    rows ? group_norm_rows<float>(args, exec) : group_norm_planes<float>(args, exec);
}
void group_norm_backward_kernel(const GroupNormBackwardArgs& args, Exec& exec) noexcept {
  const bool rows = args.forward.last && args.forward.inner > 1;
  if (args.forward.dtype == DType::float64)
    rows ? group_norm_backward_rows<double>(args, exec) : group_norm_backward_planes<double>(args, exec);
  else
    rows ? group_norm_backward_rows<float>(args, exec) : group_norm_backward_planes<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(layer_norm) {
  table.layer_norm = pydl::layer_norm_kernel;
  table.layer_norm_backward = pydl::layer_norm_backward_kernel;
  table.group_norm = pydl::group_norm_kernel;
  table.group_norm_backward = pydl::group_norm_backward_kernel;
}
