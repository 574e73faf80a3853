// Mean and sum of squared deviations along an axis, in pieces of fixed length.
#include "backend/cpu/moments.h"

namespace pydl {
namespace {

template <class T>
void moments_typed(const MomentsArgs& args, Exec& exec) {
  const int64_t n = args.n, inner = args.inner;
  const int64_t pieces = n > kMomentPiece ? (n + kMomentPiece - 1) / kMomentPiece : 1;
  const int64_t blocks = (inner + kColumnsAtOnce - 1) / kColumnsAtOnce;
  const int64_t width = inner < kColumnsAtOnce ? inner : kColumnsAtOnce;
  const int64_t length = n < kMomentPiece ? n : kMomentPiece;
  const T* src = static_cast<const T*>(args.src);
  const auto store = [&](int64_t at, const Moments& m) {
    static_cast<T*>(args.mean)[at] = static_cast<T>(m.mean);
    static_cast<T*>(args.m2)[at] = static_cast<T>(m.m2 > 0.0 || m.m2 != m.m2 ? m.m2 : 0.0);
  };
  Scratch<Moments> partial(exec, pieces > 1 ? args.outer * inner * pieces : 0);
  parallel_for(exec, args.outer * blocks * pieces, 1 + kRowGrain / (length * width + 1),
               [&](int64_t begin, int64_t end) {
                 const int64_t pitch = buffer_row(length);
                 Scratch<T> buffer(exec, inner == 1 ? 0 : pitch * width);
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t piece = item % pieces, col = item / pieces % blocks * kColumnsAtOnce,
                                 o = item / pieces / blocks;
                   const int64_t cols = inner - col < kColumnsAtOnce ? inner - col : kColumnsAtOnce;
                   const int64_t first = piece * kMomentPiece, count = n - first < length ? n - first : length;
                   const T* place = src + (o * n + first) * inner + col;
                   if (inner > 1) transpose_copy(count, cols, place, inner, buffer.get(), pitch, kRowsAhead * inner);
                   for (int64_t c = 0; c < cols; ++c) {
                     const Moments m = moments_of(inner == 1 ? place : buffer + c * pitch, count);
                     const int64_t at = o * inner + col + c;
                     if (pieces == 1)
                       store(at, m);
                     else
                       partial[at * pieces + piece] = m;
                   }
                 }
               });
  for (int64_t at = 0; pieces > 1 && at < args.outer * inner; ++at) {
    Moments m = partial[at * pieces];
    for (int64_t piece = 1; piece < pieces; ++piece) m.join(partial[at * pieces + piece]);
    store(at, m);
  }
}

void moments_kernel(const MomentsArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? moments_typed<double>(args, exec) : moments_typed<float>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(moments) { table.moments = pydl::moments_kernel; }
