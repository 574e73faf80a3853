// Convolutions of stride 1 with square kernels of 3 to 5 taps by Winograd's minimal filtering: the transforms of
// winograd_transforms.h turn them into 36 matrix products over channels.
//
// What is not finite would spread over its tile, and large numbers could overflow on the way: where an output is not
// finite, the caller is told, and makes all of them by plain sums.
#pragma once
#include "backend/cpu/conv_gather.h"
#include "backend/cpu/stream.h"
#include "backend/cpu/winograd_transforms.h"

namespace pydl {
namespace {

constexpr int64_t kTransformedBytes = 640 * 1024;        // of a block of tiles, before and after the products
constexpr int64_t kMinTiles = 24, kMaxTiles = 96;        // of a block
constexpr int64_t kManyWeights = 4 * 1024 * 1024;        // transformed ones, which each block reads from memory
constexpr int64_t kFewTiles = 128, kFewTilesDepth = 96;  // of the way for few tiles; channels of a part of the weights

// Images cut into tiles of out x out outputs; slices of a volume are images of their own. Planes of a transformed
// block: (plane, tile, channel).
struct Tiling {
  int64_t images, depth;  // of all slices; slices of one volume
  int64_t down, across;   // tiles of an image
  int64_t out;            // outputs of a tile along an axis
  int64_t count() const { return images * down * across; }
};

// Tile number t of a tiling.
struct TileCursor {
  int64_t n, y, x;
  TileCursor(const Tiling& tiling, int64_t t)
      : n(t / tiling.across / tiling.down), y(t / tiling.across % tiling.down), x(t % tiling.across) {}
  void next(const Tiling& tiling) {
    if (++x < tiling.across) return;
    x = 0;
    if (++y < tiling.down) return;
    y = 0;
    ++n;
  }
};

// Where the tiles come from: images of (height, width) pixels whose channels are contiguous. Tile (0, 0) begins at
// pixel (-pad_y, -pad_x).
struct TileSource {
  const float* data;
  int64_t batch, pixel, height, width, pad_y, pad_x;
  const float* image(const Tiling& tiling, int64_t n) const {
    return data + n / tiling.depth * batch + n % tiling.depth * height * width * pixel;
  }
};

// Pointers to the pixels of a tile of size x size, or to zeros where it lies outside of the image.
template <int size>
PYDL_INLINE void tile_pixels(const float* image, int64_t height, int64_t width, int64_t pixel, int64_t y, int64_t x,
                             const float* zeros, const float* (&at)[size * size]) {
  for (int i = 0; i < size; ++i) {
    const bool inside = y + i >= 0 && y + i < height;
    const float* line = image + ((y + i) * width + x) * pixel;
    for (int j = 0; j < size; ++j) at[i * size + j] = inside && x + j >= 0 && x + j < width ? line + j * pixel : zeros;
  }
}

// Channels [0, channels) of tiles [first, first + tiles) through a transform; rows of planes are `row` apart, a vector
// at least: masked stores are slow.
template <int size, bool unrolled, class Transform>
void transform_tiles(const Tiling& tiling, const TileSource& src, int64_t channels, int64_t first, int64_t tiles,
                     const float* zeros, float* planes, int64_t plane, int64_t row, Transform transform) {
  constexpr int kLanes = FloatVec::size;
  TileCursor tile(tiling, first);
  for (int64_t t = 0; t < tiles; ++t, planes += row, tile.next(tiling)) {
    const float* at[size * size];
    tile_pixels<size>(src.image(tiling, tile.n), src.height, src.width, src.pixel, tile.y * tiling.out - src.pad_y,
                      tile.x * tiling.out - src.pad_x, zeros, at);
    for (int64_t next = 0; next < channels; next += kLanes) {
      int64_t c = next;
      if (c + kLanes > channels && channels >= kLanes) c = channels - kLanes;  // some again
      const int lanes = static_cast<int>(channels - c < kLanes ? channels - c : kLanes);
      const auto store = [&](auto i, auto j, FloatVec v)
                             PYDL_LAMBDA { v.store(planes + (i * kTileIn + j) * plane + c); };
      if (unrolled || lanes < kLanes) {  // masked loads are as fast where there are registers for masks
        transform_square<size, kTileIn, unrolled>(
            [&](auto i, auto j) PYDL_LAMBDA { return FloatVec::load_partial(at[i * size + j] + c, lanes); }, transform,
            store);
      } else {
        transform_square<size, kTileIn, unrolled>(
            [&](auto i, auto j) PYDL_LAMBDA { return FloatVec::load(at[i * size + j] + c); }, transform, store);
      }
    }
  }
}

// The products of a tile and a vector of channels to outputs, with bias and relu; `probe` is no longer finite where an
// output is not.
template <int out, bool unrolled, class Store>
PYDL_INLINE void untransform(const float* planes, int64_t plane, int part, FloatVec bias, bool relu, FloatVec& probe,
                             Store store) {
  transform_square<kTileIn, out, unrolled>(
      [&](auto i, auto j) PYDL_LAMBDA { return load_some<FloatVec>(planes + (i * kTileIn + j) * plane, part); },
      TransformOutput<out>{},
      [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
        probe = fma(v, FloatVec(0.0f), probe);
        v += bias;
        store(i, j, relu ? max(v, FloatVec(0.0f)) : v);
      });
}

// Where tiles go: channels of images (height, width, pixel), and their bias or null.
struct TileTarget {
  float* data;
  int64_t height, width, pixel, channels;
  const float* bias;
  bool relu, past_cache;
};

// False where an output is not finite.
template <int out>
bool untransform_tiles(const Tiling& tiling, const float* planes, int64_t plane, int64_t row, int64_t first,
                       int64_t tiles, const TileTarget& dst) {
  constexpr int kLanes = FloatVec::size;
  const int64_t channels = dst.channels, pixel = dst.pixel, line = dst.width * pixel;
  const int part = channels < kLanes ? static_cast<int>(channels) : kLanes;
  FloatVec probe(0.0f);
  TileCursor tile(tiling, first);
  for (int64_t t = 0; t < tiles; ++t, planes += row, tile.next(tiling)) {
    const int64_t y = tile.y * out, x = tile.x * out;
    float* corner = dst.data + ((tile.n * dst.height + y) * dst.width + x) * pixel;
    const int64_t rows = dst.height - y < out ? dst.height - y : out;
    const int64_t cols = dst.width - x < out ? dst.width - x : out;
    for (int64_t next = 0; next < channels; next += kLanes) {
      int64_t c = next;
      if (c + kLanes > channels && channels >= kLanes) c = channels - kLanes;
      const FloatVec b = dst.bias != nullptr ? load_some<FloatVec>(dst.bias + c, part) : FloatVec(0.0f);
      float* to = corner + c;
      if (part == kLanes && rows == out && cols == out) {
        untransform<out, kUnrolls && (out == 3 || out == 4)>(planes + c, plane, kLanes, b, dst.relu, probe,
                                                             [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
                                                               float* at = to + i * line + j * pixel;
                                                               dst.past_cache ? put<true>(v, at, kLanes) : v.store(at);
                                                             });
      } else {
        untransform<out, false>(planes + c, plane, part, b, dst.relu, probe,
                                [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
                                  if (i < rows && j < cols) store_some(v, to + i * line + j * pixel, part);
                                });
      }
    }
  }
  return reduce_add(probe) == 0;
}

// The transformed weights of one panel of destination channels and `channels` of the source's: for each plane
// (channels, kCols), `plane` apart. Gathers of stride 1 only; the order of taps is the gather's.
template <int taps>
void transform_weight_panel(const Gather<float>& g, int64_t group, int64_t panel, int64_t first, int64_t channels,
                            float* dst, int64_t plane) {
  constexpr int kLanes = FloatVec::size, kCols = GemmTile<float>::kCols;
  constexpr int kTaps = taps * taps, kTogether = taps > 3 ? 4 : 8;
  const WeightPanel<float> weights(g, group, panel);
  int64_t place[kTaps];
  for (int t = 0; t < kTaps; ++t) place[t] = weight_tap(g, t) * kCols;
  float turned[kTogether * kTaps * kCols];
  for (int64_t c = 0; c < channels; c += kTogether) {
    const int64_t count = channels - c < kTogether ? channels - c : kTogether;
    weights.turn(g, kTaps, first + c, count, turned);
    for (int64_t i = 0; i < count; ++i, dst += kCols) {
      for (int v = 0; v < kCols; v += kLanes) {
        const float* from = turned + i * kTaps * kCols + v;
        transform_square<taps, kTileIn, kUnrolls && taps == 3>(
            [&](auto y, auto x) PYDL_LAMBDA { return FloatVec::load(from + place[y * taps + x]); },
            TransformWeight<taps>{},
            [&](auto y, auto x, FloatVec u) PYDL_LAMBDA { u.store(dst + (y * kTileIn + x) * plane + v); });
      }
    }
  }
}

// Of the transformed channels of a tile.
constexpr int64_t row_stride(int64_t channels) { return channels < FloatVec::size ? FloatVec::size : channels; }

inline Tiling tiling_of(const Gather<float>& g) {
  const int64_t out = kTileIn + 1 - g.axis[1].taps;
  return {g.batch * g.axis[0].count, g.axis[0].count, ceil_div(g.axis[1].count, out), ceil_div(g.axis[2].count, out),
          out};
}

inline TileSource source_of(const Gather<float>& g, int64_t group) {
  return {g.src + group * g.src_channels,
          g.src_batch,
          g.src_pixel,
          g.axis[1].src_size,
          g.axis[2].src_size,
          -g.axis[1].first,
          -g.axis[2].first};
}

// Products as (plane, tile, channel) to channels [col, col + cols) of a group's outputs; false where one is not finite.
inline bool store_tiles(const Gather<float>& g, const Tiling& tiling, int64_t group, const float* planes, int64_t plane,
                        int64_t row, int64_t first, int64_t tiles, int64_t col, int64_t cols) {
  const int64_t channel = group * g.dst_channels + col;
  // The last vector of channels overlaps the one before where they are not whole.
  const bool past_cache =
      cols % FloatVec::size == 0 && worth_streaming(g.dst + channel, g.dst_pixel() * 4, g.pixels() * g.dst_pixel() * 4);
  const TileTarget dst{g.dst + channel,
                       g.axis[1].dst_size,
                       g.axis[2].dst_size,
                       g.dst_pixel(),
                       cols,
                       g.bias == nullptr ? nullptr : g.bias + channel,
                       g.relu,
                       past_cache};
  bool finite = true;
  with_taps(g.axis[1].taps, [&](auto taps) {
    finite = untransform_tiles<kTileIn + 1 - taps>(tiling, planes, plane, row, first, tiles, dst);
  });
  return finite;
}

// Whether all is finite that the threads of a loop have made.
class Finite {
 public:
  void also(bool finite) {
    if (!finite) __atomic_store_n(&all_, false, __ATOMIC_RELAXED);
  }
  bool all() const { return __atomic_load_n(&all_, __ATOMIC_RELAXED); }

