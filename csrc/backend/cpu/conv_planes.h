// Depthwise convolution of images that lie plane by plane, (N, C, H, W): vectors run along rows. A band of rows is
// copied to scratch with the zeros around it, its columns sorted by their residue modulo the stride, so that a tap of a
// row of outputs is read by unaligned vectors and needs no test. The copy stays in L1 and costs about one tap.
#pragma once
#include "backend/cpu/conv_depthwise.h"
#include "backend/cpu/lanes_apart.h"

namespace pydl {
namespace {

constexpr int64_t kBandBytes = 24 * 1024;  // of a staged band, which stays in L1
constexpr int64_t kBandRows = 8;           // of its outputs, at least

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// How planes are cut into bands of output rows and staged, for gathers that differ in their columns alone: one, or the
// two of an input's gradient at stride 2.
template <class T, int gathers>
struct Bands {
  const Gather<T>* g;
  int64_t first_column;  // number of a residue's column that is staged first
  int64_t columns;       // staged for each residue, in whole vectors of sources and of outputs
  int64_t pitch;         // of staged rows
  int64_t reach;         // source rows over which the taps of one output lie
  int64_t rows;          // of a band, in outputs
  int64_t count;         // of bands in a plane

  explicit Bands(const Gather<T>* g) : g(g) {
    constexpr int64_t kLanes = Vec<T>::size;
    const GatherAxis &ah = g->axis[1], &aw = g->axis[2];
    first_column = floor_div(aw.first, aw.step);
    for (int i = 1; i < gathers; ++i) {
      const int64_t first = floor_div(g[i].axis[2].first, aw.step);
      if (g[i].axis[2].taps > 0 && (first < first_column || aw.taps == 0)) first_column = first;
    }
    columns = (first_column < 0 ? -first_column : 0) + round_up(ceil_div(aw.src_size, aw.step), kLanes);
    for (int i = 0; i < gathers; ++i) {
      const GatherAxis& a = g[i].axis[2];
      if (a.taps == 0) continue;
      const int64_t last = floor_div(a.first + (a.taps - 1) * a.tap_step, a.step);
      const int64_t needed = last - first_column + round_up(a.count, kLanes);
      if (needed > columns) columns = needed;
    }
    pitch = aw.step * columns;
    reach = 1 + (ah.taps > 0 ? (ah.taps - 1) * ah.tap_step : 0);
    const int64_t fit = (kBandBytes / static_cast<int64_t>(sizeof(T)) / pitch - reach) / ah.step + 1;
    const int64_t most = fit < kBandRows ? kBandRows : fit;
    rows = ceil_div(ah.count, ceil_div(ah.count, most));
    count = ceil_div(ah.count, rows);
  }
  int64_t staged_size() const { return ((rows - 1) * g->axis[1].step + reach) * pitch; }
  int64_t planes() const { return g->batch * g->groups; }

  // The offset of each tap of g[i] from the staged place of an output, row * step * pitch + column, and its place in
  // the weight.
  void list_taps(int i, int64_t* offset, int64_t* tap) const {
    const GatherAxis &ah = g[i].axis[1], &aw = g[i].axis[2];
    for (int64_t t = 0; t < g[i].taps(); ++t) {
      const int64_t s = aw.first + t % aw.taps * aw.tap_step, column = floor_div(s, aw.step);
      offset[t] = t / aw.taps * ah.tap_step * pitch + (s - column * aw.step) * columns + column - first_column;
      tap[t] = weight_tap(g[i], t);
    }
  }

  // The sources of output rows [begin, end) of a plane. Of rows, only what lies in the source is written.
  void stage(const T* plane, int64_t begin, int64_t end, T* staged) const {
    const GatherAxis &ah = g->axis[1], &aw = g->axis[2];
    const int64_t from = begin * ah.step + ah.first, to = (end - 1) * ah.step + ah.first + reach;
    for (int64_t row = from; row < to; ++row, staged += pitch) {
      if (row < 0 || row >= ah.src_size) {
        zero_run(pitch, staged);
      } else {
        stage_row(plane + row * aw.src_size, aw.src_size, staged);
      }
    }
  }

