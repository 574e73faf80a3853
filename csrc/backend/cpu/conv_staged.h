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
constexpr int64_t kStagedWeights = 768 * 1024;  // bytes of a group's, of more channels of the source

template <class T>
bool staged_possible(const Gather<T>& g) {
  if (!g.dense() || g.taps() == 1 || g.dst_channels > kStagedChannels) return false;
  const int64_t columns = round_up(g.dst_channels, GemmTile<T>::kCols);
  return g.src_channels <= kStagedChannels || g.depth() * columns * static_cast<int64_t>(sizeof(T)) <= kStagedWeights;
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

// How destinations are cut, and the source rows that a piece sees staged: rows of one slice of one image in blocks;
// rows that are long, or all there is, in pieces.
template <class T>
struct StagedPieces {
  const Gather<T>& g;
  int64_t reach, reach_w;        // rows and columns of the source that one destination spans
  int64_t across, run;           // runs of memory in a row of the kernel, and their length
  int64_t cuts, blocks, slices;  // pieces of a row, blocks of rows, slices of all images
  int64_t line, slab;            // elements of a staged row, and of those for one of the kernel's slices

  struct Piece {
    int64_t n, d;                    // image and slice
    int64_t row, rows;               // of destinations
    int64_t column, columns;         // of destinations
    int64_t first_w, pixels, lines;  // of the source: first column, and how much is staged
  };

  StagedPieces(const Gather<T>& g, int threads) : g(g), slices(g.batch * g.axis[0].count) {
    const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
    reach = (ah.taps - 1) * ah.tap_step + 1;
    reach_w = (aw.taps - 1) * aw.tap_step + 1;
    across = aw.tap_step == 1 ? 1 : aw.taps;
    run = aw.taps / across * g.src_channels;
    constexpr int64_t kFits = kStagedBytes / static_cast<int64_t>(sizeof(T));
    const int64_t fit = kFits / (ad.taps * reach * g.src_channels), wide = (aw.count - 1) * aw.step + reach_w;
    int64_t cut = (fit - reach_w) / aw.step + 1;
    if (cut < kLeastPiece) cut = kLeastPiece;
    cuts = ah.count == 1 || wide > kLongRows * fit ? ceil_div(aw.count, cut) : 1;
    line = ((ceil_div(aw.count, cuts) - 1) * aw.step + reach_w) * g.src_channels;
    int64_t block = (kFits / (line * ad.taps) - reach) / ah.step;
    const int64_t least = ceil_div(reach, ah.step);  // or most of the copying would be twice
    if (block < least) block = least;
    if (slices < 4 * threads && work() > kConvSerialWork) {
      const int64_t wanted = ceil_div(ah.count, ceil_div(int64_t{4} * threads, slices));
      if (block > wanted) block = wanted;
    }
    blocks = ceil_div(ah.count, block > 0 ? block : 1);
    slab = ((ceil_div(ah.count, blocks) - 1) * ah.step + reach) * line;
  }
  int64_t work() const { return g.pixels() * g.depth() * g.dst_pixel(); }
  int64_t count() const { return slices * blocks * cuts; }
  int64_t lines() const { return g.axis[0].taps * g.axis[1].taps * across; }
  int64_t staged_size() const { return g.axis[0].taps * slab; }

  // Where each of the kernel's lines begins in the staged rows.
  void list_lines(int64_t* places) const {
    const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
    for (int64_t i = 0; i < lines(); ++i) {
      const int64_t row = i / across;
      places[i] = row / ah.taps * slab + row % ah.taps * ah.tap_step * line + i % across * aw.tap_step * g.src_channels;
    }
  }
  Piece piece(int64_t number) const {
    const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
    const int64_t slice = number / cuts / blocks, block = number / cuts % blocks, cut = number % cuts;
    Piece p;
    p.n = slice / ad.count;
    p.d = slice % ad.count;
    p.row = ah.count * block / blocks;
    p.rows = ah.count * (block + 1) / blocks - p.row;
    p.column = aw.count * cut / cuts;
    p.columns = aw.count * (cut + 1) / cuts - p.column;
    p.first_w = aw.first + p.column * aw.step;
    p.pixels = (p.columns - 1) * aw.step + reach_w;
    p.lines = (p.rows - 1) * ah.step + reach;
    return p;
  }
  void stage(const Piece& p, int64_t group, T* rows) const {
    const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
    const T* src = g.src + p.n * g.src_batch + group * g.src_channels;
    for (int64_t jd = 0; jd < ad.taps; ++jd) {
      const int64_t d = p.d * ad.step + ad.first + jd * ad.tap_step;
      for (int64_t i = 0; i < p.lines; ++i) {
        const int64_t h = p.row * ah.step + ah.first + i;
        const bool inside = d >= 0 && d < ad.src_size && h >= 0 && h < ah.src_size;
        const T* row = inside ? src + (d * ah.src_size + h) * aw.src_size * g.src_pixel : nullptr;
        stage_row(g, row, p.first_w, p.pixels, rows + jd * slab + i * line);
      }
    }
  }
};

// The destinations of one piece, of one group, whose rows are staged and whose weights are packed.
template <class T>
void staged_product(const StagedPieces<T>& pieces, const typename StagedPieces<T>::Piece& p, int64_t group,
                    const T* rows, const int64_t* places, const T* weights, T* dst) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const Gather<T>& g = pieces.g;
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  const int64_t lines = pieces.lines(), panels = ceil_div(g.dst_channels, kCols);
  // Rows of the kernel whose part of a panel stays in L1.
  const int64_t lines_each = pieces.run >= kTileDepth ? 1 : kTileDepth / pieces.run;
  for (int64_t first = 0; first < lines; first += lines_each) {
    const int64_t count = lines - first < lines_each ? lines - first : lines_each;
    const StagedSpec s{places + first,
                       count,
                       pieces.run,
                       aw.step * g.src_channels,
                       g.dst_pixel(),
                       first > 0,
                       ceil_div(int64_t{GemmTile<T>::kRows}, count)};
    const bool last = first + count == lines;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t col = panel * kCols, channel = group * g.dst_channels + col;
      const int cols = static_cast<int>(g.dst_channels - col < kCols ? g.dst_channels - col : kCols);
      const T* b = weights + ((group * panels + panel) * g.depth() + first * pieces.run) * kCols;
      for (int64_t h = 0; h < p.rows; ++h) {
        staged_row<T>(s, p.columns, cols, rows + h * ah.step * pieces.line, b,
                      dst + h * aw.count * g.dst_pixel() + channel,
                      last && g.bias != nullptr ? g.bias + channel : nullptr);
      }
    }
  }
}

