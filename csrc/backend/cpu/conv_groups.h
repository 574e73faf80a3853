// Convolution of groups of few channels. A vector holds the destinations of as many whole groups as have room in it;
// one shuffle brings each of them the source channel of its group that is next. Tiles of a matrix product would leave
// most of their lanes empty.
//
// Measured on a Zen 4 core (AVX-512), 8 images of 28x28, 3x3: 74 % of the peak from 4 channels to 4 or 8, 85 % from 8
// to 8, 62 % from 8 to 4 and 55 % from 2 to 2; shuffles and multiply-adds share a pipe.
#pragma once
#include "backend/cpu/conv_depthwise.h"
#include "backend/cpu/stream.h"

namespace pydl {
namespace {

// How vectors cover the groups: `each` groups a vector, which are `lanes` destination channels and `reach` source
// channels, from one or two vectors.
struct GroupLanes {
  int64_t each, lanes, reach, vectors;
};

template <class T>
GroupLanes group_lanes(const Gather<T>& g) {
  constexpr int64_t kLanes = Vec<T>::size;
  int64_t each = kLanes / g.dst_channels;
  if (each * g.src_channels > 2 * kLanes) each = 2 * kLanes / g.src_channels;
  if (each > g.groups) each = g.groups;
  return {each, each * g.dst_channels, each * g.src_channels, each > 0 ? ceil_div(g.groups, each) : 0};
}

// Whether at least half of a vector is used; else tiles of one group do better.
template <class T>
bool fills_lanes(const Gather<T>& g) {
  return 2 * group_lanes(g).lanes >= Vec<T>::size;
}

// The lane of the source that destination lane l takes for source channel c: which[c * size + l].
template <class T>
void fill_lanes(const Gather<T>& g, const GroupLanes& q, LaneInt<T>* which) {
  for (int64_t c = 0; c < g.src_channels; ++c, which += Vec<T>::size) {
    zero_run(Vec<T>::size, which);
    for (int64_t group = 0, l = 0; group < q.each; ++group) {
      for (int64_t o = 0; o < g.dst_channels; ++o) which[l++] = static_cast<LaneInt<T>>(group * g.src_channels + c);
    }
  }
}

// The weights as (vector, tap, source channel of the group, lane).
template <class T>
void pack_groups(const Gather<T>& g, const GroupLanes& q, T* packed, Exec& exec) {
  const int64_t taps = g.taps(), each = taps * g.src_channels * Vec<T>::size;
  parallel_for(exec, q.vectors, 1 + kDepthwiseGrain / (each + 1), [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      const int64_t first = v * q.each, last = first + q.each < g.groups ? first + q.each : g.groups;
      T* to = packed + v * each;
      for (int64_t t = 0; t < taps; ++t) {
        for (int64_t c = 0; c < g.src_channels; ++c, to += Vec<T>::size) {
          zero_run(Vec<T>::size, to);
          int64_t l = 0;
          for (int64_t group = first; group < last; ++group) {
            const T* w = g.weight + weight_tap(g, t) + c * g.w_src + group * g.w_group;
            for (int64_t o = 0; o < g.dst_channels; ++o) to[l++] = w[o * g.w_dst];
          }
        }
      }
    }
  });
}

// n lanes from p on: behind a mask where that costs nothing.
template <class T>
PYDL_INLINE Vec<T> load_lanes(const T* p, int n) {
#if defined(__AVX512F__)
  return Vec<T>::load_partial(p, n);
#else
  return load_some<Vec<T>>(p, n);
#endif
}

// One vector of groups: where its channels begin, how many there are, and loads of them; `two`: from two vectors.
template <class T, bool two>
struct GroupVector {
  using V = Vec<T>;
  using Lanes = Vec<LaneInt<T>>;
  int64_t src, dst;
  int first, second, stored;  // lanes of the source's vectors and of the destination's

  GroupVector(const Gather<T>& g, const GroupLanes& q, int64_t v)
      : src(v * q.reach),
        dst(v * q.lanes),
        first(at_most(g.groups * g.src_channels - src, V::size)),
        second(at_most(g.groups * g.src_channels - src - V::size, V::size)),
        stored(at_most(g.groups * g.dst_channels - dst, q.lanes)) {}
  PYDL_INLINE void load(const T* p, V& low, V& high) const {
    low = load_lanes(p, first);
    if constexpr (two) high = load_lanes(p + V::size, second);
  }
  static PYDL_INLINE V pick(V low, V high, Lanes which) {
    if constexpr (two) return pick_lanes(low, high, which);
    return pick_lanes(low, which);
  }

