// Convolution to few channels, of a group: some rows of the image are copied with their padding, and the micro-kernel
// reads patches there, one run of memory for each row of the kernel. Packed patches would cost as much as the product.
#pragma once
#include "backend/cpu/conv_gather.h"

namespace pydl {
namespace {

constexpr int64_t kStagedBytes = 96 * 1024;     // of the rows of one block: they stay in L2
constexpr int64_t kLongRows = 4;                // times what would fit, which are cut
constexpr int64_t kLeastPiece = 64;             // destinations of a row that is cut, or half as many
constexpr int64_t kStagedChannels = 64;         // of the destination, at most
constexpr int64_t kStagedWeights = 768 * 1024;  // bytes, which each block reads, of more channels of the source

template <class T>
bool staged_possible(const Gather<T>& g) {
  if (!g.dense() || g.taps() == 1 || g.dst_channels > kStagedChannels) return false;
  const int64_t panels = round_up(g.dst_channels, GemmTile<T>::kCols);
  return g.src_channels <= kStagedChannels || g.depth() * panels * static_cast<int64_t>(sizeof(T)) <= kStagedWeights;
}

// What the tiles of one product have in common: the sum over `lines` rows of the kernel (its taps, where they are
// dilated), each a run of k.
struct StagedSpec {
  const int64_t* line;  // (lines): where each begins in the staged rows
  int64_t lines, run;
  int64_t a_row, dst_row;
  bool adds;      // to what dst holds
  int64_t asked;  // rows of dst that memory is asked for at each line
};

template <class T, int kRows, int kVectors>
__attribute__((noinline)) void staged_tile(const StagedSpec& s, const T* a, const T* b, T* dst, const T* bias) {
  using V = Vec<T>;
  constexpr int kLanes = V::size, kSums = kRows * kVectors, kGroups = (kRows + 2) / 3;
  Unset<V, kSums> sum;
  repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] = V(); });
  const int64_t a_row = s.a_row, dst_row = s.dst_row;
  RowRequests<T> requests(dst, dst_row, kRows);
  for (int64_t line = 0; line < s.lines; ++line) {
    requests.template send<kVectors * kLanes>(s.asked);
    const T* rows[kGroups];
    repeat<kGroups>([&](auto g) PYDL_LAMBDA { rows[g] = a + s.line[line] + 3 * g * a_row; });
    for (int64_t p = 0; p < s.run; ++p) {
      Unset<V, kVectors> bv;
      repeat<kVectors>([&](auto v) PYDL_LAMBDA { bv[v] = V::load(b + v * kLanes); });
      repeat<kRows>([&](auto i) PYDL_LAMBDA {
        const V av(rows[i / 3][(i % 3) * a_row]);
        repeat<kVectors>([&](auto v) PYDL_LAMBDA { sum[i * kVectors + v] = fma(av, bv[v], sum[i * kVectors + v]); });
      });
      repeat<kGroups>([&](auto g) PYDL_LAMBDA { ++rows[g]; });
      b += GemmTile<T>::kCols;
    }
  }
  if (s.adds) {
    repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] += V::load(dst + x / kVectors * dst_row + x % kVectors * kLanes); });
  }
  if (bias != nullptr) repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x] += V::load(bias + x % kVectors * kLanes); });
  repeat<kSums>([&](auto x) PYDL_LAMBDA { sum[x].store(dst + x / kVectors * dst_row + x % kVectors * kLanes); });
}

template <class T>
using StagedFunction = void (*)(const StagedSpec&, const T*, const T*, T*, const T*);

template <class T, int kVectors, int kRows = GemmTile<T>::kRows>
PYDL_INLINE StagedFunction<T> staged_function(int64_t rows) {
  if constexpr (kRows == 1) {
    return staged_tile<T, 1, kVectors>;
  } else {
    if (rows == kRows) return staged_tile<T, kRows, kVectors>;
    return staged_function<T, kVectors, kRows - 1>(rows);
  }
}

