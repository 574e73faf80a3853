// Convolution of groups of few channels. A vector holds the destinations of as many whole groups as have room in it;
// one shuffle brings each of them the source channel of its group that is next. Tiles of a matrix product would leave
// most of their lanes empty.
//
// Measured on a Zen 4 core (AVX-512): 64 channels to 128 in 16 groups, 3x3, reach ?? % of the peak; the shuffles and
// the multiply-adds share a pipe.
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

// Whether vectors are filled better than by tiles of one group.
template <class T>
bool fills_lanes(const Gather<T>& g) {
  return group_lanes(g).lanes > g.dst_channels;
}

// The lane of the source that destination lane l takes for source channel c: which[c * size + l].
template <class T>
void fill_lanes(const Gather<T>& g, const GroupLanes& q, LaneInt<T>* which) {
  constexpr int64_t kLanes = Vec<T>::size;
  for (int64_t c = 0; c < g.src_channels; ++c) {
    for (int64_t l = 0; l < kLanes; ++l) {
      which[c * kLanes + l] =
          l < q.lanes ? static_cast<LaneInt<T>>(l / g.dst_channels * g.src_channels + c) : LaneInt<T>(0);
    }
  }
}

// The weights as (vector, tap, source channel of the group, lane).
template <class T>
void pack_groups(const Gather<T>& g, const GroupLanes& q, T* packed) {
  const int64_t taps = g.taps();
  for (int64_t v = 0; v < q.vectors; ++v) {
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t c = 0; c < g.src_channels; ++c) {
        const T* w = g.weight + weight_tap(g, t) + c * g.w_src;
        for (int64_t l = 0; l < Vec<T>::size; ++l) {
          const int64_t group = v * q.each + l / g.dst_channels, o = l % g.dst_channels;
          *packed++ = l < q.lanes && group < g.groups ? w[group * g.w_group + o * g.w_dst] : T(0);
        }
      }
    }
  }
}

// One vector of groups: where its channels begin, how many there are, and loads of them, from `two` vectors or one.
template <class T, bool two>
struct GroupVector {
  using V = Vec<T>;
  using Raw = typename V::Raw;
  using Lanes = Vec<LaneInt<T>>;
  int64_t src, dst;
  int first, second, stored;  // lanes of the source's vectors and of the destination's