 private:
  static int at_most(int64_t left, int64_t most) { return static_cast<int>(left < 0 ? 0 : left < most ? left : most); }
};

// Neighbouring destinations that are made together: registers for their sums and sources, and sums enough in flight.
#if defined(__AVX512F__)
constexpr int kGroupOutputs = 8;
#else
constexpr int kGroupOutputs = 4;
#endif
constexpr int kFewGroupOutputs = 4;
constexpr int kNeighbourTaps = 3;         // that share what is shuffled, where they and the destinations are neighbours
constexpr int64_t kLeastCut = 64;         // destinations of a line that is cut, at least half as many
constexpr int64_t kGroupsKept = 2 << 20;  // bytes of source and destinations that L2 keeps, more or less
template <class T>
constexpr T kOutside[2 * Vec<T>::size] = {};  // what lies around the source

// `outputs` neighbours from destination w on, `together` taps at a time.
template <int outputs, int together, class T, bool two>
PYDL_INLINE void group_outputs(const Gather<T>& g, const PixelCursor& at, const KernelRows& rows, int64_t w,
                               const GroupVector<T, two>& v, const T* weights, const LaneInt<T>* which, T* dst,
                               int64_t dst_step) {
  using V = Vec<T>;
  using Lanes = Vec<LaneInt<T>>;
  constexpr int kSources = outputs + together - 1;
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  const int64_t tap_size = g.src_channels * V::size;
  Unset<V, outputs> sum;
  const V b = g.bias != nullptr ? load_lanes(g.bias + v.dst, v.stored) : V(T(0));
  repeat<outputs>([&](auto o) PYDL_LAMBDA { sum[o] = b; });
  const int64_t first = w * aw.step + aw.first;
  for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
    for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
      const T* line = source_line(g, at, jd, jh) + v.src;
      const T* tap = weights + (jd * ah.taps + jh) * aw.taps * tap_size;
      for (int64_t jw = 0; jw < aw.taps; jw += together, tap += together * tap_size) {
        Unset<V, kSources> low, high;
        repeat<kSources>([&](auto m) PYDL_LAMBDA {
          const int64_t s = first + m * aw.step + jw * aw.tap_step;
          v.load(s >= 0 && s < aw.src_size ? line + s * g.src_pixel : kOutside<T>, low[m], high[m]);
        });
        for (int64_t c = 0; c < tap_size; c += V::size) {
          const Lanes from = Lanes::load(which + c);
          Unset<V, together> k;
          repeat<together>([&](auto t) PYDL_LAMBDA { k[t] = V::load(tap + t * tap_size + c); });
          repeat<kSources>([&](auto m) PYDL_LAMBDA {
            const V x = v.pick(low[m], high[m], from);
            repeat<together>([&](auto t) PYDL_LAMBDA {
              constexpr int o = decltype(m)::value - decltype(t)::value;
              if constexpr (o >= 0 && o < outputs) sum[o] = fma(x, k[t], sum[o]);
            });
          });
        }
      }
    }
  }
  repeat<outputs>([&](auto o) PYDL_LAMBDA {
    store_some(g.relu ? max(sum[o], V(T(0))) : sum[o], dst + v.dst + o * dst_step, v.stored);
  });
}