// One row of destinations (pixels, cols) against one panel of weights.
template <class T>
void staged_row(const StagedSpec& s, int64_t pixels, int cols, const T* a, const T* b, T* dst, const T* bias) {
  using Tile = GemmTile<T>;
  constexpr int kLanes = Tile::kLanes;
  const RowTiles tiles = row_tiles<T>(pixels);
  for (int64_t t = 0; t < tiles.count; ++t) {
    const int64_t height = tiles.height + (t < tiles.tall ? 1 : 0);
    const StagedFunction<T> tile = cols <= kLanes ? staged_function<T, 1>(height) : staged_function<T, 2>(height);
    if (cols == kLanes || cols == Tile::kCols) {
      tile(s, a, b, dst, bias);
    } else {
      T sums[Tile::kRows * Tile::kCols];
      StagedSpec plain = s;
      plain.dst_row = Tile::kCols;
      plain.adds = false;
      plain.asked = 0;
      tile(plain, a, b, sums, nullptr);
      const BlockSpec<T> end{0, 0, 0, 0, 0, s.dst_row, T(1), s.adds ? T(1) : T(0)};
      finish_rows(end, sums, Tile::kCols, height, cols, dst, bias);
    }
    a += height * s.a_row;
    dst += height * s.dst_row;
  }
}

// `pixels` of a row of the source, from first_w on, of one group's channels and with zeros where it has none; of no
// row, zeros.
template <class T>
void stage_row(const Gather<T>& g, const T* row, int64_t first_w, int64_t pixels, T* to) {
  const int64_t channels = g.src_channels;
  if (row == nullptr) return zero_run(pixels * channels, to);
  int64_t left = -first_w < 0 ? 0 : -first_w;
  if (left > pixels) left = pixels;
  int64_t right = g.axis[2].src_size - first_w;
  if (right > pixels) right = pixels;
  if (right < left) right = left;
  zero_run(left * channels, to);
  if (g.src_pixel == channels) {
    copy_run(row + (first_w + left) * channels, (right - left) * channels, to + left * channels);
  } else {
    for (int64_t x = left; x < right; ++x) copy_run(row + (first_w + x) * g.src_pixel, channels, to + x * channels);
  }
  zero_run((pixels - right) * channels, to + right * channels);
}

