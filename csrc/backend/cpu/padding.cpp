// Borders whose elements come from the inside (reflection, replication, around the corner): each axis has a map from
// places of dst to places of src. Forward copies; backward adds up, dst's rows in order.
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kPadGrain = 16384;

template <class T>
PYDL_INLINE void copy_row(const PadBorderArgs& a, const T* src, T* dst) {
  const int64_t inner = a.inner, first = a.first_inside[2], inside = a.inside[2];
  for (int64_t i = 0; i < a.dst_size[2]; ++i) {
    if (i == first && inside > 0) {
      __builtin_memcpy(dst + i * inner, src + a.map[2][i] * inner, static_cast<size_t>(inside * inner) * sizeof(T));
      i += inside - 1;
    } else if (inner == 1) {
      dst[i] = src[a.map[2][i]];
    } else {
      __builtin_memcpy(dst + i * inner, src + a.map[2][i] * inner, static_cast<size_t>(inner) * sizeof(T));
    }
  }
}

template <class T>
PYDL_INLINE void add_elements(const T* src, int64_t n, T* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] += src[i];
}

template <class T>
PYDL_INLINE void add_row(const PadBorderArgs& a, const T* dst, T* src) {
  const int64_t inner = a.inner, first = a.first_inside[2], inside = a.inside[2];
  for (int64_t i = 0; i < a.dst_size[2]; ++i) {
    const bool run = i == first && inside > 0;
    add_elements(dst + i * inner, run ? inside * inner : inner, src + a.map[2][i] * inner);
    if (run) i += inside - 1;
  }
}

template <class T>
void pad_forward(const PadBorderArgs& a, Exec& exec) {
  const int64_t rows = a.outer * a.dst_size[0] * a.dst_size[1];
  const int64_t dst_row = a.dst_size[2] * a.inner, src_row = a.src_size[2] * a.inner;
  parallel_for(exec, rows, 1 + kPadGrain / (dst_row + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t i1 = row % a.dst_size[1], i0 = row / a.dst_size[1] % a.dst_size[0];
      const int64_t o = row / (a.dst_size[1] * a.dst_size[0]);
      const int64_t from = (o * a.src_size[0] + a.map[0][i0]) * a.src_size[1] + a.map[1][i1];
      copy_row(a, static_cast<const T*>(a.src) + from * src_row, static_cast<T*>(a.dst) + row * dst_row);
    }
  });
}

template <class T>
void pad_backward(const PadBorderArgs& a, Exec& exec) {
  const int64_t dst_row = a.dst_size[2] * a.inner, src_row = a.src_size[2] * a.inner;
  const int64_t dst_all = a.dst_size[0] * a.dst_size[1] * dst_row, src_all = a.src_size[0] * a.src_size[1] * src_row;
  parallel_for(exec, a.outer, 1 + kPadGrain / (dst_all + 1), [&](int64_t begin, int64_t end) {
    __builtin_memset(static_cast<T*>(a.src) + begin * src_all, 0,
                     static_cast<size_t>((end - begin) * src_all) * sizeof(T));
    for (int64_t o = begin; o < end; ++o) {
      const T* dst = static_cast<const T*>(a.dst) + o * dst_all;
      T* src = static_cast<T*>(a.src) + o * src_all;
      for (int64_t i0 = 0; i0 < a.dst_size[0]; ++i0)
        for (int64_t i1 = 0; i1 < a.dst_size[1]; ++i1)
          add_row(a, dst + (i0 * a.dst_size[1] + i1) * dst_row,
                  src + (a.map[0][i0] * a.src_size[1] + a.map[1][i1]) * src_row);
    }
  });
}

void pad_border_kernel(const PadBorderArgs& args, Exec& exec) noexcept {
  switch (item_size(args.dtype)) {
    case 1:
      return pad_forward<uint8_t>(args, exec);
    case 2:
      return pad_forward<uint16_t>(args, exec);
    case 4:
      return pad_forward<uint32_t>(args, exec);
    default:
      return pad_forward<uint64_t>(args, exec);
  }
}
void pad_border_backward_kernel(const PadBorderArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float32 ? pad_backward<float>(args, exec) : pad_backward<double>(args, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(padding) {
  table.pad_border = pydl::pad_border_kernel;
  table.pad_border_backward = pydl::pad_border_backward_kernel;
}