template <int together, bool two, class T>
void grouped_lines(const Gather<T>& g, const GroupLanes& q, Exec& exec) {
  constexpr int64_t kLanes = Vec<T>::size;
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t lines = g.batch * ad.count * ah.count, all = g.dst_pixel();
  const int64_t weights_each = g.taps() * g.src_channels * kLanes;
  Scratch<T> weights(exec, q.vectors * weights_each);
  Scratch<LaneInt<T>> which(exec, g.src_channels * kLanes);
  pack_groups(g, q, weights.get(), exec);
  fill_lanes(g, q, which.get());
  const int64_t dst_step = aw.dst_step * all;
  // Long lines that are few are cut.
  const int64_t cuts = lines < 4 * exec.threads ? ceil_div(aw.count, kLeastCut) : 1;
  const int64_t grain = 1 + kDepthwiseGrain * cuts / (aw.count * q.vectors * (weights_each + kLanes));
  parallel_for(exec, lines * cuts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t line = task / cuts, cut = task % cuts;
      const int64_t w0 = aw.count * cut / cuts, w1 = aw.count * (cut + 1) / cuts, count = w1 - w0;
      const PixelCursor at(g, line * aw.count);
      const KernelRows rows(g, at);
      T* dst = destination_line(g, at);
      const NextLine<T> next(g, at, rows, dst, kGroupsKept);
      dst += aw.dst_first * all;
      for (int64_t i = 0; i < q.vectors; ++i) {
        const GroupVector<T, two> v(g, q, i);
        const int64_t part = cut * q.vectors + i, parts = cuts * q.vectors;
        next.fetch_sources(aw.src_size * part / parts, aw.src_size * (part + 1) / parts);
        next.fetch_destinations(aw.dst_size * part / parts, aw.dst_size * (part + 1) / parts);
        const auto make = [&](auto outputs, int64_t w) PYDL_LAMBDA {
          group_outputs<outputs, together>(g, at, rows, w, v, weights.get() + i * weights_each, which.get(),
                                           dst + w * dst_step, dst_step);
          return w + outputs;
        };
        // The last ones reach back to what is made already.
        for (int64_t w = w0; w < w1;) {
          const int64_t left = w1 - w;
          if (count >= kGroupOutputs && left > kFewGroupOutputs) {
            w = make(std::integral_constant<int, kGroupOutputs>{}, left < kGroupOutputs ? w1 - kGroupOutputs : w);
          } else if (count >= kFewGroupOutputs) {
            w = make(std::integral_constant<int, kFewGroupOutputs>{},
                     left < kFewGroupOutputs ? w1 - kFewGroupOutputs : w);
          } else {
            w = make(std::integral_constant<int, 1>{}, w);
          }
        }
      }
    }
  });
}

// body(taps that are taken together, whether groups reach into a second vector).
template <class T, class F>
void with_neighbours(const Gather<T>& g, const GroupLanes& q, F body) {
  const GatherAxis& aw = g.axis[2];
  const std::integral_constant<int, 1> one{};
  const std::integral_constant<int, kNeighbourTaps> some{};
  if (aw.taps == kNeighbourTaps && aw.step == 1 && aw.tap_step == 1) {
    q.reach > Vec<T>::size ? body(some, std::true_type{}) : body(some, std::false_type{});
  } else {
    q.reach > Vec<T>::size ? body(one, std::true_type{}) : body(one, std::false_type{});
  }
}

template <class T>
void grouped(const Gather<T>& g, Exec& exec) {
  if (g.batch * g.axis[0].count * g.axis[1].count * g.axis[2].count == 0) return;
  const GroupLanes q = group_lanes(g);
  with_neighbours(g, q, [&](auto together, auto two) { grouped_lines<together, two>(g, q, exec); });
}

constexpr int64_t kWeightCut = 512;  // destinations of a line that are added up at once
// Source channels whose sums stay in registers.
#if defined(__AVX512F__)
constexpr int kGroupChannels = 4;
#else
constexpr int kGroupChannels = 2;
#endif

// sums[t * tap_size + c * size + l] += d_y * x along one row of destinations, for `channels` source channels and
// `together` taps from jw on. Source i of the loop meets destination i at the first of them, i - 1 at the second. Only
// destinations w0 to w1 - 1 count.
template <int channels, int together, class T, bool two>
PYDL_INLINE void group_taps(const Gather<T>& g, const GroupVector<T, two>& v, int64_t w0, int64_t w1, const T* line,
                            const T* up, int64_t up_pixel, int64_t jw, const LaneInt<T>* which, T* sums,
                            int64_t tap_size) {
  using V = Vec<T>;
  using Lanes = Vec<LaneInt<T>>;
  const GatherAxis& aw = g.axis[2];
  Unset<V, together * channels> sum;
  repeat<together * channels>(
      [&](auto i) PYDL_LAMBDA { sum[i] = V::load(sums + i / channels * tap_size + i % channels * V::size); });
  const auto add = [&](int64_t i, auto inside) PYDL_LAMBDA {
    const int64_t s = aw.first + jw * aw.tap_step + i * aw.step;
    if (s < 0 || s >= aw.src_size) return;
    V low, high;
    Unset<V, channels> x;
    v.load(line + s * g.src_pixel, low, high);
    repeat<channels>([&](auto c) PYDL_LAMBDA { x[c] = v.pick(low, high, Lanes::load(which + c * V::size)); });
    repeat<together>([&](auto t) PYDL_LAMBDA {
      if (!inside && (i - t < w0 || i - t >= w1)) return;
      const V u = load_lanes(up + (i - t) * up_pixel, v.stored);
      repeat<channels>([&](auto c) PYDL_LAMBDA {
        constexpr int at = decltype(t)::value * channels + decltype(c)::value;
        sum[at] = fma(u, x[c], sum[at]);
      });
    });
  };
  int64_t i = w0;
  for (; i < w0 + together - 1; ++i) add(i, std::false_type{});
  for (; i < w1; ++i) add(i, std::true_type{});
  for (; i < w1 + together - 1; ++i) add(i, std::false_type{});
  repeat<together * channels>(
      [&](auto i) PYDL_LAMBDA { sum[i].store(sums + i / channels * tap_size + i % channels * V::size); });
}

