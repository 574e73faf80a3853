// Batch normalization, forward and backward, of memory (outer, C, inner). Long planes (inner) are taken one channel
// after the other, so that a channel's second pass finds it in cache; else a row of all channels is a vector of
// columns, several rows side by side where one is short, and a channel is what its columns have together.
#include "backend/cpu/channel_norm.h"

namespace pydl {
namespace {

constexpr int64_t kShortPlane = 50;        // elements of a channel's run below which rows are better,
constexpr int64_t kShortPerRow = 4;        // and the same for each row, as few are not worth it
constexpr int64_t kChunkElements = 16384;  // of a share of the rows, at least
constexpr int64_t kMostChunks = 64;
constexpr int64_t kGroupElements =
    98304;  // of the channels that are taken together: they stay in the second-level cache
constexpr int64_t kMostInGroup = 64;
constexpr int64_t kChannelsToSplit = 8;  // as many channels are shared out whole

template <class T>
struct Coefficients {  // of each channel, or of each column
  T *mean, *scale, *shift, *slope, *constant;
  Coefficients(T* memory, int64_t n)
      : mean(memory), scale(memory + n), shift(memory + 2 * n), slope(memory + 3 * n), constant(memory + 4 * n) {}
  static constexpr int64_t kArrays = 5;
  ChannelMap<T> map() const { return {mean, scale, shift}; }
};

template <class T>
T element(const void* p, int64_t i, T otherwise) {
  return p != nullptr ? static_cast<const T*>(p)[i] : otherwise;
}

template <class T>
bool streams(const BatchNormArgs& args, const void* dst, int64_t row) {
  const int64_t item = static_cast<int64_t>(sizeof(T));
  return worth_streaming(dst, row * item, args.outer * args.channels * args.inner * item);
}

// From a channel's moments (batch statistics) or the running ones: what forward and backward multiply by.
template <class T>
void set_channel(const BatchNormArgs& args, int64_t c, const Moments& m, const Coefficients<T>& out) {
  double mean, var;
  if (args.batch_statistics) {
    mean = m.mean;
    var = (m.m2 > 0.0 || m.m2 != m.m2 ? m.m2 : 0.0) / m.count;
    if (args.running_mean != nullptr) {
      T* at = static_cast<T*>(args.running_mean) + c;
      *at = static_cast<T>((1.0 - args.momentum) * static_cast<double>(*at) + args.momentum * mean);
    }
    if (args.running_var != nullptr) {
      T* at = static_cast<T*>(args.running_var) + c;
      const double unbiased = var * m.count / (m.count - 1.0);
      *at = static_cast<T>((1.0 - args.momentum) * static_cast<double>(*at) + args.momentum * unbiased);
    }
  } else {
    mean = static_cast<double>(static_cast<const T*>(args.running_mean)[c]);
    var = static_cast<double>(static_cast<const T*>(args.running_var)[c]);
  }
  const double invstd = 1.0 / __builtin_sqrt(var + args.eps);
  static_cast<T*>(args.ws_mean)[c] = static_cast<T>(mean);
  static_cast<T*>(args.ws_invstd)[c] = static_cast<T>(invstd);
  out.mean[c] = static_cast<T>(mean);
  out.scale[c] = static_cast<T>(invstd) * element<T>(args.weight, c, 1);
  out.shift[c] = element<T>(args.bias, c, 0);
}

template <class T>
void set_saved(const BatchNormArgs& args, int64_t c, const Coefficients<T>& out) {
  out.mean[c] = static_cast<const T*>(args.ws_mean)[c];
  out.scale[c] = static_cast<const T*>(args.ws_invstd)[c] * element<T>(args.weight, c, 1);
  out.shift[c] = element<T>(args.bias, c, 0);
}

// From a channel's sums of g and g * (x - mean), the gradients of its parameters and what d_x is made with:
//   d_x = scale * (g - sum_g / n - (x - mean) * invstd^2 * sum_gx / n)
template <class T>
void set_gradient(const BatchNormBackwardArgs& args, int64_t c, double n, double sum_g, double sum_gx,
                  const Coefficients<T>& out) {
  const double invstd = static_cast<double>(static_cast<const T*>(args.forward.ws_invstd)[c]);
  const double scale = static_cast<double>(out.scale[c]);
  if (args.d_weight != nullptr) static_cast<T*>(args.d_weight)[c] = static_cast<T>(sum_gx * invstd);
  if (args.d_bias != nullptr) static_cast<T*>(args.d_bias)[c] = static_cast<T>(sum_g);
  out.slope[c] = static_cast<T>(-scale * invstd * invstd * sum_gx / n);
  out.constant[c] = static_cast<T>(-scale * sum_g / n);
}

// Memory in rows: `side` rows of C * inner lie side by side as one of `width` columns; the last few, fewer than side,
// are a shorter row.
template <class T>
struct Rows {
  int64_t side, width, rows, rest, chunk, chunks, channels, inner;
  Rows(int64_t outer, int64_t channels0, int64_t inner0) : channels(channels0), inner(inner0) {
    const int64_t row = channels * inner;
    side = row % Vec<T>::size == 0 || row >= kPanel * Vec<T>::size ? 1 : Vec<T>::size;
    width = row * side;
    rows = outer / side;
    rest = outer % side * row;
    const int64_t enough = kChunkElements / width, even = (rows + kMostChunks - 1) / kMostChunks;
    chunk = enough > even ? enough : even;
    if (chunk < 8) chunk = 8;
    chunks = (rows + chunk - 1) / chunk;
  }
  int64_t parts() const { return chunks + (rest > 0 ? 1 : 0); }
  int64_t channel(int64_t column) const { return column / inner % channels; }
  // body(part, first element, rows, columns): each chunk, and the shorter row. A second pass goes backwards: it meets
  // first what is still in cache.
  template <class F>
  void each_part(Exec& exec, bool backwards, F body) const {
    const int64_t grain = 1 + kRowGrain / (chunk * width);
    parallel_for(exec, parts(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t part = backwards ? parts() - 1 - i : i;
        const int64_t first = part * chunk, left = rows - first;
        if (part == chunks)
          body(part, rows * width, int64_t{1}, rest);
        else
          body(part, first * width, left < chunk ? left : chunk, width);
      }
      stream_fence();
    });
  }
};

// Of several columns of n elements each, given their means and sums of squared deviations (null: all 0): columns first,
// first + 1, ... of `side` rows that are `row` apart, `inner` in each.
Moments joined(const double* mean, const double* m2, double n, int64_t first, int64_t inner, int64_t row,
               int64_t side) {
  const double columns = static_cast<double>(inner * side);
  double total = 0.0, spread = 0.0;
  for (int64_t s = 0; s < side; ++s)
    for (int64_t j = 0; j < inner; ++j) total += mean[s * row + first + j];
  const double center = total / columns;
  for (int64_t s = 0; s < side; ++s) {
    for (int64_t j = 0; j < inner; ++j) {
      const double d = mean[s * row + first + j] - center;
      spread += n * d * d + (m2 != nullptr ? m2[s * row + first + j] : 0.0);
    }
  }
  return {n * columns, center, spread};
}

// Channel c's value in each of its columns.
template <class T>
void spread(const Rows<T>& shape, const Coefficients<T>& from, const Coefficients<T>& to, bool gradient) {
  const int64_t row = shape.channels * shape.inner;
  for (int64_t c = 0, j = 0; c < shape.channels; ++c) {
    for (int64_t i = 0; i < shape.inner; ++i, ++j) {
      to.mean[j] = from.mean[c];
      to.scale[j] = from.scale[c];
      to.shift[j] = from.shift[c];
      if (gradient) {
        to.slope[j] = from.slope[c];
        to.constant[j] = from.constant[c];
      }
    }
  }
  for (int64_t j = row; j < shape.width; ++j) {
    to.mean[j] = to.mean[j - row];
    to.scale[j] = to.scale[j - row];
    to.shift[j] = to.shift[j - row];
    if (gradient) {
      to.slope[j] = to.slope[j - row];
      to.constant[j] = to.constant[j - row];
    }
  }
}

template <class T>
void forward_rows(const BatchNormArgs& args, Exec& exec) {
  const Rows<T> shape(args.outer, args.channels, args.inner);
  const int64_t width = shape.width, channels = args.channels, parts = shape.parts();
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  Scratch<T> memory(exec, Coefficients<T>::kArrays * (channels + width));
  const Coefficients<T> of_channel(memory.get(), channels);
  Coefficients<T> of_column(memory + Coefficients<T>::kArrays * channels, width);
  if (args.batch_statistics) {
    Scratch<double> partial(exec, parts * 2 * width);
    shape.each_part(exec, false, [&](int64_t part, int64_t at, int64_t rows, int64_t columns) {
      rows_moments(x + at, rows, columns, columns, partial + part * 2 * width, partial + (part * 2 + 1) * width);
    });
    double* mean = partial;
    double* m2 = partial + width;
    double count = 0.0;
    for (int64_t part = 0; part < shape.chunks; ++part) {
      const int64_t left = shape.rows - part * shape.chunk;
      const double n = static_cast<double>(left < shape.chunk ? left : shape.chunk), total = count + n;
      const double weight = n / total, cross = count * n / total;
      const double* next = partial + part * 2 * width;
      for (int64_t j = 0; part > 0 && j < width; ++j) {
        const double delta = next[j] - mean[j];
        mean[j] += delta * weight;
        m2[j] += next[width + j] + delta * delta * cross;
      }
      count = total;
    }
    const double* last = partial + shape.chunks * 2 * width;
    const int64_t row = channels * args.inner;
    for (int64_t c = 0; c < channels; ++c) {
      Moments m{0.0, 0.0, 0.0};
      if (count > 0.0) m = joined(mean, m2, count, c * args.inner, args.inner, row, shape.side);
      if (shape.rest > 0) m.join(joined(last, nullptr, 1.0, c * args.inner, args.inner, row, shape.rest / row));
      set_channel(args, c, m, of_channel);
    }
  } else {
    for (int64_t c = 0; c < channels; ++c) set_channel(args, c, Moments{}, of_channel);
  }
  if (width != channels)
    spread(shape, of_channel, of_column, false);
  else
    of_column = of_channel;
  const bool stream = streams<T>(args, y, width);
  const auto map = args.relu ? (stream ? rows_map<T, true, true> : rows_map<T, true, false>)
                             : (stream ? rows_map<T, false, true> : rows_map<T, false, false>);
  shape.each_part(exec, true, [&](int64_t, int64_t at, int64_t rows, int64_t columns) {
    map(x + at, y + at, rows, columns, columns, of_column.map());
  });
}

template <class T>
void backward_rows(const BatchNormBackwardArgs& args, Exec& exec) {
  const BatchNormArgs& f = args.forward;
  const Rows<T> shape(f.outer, f.channels, f.inner);
  const int64_t width = shape.width, channels = f.channels, parts = shape.parts();
  const T* x = static_cast<const T*>(f.x);
  const T* g = static_cast<const T*>(args.d_y);
  T* d_x = static_cast<T*>(args.d_x);
  Scratch<T> memory(exec, Coefficients<T>::kArrays * (channels + width));
  const Coefficients<T> of_channel(memory.get(), channels);
  Coefficients<T> of_column(memory + Coefficients<T>::kArrays * channels, width);
  for (int64_t c = 0; c < channels; ++c) set_saved(f, c, of_channel);
  if (width != channels)
    spread(shape, of_channel, of_column, false);
  else
    of_column = of_channel;
  if (f.batch_statistics || args.d_weight != nullptr || args.d_bias != nullptr) {
    Scratch<double> partial(exec, parts * 2 * width);
    const auto sums = f.relu ? rows_sums<T, true> : rows_sums<T, false>;
    shape.each_part(exec, false, [&](int64_t part, int64_t at, int64_t rows, int64_t columns) {
      double* sum = partial + part * 2 * width;
      for (int64_t j = 0; j < 2 * width; ++j) sum[j] = 0.0;
      sums(x + at, g + at, rows, columns, columns, of_column.map(), sum, sum + width);
    });
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t j = 0; j < 2 * width; ++j) partial[j] += partial[part * 2 * width + j];
    const double n = static_cast<double>(f.outer * f.inner);
    const int64_t row = channels * f.inner;
    for (int64_t c = 0; c < channels; ++c) {
      double sum_g = 0.0, sum_gx = 0.0;
      for (int64_t s = 0; s < shape.side; ++s) {
        for (int64_t j = s * row + c * f.inner; j < s * row + (c + 1) * f.inner; ++j) {
          sum_g += partial[j];
          sum_gx += partial[width + j];
        }
      }
      set_gradient(args, c, n, sum_g, sum_gx, of_channel);
    }
    if (width != channels) spread(shape, of_channel, of_column, true);
  }
  if (d_x == nullptr) return;
  ChannelGradient<T> gradient{of_column.scale, of_column.slope, of_column.constant};
  if (!f.batch_statistics) gradient.slope = nullptr;
  const bool stream = streams<T>(f, d_x, width);
  const auto map = f.relu ? (stream ? rows_gradient<T, true, true> : rows_gradient<T, true, false>)
                          : (stream ? rows_gradient<T, false, true> : rows_gradient<T, false, false>);
  shape.each_part(exec, true, [&](int64_t, int64_t at, int64_t rows, int64_t columns) {
    map(x + at, g + at, d_x + at, rows, columns, columns, of_column.map(), gradient);
  });
}

