// The gradient of the weight by Winograd's transforms: the transpose of the convolution, with the transform of d_y in
// place of the inverse one. For each plane a product (channels of x, tiles) @ (tiles, channels of d_y). As there, the
// caller is told of what is not finite.
#pragma once
#include "backend/cpu/conv_winograd.h"

namespace pydl {
namespace {

constexpr int64_t kGradientTiles = 32;                     // of a block: the products' depth
constexpr int64_t kGradientRows = 32, kGradientCols = 64;  // channels of x and d_y of one task
constexpr int64_t kGradientTasks = 16;                     // at least, where there is enough to do
constexpr int64_t kGradientDepth = 96;                     // tiles from which a product over all of them is deep
constexpr int64_t kGradientRepeats = 8;                    // blocks of channels from which each is transformed once
constexpr int64_t kGradientPlanes = 8 * 1024 * 1024;       // floats of all planes, at most, for it
constexpr int64_t kGradientSums = 4 * 1024 * 1024;         // floats of partial sums, at most, beyond the first

// The products of a block of channels of x, rows, and of d_y, columns: for each segment of the tiles 36 planes.
struct GradientSums {
  const float* data;
  int64_t row0, rows, col0, cols;
  int64_t plane, row, segments, segment;  // strides of the first, the second and the fourth
};

// d_weight of them; false where an element is not finite.
template <int taps>
bool finish_winograd_gradient(const Gather<float>& g, int64_t group, const GradientSums& sums, float* d_weight) {
  constexpr int kLanes = FloatVec::size, kTaps = taps * taps, kTogether = 8;
  FloatVec probe(0.0f);
  for (int64_t first = 0; first < sums.rows; first += kTogether) {
    const int64_t rows = sums.rows - first < kTogether ? sums.rows - first : kTogether;
    for (int64_t c = 0; c < sums.cols; c += kLanes) {
      const int lanes = static_cast<int>(sums.cols - c < kLanes ? sums.cols - c : kLanes);
      float of_tap[kTogether * kTaps * kLanes];
      for (int64_t r = 0; r < rows; ++r) {
        const float* src = sums.data + (first + r) * sums.row + c;
        float* to = of_tap + r * kTaps * kLanes;
        transform_square<kTileIn, taps, false>(
            [&](auto i, auto j) PYDL_LAMBDA {
              const float* p = src + (i * kTileIn + j) * sums.plane;
              FloatVec total = load_some<FloatVec>(p, lanes);
              for (int64_t s = 1; s < sums.segments; ++s) total += load_some<FloatVec>(p + s * sums.segment, lanes);
              return total;
            },
            TransformWeightGradient<taps>{},
            [&](auto i, auto j, FloatVec v) PYDL_LAMBDA {
              probe = fma(v, FloatVec(0.0f), probe);
              v.store(to + (i * taps + j) * kLanes);
            });
      }
      float* dst = d_weight + group * g.w_group + (sums.row0 + first) * kTaps + (sums.col0 + c) * g.w_dst;
      transpose_copy(rows * kTaps, lanes, of_tap, kLanes, dst, g.w_dst);
    }
  }
  return reduce_add(probe) == 0;
}

inline bool finish_winograd_gradient(const Gather<float>& g, int64_t group, const GradientSums& sums, float* d_weight) {
  bool finite = true;
  with_taps(g.axis[1].taps, [&](auto taps) { finite = finish_winograd_gradient<taps>(g, group, sums, d_weight); });
  return finite;
}

// Where a channel would be transformed many times, and all that is transformed is not much: everything is transformed
// once, and each plane is a product of its own, as deep as there are tiles.
inline bool winograd_weight_by_planes(const Gather<float>& g, const Tiling& tiling, const float* d_y, int64_t d_y_batch,
                                      int64_t d_y_pixel, float* d_weight, Exec& exec) {
  const int64_t tiles = tiling.count(), ci = g.src_channels, co = g.dst_channels;
  const int64_t v_row = row_stride(ci), w_row = row_stride(co);
  const int64_t v_plane = odd_lines<float>(tiles * v_row), w_plane = odd_lines<float>(tiles * w_row);
  const int64_t s_plane = odd_lines<float>(ci * co);
  Scratch<float> inputs(exec, kPlanes * v_plane), gradients(exec, kPlanes * w_plane);
  Scratch<float> sums(exec, kPlanes * s_plane);
  Finite finite;
  for (int64_t group = 0; group < g.groups; ++group) {
    const TileSource up{d_y + group * co, d_y_batch, d_y_pixel, g.axis[1].dst_size, g.axis[2].dst_size, 0, 0};
    parallel_for(exec, tiles, 1 + 512 / (ci + co), [&](int64_t begin, int64_t end) {
      Scratch<float> zeros(exec, ci > co ? ci : co);
      zero_run(ci > co ? ci : co, zeros.get());
      transform_tiles<kTileIn, kUnrolls>(tiling, source_of(g, group), ci, begin, end - begin, zeros.get(),
                                         inputs.get() + begin * v_row, v_plane, v_row, TransformInput{});
      with_taps(g.axis[1].taps, [&](auto taps) {
        constexpr int out = kTileIn + 1 - taps;
        transform_tiles<out, kUnrolls && out == 4>(tiling, up, co, begin, end - begin, zeros.get(),
                                                   gradients.get() + begin * w_row, w_plane, w_row,
                                                   TransformGradient<out>{});
      });
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
    product.a_col = v_row;
    product.b = gradients.get();
    product.b_batch = w_plane;
    product.b_row = w_row;
    product.b_col = 1;
    product.dst = sums.get();
    product.dst_batch = s_plane;
    product.dst_row = co;
    product.alpha = 1;
    exec.table->gemm(product, exec);
    parallel_for(exec, ci, 8, [&](int64_t begin, int64_t end) {
      const GradientSums rows{sums.get() + begin * co, begin, end - begin, 0, co, s_plane, co, 1, 0};
      finite.also(finish_winograd_gradient(g, group, rows, d_weight));
    });
  }
  return finite.all();
}

// g is the forward gather. False where an element is not finite.
inline bool winograd_weight(const Gather<float>& g, const float* d_y, int64_t d_y_batch, int64_t d_y_pixel,
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
  const int64_t s_plane = odd_lines<float>(rows_most * cols_most), s_task = kPlanes * s_plane;
  int64_t segments = ceil_div(kGradientTasks, tasks);
  if (segments > 1 + kGradientSums / (tasks * s_task)) segments = 1 + kGradientSums / (tasks * s_task);
  if (segments > blocks) segments = blocks;
  const int64_t v_row = row_stride(rows_most), v_plane = odd_lines<float>(kGradientTiles * v_row),
                w_plane = odd_lines<float>(kGradientTiles * cols_most);
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
  Finite finite;
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
        transform_tiles<kTileIn, kUnrolls>(tiling, x, rows, first, depth, zeros.get(), inputs.get(), v_plane, v_row,
                                           TransformInput{});
        with_taps(g.axis[1].taps, [&](auto taps) {
          constexpr int out = kTileIn + 1 - taps;
          transform_tiles<out, kUnrolls && out == 4>(tiling, up, cols, first, depth, zeros.get(), gradients.get(),
                                                     w_plane, cols_most, TransformGradient<out>{});
        });
        const BlockSpec<float> s{depth, 1,         v_row, cols_most,
                                 kCols, cols_most, 1.0f,  block == first_block ? 0.0f : 1.0f};
        for (int plane = 0; plane < kPlanes; ++plane) {
          multiply_block<float>(exec, s, rows, whole_vectors(cols), inputs.get() + plane * v_plane,
                                gradients.get() + plane * w_plane, sum + plane * s_plane, nullptr);
        }
      }
      if (alone) {
        const GradientSums own_sums{sum, row, rows, col, cols, s_plane, cols_most, 1, 0};
        finite.also(finish_winograd_gradient(g, group, own_sums, d_weight));
      }
    }
  });
  if (alone) return finite.all();
  parallel_for(exec, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t group, row, rows, col, cols;
      place(task, &group, &row, &rows, &col, &cols);
      if (rows == 0 || cols == 0) continue;
      const float* first = sums.get() + task * s_task;
      const GradientSums task_sums{first, row, rows, col, cols, s_plane, cols_most, segments, tasks * s_task};
      finite.also(finish_winograd_gradient(g, group, task_sums, d_weight));
    }
  });
  return finite.all();
}

}  // namespace
}  // namespace pydl
