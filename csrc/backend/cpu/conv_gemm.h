// Convolution as a matrix product whose left operand, the patches, is packed block by block into scratch memory and
// never exists as a whole ("implicit GEMM").
#pragma once
#include "backend/cpu/conv_staged.h"
#include "backend/cpu/stream.h"

namespace pydl {
namespace {

constexpr int64_t kPatchBytes = 160 * 1024;    // of a block of patches: it stays in L2
constexpr int64_t kMinPatchRows = 24;          // of a block, where there is choice
constexpr int64_t kWeightBlockCols = 64;       // destination columns of a weight gradient that share a packed block
constexpr int64_t kWeightTasks = 16;           // that a weight gradient is cut into, at least where it is large
constexpr int64_t kSegmentWork = 1024 * 1024;  // multiply-adds of one task of it, at least

// From rows of a block, pixels p, p + 1, ..., to where they belong; without rows, bias (or zero) alone.
template <class T>
void scatter_rows(const Gather<T>& g, int64_t p, int64_t rows, int64_t first_col, int64_t cols, const T* block,
                  int64_t block_row) {
  const GatherAxis &ad = g.axis[0], &ah = g.axis[1], &aw = g.axis[2];
  PixelCursor at(g, p);
  while (rows > 0) {
    const int64_t run = rows < aw.count - at.w ? rows : aw.count - at.w;
    const int64_t d = ad.dst_first + at.d * ad.dst_step, h = ah.dst_first + at.h * ah.dst_step;
    T* line = g.dst + ((at.n * ad.dst_size + d) * ah.dst_size + h) * aw.dst_size * g.dst_pixel() + first_col;
    for (int64_t i = 0; i < run; ++i) {
      T* dst = line + (aw.dst_first + (at.w + i) * aw.dst_step) * g.dst_pixel();
      if (block != nullptr) {
        copy_run(block + i * block_row, cols, dst);
      } else if (g.bias != nullptr) {
        copy_run(g.bias + first_col, cols, dst);
      } else {
        zero_run(cols, dst);
      }
    }
    if (block != nullptr) block += run * block_row;
    rows -= run;
    at.next_row(g);
  }
}

template <class T>
void run_gather(const Gather<T>& g, Exec& exec) {
  using Tile = GemmTile<T>;
  constexpr int64_t kCols = Tile::kCols;
  const int64_t pixels = g.pixels();
  if (pixels == 0 || g.dst_pixel() == 0) return;
  if (g.depth() == 0) {
    parallel_for(exec, pixels, 1 + kConvSerialWork / 16 / g.dst_pixel(), [&](int64_t begin, int64_t end) {
      scatter_rows<T>(g, begin, end - begin, 0, g.dst_pixel(), nullptr, 0);
    });
    return;
  }
  if constexpr (sizeof(T) == 4) {  // float64 is not worth the code
    if (!g.pairs && staged_possible(g)) return staged(g, exec);
  }
  const DepthParts parts(g.taps(), g.src_channels);
  const int64_t panels = ceil_div(g.dst_channels, kCols), width = panels * kCols;
  Scratch<T> weights(exec, g.groups * g.depth() * width);
  parallel_for(exec, g.groups * panels, 1 + 16384 / (g.depth() * kCols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pack_weight_panel(g, parts, i / panels, i % panels, weights.get() + i / panels * g.depth() * width, exec);
    }
  });

  // Blocks of rows that fit L2, as even as possible and enough for all threads; with few rows the columns are split.
  const int64_t max_depth = parts.max_depth();
  const int64_t work = pixels * g.depth() * g.groups * g.dst_channels;
  int64_t row_parts =
      ceil_div(pixels, kPatchBytes / static_cast<int64_t>(sizeof(T)) / (max_depth < 48 ? 48 : max_depth));
  int64_t col_parts = 1;
  if (work >= kConvSerialWork && exec.threads > 1) {
    const int64_t wanted = 2 * exec.threads;
    if (row_parts < 4 * wanted) {
      const int64_t most = ceil_div(pixels, kMinPatchRows);
      const int64_t even = round_up(row_parts, wanted);
      row_parts = even < most ? even : most;
      if (row_parts < exec.threads) col_parts = wanted < panels ? wanted : panels;
    }
  }
  const int64_t rows_most = ceil_div(pixels, row_parts);
  const bool dense = g.dense();
  const int64_t grain = work < kConvSerialWork ? row_parts * col_parts : 1;
  parallel_for(exec, row_parts * col_parts, grain, [&](int64_t begin, int64_t end) {
    Scratch<T> patches(exec, rows_most * max_depth + Vec<T>::size);
    Scratch<T> block(exec, dense ? 0 : rows_most * width);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t r = task / col_parts, c = task % col_parts;
      const int64_t p0 = pixels * r / row_parts, rows = pixels * (r + 1) / row_parts - p0;
      const int64_t panel = panels * c / col_parts, col = panel * kCols;
      const int64_t last_col = panels * (c + 1) / col_parts * kCols;
      const int64_t cols = (last_col < g.dst_channels ? last_col : g.dst_channels) - col;
      if (cols <= 0) continue;
      for (int64_t group = 0; group < g.groups; ++group) {
        const int64_t first = group * g.dst_channels + col;
        T* dst = dense ? g.dst + p0 * g.dst_pixel() + first : block.get();
        const int64_t dst_row = dense ? g.dst_pixel() : cols;
        for (int64_t i = 0; i < parts.count(); ++i) {
          const DepthPart part = parts[i];
          const int64_t depth = part.depth();
          pack_patches(g, group, part, p0, rows, patches.get(), depth);
          const BlockSpec<T> s{depth, depth, 1, kCols, depth * kCols, dst_row, T(1), i == 0 ? T(0) : T(1)};
          const bool last = i + 1 == parts.count();
          const T* panel_part = weights.get() + (group * g.depth() + parts.depth_before(part)) * width + col * depth;
          const T* bias = last && g.bias != nullptr ? g.bias + first : nullptr;
          multiply_block(exec, s, rows, cols, patches.get(), panel_part, dst, bias, g.pairs);
        }
        if (g.relu) relu_rows(rows, cols, dst, dst_row);
        if (!dense) scatter_rows(g, p0, rows, first, cols, block.get(), cols);
      }
    }
  });
}