// Memory in planes: each run of `inner` elements in pieces, numbered along the channel.
struct Planes {
  int64_t outer, channels, inner, pieces, piece;
  explicit Planes(const BatchNormArgs& args)
      : outer(args.outer),
        channels(args.channels),
        inner(args.inner),
        pieces((args.inner + kMomentPiece - 1) / kMomentPiece),
        piece((args.inner + pieces - 1) / pieces) {}
  bool split() const { return channels < kChannelsToSplit; }
  int64_t per_channel() const { return outer * pieces; }
  // body(c, index, first element, count) for one piece.
  template <class F>
  PYDL_INLINE void visit(int64_t c, int64_t o, int64_t p, F body) const {
    const int64_t first = p * piece, left = inner - first;
    body(c, o * pieces + p, (o * channels + c) * inner + first, left < piece ? left : piece);
  }
  // All pieces of channels begin ... end - 1, in the order of memory or against it.
  template <class F>
  PYDL_INLINE void group(int64_t begin, int64_t end, bool backwards, F body) const {
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t j = 0; j < end - begin; ++j)
        for (int64_t k = 0; k < pieces; ++k)
          backwards ? visit(end - 1 - j, outer - 1 - i, pieces - 1 - k, body) : visit(begin + j, i, k, body);
  }
  // body(c, index, first element, count) for all pieces, in the order of memory.
  template <class F>
  void each(Exec& exec, F body) const {
    parallel_for(exec, outer * channels * pieces, 1 + kRowGrain / piece, [&](int64_t begin, int64_t end) {
      int64_t p = begin % pieces, c = begin / pieces % channels, o = begin / pieces / channels;
      for (int64_t i = begin; i < end; ++i) {
        visit(c, o, p, body);
        if (++p < pieces) continue;
        p = 0;
        if (++c < channels) continue;
        c = 0;
        ++o;
      }
      stream_fence();
    });
  }
  // body(begin, end, ahead): groups of neighbouring channels that together stay in cache for a second pass. The next
  // group lies so many elements ahead.
  template <class F>
  void each_group(Exec& exec, F body) const {
    int64_t size = kGroupElements / (outer * inner);
    if (size > kMostInGroup) size = kMostInGroup;
    if (size > channels / 4) size = channels / 4;
    if (size < 1) size = 1;
    const int64_t groups = (channels + size - 1) / size;
    parallel_for(exec, groups, 1 + kRowGrain / (outer * inner * size), [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g)
        body(g * size, g + 1 < groups ? (g + 1) * size : channels, g + 1 < groups ? size * inner : 0);
      stream_fence();
    });
  }
};

