// Winograd's minimal filtering F(4x4, 3x3): tiles of 4x4 outputs from 6x6 inputs with 36 multiplications instead of 144
// (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The transforms turn the convolution into
// 36 matrix products over channels; the gradient of the weight is its transpose, with the transform of d_y in place of
// the inverse one.
//
// The interpolation points are 0, +-5/8, +-3/2 and infinity instead of the usual 0, +-1, +-2: their products are exact
// in float32 and the error is four times smaller. For standard normal data and 64 channels the largest error is 8e-6 of
// the result's standard deviation, that of a plain sum 1e-6.
#pragma once
#include "backend/cpu/conv_gather.h"

namespace pydl {
namespace {

constexpr int kTileOut = 4, kTileIn = 6, kPlanes = kTileIn * kTileIn;
constexpr int64_t kTransformedBytes = 1200 * 1024;       // of a block of tiles, before and after the products
constexpr int64_t kMinTiles = 24, kMaxTiles = 96;        // of a block
constexpr int64_t kFewTiles = 128, kFewTilesDepth = 96;  // of the way for few tiles; channels of a part of the weights
constexpr int64_t kManyWeights = 128 * 128;              // pairs of channels for it
constexpr int64_t kWinogradLine = 16;

// The points' squares, and what follows from them.
constexpr float kA = 5.0f / 8, kB = 3.0f / 2;
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;
constexpr float kA2B2 = kA2 * kB2, kSum2 = kA2 + kB2;

using FloatVec = Vec<float>;

// Along one axis, 6 inputs to 6: the rows are the coefficients of the products over all points but one.
PYDL_INLINE void transform_input(const FloatVec (&d)[6], FloatVec (&r)[6]) {
  const FloatVec even_a = fma(FloatVec(-kB2), d[2], d[4]), even_b = fma(FloatVec(-kA2), d[2], d[4]);
  const FloatVec odd_a = FloatVec(kA) * fma(FloatVec(-kB2), d[1], d[3]);
  const FloatVec odd_b = FloatVec(kB) * fma(FloatVec(-kA2), d[1], d[3]);
  r[0] = fma(FloatVec(kA2B2), d[0], fma(FloatVec(-kSum2), d[2], d[4]));
  r[1] = even_a + odd_a;
  r[2] = even_a - odd_a;
  r[3] = even_b + odd_b;
  r[4] = even_b - odd_b;
  r[5] = fma(FloatVec(kA2B2), d[1], fma(FloatVec(-kSum2), d[3], d[5]));
}

struct TransformInput {
  PYDL_INLINE void operator()(const FloatVec (&d)[6], FloatVec (&r)[6]) const { transform_input(d, r); }
};

// 6 products to 4 outputs.
PYDL_INLINE void transform_output(const FloatVec (&m)[6], FloatVec (&y)[4]) {
  const FloatVec sum_a = m[1] + m[2], diff_a = m[1] - m[2], sum_b = m[3] + m[4], diff_b = m[3] - m[4];
  y[0] = m[0] + (sum_a + sum_b);
  y[1] = fma(FloatVec(kA), diff_a, FloatVec(kB) * diff_b);
  y[2] = fma(FloatVec(kA2), sum_a, FloatVec(kB2) * sum_b);
  y[3] = fma(FloatVec(kA3), diff_a, fma(FloatVec(kB3), diff_b, m[5]));
}

// The transpose of it: 4 gradients of outputs to 6.
PYDL_INLINE void transform_gradient(const FloatVec (&g)[4], FloatVec (&w)[6]) {
  const FloatVec even_a = fma(FloatVec(kA2), g[2], g[0]), odd_a = fma(FloatVec(kA3), g[3], FloatVec(kA) * g[1]);
  const FloatVec even_b = fma(FloatVec(kB2), g[2], g[0]), odd_b = fma(FloatVec(kB3), g[3], FloatVec(kB) * g[1]);
  w[0] = g[0];
  w[1] = even_a + odd_a;
  w[2] = even_a - odd_a;
  w[3] = even_b + odd_b;
  w[4] = even_b - odd_b;
  w[5] = g[3];
}
struct TransformGradient {
  PYDL_INLINE void operator()(const FloatVec (&g)[4], FloatVec (&w)[6]) const { transform_gradient(g, w); }
};

// 3 weights to 6: the polynomial's value at each point, over the product of its distances from the others.
constexpr float kScale0 = 1 / kA2B2, kScaleA = 1 / (2 * kA2 * (kA2 - kB2)), kScaleB = 1 / (2 * kB2 * (kB2 - kA2));
PYDL_INLINE void transform_weight(const FloatVec (&g)[3], FloatVec (&u)[6]) {
  const FloatVec even_a = FloatVec(kScaleA) * fma(FloatVec(kA2), g[2], g[0]), odd_a = FloatVec(kScaleA * kA) * g[1];
  const FloatVec even_b = FloatVec(kScaleB) * fma(FloatVec(kB2), g[2], g[0]), odd_b = FloatVec(kScaleB * kB) * g[1];
  u[0] = FloatVec(kScale0) * g[0];
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2];
}

// The transpose of it: 6 sums to the gradients of 3 weights.
PYDL_INLINE void transform_weight_gradient(const FloatVec (&u)[6], FloatVec (&g)[3]) {
  const FloatVec sum_a = FloatVec(kScaleA) * (u[1] + u[2]), sum_b = FloatVec(kScaleB) * (u[3] + u[4]);
  const FloatVec diff_a = FloatVec(kScaleA * kA) * (u[1] - u[2]), diff_b = FloatVec(kScaleB * kB) * (u[3] - u[4]);
  g[0] = fma(FloatVec(kScale0), u[0], sum_a + sum_b);
  g[1] = diff_a + diff_b;
  g[2] = fma(FloatVec(kA2), sum_a, fma(FloatVec(kB2), sum_b, u[5]));
}

// `from` x `from` values load(i, j) through the same transform along both axes, each result to store(i, j, value).
template <int from, int to, class Load, class Transform, class Store>
PYDL_INLINE void transform_square(Load load, Transform transform, Store store) {
  FloatVec half[to][from];
  repeat<from>([&](auto j) PYDL_LAMBDA {
    FloatVec in[from], out[to];
    repeat<from>([&](auto i) PYDL_LAMBDA { in[i] = load(i, j); });
    transform(in, out);
    repeat<to>([&](auto i) PYDL_LAMBDA { half[i][j] = out[i]; });
  });
  repeat<to>([&](auto i) PYDL_LAMBDA {
    FloatVec out[to];
    transform(half[i], out);
    repeat<to>([&](auto j) PYDL_LAMBDA { store(i, j, out[j]); });
  });
}

// Images cut into tiles of 4x4 outputs; slices of a volume are images of their own. Planes of a transformed block:
// (plane, tile, channel).
struct Tiling {
  int64_t images, depth;  // of all slices; slices of one volume
  int64_t down, across;   // tiles of an image
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

// Channels [0, channels) of tiles [first, first + tiles) through a transform; rows of planes are `row` apart.
template <int size, class Transform>
void transform_tiles(const Tiling& tiling, const TileSource& src, int64_t channels, int64_t first, int64_t tiles,
                     const float* zeros, float* planes, int64_t plane, int64_t row, Transform transform) {
  constexpr int kLanes = FloatVec::size;
  TileCursor tile(tiling, first);
  for (int64_t t = 0; t < tiles; ++t, planes += row, tile.next(tiling)) {
    const float* at[size * size];
    tile_pixels<size>(src.image(tiling, tile.n), src.height, src.width, src.pixel, tile.y * kTileOut - src.pad_y,
                      tile.x * kTileOut - src.pad_x, zeros, at);
    for (int64_t next = 0; next < channels; next += kLanes) {
      int64_t c = next;
      if (c + kLanes > channels && channels >= kLanes) c = channels - kLanes;  // some again: masked stores are slow
      if (c + kLanes <= channels) {
        transform_square<size, kTileIn>(
            [&](auto i, auto j) PYDL_LAMBDA { return FloatVec::load(at[i * size + j] + c); }, transform,
            [&](auto i, auto j, FloatVec v) PYDL_LAMBDA { v.store(planes + (i * kTileIn + j) * plane + c); });
      } else {
        const int rest = static_cast<int>(channels);
        transform_square<size, kTileIn>(
            [&](auto i, auto j) PYDL_LAMBDA { return FloatVec::load_partial(at[i * size + j], rest); }, transform,
            [&](auto i, auto j, FloatVec v) PYDL_LAMBDA { v.store_partial(planes + (i * kTileIn + j) * plane, rest); });
      }
    }
  }
}

// The products of tiles [first, first + tiles) to outputs, with bias and relu. dst is (N, H, W, dst_pixel).
template <class Store>
PYDL_INLINE void untransform(const float* planes, int64_t plane, int part, FloatVec bias, bool relu, Store store) {
  transform_square<kTileIn, kTileOut>(
      [&](auto i, auto j) PYDL_LAMBDA {
        const float* p = planes + (i * kTileIn + j) * plane;
        return part == FloatVec::size ? FloatVec::load(p) : FloatVec::load_partial(p, part);
      },
      [](const FloatVec(&m)[6], FloatVec(&y)[4]) PYDL_LAMBDA { transform_output(m, y); },
      [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
        v += bias;
        store(i, j, relu ? max(v, FloatVec(0.0f)) : v);
      });
}

inline void untransform_tiles(const Tiling& tiling, const float* planes, int64_t plane, int64_t row, int64_t first,
                              int64_t tiles, int64_t channels, float* dst, int64_t height, int64_t width, int64_t pixel,
                              const float* bias, bool relu) {
  constexpr int kLanes = FloatVec::size;
  TileCursor tile(tiling, first);
  for (int64_t t = 0; t < tiles; ++t, planes += row, tile.next(tiling)) {
    const int64_t y = tile.y * kTileOut, x = tile.x * kTileOut;
    float* corner = dst + ((tile.n * height + y) * width + x) * pixel;
    const int64_t rows = height - y < kTileOut ? height - y : kTileOut;
    const int64_t cols = width - x < kTileOut ? width - x : kTileOut;
    const int64_t line = width * pixel;
    for (int64_t next = 0; next < channels; next += kLanes) {
      int64_t c = next;
      if (c + kLanes > channels && channels >= kLanes) c = channels - kLanes;
      const int part = channels < kLanes ? static_cast<int>(channels) : kLanes;
      FloatVec b(0.0f);
      if (bias != nullptr) b = part == kLanes ? FloatVec::load(bias + c) : FloatVec::load_partial(bias + c, part);
      float* to = corner + c;
      if (part == kLanes && rows == kTileOut && cols == kTileOut) {
        untransform(planes + c, plane, kLanes, b, relu,
                    [&](auto i, auto j, FloatVec v) PYDL_LAMBDA { v.store(to + i * line + j * pixel); });
      } else {
        untransform(planes + c, plane, part, b, relu, [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
          if (i < rows && j < cols) {
            if (part == kLanes) {
              v.store(to + i * line + j * pixel);
            } else {
              v.store_partial(to + i * line + j * pixel, part);
            }
          }
        });
      }
    }
  }
}

// The transformed weights of one panel of destination channels and `channels` of the source's: for each plane
// (channels, kCols), `plane` apart. Gathers of stride 1 only; the order of taps is the gather's.
inline void transform_weight_panel(const Gather<float>& g, int64_t group, int64_t panel, int64_t first,
                                   int64_t channels, float* dst, int64_t plane) {
  constexpr int kLanes = FloatVec::size, kCols = GemmTile<float>::kCols;
  const int64_t left = g.dst_channels - panel * kCols;
  const int cols = static_cast<int>(left < kCols ? left : kCols);
  const float* weight = g.weight + group * g.w_group + panel * kCols * g.w_dst + first * g.w_src;
  int64_t tap[9];
  for (int t = 0; t < 9; ++t) tap[t] = weight_tap(g, t);
  float taps[9][kCols] = {};
  for (int64_t c = 0; c < channels; ++c, weight += g.w_src, dst += kCols) {
    for (int o = 0; o < cols; ++o) {
      for (int t = 0; t < 9; ++t) taps[t][o] = weight[o * g.w_dst + tap[t]];
    }
    for (int v = 0; v < kCols; v += kLanes) {
      transform_square<3, kTileIn>([&](auto i, auto j) PYDL_LAMBDA { return FloatVec::load(&taps[i * 3 + j][v]); },
                                   [](const FloatVec(&g3)[3], FloatVec(&u)[6]) PYDL_LAMBDA { transform_weight(g3, u); },
                                   [&](auto i, auto j, FloatVec u)
                                       PYDL_LAMBDA { u.store(dst + (i * kTileIn + j) * plane + v); });
    }
  }
}

// A stride in floats for planes: an odd number of cache lines, so that the 36 planes do not fall into one set.
constexpr int64_t plane_stride(int64_t floats) { return (ceil_div(floats, kWinogradLine) | 1) * kWinogradLine; }

inline Tiling tiling_of(const Gather<float>& g) {
  return {g.batch * g.axis[0].count, g.axis[0].count, ceil_div(g.axis[1].count, kTileOut),
          ceil_div(g.axis[2].count, kTileOut)};
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

// Products as (plane, tile, channel) to channels [col, col + cols) of a group's outputs.
inline void store_tiles(const Gather<float>& g, const Tiling& tiling, int64_t group, const float* planes, int64_t plane,
                        int64_t row, int64_t first, int64_t tiles, int64_t col, int64_t cols) {
  const int64_t channel = group * g.dst_channels + col;
  untransform_tiles(tiling, planes, plane, row, first, tiles, cols, g.dst + channel, g.axis[1].dst_size,
                    g.axis[2].dst_size, g.dst_pixel(), g.bias == nullptr ? nullptr : g.bias + channel, g.relu);
}

// Columns of a product as far as they may be computed, though not all of them stored: whole vectors.
inline int64_t whole_vectors(int64_t cols) { return round_up(cols, int64_t{FloatVec::size}); }

// Few tiles and many channels, where transformed weights would be the largest of all: all tiles are transformed first,
// and each panel of the weights is used as soon as it is transformed, part by part, so that it stays in L2.
inline void winograd_few_tiles(const Gather<float>& g, const Tiling& tiling, Exec& exec) {
  constexpr int64_t kCols = GemmTile<float>::kCols;
  const int64_t tiles = tiling.count(), panels = ceil_div(g.dst_channels, kCols);
  const int64_t v_plane = plane_stride(tiles * g.src_channels), v_group = kPlanes * v_plane;
  const int64_t step = ceil_div(g.src_channels, ceil_div(g.src_channels, kFewTilesDepth));
  const int64_t u_plane = plane_stride(step * kCols), m_plane = plane_stride(tiles * kCols);
  Scratch<float> before(exec, g.groups * v_group);
  parallel_for(exec, g.groups * tiles, 1 + 512 / g.src_channels, [&](int64_t begin, int64_t end) {
    Scratch<float> zeros(exec, g.src_channels);
    zero_run(g.src_channels, zeros.get());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / tiles, tile = i % tiles;
      transform_tiles<kTileIn>(tiling, source_of(g, group), g.src_channels, tile, 1, zeros.get(),
                               before.get() + group * v_group + tile * g.src_channels, v_plane, g.src_channels,
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
        transform_weight_panel(g, group, i % panels, p, depth, weights.get(), u_plane);
        const BlockSpec<float> s{depth, g.src_channels, 1, kCols, depth * kCols, kCols, 1.0f, p == 0 ? 0.0f : 1.0f};
        for (int plane = 0; plane < kPlanes; ++plane) {
          multiply_block<float>(exec, s, tiles, whole_vectors(cols),
                                before.get() + group * v_group + plane * v_plane + p, weights.get() + plane * u_plane,
                                after.get() + plane * m_plane, nullptr);
        }
      }
      store_tiles(g, tiling, group, after.get(), m_plane, kCols, 0, tiles, col, cols);
    }
  });
}

inline void winograd(const Gather<float>& g, Exec& exec) {
  constexpr int64_t kCols = GemmTile<float>::kCols;
  const Tiling tiling = tiling_of(g);
  const int64_t tiles = tiling.count();
  if (tiles == 0) return;
  const int64_t panels = ceil_div(g.dst_channels, kCols), width = panels * kCols;
  if (tiles <= kFewTiles && g.src_channels * width >= kManyWeights) return winograd_few_tiles(g, tiling, exec);
  const int64_t src_all = g.groups * g.src_channels;
  const int64_t u_plane = plane_stride(g.src_channels * width);
  Scratch<float> weights(exec, g.groups * kPlanes * u_plane);
  parallel_for(exec, g.groups * panels, 1 + 512 / g.src_channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = weights.get() + i / panels * kPlanes * u_plane + i % panels * kCols * g.src_channels;
      transform_weight_panel(g, i / panels, i % panels, 0, g.src_channels, to, u_plane);
    }
  });

