// Pooling of images of one channel, which lie plane by plane: vectors run along rows. Rows of a window are joined
// first, into a line as wide as the image; the line's windows then give the outputs. Windows that are narrow and all
// alike are joined at every place of the line, and every stride-th is kept.
#pragma once
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/lanes_apart.h"
#include "backend/cpu/stream.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kPoolGrain = 8192;    // elements read that are worth a fork
constexpr int64_t kPoolPanel = 4;       // vectors side by side
constexpr int64_t kPoolBlock = 64;      // places of a window that are added up before they join the whole sum
constexpr int64_t kPoolOverlap = 16;    // most outputs that see a column, in backward of averages
constexpr int64_t kPoolRows = 8;        // of outputs made together
constexpr int64_t kPoolLines = 4096;    // places of their lines, at most
constexpr int64_t kPlaceTable = 256;    // places of a window whose offsets are listed
constexpr int64_t kMaxWindowCost = 12;  // vectors of places that cost as much as the search of one window of a line
constexpr int64_t kSumWindowCost = 4;   // the same of a sum

inline int64_t window_of(const PoolArgs& args) { return args.window[0] * args.window[1] * args.window[2]; }

// body(first, vectors as a constant, lanes of the last) for elements begin ... end - 1 side by side.
template <class T, class F>
PYDL_INLINE void each_panel(int64_t begin, int64_t end, F body) {
  constexpr int size = Vec<T>::size;
  int64_t c = begin;
  for (; c + kPoolPanel * size <= end; c += kPoolPanel * size) body(c, std::integral_constant<int, kPoolPanel>(), size);
  for (; c < end; c += size)
    body(c, std::integral_constant<int, 1>(), end - c < size ? static_cast<int>(end - c) : size);
}

// Outputs of a row whose windows are of full size and lie `stride` apart: none where there are few, or where joining
// these windows at every place costs more than going through them one by one, `window_cost` vectors each.
struct AlikeWindows {
  int64_t first, last, stride;
  int64_t count() const { return last - first; }
};
inline AlikeWindows alike_windows(const PoolArgs& args, int64_t size, int64_t window_cost) {
  const int64_t *begin = args.begin[2], *end = args.end[2], n = args.out[2], most = args.window[2];
  const auto full = [&](int64_t o) { return o < n && end[o] - begin[o] == most; };
  AlikeWindows alike{0, 0, 1};
  if ((most - 1) * args.window[0] * args.window[1] * args.in[2] > window_cost * size * n) return alike;
  while (alike.first < n && !full(alike.first)) ++alike.first;
  alike.last = alike.first;
  if (full(alike.first + 1)) alike.stride = begin[alike.first + 1] - begin[alike.first];
  while (full(alike.last) && begin[alike.last] == begin[alike.first] + alike.count() * alike.stride) ++alike.last;
  if (2 * alike.count() < n) alike.last = alike.first = 0;
  return alike;
}

// A place of a window: where it lies in the plane, and its number in a window of full size.
struct PoolTap {
  int64_t offset, number;
};

// How rows of outputs are made: a few at a time, their lines first.
template <class T>
struct PlaneRows {
  static constexpr int kLanes = Vec<T>::size;
  const PoolArgs& args;
  AlikeWindows alike;
  int64_t across, column, columns;  // a line's taps side by side, its first place and the number of its places
  int64_t pitch, together;          // of lines

  PlaneRows(const PoolArgs& args, int64_t window_cost)
      : args(args), alike(alike_windows(args, kLanes, window_cost)), across(1), column(0), columns(args.in[2]) {
    if (alike.count() > 0) {
      across = args.window[2];
      column = args.begin[2][alike.first];
      columns = (alike.count() - 1) * alike.stride + 1;
    }
    pitch = columns + args.window[2] + 3 * kLanes;
    together = pitch > kPoolLines / kPoolRows ? 1 : kPoolRows;
  }
  const T* image(int64_t row) const {
    const int64_t plane = row / (args.out[0] * args.out[1]);
    return static_cast<const T*>(args.x) + plane * args.in[0] * args.in[1] * args.in[2];
  }
  // The places of a row's windows, the columns of each row `across` at a time.
  int64_t list_taps(int64_t row, int64_t across, PoolTap* taps) const {
    const int64_t oh = row % args.out[1], od = row / args.out[1] % args.out[0];
    int64_t n = 0, from_d = 0;
    for (int64_t d = args.begin[0][od]; d < args.end[0][od];
         d += args.step[0], from_d += args.window[1] * args.window[2]) {
      int64_t from = from_d;
      for (int64_t h = args.begin[1][oh]; h < args.end[1][oh]; h += args.step[1], from += args.window[2])
        for (int64_t t = 0; t < across; ++t) taps[n++] = PoolTap{(d * args.in[1] + h) * args.in[2] + t, from + t};
    }
    return n;
  }
  int64_t most_taps() const { return args.window[0] * args.window[1] * across; }