 private:
  bool all_ = true;
};

// Columns of a product as far as they may be computed, though not all of them stored: whole vectors.
inline int64_t whole_vectors(int64_t cols) { return round_up(cols, int64_t{FloatVec::size}); }

// Few tiles, where transformed weights would be the largest of all: all tiles are transformed first, and each panel of
// the weights is used by who has transformed it, part by part, so that it stays in L2.
inline bool winograd_few_tiles(const Gather<float>& g, const Tiling& tiling, Exec& exec) {
  constexpr int64_t kCols = GemmTile<float>::kCols;
  const int64_t tiles = tiling.count(), panels = ceil_div(g.dst_channels, kCols);
  const int64_t v_row = row_stride(g.src_channels), v_plane = odd_lines<float>(tiles * v_row),
                v_group = kPlanes * v_plane;
  const int64_t step = ceil_div(g.src_channels, ceil_div(g.src_channels, kFewTilesDepth));
  const int64_t u_plane = odd_lines<float>(step * kCols), m_plane = odd_lines<float>(tiles * kCols);
  Scratch<float> before(exec, g.groups * v_group);
  Finite finite;
  parallel_for(exec, g.groups * tiles, 1 + 512 / g.src_channels, [&](int64_t begin, int64_t end) {
    Scratch<float> zeros(exec, g.src_channels);
    zero_run(g.src_channels, zeros.get());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / tiles, tile = i % tiles;
      transform_tiles<kTileIn, kUnrolls>(tiling, source_of(g, group), g.src_channels, tile, 1, zeros.get(),
                                         before.get() + group * v_group + tile * v_row, v_plane, v_row,
                                         TransformInput{});
    }
  });
  parallel_for(exec, g.groups * panels, 1, [&](int64_t begin, int64_t end) {
    Scratch<float> weights(exec, kPlanes * u_plane);
    Scratch<float> after(exec, kPlanes * m_plane);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / panels, col = i % panels * kCols;
      const int64_t cols = g.dst_channels - col < kCols ? g.dst_channels - col : kCols;
      for (int64_t p = 0; p < g.src_channels; p += step) {
        const int64_t depth = g.src_channels - p < step ? g.src_channels - p : step;
        with_taps(g.axis[1].taps, [&](auto taps) {
          transform_weight_panel<taps>(g, group, i % panels, p, depth, weights.get(), u_plane);
        });
        const BlockSpec<float> s{depth, v_row, 1, kCols, depth * kCols, kCols, 1.0f, p == 0 ? 0.0f : 1.0f};
        for (int plane = 0; plane < kPlanes; ++plane) {
          multiply_block<float>(exec, s, tiles, whole_vectors(cols),
                                before.get() + group * v_group + plane * v_plane + p, weights.get() + plane * u_plane,
                                after.get() + plane * m_plane, nullptr);
        }
      }
      finite.also(store_tiles(g, tiling, group, after.get(), m_plane, kCols, 0, tiles, col, cols));
    }
    stream_fence();
  });
  return finite.all();
}