  // Blocks of tiles; with few of them, columns are split among threads as well, each transforming its own tiles.
  const int64_t bytes = kPlanes * (src_all + g.groups * width) * static_cast<int64_t>(sizeof(float));
  int64_t block = kTransformedBytes / bytes;
  block = block < kMinTiles ? kMinTiles : block > kMaxTiles ? kMaxTiles : block;
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
  const int64_t v_plane = plane_stride(most * g.src_channels), m_plane = plane_stride(most * cols_most);
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
        transform_tiles<kTileIn>(tiling, source_of(g, group), g.src_channels, first, count, zeros.get(), before.get(),
                                 v_plane, g.src_channels, TransformInput{});
        const float* u = weights.get() + group * kPlanes * u_plane + panel * kCols * g.src_channels;
        for (int plane = 0; plane < kPlanes; ++plane) {
          const float* a = before.get() + plane * v_plane;
          float* dst = after.get() + plane * m_plane;
          // Parts of the depth: whole panels of them would not stay in L1.
          const int64_t step = tile_depth(g.src_channels);
          for (int64_t p = 0; p < g.src_channels; p += step) {
            const int64_t depth = g.src_channels - p < step ? g.src_channels - p : step;
            const BlockSpec<float> s{depth, g.src_channels,      1, kCols, g.src_channels * kCols, cols_most,
                                     1.0f,  p == 0 ? 0.0f : 1.0f};
            multiply_block<float>(exec, s, count, whole_vectors(cols), a + p, u + plane * u_plane + p * kCols, dst,
                                  nullptr);
          }
        }
        store_tiles(g, tiling, group, after.get(), m_plane, cols_most, first, count, panel * kCols, cols);
      }
    }
  });
}