 private:
  // dst[residue * columns + i] = src[(first_column + i) * step + residue], and zeros up to a whole vector.
  void stage_row(const T* src, int64_t size, T* dst) const {
    using V = Vec<T>;
    const int64_t step = g->axis[2].step;
    if (first_column < 0) {
      dst -= first_column;
    } else {
      src += first_column * step;
      size -= first_column * step;
    }
    const auto some = [&](int64_t i) PYDL_LAMBDA {
      const int64_t left = size - i;
      return left >= V::size ? V::load(src + i) : left > 0 ? V::load_partial(src + i, static_cast<int>(left)) : V(T(0));
    };
    if (step == 1) {
      for (int64_t i = 0; i < size; i += V::size) some(i).store(dst + i);
    } else if (step == 2) {
      constexpr auto kLanes = std::make_integer_sequence<int, V::size>();
      for (int64_t i = 0; i < size; i += 2 * V::size, dst += V::size) {
        const V a = some(i), b = some(i + V::size);
        every_other(a, b, 0, kLanes).store(dst);
        every_other(a, b, 1, kLanes).store(dst + columns);
      }
    } else {
      for (int64_t residue = 0; residue < step; ++residue, dst += columns) {
        int64_t i = 0;
        for (; i * step + residue < size; ++i) dst[i] = src[i * step + residue];
      }
    }
  }
};

// body(plane, channel, begin, end, staged, number) for the output rows [begin, end) of each band of each plane.
template <class T, int gathers, class F>
void each_band(const Bands<T, gathers>& bands, Exec& exec, F body) {
  const Gather<T>& g = *bands.g;
  const int64_t outputs = g.axis[1].count, plane_size = g.axis[1].src_size * g.axis[2].src_size;
  const int64_t work = bands.rows * g.axis[2].count * (g.taps() + 1), grain = 1 + kDepthwiseGrain / (work + 1);
  parallel_for(exec, bands.planes() * bands.count, grain, [&](int64_t first, int64_t last) {
    Scratch<T> staged(exec, bands.staged_size());
    zero_run(bands.staged_size(), staged.get());
    for (int64_t i = first; i < last; ++i) {
      const int64_t plane = i / bands.count, begin = i % bands.count * bands.rows;
      const int64_t end = begin + bands.rows < outputs ? begin + bands.rows : outputs;
      const int64_t channel = plane % g.groups;
      bands.stage(g.src + plane / g.groups * g.src_batch + channel * plane_size, begin, end, staged);
      body(plane, channel, begin, end, staged.get(), i);
    }
  });
}

// What is the same for all outputs of a plane and one gather.
template <class T>
struct PlaneTaps {
  int64_t count;
  const int64_t* offset;
  const T* weights;
  T bias;
  bool relu;
};

// Stores the sums of `rows` of outputs, `vectors` of each, the last of these with `rest` lanes.
template <int rows, int vectors, class T>
PYDL_INLINE void store_outputs(const Vec<T>* sum, bool relu, int rest, T* dst, int64_t dst_row) {
  using V = Vec<T>;
  repeat<rows * vectors>([&](auto i) PYDL_LAMBDA {
    const V y = relu ? max(sum[i], V(T(0))) : sum[i];
    T* to = dst + i / vectors * dst_row + i % vectors * V::size;
    if (i % vectors == vectors - 1 && rest < V::size) {
      y.store_partial(to, rest);
    } else {
      y.store(to);
    }
  });
}

// `rows` of outputs, `vectors` of each.
template <int rows, int vectors, class T>
PYDL_INLINE void plane_outputs(const PlaneTaps<T>& taps, const T* staged, int64_t staged_row, int rest, T* dst,
                               int64_t dst_row) {
  using V = Vec<T>;
  V sum[rows * vectors];
  repeat<rows * vectors>([&](auto i) PYDL_LAMBDA { sum[i] = V(taps.bias); });
  for (int64_t t = 0; t < taps.count; ++t) {
    const V k(taps.weights[t]);
    const T* line = staged + taps.offset[t];
    repeat<rows * vectors>([&](auto i) PYDL_LAMBDA {
      sum[i] = fma(V::load(line + i / vectors * staged_row + i % vectors * V::size), k, sum[i]);
    });
  }
  store_outputs<rows, vectors>(sum, taps.relu, rest, dst, dst_row);
}

// The same for three rows of taps right below each other: a staged row serves up to three rows of outputs.
template <int rows, int vectors, class T>
PYDL_INLINE void three_outputs(const PlaneTaps<T>& taps, const T* staged, int64_t staged_row, int rest, T* dst,
                               int64_t dst_row) {
  using V = Vec<T>;
  const int64_t across = taps.count / 3;
  V sum[rows * vectors];
  repeat<rows * vectors>([&](auto i) PYDL_LAMBDA { sum[i] = V(taps.bias); });
  for (int64_t j = 0; j < across; ++j) {
    const V k[3] = {V(taps.weights[j]), V(taps.weights[across + j]), V(taps.weights[2 * across + j])};
    const T* line = staged + taps.offset[j];
    repeat<rows + 2>([&](auto r) PYDL_LAMBDA {
      repeat<vectors>([&](auto v) PYDL_LAMBDA {
        const V x = V::load(line + r * staged_row + v * V::size);
        repeat<3>([&](auto t) PYDL_LAMBDA {
          constexpr int row = r - t;
          if constexpr (row >= 0 && row < rows) sum[row * vectors + v] = fma(x, k[t], sum[row * vectors + v]);
        });
      });
    });
  }
  store_outputs<rows, vectors>(sum, taps.relu, rest, dst, dst_row);
}

// All `cols` of `rows` of outputs.
template <int rows, bool three, class T>
PYDL_INLINE void plane_rows(const PlaneTaps<T>& taps, const T* staged, int64_t staged_row, int64_t cols, T* dst,
                            int64_t dst_row) {
  constexpr int kLanes = Vec<T>::size, kMost = three ? 2 : 4 / rows;
  int64_t w = 0;
  const auto outputs = [&](auto vectors) PYDL_LAMBDA {
    const int64_t left = cols - w - (vectors - 1) * kLanes;
    const int rest = static_cast<int>(left < kLanes ? left : kLanes);
    if constexpr (three) {
      three_outputs<rows, vectors>(taps, staged + w, staged_row, rest, dst + w, dst_row);
    } else {
      plane_outputs<rows, vectors>(taps, staged + w, staged_row, rest, dst + w, dst_row);
    }
    w += vectors * kLanes;
  };
  while (cols - w > (kMost - 1) * kLanes) outputs(std::integral_constant<int, kMost>());
  if constexpr (kMost > 2) {
    if (cols - w > 2 * kLanes) outputs(std::integral_constant<int, 3>());
    if (cols - w > kLanes) outputs(std::integral_constant<int, 2>());
  }
  if (cols > w) outputs(std::integral_constant<int, 1>());
}

// dst[2 i] = even[i], dst[2 i + 1] = odd[i], for `count` of dst.
template <class T>
PYDL_INLINE void interleave(int64_t count, const T* even, const T* odd, T* dst) {
  using V = Vec<T>;
  constexpr auto kLanes = std::make_integer_sequence<int, V::size>();
  int64_t i = 0;
  for (; i + 2 * V::size <= count; i += 2 * V::size) {
    const V a = V::load(even + i / 2), b = V::load(odd + i / 2);
    in_turns<0>(a, b, kLanes).store(dst + i);
    in_turns<V::size>(a, b, kLanes).store(dst + i + V::size);
  }
  for (; i < count; ++i) dst[i] = i % 2 == 0 ? even[i / 2] : odd[i / 2];
}

// src and dst are planes here. Two gathers are those of the even and the odd columns of dst.
template <int gathers, class T>
void depthwise_planes(const Gather<T>* g, Exec& exec) {
  constexpr int kLanes = Vec<T>::size;
  const GatherAxis &ah = g->axis[1], &aw = g->axis[2];
  if (g->batch == 0 || ah.count == 0 || aw.count == 0) return;
  const Bands<T, gathers> bands(g);
  int64_t most = 1;
  for (int i = 0; i < gathers; ++i) most = g[i].taps() > most ? g[i].taps() : most;
  Scratch<int64_t> offsets(exec, gathers * most), places(exec, gathers * most);
  for (int i = 0; i < gathers; ++i) bands.list_taps(i, offsets + i * most, places + i * most);
  const bool direct = aw.dst_step == 1;
  const bool three = ah.taps == 3 && ah.tap_step == 1 && ah.step == 1;
  const int64_t line_row = round_up(aw.count, kLanes);
  const int64_t together = three ? 4 : aw.count <= 2 * kLanes ? 2 : 1;
  each_band(bands, exec, [&](int64_t plane, int64_t channel, int64_t begin, int64_t end, const T* staged, int64_t) {
    Scratch<T> weights(exec, gathers * most), lines(exec, direct ? 0 : 4 * gathers * line_row);
    PlaneTaps<T> taps[gathers];
    for (int i = 0; i < gathers; ++i) {
      T* w = weights + i * most;
      for (int64_t t = 0; t < g[i].taps(); ++t) w[t] = g[i].weight[channel * g->w_group + places[i * most + t]];
      taps[i] = {g[i].taps(), offsets + i * most, w, g->bias != nullptr ? g->bias[channel] : T(0), g->relu};
    }
    const int64_t staged_row = ah.step * bands.pitch, dst_row = ah.dst_step * aw.dst_size;
    for (int64_t h = begin; h < end;) {
      const int64_t rows = end - h >= together ? together : 1;
      T* dst = g->dst + (plane * ah.dst_size + ah.dst_first + h * ah.dst_step) * aw.dst_size + aw.dst_first;
      for (int i = 0; i < gathers; ++i) {
        T* to = direct ? dst : lines + i * 4 * line_row;
        const T* from = staged + (h - begin) * staged_row;
        const int64_t to_row = direct ? dst_row : line_row, cols = g[i].axis[2].count;
        rows == 4   ? plane_rows<4, true>(taps[i], from, staged_row, cols, to, to_row)
        : rows == 2 ? plane_rows<2, false>(taps[i], from, staged_row, cols, to, to_row)
                    : plane_rows<1, false>(taps[i], from, staged_row, cols, to, to_row);
      }
      for (int64_t r = 0; r < rows && !direct; ++r) {
        const T* line = lines + r * line_row;
        if constexpr (gathers == 2) {
          interleave(aw.dst_size, line, line + 4 * line_row, dst + r * dst_row);
        } else {
          for (int64_t i = 0; i < aw.count; ++i) dst[r * dst_row + i * aw.dst_step] = line[i];
        }
      }
      h += rows;
    }
  });
}

// The gradient of the input: one gather for each residue of its pixels.
template <class T>
void depthwise_planes_input(const ConvBackwardInputArgs& a, Exec& exec) {
  const ConvShape& s = a.shape;
  for (int64_t h = 0; h < s.stride[1] && h < s.in[1]; ++h) {
    if (s.stride[2] == 2 && s.in[2] > 1) {
      const Gather<T> both[2] = {backward_gather<T>(a, 0, h, 0), backward_gather<T>(a, 0, h, 1)};
      depthwise_planes<2>(both, exec);
      continue;
    }
    for (int64_t w = 0; w < s.stride[2] && w < s.in[2]; ++w) {
      const Gather<T> one = backward_gather<T>(a, 0, h, w);
      depthwise_planes<1>(&one, exec);
    }
  }
}

// sums[t] = sum of d_y * x over a band, for `taps` taps.
template <int taps, class T>
PYDL_INLINE void plane_taps(int64_t rows, int64_t cols, const T* staged, int64_t staged_row, const int64_t* offset,
                            const T* up, T* sums) {
  using V = Vec<T>;
  V sum[taps];
  repeat<taps>([&](auto t) PYDL_LAMBDA { sum[t] = V(T(0)); });
  for (int64_t h = 0; h < rows; ++h, up += cols, staged += staged_row) {
    int64_t w = 0;
    for (; w + V::size <= cols; w += V::size) {
      const V u = V::load(up + w);
      repeat<taps>([&](auto t) PYDL_LAMBDA { sum[t] = fma(u, V::load(staged + w + offset[t]), sum[t]); });
    }
    const int rest = static_cast<int>(cols - w);
    if (rest > 0) {
      const V u = V::load_partial(up + w, rest);
      repeat<taps>([&](auto t) PYDL_LAMBDA { sum[t] = fma(u, V::load_partial(staged + w + offset[t], rest), sum[t]); });
    }
  }
  repeat<taps>([&](auto t) PYDL_LAMBDA { sums[t] = reduce_add(sum[t]); });
}

// g is the forward gather. Each band has sums of its own, which are added in order.
template <class T>
void depthwise_planes_weight(const Gather<T>& g, const T* d_y, T* d_weight, Exec& exec) {
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  const int64_t taps = g.taps();
  const Bands<T, 1> bands(&g);
  Scratch<int64_t> offsets(exec, taps), places(exec, taps);
  bands.list_taps(0, offsets, places);
  Scratch<T> sums(exec, bands.planes() * bands.count * taps);
  each_band(bands, exec, [&](int64_t plane, int64_t, int64_t begin, int64_t end, const T* staged, int64_t band) {
    const T* up = d_y + (plane * ah.count + begin) * aw.count;
    const int64_t staged_row = ah.step * bands.pitch;
    int64_t t = 0;
    const auto some = [&](auto n) PYDL_LAMBDA {
      plane_taps<n>(end - begin, aw.count, staged, staged_row, offsets + t, up, sums + band * taps + t);
      t += n;
    };
    while (taps - t >= 9) some(std::integral_constant<int, 9>());
    while (taps - t >= 4) some(std::integral_constant<int, 4>());
    if (taps - t == 3) some(std::integral_constant<int, 3>());
    while (t < taps) some(std::integral_constant<int, 1>());
  });
  for (int64_t channel = 0; channel < g.groups; ++channel) {
    for (int64_t t = 0; t < taps; ++t) {
      T total(0);
      for (int64_t n = 0; n < g.batch; ++n) {
        const T* band = sums + (n * g.groups + channel) * bands.count * taps + t;
        for (int64_t b = 0; b < bands.count; ++b) total += band[b * taps];
      }
      d_weight[channel * g.w_group + places[t]] = total;
    }
  }
}

}  // namespace
}  // namespace pydl