template <class T>
void staged(const Gather<T>& g, Exec& exec) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  const int64_t channels = g.src_channels, depth = g.depth(), panels = ceil_div(g.dst_channels, kCols);
  if (g.pixels() == 0) return;
  Scratch<T> weights(exec, g.groups * panels * depth * kCols);
  const DepthParts whole(g.taps(), channels, depth);
  parallel_for(exec, g.groups * panels, 1 + 16384 / (depth * kCols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      pack_weight_panel(g, whole, i / panels, i % panels, weights + i / panels * panels * depth * kCols, exec);
  });

  // Blocks of rows of destinations in one slice of one image; rows that are long, or all there is, are cut as well.
  const int64_t reach = (ah.taps - 1) * ah.tap_step + 1, reach_w = (aw.taps - 1) * aw.tap_step + 1;
  const int64_t fit = kStagedBytes / static_cast<int64_t>(sizeof(T)) / (ad.taps * reach * channels);
  const int64_t wide = (aw.count - 1) * aw.step + reach_w;
  int64_t cut = (fit - reach_w) / aw.step + 1;
  if (cut < kLeastPiece) cut = kLeastPiece;
  const int64_t cuts = ah.count == 1 || wide > kLongRows * fit ? ceil_div(aw.count, cut) : 1;
  const int64_t across = aw.tap_step == 1 ? 1 : aw.taps, run = aw.taps / across * channels;
  const int64_t line = ((ceil_div(aw.count, cuts) - 1) * aw.step + reach_w) * channels;
  const int64_t lines = ad.taps * ah.taps * across;
  const int64_t slices = g.batch * ad.count, work = g.pixels() * depth * g.dst_pixel();
  int64_t block = (kStagedBytes / static_cast<int64_t>(sizeof(T)) / (line * ad.taps) - reach) / ah.step;
  const int64_t least = ceil_div(reach, ah.step);  // or most of the copying would be twice
  if (block < least) block = least;
  if (slices < 4 * exec.threads && work > kConvSerialWork) {
    const int64_t wanted = ceil_div(ah.count, ceil_div(4 * exec.threads, slices));
    if (block > wanted) block = wanted;
  }
  const int64_t blocks = ceil_div(ah.count, block > 0 ? block : 1);
  const int64_t most = ceil_div(ah.count, blocks), staged_lines = (most - 1) * ah.step + reach;
  const int64_t slab = staged_lines * line;
  // Rows of the kernel whose part of a panel stays in L1.
  const int64_t lines_each = run >= kTileDepth ? 1 : kTileDepth / run;
  const int64_t tasks = slices * blocks * cuts, grain = work < kConvSerialWork ? tasks : 1;
  parallel_for(exec, tasks, grain, [&](int64_t begin, int64_t end) {
    Scratch<T> rows(exec, ad.taps * slab);
    Scratch<int64_t> places(exec, lines);
    for (int64_t i = 0; i < lines; ++i) {
      const int64_t row = i / across;
      places[i] = row / ah.taps * slab + row % ah.taps * ah.tap_step * line + i % across * aw.tap_step * channels;
    }
    for (int64_t task = begin; task < end; ++task) {
      const int64_t slice = task / cuts / blocks, n = slice / ad.count, d = slice % ad.count;
      const int64_t block_of = task / cuts % blocks, piece = task % cuts;
      const int64_t h0 = ah.count * block_of / blocks, h1 = ah.count * (block_of + 1) / blocks;
      const int64_t w0 = aw.count * piece / cuts, count_w = aw.count * (piece + 1) / cuts - w0;
      const int64_t first_w = aw.first + w0 * aw.step, pixels = (count_w - 1) * aw.step + reach_w;
      const int64_t used = (h1 - h0 - 1) * ah.step + reach;
      const int64_t dst_line = aw.count * g.dst_pixel();
      T* dst = g.dst + (slice * ah.count + h0) * dst_line + w0 * g.dst_pixel();
      for (int64_t group = 0; group < g.groups; ++group) {
        for (int64_t jd = 0; jd < ad.taps; ++jd) {
          const int64_t sd = d * ad.step + ad.first + jd * ad.tap_step;
          for (int64_t i = 0; i < used; ++i) {
            const int64_t sh = h0 * ah.step + ah.first + i;
            const bool inside = sd >= 0 && sd < ad.src_size && sh >= 0 && sh < ah.src_size;
            const int64_t row = n * g.src_batch + (sd * ah.src_size + sh) * aw.src_size * g.src_pixel;
            stage_row(g, inside ? g.src + row + group * channels : nullptr, first_w, pixels,
                      rows.get() + jd * slab + i * line);
          }
        }
        for (int64_t first = 0; first < lines; first += lines_each) {
          const int64_t count = lines - first < lines_each ? lines - first : lines_each;
          const StagedSpec s{places.get() + first,
                             count,
                             run,
                             aw.step * channels,
                             g.dst_pixel(),
                             first > 0,
                             ceil_div(int64_t{GemmTile<T>::kRows}, count)};
          const bool last = first + count == lines;
          for (int64_t panel = 0; panel < panels; ++panel) {
            const int64_t col = panel * kCols;
            const int cols = static_cast<int>(g.dst_channels - col < kCols ? g.dst_channels - col : kCols);
            for (int64_t h = 0; h < h1 - h0; ++h) {
              staged_row<T>(s, count_w, cols, rows.get() + h * ah.step * line,
                            weights.get() + ((group * panels + panel) * depth + first * run) * kCols,
                            dst + h * dst_line + group * g.dst_channels + col,
                            last && g.bias != nullptr ? g.bias + group * g.dst_channels + col : nullptr);
            }
          }
        }
      }
      if (g.relu) relu_rows(h1 - h0, count_w * g.dst_pixel(), dst, dst_line);
    }
  });
}

}  // namespace
}  // namespace pydl