// ---- the gradient of the weight: for each plane a product (channels of x, tiles) @ (tiles, channels of d_y)

constexpr int64_t kGradientTiles = 32;                     // of a block: the products' depth
constexpr int64_t kGradientRows = 32, kGradientCols = 64;  // channels of x and d_y of one task
constexpr int64_t kGradientTasks = 16;                     // at least, where there is enough to do
constexpr int64_t kGradientDepth = 96;                     // tiles from which a product over all of them is deep
constexpr int64_t kGradientRepeats = 8;                    // blocks of channels from which each is transformed once
constexpr int64_t kGradientPlanes = 8 * 1024 * 1024;       // floats of all planes, at most, for it
constexpr int64_t kGradientSums = 4 * 1024 * 1024;         // floats of partial sums, at most, beyond the first

// d_weight of the sums over segments of the products, 36 planes of (rows, cols) for each block of channels.
inline void finish_winograd_gradient(const Gather<float>& g, int64_t group, int64_t row0, int64_t rows, int64_t col0,
                                     int64_t cols, const float* sums, int64_t plane, int64_t sums_row, int64_t segments,
                                     int64_t segment_step, float* d_weight) {
  constexpr int kLanes = FloatVec::size;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const float* src = sums + r * sums_row + c;
      float taps[9][kLanes];
      transform_square<kTileIn, 3>(
          [&](auto i, auto j) PYDL_LAMBDA {
            const float* p = src + (i * kTileIn + j) * plane;
            FloatVec total = FloatVec::load(p);
            for (int64_t s = 1; s < segments; ++s) total += FloatVec::load(p + s * segment_step);
            return total;
          },
          [](const FloatVec(&u)[6], FloatVec(&v)[3]) PYDL_LAMBDA { transform_weight_gradient(u, v); },
          [&](auto i, auto j, FloatVec v) PYDL_LAMBDA { v.store(taps[i * 3 + j]); });
      float* dst = d_weight + group * g.w_group + (row0 + r) * g.w_src + (col0 + c) * g.w_dst;
      const int lanes = static_cast<int>(cols - c < kLanes ? cols - c : kLanes);
      for (int lane = 0; lane < lanes; ++lane) {
        for (int t = 0; t < 9; ++t) dst[lane * g.w_dst + t] = taps[t][lane];
      }
    }
  }
}