// d_weight (O, C / groups, taps) of partial sums (segments, groups, taps * C / groups in the order of `parts`, O /
// groups).
template <class T>
void finish_weight_gradient(const Gather<T>& g, const DepthParts& parts, int64_t segments, const T* sums, T* d_weight,
                            Exec& exec) {
  using V = Vec<T>;
  constexpr int64_t kLanes = 16;
  const int64_t slabs = ceil_div(g.dst_channels, kLanes), plane = g.groups * g.depth() * g.dst_channels;
  const TurnedWeights<T> block(g, kLanes);
  parallel_for(exec, g.groups * slabs, 1 + 8192 / (g.depth() * kLanes), [&](int64_t begin, int64_t end) {
    Scratch<T> turned(exec, block.channels * block.kernel * kLanes);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t group = task / slabs, o0 = task % slabs * kLanes;
      const int64_t cols = g.dst_channels - o0 < kLanes ? g.dst_channels - o0 : kLanes;
      const T* src = sums + group * g.depth() * g.dst_channels + o0;
      T* dst = d_weight + group * g.w_group + o0 * g.w_dst;
      for (int64_t first = 0; first < g.src_channels; first += block.channels) {
        const int64_t count = g.src_channels - first < block.channels ? g.src_channels - first : block.channels;
        each_run_of_depth(
            g, parts, first, count, [&](const DepthPart& part, int64_t t, int64_t c, int64_t channels, int64_t row) {
              const T* from = src + (parts.depth_before(part) + row) * g.dst_channels;
              T* to = turned + ((c - first) * block.kernel + weight_tap(g, t)) * kLanes;
              for (int64_t i = 0; i < channels; ++i, from += g.dst_channels, to += block.kernel * kLanes) {
                for (int64_t v = 0; v < cols; v += V::size) {
                  const int lanes = static_cast<int>(cols - v < V::size ? cols - v : V::size);
                  V total = load_some<V>(from + v, lanes);
                  for (int64_t s = 1; s < segments; ++s) total += load_some<V>(from + s * plane + v, lanes);
                  total.store(to + v);
                }
              }
            });
        transpose_copy(count * block.kernel, cols, turned.get(), kLanes, dst + first * block.kernel, g.w_dst);
      }
    }
  });
}

// d_weight = patches^T @ d_y. Pixels are cut into segments by size alone; each task adds up one segment for one part of
// the depth, and the segments' sums are added in order.
template <class T>
void weight_gradient(const Gather<T>& g, const T* d_y, int64_t d_y_pixel, T* d_weight, Exec& exec) {
  constexpr int64_t kCols = GemmTile<T>::kCols;
  const int64_t pixels = g.pixels(), plane = g.groups * g.depth() * g.dst_channels;
  if (plane == 0) return;
  if (pixels == 0) {
    zero_run(plane, d_weight);
    return;
  }
  const DepthParts parts(g.taps(), g.src_channels);
  const int64_t blocks = ceil_div(pixels, kTileDepth), tasks = g.groups * parts.count();
  const int64_t work = pixels * plane;
  int64_t segments = ceil_div(kWeightTasks, tasks);
  if (segments > work / kSegmentWork) segments = work / kSegmentWork;
  if (segments > blocks) segments = blocks;
  if (segments < 1) segments = 1;
  const int64_t patch_row = odd_lines<T>(parts.max_depth());
  Scratch<T> sums(exec, segments * plane);
  parallel_for(exec, tasks * segments, work < kConvSerialWork ? tasks * segments : 1, [&](int64_t begin, int64_t end) {
    Scratch<T> patches(exec, kTileDepth * patch_row + Vec<T>::size);
    Scratch<T> columns(exec, kTileDepth * round_up(kWeightBlockCols, kCols));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t segment = task / tasks, group = task % tasks / parts.count();
      const DepthPart part = parts[task % parts.count()];
      const int64_t last = blocks * (segment + 1) / segments;
      T* dst = sums.get() + segment * plane + (group * g.depth() + parts.depth_before(part)) * g.dst_channels;
      for (int64_t block = blocks * segment / segments; block < last; ++block) {
        const int64_t p0 = pixels * block / blocks, depth = pixels * (block + 1) / blocks - p0;
        pack_patches(g, group, part, p0, depth, patches.get(), patch_row);
        const BlockSpec<T> s{depth,         1,
                             patch_row,     kCols,
                             depth * kCols, g.dst_channels,
                             T(1),          block == blocks * segment / segments ? T(0) : T(1)};
        for (int64_t j = 0; j < g.dst_channels; j += kWeightBlockCols) {
          const int64_t cols = g.dst_channels - j < kWeightBlockCols ? g.dst_channels - j : kWeightBlockCols;
          pack_b(depth, cols, d_y + p0 * d_y_pixel + group * g.dst_channels + j, d_y_pixel, int64_t{1}, columns.get());
          multiply_block<T>(exec, s, part.depth(), cols, patches.get(), columns.get(), dst + j, nullptr);
        }
      }
    }
  });
  finish_weight_gradient(g, parts, segments, sums.get(), d_weight, exec);
}

}  // namespace
}  // namespace pydl