  // line(source, its taps, how many, columns, where it goes) for the lines of a few rows, then kept(line, first output)
  // for the windows that are alike and output(where its window is, row, o) for the others, which have lines of their
  // own if there are any alike; then done(first row, end).
  template <class Line, class Kept, class Output, class Done>
  PYDL_INLINE void run(Exec& exec, int64_t first, int64_t last, Line line, Kept kept, Output output, Done done) const {
    Scratch<PoolTap> taps(exec, most_taps());
    const int64_t outputs = args.out[2];
    for (int64_t begin = first; begin < last; begin += together) {
      const int64_t end = last - begin < together ? last : begin + together;
      for (int64_t row = begin; row < end; ++row) {
        const int64_t n = list_taps(row, across, taps);
        line(image(row) + column, taps.get(), n, columns, (row - begin) * pitch);
      }
      for (int64_t row = begin; row < end; ++row) {
        if (alike.count() == 0) {
          for (int64_t o = 0; o < outputs; ++o) output((row - begin) * pitch + args.begin[2][o], row, o);
          continue;
        }
        kept((row - begin) * pitch, row * outputs + alike.first);
        if (alike.count() == outputs) continue;
        const int64_t n = list_taps(row, 1, taps);
        for (int64_t o = 0; o < outputs; ++o) {
          if (o == alike.first) o = alike.last;
          if (o == outputs) break;
          line(image(row) + args.begin[2][o], taps.get(), n, args.end[2][o] - args.begin[2][o], 0);
          output(0, row, o);
        }
      }
      done(begin, end);
    }
  }
};

// body(first, vectors as a constant, lanes of the last of them) for a line of n places.
template <class T, class F>
PYDL_INLINE void each_part(int64_t n, F body) {
  constexpr int size = Vec<T>::size;
  const auto lanes = [&](int64_t left) PYDL_LAMBDA { return left < size ? static_cast<int>(left) : size; };
  int64_t c = 0;
  for (; n - c > (kPoolPanel - 1) * size; c += kPoolPanel * size)
    body(c, std::integral_constant<int, kPoolPanel>(), lanes(n - c - (kPoolPanel - 1) * size));
  for (; c < n; c += size) body(c, std::integral_constant<int, 1>(), lanes(n - c));
}

template <bool places, class T>
void max_line(const T* src, const PoolTap* taps, int64_t n, int64_t columns, T* line, LaneInt<T>* number) {
  using V = Vec<T>;
  using L = Vec<LaneInt<T>>;
  each_part<T>(columns, [&](int64_t c, auto vectors, int lanes) PYDL_LAMBDA {
    constexpr int k = decltype(vectors)::value;
    V best[k];
    L place[k];
    repeat<k>([&](auto j) PYDL_LAMBDA { best[j] = V(-__builtin_inf()); });
    for (int64_t t = 0; t < n; ++t) {
      const T* from = src + c + taps[t].offset;
      repeat<k>([&](auto j) PYDL_LAMBDA {
        const V v = load_some<V>(from + j * V::size, j == k - 1 ? lanes : V::size);
        if constexpr (places) {  // the first of equal ones; the last NaN, as PyTorch's
          const auto better = (v > best[j]) | isnan(v);
          best[j] = select(better, v, best[j]);
          place[j] = select(Mask<LaneInt<T>>(better), L(static_cast<LaneInt<T>>(taps[t].number)), place[j]);
        } else {
          best[j] = max(v, best[j]);
        }
      });
    }
    repeat<k>([&](auto j) PYDL_LAMBDA {
      best[j].store(line + c + j * V::size);
      if constexpr (places) place[j].store(number + c + j * V::size);
    });
  });
}

template <class T>
void sum_line(const T* src, const PoolTap* taps, int64_t n, int64_t columns, T* line) {
  using V = Vec<T>;
  each_part<T>(columns, [&](int64_t c, auto vectors, int lanes) PYDL_LAMBDA {
    constexpr int k = decltype(vectors)::value;
    V total[k];
    for (int64_t t = 0; t < n;) {
      V sum[k];
      for (const int64_t stop = n - t < kPoolBlock ? n : t + kPoolBlock; t < stop; ++t) {
        const T* from = src + c + taps[t].offset;
        repeat<k>([&](auto j)
                      PYDL_LAMBDA { sum[j] += load_some<V>(from + j * V::size, j == k - 1 ? lanes : V::size); });
      }
      repeat<k>([&](auto j) PYDL_LAMBDA { total[j] += sum[j]; });
    }
    repeat<k>([&](auto j) PYDL_LAMBDA { total[j].store(line + c + j * V::size); });
  });
}

