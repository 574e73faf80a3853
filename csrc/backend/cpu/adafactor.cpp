// Adafactor's step: the second moment of a matrix is kept as the means of its rows and columns. Parameters of fewer
// than two axes keep it whole.
#include "backend/cpu/many.h"

namespace pydl {
namespace {

constexpr int64_t kMostBlocks = 64;  // of rows, each with column sums of its own

// The tensor as (batch, rows, cols), cut into units of whole rows: a matrix each, or blocks of the only one.
struct Units {
  int64_t rows, count, per_matrix;
  explicit Units(const AdafactorArgs& args) {
    const int64_t least = 1 + kManyGrain / args.cols, share = (args.rows + kMostBlocks - 1) / kMostBlocks;
    rows = args.batch > 1 ? args.rows : least > share ? least : share;
    per_matrix = (args.rows + rows - 1) / rows;
    count = args.batch * per_matrix;
  }
};

template <class T, class F>
double sum_of_units(const Units& units, Exec& exec, F unit_sum) {
  Scratch<double> partial(exec, units.count);
  parallel_for(exec, units.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) partial[unit] = unit_sum(unit);
  });
  double sum = 0.0;
  for (int64_t unit = 0; unit < units.count; ++unit) sum += partial[unit];
  return sum;
}

template <class T>
double sum_of_squares(const T* x, int64_t n) {
  WideSum sum;
  each_place<T>(0, n, [&](auto load, auto) { sum.add_square(load(x)); });
  return sum.total();
}

// body(first element of the row, matrix, row of the matrix) for each row of a unit.
template <class F>
PYDL_INLINE void each_row_of(const AdafactorArgs& args, const Units& units, int64_t unit, F body) {
  const int64_t matrix = unit / units.per_matrix, first = unit % units.per_matrix * units.rows;
  const int64_t last = first + units.rows < args.rows ? first + units.rows : args.rows;
  for (int64_t row = first; row < last; ++row) body((matrix * args.rows + row) * args.cols, matrix, row);
}

// Moves row_var (batch, rows) and col_var (batch, cols) to the new means, and fills row_scale with row_var over its
// mean.
template <class T>
void move_means(const AdafactorArgs& args, const Units& units, Exec& exec, double* row_scale) {
  const T* grad = static_cast<const T*>(args.grad);
  T* row_var = static_cast<T*>(args.row_var);
  T* col_var = static_cast<T*>(args.col_var);
  Scratch<double> columns(exec, units.count * args.cols);
  parallel_for(exec, units.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      double* sums = columns + unit * args.cols;
      for (int64_t c = 0; c < args.cols; ++c) sums[c] = 0.0;
      each_row_of(args, units, unit, [&](int64_t place, int64_t matrix, int64_t row) {
        for (int64_t c = 0; c < args.cols; ++c) {
          const double g = static_cast<double>(grad[place + c]);
          sums[c] += g * g;
        }
        const double mean = sum_of_squares(grad + place, args.cols) / static_cast<double>(args.cols);
        T& kept = row_var[matrix * args.rows + row];
        kept = static_cast<T>(kept + args.weight * (mean - kept));
      });
    }
  });
  for (int64_t matrix = 0; matrix < args.batch; ++matrix) {
    for (int64_t c = 0; c < args.cols; ++c) {
      double sum = 0.0;
      for (int64_t block = 0; block < units.per_matrix; ++block)
        sum += columns[(matrix * units.per_matrix + block) * args.cols + c];
      T& kept = col_var[matrix * args.cols + c];
      kept = static_cast<T>(kept + args.weight * (sum / static_cast<double>(args.rows) - kept));
    }
    double mean = 0.0;
    for (int64_t r = 0; r < args.rows; ++r) mean += static_cast<double>(row_var[matrix * args.rows + r]);
    mean /= static_cast<double>(args.rows);
    if (mean < args.eps1) mean = args.eps1;
    for (int64_t r = 0; r < args.rows; ++r) row_scale[matrix * args.rows + r] = row_var[matrix * args.rows + r] / mean;
  }
}

template <class T>
void step(const AdafactorArgs& args, Exec& exec) {
  using V = Vec<T>;
  const Units units(args);
  const bool factored = args.variance == nullptr;
  T* param = static_cast<T*>(args.param);
  const T* grad = static_cast<const T*>(args.grad);
  T* variance = static_cast<T*>(args.variance);
  const T* col_var = static_cast<const T*>(args.col_var);
  const double count = static_cast<double>(args.batch * args.rows * args.cols);
  const double param_squares = sum_of_units<T>(units, exec, [&](int64_t unit) {
    double sum = 0.0;
    each_row_of(args, units, unit,
                [&](int64_t place, int64_t, int64_t) { sum += sum_of_squares(param + place, args.cols); });
    return sum;
  });
  const double size = __builtin_sqrt(param_squares / count);
  double alpha = (size > args.eps2 ? size : args.eps2) * args.rate;

  Scratch<double> row_scale(exec, args.batch * args.rows);
  if (factored) move_means<T>(args, units, exec, row_scale);
  const V smallest(args.eps1 * args.eps1), weight(args.weight);
  // The update before it is clipped, g/√v: computed twice rather than kept.
  const auto each_update = [&](int64_t unit, bool moves, auto use) __attribute__((always_inline)) {
    each_row_of(args, units, unit, [&](int64_t place, int64_t matrix, int64_t row) {
      const V scale(factored ? row_scale[matrix * args.rows + row] : 1.0);
      const T* columns = col_var + matrix * args.cols;
      each_place<T>(
          0, args.cols, [&](auto load, auto store) __attribute__((always_inline)) {
            const V g = load(grad + place);
            V v;
            if (factored) {
              v = scale * load(columns);
            } else {
              v = load(variance + place);
              if (moves) {
                v = fma(weight, fma(g, g, -v), v);
                store(v, variance + place);
              }
            }
            use(select(g == 0.0, V(0.0), g / sqrt(max(v, smallest))), load, store, param + place);
          });
    });
  };
  const double update_squares = sum_of_units<T>(units, exec, [&](int64_t unit) {
    WideSum sum;
    each_update(
        unit, true, [&](V u, auto, auto, T*) __attribute__((always_inline)) { sum.add_square(u); });
    return sum.total();
  });
  const double clip = __builtin_sqrt(update_squares / count) / args.d;
  if (clip > 1.0) alpha /= clip;
  const V step_size(args.maximize ? -alpha : alpha), kept(args.kept);
  parallel_for(exec, units.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit)
      each_update(
          unit, false, [&](V u, auto load, auto store, T* p) __attribute__((always_inline)) {
            store(load(p) * kept - step_size * u, p);
          });
  });
}

void adafactor_step_kernel(const AdafactorArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? step<double>(args, exec) : step<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(adafactor) { table.adafactor_step = pydl::adafactor_step_kernel; }
