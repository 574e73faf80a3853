// The matrix product of bfloat16 by the CPU's own instruction: vdpbf16ps (AVX512-BF16) adds the products of a pair of
// bfloat16 to a float32 sum, 16 sums at a time, twice the multiply-adds of float32 in the same time. Levels without it
// have no such kernel; there the op widens its operands.
//
// Two neighbours along k make one element of 4 bytes. Seen so, the scheme, the panels and the tiles are those of
// float32 (gemm_kernel.h), at half the depth; only what a tile does with an element differs. The sums of one task are
// kept in float32 in L2 and rounded once at the end. The instruction takes subnormal numbers as zeros.
#include "backend/cpu/gemm_tiles.h"

#if defined(__AVX512BF16__)

namespace pydl {
namespace {

using Half = uint16_t;

constexpr int64_t kPairCols = GemmTile<float>::kCols;
constexpr int64_t kTaskRows = 14 * 14, kTaskCols = 16 * kPairCols;  // sums of one task, at most: 392 KB
constexpr int64_t kPanelBytes = 16 << 20;                           // of B's panels that exist at once
constexpr int64_t kDotRows = 12;              // up to here B that is contiguous along k is read in place
constexpr int64_t kSerialPairs = 768 * 1024;  // pairs below which a fork does not pay

struct DotPairs {
  static PYDL_INLINE Vec<float> add(Vec<float> a, Vec<float> b, Vec<float> sum) {
    return Vec<float>(_mm512_dpbf16_ps(sum.raw, (__m512bh)a.raw, (__m512bh)b.raw));
  }
};

// One matrix of a batch, or a part of one; strides in elements of 2 bytes.
struct Product {
  int64_t m, n, k;
  const Half *a, *b;
  Half* dst;
  const Half* bias;
  int64_t a_row, a_col, b_row, b_col, dst_row;
  bool relu;
  float alpha, beta;
};

PYDL_INLINE __m512 widened(__m256i h) { return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16); }

// dst[j] of elements `step` apart in two rows: their pairs. Null stands for a row of zeros.
void pair_rows(int64_t count, const Half* first, const Half* second, int64_t step, float* dst) {
  int64_t j = 0;
  if (step == 1 && second != nullptr) {
    for (; j + 16 <= count; j += 16) {
      const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(first + j)));
      const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(second + j)));
      _mm512_storeu_si512(dst + j, low | _mm512_slli_epi32(high, 16));
    }
  }
  for (; j < count; ++j) {
    const Half pair[2] = {first[j * step], second == nullptr ? Half{0} : second[j * step]};
    __builtin_memcpy(dst + j, pair, sizeof pair);
  }
}

// dst[p * dst_row + j] for p < ceil(k / 2), j < cols: the pairs (2p, 2p + 1) of element (p, j) = src[p * row + j *
// col].
void pair_block(int64_t k, int64_t cols, const Half* src, int64_t row, int64_t col, float* dst, int64_t dst_row) {
  if (row == 1 && col != 1) {
    // Columns that are contiguous along k hold their pairs already: a transposing copy. Where a pair is cut in two, or
    // lies at an odd address, it goes through a copy of some columns.
    constexpr int64_t kTurned = 16, kDepth = kTileDepth + 1;
    float turned[kTurned * kDepth];
    const int64_t depth = ceil_div(k, 2);
    const bool in_place = k % 2 == 0 && col % 2 == 0 && reinterpret_cast<uintptr_t>(src) % 4 == 0;
    for (int64_t j = 0; j < cols; j += kTurned) {
      const int64_t width = cols - j < kTurned ? cols - j : kTurned;
      if (!in_place) {
        for (int64_t i = 0; i < width; ++i) {
          turned[i * kDepth + depth - 1] = 0;
          __builtin_memcpy(turned + i * kDepth, src + (j + i) * col, static_cast<size_t>(k) * sizeof(Half));
        }
      }
      const float* from = in_place ? reinterpret_cast<const float*>(src + j * col) : turned;
      transpose_copy(width, depth, from, in_place ? col / 2 : kDepth, dst + j, dst_row);
    }
    return;
  }
  for (int64_t p = 0; p < k; p += 2) {
    pair_rows(cols, src + p * row, p + 1 < k ? src + (p + 1) * row : nullptr, col, dst + p / 2 * dst_row);
  }
}

