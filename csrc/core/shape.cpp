#include "core/shape.h"

#include <limits>
#include <ostream>

namespace pydl {

std::ostream& operator<<(std::ostream& out, const Dims& shape) {
  out << '(';
  for (int i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  return out << (shape.size() == 1 ? ",)" : ")");
}

std::string to_string(const Dims& shape) { return text(shape); }

int64_t element_count(const Dims& shape) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 16;  // bytes must fit as well
  int64_t count = 1;
  bool overflow = false;
  for (int64_t n : shape)
    if (n < 0) throw ValueError(text("[shape] sizes must not be negative, got ", shape));
  for (int64_t n : shape) {
    if (n == 0) return 0;
    overflow = __builtin_mul_overflow(count, n, &count) || count > kMost || overflow;
  }
  if (overflow) throw ValueError(text("[shape] ", shape, " has more elements than memory can hold"));
  return count;
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides = Dims::filled(shape.size(), 1);
  int64_t step = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i] > 0 ? shape[i] : 1;
  }
  return strides;
}

Dims channels_last_strides(const Dims& shape) {
  Dims out = contiguous_strides(shape);
  int64_t pixels = 1;
  for (int d = 2; d < shape.size(); ++d) pixels *= shape[d];
  if (pixels <= 1 || shape[1] <= 1) return out;
  int64_t step = shape[1];
  for (int d = shape.size() - 1; d >= 2; --d) {
    out[d] = step;
    step *= shape[d];
  }
  out[1] = 1;
  return out;
}

Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b) {
  const Dims& longer = a.size() >= b.size() ? a : b;
  const Dims& shorter = a.size() >= b.size() ? b : a;
  const int shift = longer.size() - shorter.size();
  Dims out = longer;
  for (int i = 0; i < shorter.size(); ++i) {
    const int64_t m = longer[i + shift], n = shorter[i];
    if (m != n && m != 1 && n != 1)
      throw ValueError(text("[", op, "] shapes ", a, " and ", b, " can't be broadcast: sizes ", m, " and ", n,
                            " of one axis differ and neither is 1"));
    out[i + shift] = m == 1 ? n : m;
  }
  return out;
}

int normalize_axis(const char* op, int64_t axis, int ndim) {
  const int64_t limit = ndim == 0 ? 1 : ndim;
  if (axis < -limit || axis >= limit)
    throw IndexError(text("[", op, "] axis ", axis, " is out of range for a tensor of ", ndim, " axes"));
  return static_cast<int>(axis < 0 ? axis + limit : axis);
}

Dims normalize_axes(const char* op, const Dims& axes, int ndim) {
  Dims out;
  bool seen[kMaxRank] = {};
  for (int64_t axis : axes) {
    const int a = normalize_axis(op, axis, ndim);
    if (seen[a]) throw ValueError(text("[", op, "] axis ", axis, " appears twice in ", axes));
    seen[a] = true;
    out.push_back(a);
  }
  return out;
}

}  // namespace pydl