template <class T>
PYDL_INLINE Mask<T> first_lanes(int64_t n) {
  using L = Vec<LaneInt<T>>;
  return Mask<T>(L::iota() < L(static_cast<LaneInt<T>>(n)));
}

// The largest of n places, and its number.
template <class T>
PYDL_INLINE T max_of_line(const T* line, int64_t n) {
  using V = Vec<T>;
  V most(-__builtin_inf());
  for (int64_t w = 0; w < n; w += V::size) most = select(first_lanes<T>(n - w), max(most, V::load(line + w)), most);
  return reduce_max(most);
}
template <class T>
PYDL_INLINE int64_t number_of(T best, const T* line, const LaneInt<T>* number, int64_t n) {
  using V = Vec<T>;
  using Int = LaneInt<T>;
  using L = Vec<Int>;
  const L turn(best != best ? Int(-1) : Int(0));  // turned numbers are in falling order
  L least(static_cast<Int>(INT32_MAX));
  for (int64_t w = 0; w < n; w += V::size) {
    const V v = V::load(line + w);
    const L place = L::load(number + w) + L::iota() + L(static_cast<Int>(w));
    const Mask<T> hit = ((v == V(best)) | (isnan(v) & isnan(V(best)))) & first_lanes<T>(n - w);
    least = min(least, select(Mask<Int>(hit), place ^ turn, least));
  }
  return reduce_min(least) ^ turn.lane(0);
}

// dst[i] = line[i * stride] for i < n, of a stride of 0 too; line is readable for two vectors more.
template <class T>
PYDL_INLINE void keep_every(int64_t stride, const T* line, int64_t n, T* dst) {
  using V = Vec<T>;
  int64_t i = 0;
  for (; (stride == 1 || stride == 2) && i < n; i += V::size) {
    const T* from = line + i * stride;
    const V a = V::load(from), b = V::load(from + V::size);
    const V v = stride == 1 ? a : every_other(a, b, 0, std::make_integer_sequence<int, V::size>());
    store_some(v, dst + i, n - i < V::size ? static_cast<int>(n - i) : V::size);
  }
  for (; i < n; ++i) dst[i] = line[i * stride];
}

// body(first row of outputs, end) of a batch of planes.
template <class F>
PYDL_INLINE void each_plane_row(const PoolArgs& args, Exec& exec, F body) {
  const int64_t work = args.in[2] * args.window[0] * args.window[1] + args.out[2] * args.window[2];
  parallel_for(exec, args.batch * args.out[0] * args.out[1], 1 + kPoolGrain / (work + 1), body);
}

// The first zero of a window whose largest element it is: of equal elements the first is taken, and -0 equals 0.
template <class T>
T first_zero(const PoolArgs& args, const T* image, int64_t row, int64_t o) {
  const int64_t oh = row % args.out[1], od = row / args.out[1] % args.out[0];
  for (int64_t d = args.begin[0][od]; d < args.end[0][od]; d += args.step[0]) {
    for (int64_t h = args.begin[1][oh]; h < args.end[1][oh]; h += args.step[1]) {
      const T* line = image + (d * args.in[1] + h) * args.in[2];
      for (int64_t w = args.begin[2][o]; w < args.end[2][o]; ++w)
        if (line[w] == T(0)) return line[w];
    }
  }
  return T(0);
}