// How k is cut: blocks of at most kTileDepth pairs.
struct Depths {
  int64_t k, full;
  explicit Depths(int64_t k) : k(k), full(2 * tile_depth(ceil_div(k, 2))) {}
  int64_t count() const { return ceil_div(k, full); }
  int64_t elements(int64_t i) const { return k - i * full < full ? k - i * full : full; }
  int64_t pairs(int64_t i) const { return ceil_div(elements(i), 2); }
};

// Panels of b for columns [0, n): block after block of the depth, in each [panel][pair][kPairCols].
void pack_panels(const Product& p, const Depths& depths, int64_t first, int64_t last, float* packed) {
  const int64_t panels = ceil_div(p.n, kPairCols);
  for (int64_t q = first; q < last; ++q) {
    const int64_t j = q * kPairCols, width = p.n - j < kPairCols ? p.n - j : kPairCols;
    for (int64_t i = 0; i < depths.count(); ++i) {
      float* panel = packed + (i * depths.full / 2 * panels + q * depths.pairs(i)) * kPairCols;
      if (width < kPairCols)
        __builtin_memset(panel, 0, static_cast<size_t>(depths.pairs(i) * kPairCols) * sizeof(float));
      pair_block(depths.elements(i), width, p.b + i * depths.full * p.b_row + j * p.b_col, p.b_row, p.b_col, panel,
                 kPairCols);
    }
  }
}

// Rows of sums, row by row at sums_row, into p.dst from (i, j) on.
void finish(const Product& p, int64_t i, int64_t rows, int64_t j, int64_t cols, const float* sums, int64_t sums_row) {
  for (int64_t r = 0; r < rows; ++r, sums += sums_row) {
    Half* dst = p.dst + (i + r) * p.dst_row + j;
    for (int64_t c = 0; c < cols; c += 16) {
      const __mmask16 lanes = static_cast<__mmask16>(cols - c < 16 ? (1u << (cols - c)) - 1 : 0xffffu);
      __m512 sum = _mm512_maskz_loadu_ps(lanes, sums + c);
      if (p.alpha != 1.0f) sum *= p.alpha;
      if (p.beta != 0.0f) sum += p.beta * widened(_mm256_maskz_loadu_epi16(lanes, dst + c));
      if (p.bias != nullptr) sum += widened(_mm256_maskz_loadu_epi16(lanes, p.bias + j + c));
      if (p.relu) sum = max(Vec<float>(sum), Vec<float>(0.0f)).raw;
      _mm256_mask_storeu_epi16(dst + c, lanes, (__m256i)_mm512_cvtneps_pbh(sum));
    }
  }
}

// Rows and columns of p, at most kTaskRows and kTaskCols of them, from panels of all its columns; `panel` is the first.
void multiply_task(const Product& p, const Depths& depths, int64_t panels, int64_t panel, const float* packed,
                   Exec& exec) {
  const int64_t sums_row = round_up(p.n, kPairCols);
  Scratch<float> sums(exec, p.m * sums_row);
  Scratch<float> a(exec, p.m * depths.full / 2);
  if (p.k == 0) __builtin_memset(sums, 0, static_cast<size_t>(p.m * sums_row) * sizeof(float));
  for (int64_t i = 0; i < depths.count(); ++i) {
    const int64_t depth = depths.pairs(i), k = depths.elements(i);
    const Half* from = p.a + i * depths.full * p.a_col;
    BlockSpec<float> s{depth, depth, 1, kPairCols, depth * kPairCols, sums_row, 1.0f, i == 0 ? 0.0f : 1.0f};
    if (p.a_col == 1) {
      for (int64_t r = 0; r < p.m; ++r) {
        a[r * depth + depth - 1] = 0;
        __builtin_memcpy(a + r * depth, from + r * p.a_row, static_cast<size_t>(k) * sizeof(Half));
      }
    } else {  // pairs side by side as A's columns are
      pair_block(k, p.m, from, p.a_col, p.a_row, a, p.m);
      s.a_row = 1;
      s.a_col = p.m;
    }
    const float* b = packed + (i * depths.full / 2 * panels + panel * depth) * kPairCols;
    multiply_tiles<float, DotPairs>(s, p.m, p.n, a, b, sums, nullptr);
  }
  finish(p, 0, p.m, 0, p.n, sums, sums_row);
}