// False where an output is not finite.
inline bool winograd(const Gather<float>& g, Exec& exec) {
  constexpr int64_t kCols = GemmTile<float>::kCols;
  const Tiling tiling = tiling_of(g);
  const int64_t tiles = tiling.count();
  if (tiles == 0) return true;
  const int64_t panels = ceil_div(g.dst_channels, kCols), width = panels * kCols;
  if (tiles <= kFewTiles && g.groups * panels > 1) return winograd_few_tiles(g, tiling, exec);
  const int64_t src_all = g.groups * g.src_channels;
  const int64_t u_plane = odd_lines<float>(g.src_channels * width);
  Scratch<float> weights(exec, g.groups * kPlanes * u_plane);
  parallel_for(exec, g.groups * panels, 1 + 512 / g.src_channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = weights.get() + i / panels * kPlanes * u_plane + i % panels * kCols * g.src_channels;
      with_taps(g.axis[1].taps, [&](auto taps) {
        transform_weight_panel<taps>(g, i / panels, i % panels, 0, g.src_channels, to, u_plane);
      });
    }
  });

  // Blocks of tiles; with few of them, columns are split among threads as well, each transforming its own tiles.
  const int64_t bytes = kPlanes * (src_all + g.groups * width) * static_cast<int64_t>(sizeof(float));
  int64_t block = kTransformedBytes / bytes;
  block = block < kMinTiles ? kMinTiles : block > kMaxTiles ? kMaxTiles : block;
  if (g.groups * kPlanes * u_plane >= kManyWeights) block = kMaxTiles;

  int64_t row_parts = ceil_div(tiles, block), col_parts = 1;
  if (exec.threads > 1) {
    const int64_t wanted = 2 * exec.threads;
    if (row_parts < wanted) {
      const int64_t most = ceil_div(tiles, kMinTiles / 2);
      row_parts = wanted < most ? wanted : most;
      if (row_parts < exec.threads) {
        col_parts = exec.threads < panels ? exec.threads : panels;
        row_parts = 1 + (tiles - 1) / kMaxTiles;
      }
    } else {
      row_parts = round_up(row_parts, exec.threads);
    }
  }
  const int64_t most = ceil_div(tiles, row_parts), cols_most = ceil_div(panels, col_parts) * kCols;
  const int64_t v_row = row_stride(g.src_channels), v_plane = odd_lines<float>(most * v_row);
  const int64_t m_plane = odd_lines<float>(most * cols_most);
  Finite finite;
  parallel_for(exec, row_parts * col_parts, 1, [&](int64_t begin, int64_t end) {
    Scratch<float> zeros(exec, g.src_channels);
    Scratch<float> before(exec, kPlanes * v_plane);
    Scratch<float> after(exec, kPlanes * m_plane);
    zero_run(g.src_channels, zeros.get());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t r = task / col_parts, c = task % col_parts;
      const int64_t first = tiles * r / row_parts, count = tiles * (r + 1) / row_parts - first;
      const int64_t panel = panels * c / col_parts, end_col = panels * (c + 1) / col_parts * kCols;
      const int64_t cols = (end_col < g.dst_channels ? end_col : g.dst_channels) - panel * kCols;
      if (cols <= 0 || count <= 0) continue;
      for (int64_t group = 0; group < g.groups; ++group) {
        transform_tiles<kTileIn, kUnrolls>(tiling, source_of(g, group), g.src_channels, first, count, zeros.get(),
                                           before.get(), v_plane, v_row, TransformInput{});
        const float* u = weights.get() + group * kPlanes * u_plane + panel * kCols * g.src_channels;
        for (int plane = 0; plane < kPlanes; ++plane) {
          const float* a = before.get() + plane * v_plane;
          float* dst = after.get() + plane * m_plane;
          // Parts of the depth: whole panels of them would not stay in L1.
          const int64_t step = tile_depth(g.src_channels);
          for (int64_t p = 0; p < g.src_channels; p += step) {
            const int64_t depth = g.src_channels - p < step ? g.src_channels - p : step;
            const BlockSpec<float> s{
                depth, v_row, 1, kCols, g.src_channels * kCols, cols_most, 1.0f, p == 0 ? 0.0f : 1.0f};
            multiply_block<float>(exec, s, count, whole_vectors(cols), a + p, u + plane * u_plane + p * kCols, dst,
                                  nullptr);
          }
        }
        finite.also(store_tiles(g, tiling, group, after.get(), m_plane, cols_most, first, count, panel * kCols, cols));
      }
    }
    stream_fence();
  });
  return finite.all();
}

}  // namespace
}  // namespace pydl