  GroupVector(const Gather<T>& g, const GroupLanes& q, int64_t v)
      : src(v * q.reach),
        dst(v * q.lanes),
        first(at_most(g.groups * g.src_channels - src, V::size)),
        second(at_most(g.groups * g.src_channels - src - V::size, V::size)),
        stored(at_most(g.groups * g.dst_channels - dst, q.lanes)) {}
  PYDL_INLINE void load(const T* p, Raw* low, Raw* high) const {
    *low = V::load_partial(p, first).raw;
    if constexpr (two) *high = V::load_partial(p + V::size, second).raw;
  }
  static PYDL_INLINE V pick(const Raw& low, const Raw& high, Lanes which) {
    if constexpr (two) return pick_lanes(V(low), V(high), which);
    return pick_lanes(V(low), which);
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
constexpr int kNeighbourTaps = 3;  // that share what is shuffled, where they and the destinations are neighbours
template <class T>
constexpr T kOutside[2 * Vec<T>::size] = {};  // what lies around the source

// `outputs` neighbours from destination w on, `together` taps at a time.
template <int outputs, int together, class T, bool two>
PYDL_INLINE void group_outputs(const Gather<T>& g, const PixelCursor& at, const KernelRows& rows, int64_t w,
                               const GroupVector<T, two>& v, const T* weights, const LaneInt<T>* which, T* dst,
                               int64_t dst_step) {
  using V = Vec<T>;
  using Raw = typename V::Raw;
  using Lanes = Vec<LaneInt<T>>;
  constexpr int kSources = outputs + together - 1;
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  const int64_t tap_size = g.src_channels * V::size;
  Raw sum[outputs];
  const V b = g.bias != nullptr ? V::load_partial(g.bias + v.dst, v.stored) : V(T(0));
  repeat<outputs>([&](auto o) PYDL_LAMBDA { sum[o] = b.raw; });
  const int64_t first = w * aw.step + aw.first;
  for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
    for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
      const T* line = source_line(g, at, jd, jh) + v.src;
      const T* tap = weights + (jd * ah.taps + jh) * aw.taps * tap_size;
      for (int64_t jw = 0; jw < aw.taps; jw += together, tap += together * tap_size) {
        Raw low[kSources], high[kSources];
        repeat<kSources>([&](auto m) PYDL_LAMBDA {
          const int64_t s = first + m * aw.step + jw * aw.tap_step;
          v.load(s >= 0 && s < aw.src_size ? line + s * g.src_pixel : kOutside<T>, low + m, high + m);
        });
        for (int64_t c = 0; c < tap_size; c += V::size) {
          const Lanes from = Lanes::load(which + c);
          Raw k[together];
          repeat<together>([&](auto t) PYDL_LAMBDA { k[t] = V::load(tap + t * tap_size + c).raw; });
          repeat<kSources>([&](auto m) PYDL_LAMBDA {
            const V x = v.pick(low[m], high[m], from);
            repeat<together>([&](auto t) PYDL_LAMBDA {
              constexpr int o = decltype(m)::value - decltype(t)::value;
              if constexpr (o >= 0 && o < outputs) sum[o] = fma(x, V(k[t]), V(sum[o])).raw;
            });
          });
        }
      }
    }
  }
  repeat<outputs>([&](auto o) PYDL_LAMBDA {
    store_some(g.relu ? max(V(sum[o]), V(T(0))) : V(sum[o]), dst + v.dst + o * dst_step, v.stored);
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
  pack_groups(g, q, weights.get());
  fill_lanes(g, q, which.get());
  const int64_t dst_step = aw.dst_step * all;
  const int64_t grain = 1 + kDepthwiseGrain / (aw.count * q.vectors * (weights_each + kLanes));
  parallel_for(exec, lines, grain, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const PixelCursor at(g, line * aw.count);
      const KernelRows rows(g, at);
      const int64_t d = ad.dst_first + at.d * ad.dst_step, h = ah.dst_first + at.h * ah.dst_step;
      T* dst = g.dst + (((at.n * ad.dst_size + d) * ah.dst_size + h) * aw.dst_size + aw.dst_first) * all;
      for (int64_t i = 0; i < q.vectors; ++i) {
        const GroupVector<T, two> v(g, q, i);
        const auto make = [&](auto outputs, int64_t w) PYDL_LAMBDA {
          group_outputs<outputs, together>(g, at, rows, w, v, weights.get() + i * weights_each, which.get(),
                                           dst + w * dst_step, dst_step);
          return w + outputs;
        };
        // The last ones reach back to what is made already.
        for (int64_t w = 0; w < aw.count;) {
          const int64_t left = aw.count - w;
          if (aw.count >= kGroupOutputs && left > kFewGroupOutputs) {
            w = make(std::integral_constant<int, kGroupOutputs>{}, left < kGroupOutputs ? aw.count - kGroupOutputs : w);
          } else if (aw.count >= kFewGroupOutputs) {
            w = make(std::integral_constant<int, kFewGroupOutputs>{},
                     left < kFewGroupOutputs ? aw.count - kFewGroupOutputs : w);
          } else {
            w = make(std::integral_constant<int, 1>{}, w);
          }
        }
      }
    }
  });
}

template <class T>
void grouped(const Gather<T>& g, Exec& exec) {
  if (g.batch * g.axis[0].count * g.axis[1].count * g.axis[2].count == 0) return;
  const GroupLanes q = group_lanes(g);
  const GatherAxis& aw = g.axis[2];
  const bool neighbours = aw.taps == kNeighbourTaps && aw.step == 1 && aw.tap_step == 1;
  if (q.reach > Vec<T>::size) {
    neighbours ? grouped_lines<kNeighbourTaps, true>(g, q, exec) : grouped_lines<1, true>(g, q, exec);
  } else {
    neighbours ? grouped_lines<kNeighbourTaps, false>(g, q, exec) : grouped_lines<1, false>(g, q, exec);
  }
}