Product part_of(const Product& p, int64_t i, int64_t rows, int64_t j, int64_t cols) {
  return {rows,
          cols,
          p.k,
          p.a + i * p.a_row,
          p.b + j * p.b_col,
          p.dst + i * p.dst_row + j,
          p.bias == nullptr ? nullptr : p.bias + j,
          p.a_row,
          p.a_col,
          p.b_row,
          p.b_col,
          p.dst_row,
          p.relu,
          p.alpha,
          p.beta};
}

// Few rows, b contiguous along k: vectors along k, four columns at a time. finish(cols, sums, j) takes kRows rows of
// sums, kDotCols apart.
constexpr int64_t kDotCols = 4;
template <int kRows, class Finish>
void dot_columns(int64_t n, int64_t k, const Half* a, int64_t a_row, const Half* b, int64_t b_col, Finish finish) {
  constexpr int64_t kStep = 32;
  for (int64_t j = 0; j < n; j += kDotCols) {
    const int64_t cols = n - j < kDotCols ? n - j : kDotCols;
    const Half* column[kDotCols];
    for (int64_t c = 0; c < kDotCols; ++c) column[c] = b + (j + (c < cols ? c : 0)) * b_col;
    __m512 sum[kRows * kDotCols];
    repeat<kRows * kDotCols>([&](auto x) PYDL_LAMBDA { sum[x] = __m512{}; });
    const auto add = [&](int64_t at, __mmask32 lanes) PYDL_LAMBDA {
      __m512bh bv[kDotCols];
      repeat<kDotCols>([&](auto c) PYDL_LAMBDA { bv[c] = (__m512bh)_mm512_maskz_loadu_epi16(lanes, column[c] + at); });
      repeat<kRows>([&](auto i) PYDL_LAMBDA {
        const __m512bh av = (__m512bh)_mm512_maskz_loadu_epi16(lanes, a + i * a_row + at);
        repeat<kDotCols>(
            [&](auto c) PYDL_LAMBDA { sum[i * kDotCols + c] = _mm512_dpbf16_ps(sum[i * kDotCols + c], av, bv[c]); });
      });
    };
    int64_t at = 0;
    for (; at + kStep <= k; at += kStep) add(at, ~__mmask32{0});
    if (at < k) add(at, (__mmask32{1} << (k - at)) - 1);
    float sums[kRows * kDotCols];
    repeat<kRows * kDotCols>([&](auto x) PYDL_LAMBDA { sums[x] = _mm512_reduce_add_ps(sum[x]); });
    finish(cols, sums, j);
  }
}
template <class Finish>
void dot_rows(int64_t rows, int64_t n, int64_t k, const Half* a, int64_t a_row, const Half* b, int64_t b_col,
              Finish finish) {
  rows == 1   ? dot_columns<1>(n, k, a, a_row, b, b_col, finish)
  : rows == 2 ? dot_columns<2>(n, k, a, a_row, b, b_col, finish)
  : rows == 3 ? dot_columns<3>(n, k, a, a_row, b, b_col, finish)
              : dot_columns<4>(n, k, a, a_row, b, b_col, finish);
}