template <class T>
void forward_planes(const BatchNormArgs& args, Exec& exec) {
  const Planes shape(args);
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.y);
  Scratch<T> memory(exec, Coefficients<T>::kArrays * args.channels);
  const Coefficients<T> of(memory.get(), args.channels);
  const bool stream = streams<T>(args, y, args.inner) && shape.piece % Vec<T>::size == 0;
  const auto map = args.relu ? (stream ? plane_map<T, true, true> : plane_map<T, true, false>)
                             : (stream ? plane_map<T, false, true> : plane_map<T, false, false>);
  const auto write = [&](int64_t c, int64_t at, int64_t n, int64_t ahead) {
    map(x + at, y + at, n, ahead, of.mean[c], of.scale[c], of.shift[c]);
  };
  if (args.batch_statistics && !shape.split()) {
    shape.each_group(exec, [&](int64_t begin, int64_t end, int64_t ahead) {
      Moments m[kMostInGroup];
      for (int64_t c = begin; c < end; ++c) m[c - begin] = {0.0, 0.0, 0.0};
      shape.group(begin, end, false,
                  [&](int64_t c, int64_t, int64_t at, int64_t n) { m[c - begin].join(moments_of(x + at, n)); });
      for (int64_t c = begin; c < end; ++c) set_channel(args, c, m[c - begin], of);
      shape.group(begin, end, true, [&](int64_t c, int64_t, int64_t at, int64_t n) { write(c, at, n, ahead); });
    });
    return;
  }
  Scratch<Moments> partial(exec, args.batch_statistics ? args.channels * shape.per_channel() : 0);
  if (args.batch_statistics)
    shape.each(exec, [&](int64_t c, int64_t index, int64_t at, int64_t n) {
      partial[c * shape.per_channel() + index] = moments_of(x + at, n);
    });
  for (int64_t c = 0; c < args.channels; ++c) {
    Moments m{0.0, 0.0, 0.0};
    for (int64_t index = 0; args.batch_statistics && index < shape.per_channel(); ++index)
      m.join(partial[c * shape.per_channel() + index]);
    set_channel(args, c, m, of);
  }
  shape.each(exec, [&](int64_t c, int64_t, int64_t at, int64_t n) { write(c, at, n, 0); });
}