// False where windows skip columns.
template <class T>
bool max_pool_planes(const PoolArgs& args, Exec& exec) {
  if (args.step[2] != 1) return false;
  const PlaneRows<T> rows(args, kMaxWindowCost);
  T* y = const_cast<T*>(static_cast<const T*>(args.y));
  const bool bytes = window_of(args) <= kPlaceTable, places = args.ws_place != nullptr;
  const auto put_place = [&](int64_t at, int64_t place) {
    if (bytes)
      static_cast<uint8_t*>(args.ws_place)[at] = static_cast<uint8_t>(place);
    else
      static_cast<int32_t*>(args.ws_place)[at] = static_cast<int32_t>(place);
  };
  each_plane_row(args, exec, [&](int64_t first, int64_t last) {
    Scratch<T> lines(exec, rows.together * rows.pitch);
    Scratch<LaneInt<T>> numbers(exec, rows.together * rows.pitch);
    rows.run(
        exec, first, last,
        [&](const T* src, const PoolTap* taps, int64_t n, int64_t columns, int64_t to) {
          places ? max_line<true>(src, taps, n, columns, lines + to, numbers + to)
                 : max_line<false>(src, taps, n, columns, lines + to, numbers + to);
        },
        [&](int64_t from, int64_t at) {
          const int64_t stride = rows.alike.stride, n = rows.alike.count();
          keep_every<T>(stride, lines + from, n, y + at);
          if (places)
            for (int64_t o = 0; o < n; ++o) put_place(at + o, numbers[from + o * stride]);
        },
        [&](int64_t from, int64_t row, int64_t o) {
          const int64_t n = args.end[2][o] - args.begin[2][o], at = row * args.out[2] + o;
          const T best = max_of_line<T>(lines + from, n);
          y[at] = best == T(0) ? first_zero(args, rows.image(row), row, o) : best;
          if (places) put_place(at, number_of<T>(best, lines + from, numbers + from, n));
        },
        [](int64_t, int64_t) {});
  });
  return true;
}

// Adds up what each output sent to its place.
template <class T>
void max_pool_planes_backward(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t size = args.in[0] * args.in[1] * args.in[2], outputs = args.out[0] * args.out[1] * args.out[2];
  const int64_t wide = args.window[2], high = args.window[1] * wide;
  const bool bytes = window_of(args) <= kPlaceTable;
  const auto offset_of = [&](int64_t place) {
    return (place / high * args.step[0] * args.in[1] + place % high / wide * args.step[1]) * args.in[2] +
           place % wide * args.step[2];
  };
  parallel_for(exec, args.batch, 1 + kPoolGrain / (size + outputs), [&](int64_t first, int64_t last) {
    Scratch<int64_t> offsets(exec, kPlaceTable);
    if (bytes)
      for (int64_t p = 0; p < window_of(args); ++p) offsets[p] = offset_of(p);
    for (int64_t n = first; n < last; ++n) {
      T* d_x = const_cast<T*>(static_cast<const T*>(args.x)) + n * size;
      each_vector<T>(size, [&](int64_t c, int lanes) { store_some(V(0), d_x + c, lanes); });
      int64_t at = n * outputs;
      const T* g = static_cast<const T*>(args.y);
      for (int64_t od = 0; od < args.out[0]; ++od) {
        for (int64_t oh = 0; oh < args.out[1]; ++oh) {
          T* dst = d_x + (args.begin[0][od] * args.in[1] + args.begin[1][oh]) * args.in[2];
          for (int64_t ow = 0; ow < args.out[2]; ++ow, ++at) {
            const int64_t offset = bytes ? offsets[static_cast<const uint8_t*>(args.ws_place)[at]]
                                         : offset_of(static_cast<const int32_t*>(args.ws_place)[at]);
            dst[args.begin[2][ow] + offset] += g[at];
          }
        }
      }
    }
  });
}

// Divisors of averages: the widths of windows as they count, in T.
template <class T>
struct Divisors {
  const PoolArgs* args;
  Scratch<T> width;
  Divisors(const PoolArgs& args, Exec& exec) : args(&args), width(exec, args.out[2] + Vec<T>::size) {
    for (int64_t o = 0; o < args.out[2]; ++o)
      width[o] = args.divisor_override != 0.0 ? T(1) : static_cast<T>(args.divisor[2][o]);
  }
  // Of the outputs of a row from o on.
  Vec<T> of(int64_t od, int64_t oh, int64_t o) const {
    const bool given = args->divisor_override != 0.0;
    const T height = static_cast<T>(given ? args->divisor_override
                                          : static_cast<double>(args->divisor[0][od] * args->divisor[1][oh]));
    return Vec<T>(height) * Vec<T>::load(width + o);
  }
};

// Lanes whose sum is that of n places.
template <class T>
PYDL_INLINE Vec<T> sum_of_line(const T* line, int64_t n) {
  using V = Vec<T>;
  if (n <= V::size) return V::load_partial(line, static_cast<int>(n));
  V total;
  for (int64_t w = 0; w < n;) {
    V sum;
    for (const int64_t stop = n - w < kPoolBlock * V::size ? n : w + kPoolBlock * V::size; w < stop; w += V::size)
      sum += load_some<V>(line + w, stop - w < V::size ? static_cast<int>(stop - w) : V::size);
    total += sum;
  }
  return total;
}