void multiply_dots(const Product& p, Exec& exec) {
  Scratch<Half> packed(exec, p.a_col == 1 ? 0 : p.m * p.k);
  const Half* a = p.a;
  int64_t a_row = p.a_row;
  if (p.a_col != 1) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t at = 0; at < p.k; ++at) packed[i * p.k + at] = p.a[i * p.a_row + at * p.a_col];
    }
    a = packed;
    a_row = p.k;
  }
  for (int64_t i = 0; i < p.m; i += 4) {
    const int64_t rows = p.m - i < 4 ? p.m - i : 4;
    dot_rows(rows, p.n, p.k, a + i * a_row, a_row, p.b, p.b_col,
             [&](int64_t cols, const float* sums, int64_t j) { finish(p, i, rows, j, cols, sums, kDotCols); });
  }
}

void gemm_block_bf16(const GemmBlockArgs& args, Exec&) noexcept {
  const BlockSpec<float>& s = *static_cast<const BlockSpec<float>*>(args.spec);
  const float *a = static_cast<const float*>(args.a), *bias = static_cast<const float*>(args.bias);
  float* dst = static_cast<float*>(args.dst);
  if (s.b_row != 1) {
    return multiply_tiles<float, DotPairs>(s, args.rows, args.cols, a, static_cast<const float*>(args.b), dst, bias);
  }
  for (int64_t i = 0; i < args.rows; i += 4) {
    const int64_t rows = args.rows - i < 4 ? args.rows - i : 4;
    dot_rows(rows, args.cols, 2 * s.k, static_cast<const Half*>(args.a) + 2 * i * s.a_row, 2 * s.a_row,
             static_cast<const Half*>(args.b), 2 * s.b_panel, [&](int64_t cols, const float* sums, int64_t j) {
               finish_rows(s, sums, kDotCols, rows, cols, dst + i * s.dst_row + j,
                           bias == nullptr ? nullptr : bias + j);
             });
  }
}

// A few rows of each of `batch` matrices, b contiguous along k and read once.
template <class Matrix>
void multiply_few_rows(int64_t batch, const Product& p, Matrix matrix, Exec& exec) {
  constexpr int64_t kChunk = 64;  // columns
  const int64_t chunks = ceil_div(p.n, kChunk);
  const int64_t grain = 1 + kSerialPairs / 8 / (kChunk * p.m * ceil_div(p.k, 2) + 1);
  parallel_for(exec, batch * chunks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t j = task % chunks * kChunk;
      multiply_dots(part_of(matrix(task / chunks), 0, p.m, j, p.n - j < kChunk ? p.n - j : kChunk), exec);
    }
  });
}

// One matrix by one thread, which packs b for itself, a task's columns at a time.
void multiply_serial(const Product& p, const Depths& depths, Exec& exec) {
  Scratch<float> packed(exec, (p.n < kTaskCols ? round_up(p.n, kPairCols) : kTaskCols) * ceil_div(p.k, 2));
  for (int64_t j = 0; j < p.n; j += kTaskCols) {
    const Product cols = part_of(p, 0, p.m, j, p.n - j < kTaskCols ? p.n - j : kTaskCols);
    const int64_t panels = ceil_div(cols.n, kPairCols);
    pack_panels(cols, depths, 0, panels, packed);
    for (int64_t i = 0; i < p.m; i += kTaskRows) {
      const int64_t rows = p.m - i < kTaskRows ? p.m - i : kTaskRows;
      multiply_task(part_of(cols, i, rows, 0, cols.n), depths, panels, 0, packed, exec);
    }
  }
}