template <class T>
void staged(const Gather<T>& g, Exec& exec) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const GatherAxis &ah = g.axis[1], &aw = g.axis[2];
  const int64_t depth = g.depth(), panels = ceil_div(g.dst_channels, kCols);
  if (g.pixels() == 0) return;
  Scratch<T> weights(exec, g.groups * panels * depth * kCols);
  const DepthParts whole(g.taps(), g.src_channels, depth);
  parallel_for(exec, g.groups * panels, 1 + 16384 / (depth * kCols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      pack_weight_panel(g, whole, i / panels, i % panels, weights + i / panels * panels * depth * kCols, exec);
  });

  const StagedPieces<T> pieces(g, exec.threads);
  const int64_t grain = pieces.work() < kConvSerialWork ? pieces.count() : 1;
  parallel_for(exec, pieces.count(), grain, [&](int64_t begin, int64_t end) {
    Scratch<T> rows(exec, pieces.staged_size());
    Scratch<int64_t> places(exec, pieces.lines());
    pieces.list_lines(places);
    for (int64_t i = begin; i < end; ++i) {
      const auto p = pieces.piece(i);
      const int64_t dst_line = aw.count * g.dst_pixel();
      T* dst = g.dst + ((p.n * g.axis[0].count + p.d) * ah.count + p.row) * dst_line + p.column * g.dst_pixel();
      for (int64_t group = 0; group < g.groups; ++group) {
        pieces.stage(p, group, rows);
        staged_product<T>(pieces, p, group, rows, places, weights, dst);
      }
      if (g.relu) relu_rows(p.rows, p.columns * g.dst_pixel(), dst, dst_line);
    }
  });
}

}  // namespace
}  // namespace pydl