template <int together, bool two, class T>
void grouped_weight_lines(const Gather<T>& g, const GroupLanes& q, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel,
                          T* d_weight, Exec& exec) {
  constexpr int64_t kLanes = Vec<T>::size;
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t cuts = aw.count > 0 ? ceil_div(aw.count, kWeightCut) : 1, taps = g.taps();
  const int64_t lines = g.batch * ad.count * ah.count * cuts;
  const int64_t tap_size = g.src_channels * kLanes, each = taps * tap_size, plane = q.vectors * each;
  const int64_t segments = depthwise_segments(lines, lines * aw.count / cuts * plane);
  Scratch<T> sums(exec, segments * plane);
  Scratch<LaneInt<T>> which(exec, g.src_channels * kLanes);
  fill_lanes(g, q, which.get());
  parallel_for(exec, segments, 1, [&](int64_t begin, int64_t end) {
    for (int64_t segment = begin; segment < end; ++segment) {
      T* total = sums.get() + segment * plane;
      zero_run(plane, total);
      for (int64_t line = lines * segment / segments; line < lines * (segment + 1) / segments; ++line) {
        const PixelCursor at(g, line / cuts * aw.count);
        const int64_t w0 = aw.count * (line % cuts) / cuts, w1 = aw.count * (line % cuts + 1) / cuts;
        const KernelRows rows(g, at);
        const T* up = d_y + at.n * d_y_batch + (at.d * ah.count + at.h) * aw.count * d_y_pixel;
        for (int64_t i = 0; i < q.vectors; ++i) {
          const GroupVector<T, two> v(g, q, i);
          for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
            for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
              const T* src = source_line(g, at, jd, jh) + v.src;
              T* to = total + i * each + (jd * ah.taps + jh) * aw.taps * tap_size;
              for (int64_t jw = 0; jw < aw.taps; jw += together, to += together * tap_size) {
                for (int64_t c = 0; c < g.src_channels;) {
                  const auto add = [&](auto channels) PYDL_LAMBDA {
                    group_taps<channels, together>(g, v, w0, w1, src, up + v.dst, d_y_pixel, jw,
                                                   which.get() + c * kLanes, to + c * kLanes, tap_size);
                    c += channels;
                  };
                  if (g.src_channels - c >= kGroupChannels) {
                    add(std::integral_constant<int, kGroupChannels>{});
                  } else if (kGroupChannels > 2 && g.src_channels - c >= 2) {
                    add(std::integral_constant<int, 2>{});
                  } else {
                    add(std::integral_constant<int, 1>{});
                  }
                }
              }
            }
          }
        }
      }
    }
  });
  parallel_for(exec, q.vectors, 1 + 4096 / (segments * each + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * taps * g.src_channels; i < end * taps * g.src_channels; ++i) {
      using V = Vec<T>;
      V total = V::load(sums.get() + i * kLanes);
      for (int64_t s = 1; s < segments; ++s) total += V::load(sums.get() + s * plane + i * kLanes);
      T lanes[V::size];
      total.store(lanes);
      const int64_t t = i / g.src_channels % taps, c = i % g.src_channels;
      const int64_t first = i / g.src_channels / taps * q.each;
      const int64_t last = first + q.each < g.groups ? first + q.each : g.groups;
      const T* from = lanes;
      for (int64_t group = first; group < last; ++group) {
        T* to = d_weight + group * g.w_group + c * g.w_src + weight_tap(g, t);
        for (int64_t o = 0; o < g.dst_channels; ++o) to[o * g.w_dst] = *from++;
      }
    }
  });
}

// g is the forward gather.
template <class T>
void grouped_weight(const Gather<T>& g, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel, T* d_weight, Exec& exec) {
  const GroupLanes q = group_lanes(g);
  const auto run = [&](auto together, auto two) {
    grouped_weight_lines<together, two>(g, q, d_y, d_y_batch, d_y_pixel, d_weight, exec);
  };
  with_neighbours(g, q, run);
}

}  // namespace
}  // namespace pydl