template <class T>
void avg_pool_planes(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  const PlaneRows<T> rows(args, kSumWindowCost);
  each_plane_row(args, exec, [&](int64_t first, int64_t last) {
    Scratch<T> lines(exec, rows.together * rows.pitch);
    const Divisors<T> divisors(args, exec);
    T* y = const_cast<T*>(static_cast<const T*>(args.y));
    V each[V::size];  // windows of lines, added up together
    T* to[V::size];
    int waiting = 0;
    const auto add_up = [&] {
      const V sums = V::template reduce_each<V::size>(each, [](V a, V b) { return a + b; });
      for (int j = 0; j < waiting; ++j) *to[j] = sums.lane(j);
      waiting = 0;
    };
    rows.run(
        exec, first, last,
        [&](const T* src, const PoolTap* taps, int64_t n, int64_t columns, int64_t to) {
          sum_line(src, taps, n, columns, lines + to);
        },
        [&](int64_t from, int64_t at) { keep_every<T>(rows.alike.stride, lines + from, rows.alike.count(), y + at); },
        [&](int64_t from, int64_t row, int64_t o) {
          each[waiting] = sum_of_line<T>(lines + from, args.end[2][o] - args.begin[2][o]);
          to[waiting] = y + row * args.out[2] + o;
          if (++waiting == V::size) add_up();
        },
        [&](int64_t begin, int64_t end) {
          if (waiting > 0) add_up();
          for (int64_t row = begin; row < end; ++row) {
            const int64_t oh = row % args.out[1], od = row / args.out[1] % args.out[0];
            T* dst = y + row * args.out[2];
            each_vector<T>(args.out[2], [&](int64_t o, int lanes) {
              store_some(load_some<V>(dst + o, lanes) / divisors.of(od, oh, o), dst + o, lanes);
            });
          }
        });
  });
}

// line[w] = value[o] where one of the outputs o = first, first + apart, ... sees column w, which no two of them do,
// else 0. May write a vector more than the row.
template <class T>
PYDL_INLINE void spread(const PoolArgs& args, const T* value, int64_t first, int64_t apart, T* line) {
  using V = Vec<T>;
  int64_t w = 0;
  const auto fill = [&](V v, int64_t end) {
    for (; w < end; w += V::size) v.store(line + w);
    w = end;
  };
  for (int64_t o = first; o < args.out[2]; o += apart) {
    fill(V(0), args.begin[2][o]);
    fill(V(value[o]), args.end[2][o]);
  }
  fill(V(0), args.in[2]);
}

// Every row of the input is made from the rows of outputs that see it, added up; or copied from the row above it where
// these are the same.
template <class T>
bool avg_pool_planes_backward(const PoolArgs& args, Exec& exec) {
  using V = Vec<T>;
  const int64_t width = args.in[2], outputs = args.out[2], pitch = width + V::size;
  int64_t apart = 1;  // outputs so far from each other see no column in common
  for (int64_t o = 0; o < outputs; ++o)
    while (o + apart < outputs && args.begin[2][o + apart] < args.end[2][o]) ++apart;
  if (apart > kPoolOverlap) return false;
  const int64_t rows = args.batch * args.in[0] * args.in[1];
  parallel_for(exec, rows, 1 + kPoolGrain / (width * (apart + 1)), [&](int64_t first, int64_t last) {
    Scratch<T> lines(exec, apart * pitch), value(exec, outputs + V::size);
    const Divisors<T> divisors(args, exec);
    for (int64_t i = first; i < last; ++i) {
      const int64_t h = i % args.in[1], d = i / args.in[1] % args.in[0], n = i / (args.in[1] * args.in[0]);
      const int64_t *from = args.cover_begin[1], *to = args.cover_end[1];
      if (i == first || h == 0 || from[h] != from[h - 1] || to[h] != to[h - 1]) {
        each_vector<T>(outputs, [&](int64_t c, int lanes) {
          V sum;
          for (int64_t od = args.cover_begin[0][d]; od < args.cover_end[0][d]; ++od) {
            for (int64_t oh = from[h]; oh < to[h]; ++oh) {
              const T* g = static_cast<const T*>(args.y) + ((n * args.out[0] + od) * args.out[1] + oh) * outputs;
              sum += load_some<V>(g + c, lanes) / divisors.of(od, oh, c);
            }
          }
          sum.store(value + c);
        });
        for (int64_t a = 0; a < apart; ++a) spread<T>(args, value, a, apart, lines + a * pitch);
      }
      T* dst = const_cast<T*>(static_cast<const T*>(args.x)) + i * width;
      each_vector<T>(width, [&](int64_t c, int lanes) {
        V sum = V::load(lines + c);
        for (int64_t a = 1; a < apart; ++a) sum += V::load(lines + a * pitch + c);
        store_some(sum, dst + c, lanes);
      });
    }
  });
  return true;
}

}  // namespace
}  // namespace pydl