// One matrix by all threads: b is packed once for all, then come tasks of about even size, several for each thread.
void multiply_shared(const Product& p, const Depths& depths, Exec& exec) {
  const int64_t panels = ceil_div(p.n, kPairCols), pairs = ceil_div(p.k, 2);
  Scratch<float> packed(exec, panels * kPairCols * pairs);
  parallel_for(exec, panels, 1 + 65536 / (pairs * kPairCols + 1),
               [&](int64_t begin, int64_t end) { pack_panels(p, depths, begin, end, packed); });
  int64_t row_parts = ceil_div(p.m, kTaskRows), col_parts = ceil_div(p.n, kTaskCols);
  while (row_parts * col_parts < 4 * exec.threads && (p.n / col_parts >= 4 * kPairCols || p.m / row_parts >= 56)) {
    p.n / col_parts > p.m / row_parts ? ++col_parts : ++row_parts;
  }
  parallel_for(exec, row_parts * col_parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / col_parts, col = task % col_parts;
      const int64_t i0 = p.m * row / row_parts, i1 = p.m * (row + 1) / row_parts;
      const int64_t q0 = panels * col / col_parts, q1 = panels * (col + 1) / col_parts;
      const int64_t j = q0 * kPairCols, cols = (q1 * kPairCols < p.n ? q1 * kPairCols : p.n) - j;
      if (cols > 0) multiply_task(part_of(p, i0, i1 - i0, j, cols), depths, panels, q0, packed, exec);
    }
  });
}

void gemm_bf16(const GemmArgs& args, Exec& exec) noexcept {
  GemmArgs g = args;
  if (g.batch > 1 && g.b_batch == 0 && g.a_batch == g.m * g.a_row && g.dst_batch == g.m * g.dst_row) {
    g.m *= g.batch;
    g.batch = 1;
  }
  if (g.m <= 0 || g.n <= 0 || g.batch <= 0) return;
  if (g.n == 1 && g.b_row == 1) g.b_col = g.k > 1 ? g.k : 2;  // a stride that is never taken: contiguous along k
  if (g.k <= 0) g.k = g.a_batch = g.a_row = g.a_col = g.b_batch = g.b_row = g.b_col = 0;  // operands may be null
  const Product all{g.m,
                    g.n,
                    g.k,
                    static_cast<const Half*>(g.a),
                    static_cast<const Half*>(g.b),
                    static_cast<Half*>(g.dst),
                    static_cast<const Half*>(g.bias),
                    g.a_row,
                    g.a_col,
                    g.b_row,
                    g.b_col,
                    g.dst_row,
                    g.activation == 1,
                    static_cast<float>(g.alpha),
                    static_cast<float>(g.beta)};
  const auto matrix = [&](int64_t i) {
    Product p = all;
    p.a += i * g.a_batch;
    p.b += i * g.b_batch;
    p.dst += i * g.dst_batch;
    return p;
  };
  if (g.m <= kDotRows && g.b_row == 1 && g.b_col != 1) return multiply_few_rows(g.batch, all, matrix, exec);
  const Depths depths(g.k);
  const int64_t pairs = ceil_div(g.k, 2), work = g.m * g.n * pairs;
  if (work < kSerialPairs || exec.threads == 1) {
    const int64_t grain = 1 + kSerialPairs / 4 / (work + 1);
    parallel_for(exec, g.batch, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) multiply_serial(matrix(i), depths, exec);
    });
    return;
  }
  const int64_t slice = kPanelBytes / 4 / (pairs + 1) / kTaskCols * kTaskCols;
  const int64_t cols_most = slice > 0 ? slice : kTaskCols;
  for (int64_t i = 0; i < g.batch; ++i) {
    for (int64_t j = 0; j < g.n; j += cols_most) {
      multiply_shared(part_of(matrix(i), 0, g.m, j, g.n - j < cols_most ? g.n - j : cols_most), depths, exec);
    }
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(gemm_bf16) {
  table.gemm_bf16 = pydl::gemm_bf16;
  table.gemm_block_bf16 = pydl::gemm_block_bf16;
}

#else

PYDL_FILL(gemm_bf16) { table.gemm_bf16 = nullptr, table.gemm_block_bf16 = nullptr; }

#endif