// Where a channel would be transformed many times, and all that is transformed is not much: everything is transformed
// once, and each plane is a product of its own, as deep as there are tiles.
inline void winograd_weight_by_planes(const Gather<float>& g, const Tiling& tiling, const float* d_y, int64_t d_y_batch,
                                      int64_t d_y_pixel, float* d_weight, Exec& exec) {
  const int64_t tiles = tiling.count(), ci = g.src_channels, co = g.dst_channels;
  const int64_t v_plane = plane_stride(tiles * ci), w_plane = plane_stride(tiles * co), s_plane = plane_stride(ci * co);
  Scratch<float> inputs(exec, kPlanes * v_plane), gradients(exec, kPlanes * w_plane);
  Scratch<float> sums(exec, kPlanes * s_plane + FloatVec::size);  // the last vector may be read beyond its row
  for (int64_t group = 0; group < g.groups; ++group) {
    const TileSource up{d_y + group * co, d_y_batch, d_y_pixel, g.axis[1].dst_size, g.axis[2].dst_size, 0, 0};
    parallel_for(exec, tiles, 1 + 512 / (ci + co), [&](int64_t begin, int64_t end) {
      Scratch<float> zeros(exec, ci > co ? ci : co);
      zero_run(ci > co ? ci : co, zeros.get());
      transform_tiles<kTileIn>(tiling, source_of(g, group), ci, begin, end - begin, zeros.get(),
                               inputs.get() + begin * ci, v_plane, ci, TransformInput{});
      transform_tiles<kTileOut>(tiling, up, co, begin, end - begin, zeros.get(), gradients.get() + begin * co, w_plane,
                                co, TransformGradient{});
    });
    GemmArgs product{};
    product.dtype = DType::float32;
    product.m = ci;
    product.n = co;
    product.k = tiles;
    product.batch = kPlanes;
    product.a = inputs.get();
    product.a_batch = v_plane;
    product.a_row = 1;
    product.a_col = ci;
    product.b = gradients.get();
    product.b_batch = w_plane;
    product.b_row = co;
    product.b_col = 1;
    product.dst = sums.get();
    product.dst_batch = s_plane;
    product.dst_row = co;
    product.alpha = 1;
    exec.table->gemm(product, exec);
    parallel_for(exec, ci, 8, [&](int64_t begin, int64_t end) {
      finish_winograd_gradient(g, group, begin, end - begin, 0, co, sums.get() + begin * co, s_plane, co, 1, 0,
                               d_weight);
    });
  }
}