template <class T>
void backward_planes(const BatchNormBackwardArgs& args, Exec& exec) {
  const BatchNormArgs& f = args.forward;
  const Planes shape(f);
  const T* x = static_cast<const T*>(f.x);
  const T* g = static_cast<const T*>(args.d_y);
  T* d_x = static_cast<T*>(args.d_x);
  const bool summing = f.batch_statistics || args.d_weight != nullptr || args.d_bias != nullptr;
  const double count = static_cast<double>(f.outer * f.inner);
  Scratch<T> memory(exec, Coefficients<T>::kArrays * f.channels);
  const Coefficients<T> of(memory.get(), f.channels);
  const auto sums = f.relu ? plane_sums<T, true> : plane_sums<T, false>;
  const bool stream = streams<T>(f, d_x, f.inner) && shape.piece % Vec<T>::size == 0;
  const auto map = f.relu ? (stream ? plane_gradient<T, true, true> : plane_gradient<T, true, false>)
                          : (stream ? plane_gradient<T, false, true> : plane_gradient<T, false, false>);
  const auto write = [&](int64_t c, int64_t at, int64_t n, int64_t ahead) {
    map(x + at, g + at, d_x + at, n, ahead, of.mean[c], of.scale[c], of.shift[c], of.scale[c], of.slope[c],
        of.constant[c], !f.batch_statistics);
  };
  const auto sum = [&](int64_t c, int64_t at, int64_t n, double* sum_g, double* sum_gx) {
    sums(x + at, g + at, n, of.mean[c], of.scale[c], of.shift[c], sum_g, sum_gx);
  };
  if (summing && !shape.split()) {
    shape.each_group(exec, [&](int64_t begin, int64_t end, int64_t ahead) {
      double sum_g[kMostInGroup], sum_gx[kMostInGroup];
      for (int64_t c = begin; c < end; ++c) {
        set_saved(f, c, of);
        sum_g[c - begin] = sum_gx[c - begin] = 0.0;
      }
      shape.group(begin, end, false, [&](int64_t c, int64_t, int64_t at, int64_t n) {
        double piece_g = 0.0, piece_gx = 0.0;
        sum(c, at, n, &piece_g, &piece_gx);
        sum_g[c - begin] += piece_g;
        sum_gx[c - begin] += piece_gx;
      });
      for (int64_t c = begin; c < end; ++c) set_gradient(args, c, count, sum_g[c - begin], sum_gx[c - begin], of);
      if (d_x != nullptr)
        shape.group(begin, end, true, [&](int64_t c, int64_t, int64_t at, int64_t n) { write(c, at, n, ahead); });
    });
    return;
  }
  for (int64_t c = 0; c < f.channels; ++c) set_saved(f, c, of);
  if (summing) {
    Scratch<double> partial(exec, 2 * f.channels * shape.per_channel());
    shape.each(exec, [&](int64_t c, int64_t index, int64_t at, int64_t n) {
      double* place = partial + 2 * (c * shape.per_channel() + index);
      place[0] = place[1] = 0.0;
      sum(c, at, n, place, place + 1);
    });
    for (int64_t c = 0; c < f.channels; ++c) {
      double sum_g = 0.0, sum_gx = 0.0;
      for (int64_t index = 0; index < shape.per_channel(); ++index) {
        sum_g += partial[2 * (c * shape.per_channel() + index)];
        sum_gx += partial[2 * (c * shape.per_channel() + index) + 1];
      }
      set_gradient(args, c, count, sum_g, sum_gx, of);
    }
  }
  if (d_x != nullptr) shape.each(exec, [&](int64_t c, int64_t, int64_t at, int64_t n) { write(c, at, n, 0); });
}