// sums[c * size + l] += d_y * x along one row of destinations, for `channels` source channels and one tap.
template <int channels, class T, bool two>
PYDL_INLINE void group_tap(const Gather<T>& g, const GroupVector<T, two>& v, const Inside& own, const T* src,
                           const T* up, int64_t up_pixel, const LaneInt<T>* which, T* sums) {
  using V = Vec<T>;
  using Raw = typename V::Raw;
  using Lanes = Vec<LaneInt<T>>;
  Raw sum[channels];
  typename Lanes::Raw from[channels];
  repeat<channels>([&](auto c) PYDL_LAMBDA {
    sum[c] = V::load(sums + c * V::size).raw;
    from[c] = Lanes::load(which + c * V::size).raw;
  });
  const int64_t src_step = g.axis[2].step * g.src_pixel;
  for (int64_t w = own.begin; w < own.end; ++w) {
    const V u = V::load_partial(up + w * up_pixel, v.stored);
    Raw low, high;
    v.load(src + w * src_step, &low, &high);
    repeat<channels>([&](auto c) PYDL_LAMBDA { sum[c] = fma(u, v.pick(low, high, Lanes(from[c])), V(sum[c])).raw; });
  }
  repeat<channels>([&](auto c) PYDL_LAMBDA { V(sum[c]).store(sums + c * V::size); });
}

template <bool two, class T>
void grouped_weight_lines(const Gather<T>& g, const GroupLanes& q, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel,
                          T* d_weight, Exec& exec) {
  constexpr int64_t kLanes = Vec<T>::size;
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t lines = g.batch * ad.count * ah.count, taps = g.taps();
  const int64_t each = taps * g.src_channels * kLanes, plane = q.vectors * each;
  const int64_t segments = depthwise_segments(lines, lines * aw.count * plane);
  Scratch<T> sums(exec, segments * plane);
  Scratch<LaneInt<T>> which(exec, g.src_channels * kLanes);
  fill_lanes(g, q, which.get());
  parallel_for(exec, segments, 1, [&](int64_t begin, int64_t end) {
    for (int64_t segment = begin; segment < end; ++segment) {
      T* total = sums.get() + segment * plane;
      zero_run(plane, total);
      for (int64_t line = lines * segment / segments; line < lines * (segment + 1) / segments; ++line) {
        const PixelCursor at(g, line * aw.count);
        const KernelRows rows(g, at);
        const T* up = d_y + at.n * d_y_batch + (at.d * ah.count + at.h) * aw.count * d_y_pixel;
        for (int64_t i = 0; i < q.vectors; ++i) {
          const GroupVector<T, two> v(g, q, i);
          for (int64_t jd = rows.d0; jd < rows.d1; ++jd) {
            for (int64_t jh = rows.h0; jh < rows.h1; ++jh) {
              const T* src = source_line(g, at, jd, jh) + v.src;
              for (int64_t jw = 0; jw < aw.taps; ++jw) {
                const Inside own = inside(aw, jw, 1);
                const T* x = src + (aw.first + jw * aw.tap_step) * g.src_pixel;
                T* to = total + i * each + ((jd * ah.taps + jh) * aw.taps + jw) * g.src_channels * kLanes;
                const auto add = [&](auto channels, int64_t c) PYDL_LAMBDA {
                  group_tap<channels>(g, v, own, x, up + v.dst, d_y_pixel, which.get() + c * kLanes, to + c * kLanes);
                };
                int64_t c = 0;
                for (; c + 4 <= g.src_channels; c += 4) add(std::integral_constant<int, 4>{}, c);
                if (g.src_channels - c >= 2) add(std::integral_constant<int, 2>{}, c), c += 2;
                if (c < g.src_channels) add(std::integral_constant<int, 1>{}, c);
              }
            }
          }
        }
      }
    }
  });
  for (int64_t i = 0; i < plane; ++i) {
    const int64_t v = i / each, t = i % each / (g.src_channels * kLanes), c = i / kLanes % g.src_channels;
    const int64_t l = i % kLanes, group = v * q.each + l / g.dst_channels, o = l % g.dst_channels;
    if (l >= q.lanes || group >= g.groups) continue;
    T total = sums[i];
    for (int64_t s = 1; s < segments; ++s) total += sums[s * plane + i];
    d_weight[group * g.w_group + o * g.w_dst + c * g.w_src + weight_tap(g, t)] = total;
  }
}

// g is the forward gather.
template <class T>
void grouped_weight(const Gather<T>& g, const T* d_y, int64_t d_y_batch, int64_t d_y_pixel, T* d_weight, Exec& exec) {
  const GroupLanes q = group_lanes(g);
  if (q.reach > Vec<T>::size) return grouped_weight_lines<true>(g, q, d_y, d_y_batch, d_y_pixel, d_weight, exec);
  grouped_weight_lines<false>(g, q, d_y, d_y_batch, d_y_pixel, d_weight, exec);
}

}  // namespace
}  // namespace pydl