// g is the forward gather.
inline void winograd_weight(const Gather<float>& g, const float* d_y, int64_t d_y_batch, int64_t d_y_pixel,
                            float* d_weight, Exec& exec) {
  constexpr int64_t kCols = GemmTile<float>::kCols;
  const Tiling tiling = tiling_of(g);
  const int64_t tiles = tiling.count();
  const int64_t row_blocks = ceil_div(g.src_channels, kGradientRows),
                col_blocks = ceil_div(g.dst_channels, kGradientCols);
  const int64_t rows_most = ceil_div(g.src_channels, row_blocks);
  const int64_t cols_most = round_up(ceil_div(g.dst_channels, col_blocks), kCols);
  if (tiles >= kGradientDepth && row_blocks * col_blocks >= kGradientRepeats &&
      kPlanes * tiles * (g.src_channels + g.dst_channels) <= kGradientPlanes) {
    return winograd_weight_by_planes(g, tiling, d_y, d_y_batch, d_y_pixel, d_weight, exec);
  }
  const int64_t tasks = g.groups * row_blocks * col_blocks, blocks = ceil_div(tiles, kGradientTiles);
  const int64_t s_plane = plane_stride(rows_most * cols_most), s_task = kPlanes * s_plane;
  int64_t segments = ceil_div(kGradientTasks, tasks);
  if (segments > 1 + kGradientSums / (tasks * s_task)) segments = 1 + kGradientSums / (tasks * s_task);
  if (segments > blocks) segments = blocks;
  const int64_t v_plane = plane_stride(kGradientTiles * rows_most), w_plane = plane_stride(kGradientTiles * cols_most);
  const int64_t zeros_size = rows_most > cols_most ? rows_most : cols_most;
  // With one segment a task's sums are finished where they are, in L2.
  const bool alone = segments == 1;
  Scratch<float> sums(exec, alone ? 0 : segments * tasks * s_task);
  const auto place = [&](int64_t task, int64_t* group, int64_t* row, int64_t* rows, int64_t* col, int64_t* cols) {
    *group = task / (row_blocks * col_blocks);
    const int64_t r = task / col_blocks % row_blocks, c = task % col_blocks;
    *row = r * rows_most < g.src_channels ? r * rows_most : g.src_channels;
    *rows = g.src_channels - *row < rows_most ? g.src_channels - *row : rows_most;
    *col = c * cols_most < g.dst_channels ? c * cols_most : g.dst_channels;
    *cols = g.dst_channels - *col < cols_most ? g.dst_channels - *col : cols_most;
  };
  parallel_for(exec, tasks * segments, 1, [&](int64_t begin, int64_t end) {
    Scratch<float> zeros(exec, zeros_size);
    Scratch<float> inputs(exec, kPlanes * v_plane);
    Scratch<float> gradients(exec, kPlanes * w_plane);
    Scratch<float> own(exec, alone ? s_task : 0);
    zero_run(zeros_size, zeros.get());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t segment = i / tasks, task = i % tasks;
      int64_t group, row, rows, col, cols;
      place(task, &group, &row, &rows, &col, &cols);
      if (rows == 0 || cols == 0) continue;
      TileSource x = source_of(g, group);
      x.data += row;
      const TileSource up{
          d_y + group * g.dst_channels + col, d_y_batch, d_y_pixel, g.axis[1].dst_size, g.axis[2].dst_size, 0, 0};
      float* sum = alone ? own.get() : sums.get() + (segment * tasks + task) * s_task;
      const int64_t first_block = blocks * segment / segments, last_block = blocks * (segment + 1) / segments;
      for (int64_t block = first_block; block < last_block; ++block) {
        const int64_t first = tiles * block / blocks, depth = tiles * (block + 1) / blocks - first;
        transform_tiles<kTileIn>(tiling, x, rows, first, depth, zeros.get(), inputs.get(), v_plane, rows_most,
                                 TransformInput{});
        transform_tiles<kTileOut>(tiling, up, cols, first, depth, zeros.get(), gradients.get(), w_plane, cols_most,
                                  TransformGradient{});
        const BlockSpec<float> s{depth, 1,         rows_most, cols_most,
                                 kCols, cols_most, 1.0f,      block == first_block ? 0.0f : 1.0f};
        for (int plane = 0; plane < kPlanes; ++plane) {
          multiply_block<float>(exec, s, rows, whole_vectors(cols), inputs.get() + plane * v_plane,
                                gradients.get() + plane * w_plane, sum + plane * s_plane, nullptr);
        }
      }
      if (alone) {
        finish_winograd_gradient(g, group, row, rows, col, cols, sum, s_plane, cols_most, 1, 0, d_weight);
      }
    }
  });
  if (alone) return;
  parallel_for(exec, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t group, row, rows, col, cols;
      place(task, &group, &row, &rows, &col, &cols);
      if (rows == 0 || cols == 0) continue;
      finish_winograd_gradient(g, group, row, rows, col, cols, sums.get() + task * s_task, s_plane, cols_most, segments,
                               tasks * s_task, d_weight);
    }
  });
}

}  // namespace
}  // namespace pydl