// One channel is one plane.
void join_single_channel(BatchNormArgs& args) {
  if (args.channels != 1) return;
  args.inner *= args.outer;
  args.outer = 1;
}

bool short_planes(const BatchNormArgs& args) {
  return args.inner < kShortPlane && args.inner < kShortPerRow * args.outer;
}

void batch_norm_kernel(const BatchNormArgs& args0, Exec& exec) noexcept {
  BatchNormArgs args = args0;
  join_single_channel(args);
  const bool rows = short_planes(args);
  if (args.dtype == DType::float64)
    rows ? forward_rows<double>(args, exec) : forward_planes<double>(args, exec);
  else
    rows ? forward_rows<float>(args, exec) : forward_planes<float>(args, exec);
}
void batch_norm_backward_kernel(const BatchNormBackwardArgs& args0, Exec& exec) noexcept {
  BatchNormBackwardArgs args = args0;
  join_single_channel(args.forward);
  const bool rows = short_planes(args.forward);
  if (args.forward.dtype == DType::float64)
    rows ? backward_rows<double>(args, exec) : backward_planes<double>(args, exec);
  else
    rows ? backward_rows<float>(args, exec) : backward_planes<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(batch_norm) {
  table.batch_norm = pydl::batch_norm_kernel;
  table.batch_norm_backward = pydl::batch_norm_backward_kernel;
}
