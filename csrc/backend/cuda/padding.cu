// Borders whose elements come from the inside (reflection, replication, around the corner): each axis has a map from
// places of dst to places of src. Forward, a thread for each element of dst copies; backward, one for each element of
// src adds up the places that came from it, in order, by the inverse of the maps. Bound by memory.
#include "backend/cuda/tables.h"

namespace pydl {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock) pad_elements(PadBorderArgs args, int64_t count) {
  PYDL_CUDA_LOOP(i, count) {
    const int64_t c = i % args.inner, place2 = i / args.inner;
    const int64_t i2 = place2 % args.dst_size[2], place1 = place2 / args.dst_size[2];
    const int64_t i1 = place1 % args.dst_size[1], place0 = place1 / args.dst_size[1];
    const int64_t i0 = place0 % args.dst_size[0], o = place0 / args.dst_size[0];
    const int64_t from =
        ((o * args.src_size[0] + args.map[0][i0]) * args.src_size[1] + args.map[1][i1]) * args.src_size[2] +
        args.map[2][i2];
    static_cast<T*>(args.dst)[i] = static_cast<const T*>(args.src)[from * args.inner + c];
  }
}

// The places of dst that came from place p of src: place[first[p]] ... place[first[p + 1] - 1], ascending.
struct Inverse {
  const int64_t *first, *place;
};

template <class T>
__global__ void __launch_bounds__(kBlock)
    unpad_elements(PadBorderArgs args, Inverse axis0, Inverse axis1, Inverse axis2, int64_t count) {
  PYDL_CUDA_LOOP(i, count) {
    const int64_t c = i % args.inner, place2 = i / args.inner;
    const int64_t i2 = place2 % args.src_size[2], place1 = place2 / args.src_size[2];
    const int64_t i1 = place1 % args.src_size[1], place0 = place1 / args.src_size[1];
    const int64_t i0 = place0 % args.src_size[0], o = place0 / args.src_size[0];
    T sum = T(0);
    for (int64_t e0 = axis0.first[i0]; e0 < axis0.first[i0 + 1]; ++e0)
      for (int64_t e1 = axis1.first[i1]; e1 < axis1.first[i1 + 1]; ++e1)
        for (int64_t e2 = axis2.first[i2]; e2 < axis2.first[i2 + 1]; ++e2) {
          const int64_t at =
              ((o * args.dst_size[0] + axis0.place[e0]) * args.dst_size[1] + axis1.place[e1]) * args.dst_size[2] +
              axis2.place[e2];
          sum += static_cast<const T*>(args.dst)[at * args.inner + c];
        }
    static_cast<T*>(args.src)[i] = sum;
  }
}

int64_t count_of(const PadBorderArgs& args, const int64_t (&size)[3]) {
  return args.outer * size[0] * size[1] * size[2] * args.inner;
}

void pad_border_kernel(const PadBorderArgs& host, Exec& exec) noexcept {
  PadBorderArgs args = host;
  const int64_t count = count_of(args, args.dst_size);
  if (count <= 0) return;
  Tables tables(exec);
  for (int a = 0; a < 3; ++a) tables.add(&args.map[a], args.dst_size[a]);
  if (!tables.upload()) return;
  dispatch_width(item_size(args.dtype), [&](auto zero) {
    PYDL_CUDA_LAUNCH((pad_elements<decltype(zero)>), grid_for(count), kBlock, 0, exec, args, count);
  });
}

void invert(const int64_t* map, int64_t dst_size, int64_t src_size, int64_t* first, int64_t* place) {
  for (int64_t p = 0; p <= src_size; ++p) first[p] = 0;
  for (int64_t i = 0; i < dst_size; ++i) ++first[map[i] + 1];
  for (int64_t p = 0; p < src_size; ++p) first[p + 1] += first[p];
  for (int64_t i = 0; i < dst_size; ++i) place[first[map[i]]++] = i;
  for (int64_t p = src_size; p > 0; --p) first[p] = first[p - 1];  // each has moved to its end
  first[0] = 0;
}

void pad_border_backward_kernel(const PadBorderArgs& args, Exec& exec) noexcept {
  const int64_t count = count_of(args, args.src_size);
  if (count <= 0) return;
  int64_t size = 0;
  for (int a = 0; a < 3; ++a) size += args.src_size[a] + 1 + args.dst_size[a];
  Scratch<int64_t> memory(exec, size);
  Inverse axes[3];
  Tables tables(exec);
  int64_t* at = memory.get();
  for (int a = 0; a < 3; ++a) {
    invert(args.map[a], args.dst_size[a], args.src_size[a], at, at + args.src_size[a] + 1);
    axes[a] = {at, at + args.src_size[a] + 1};
    tables.add(&axes[a].first, args.src_size[a] + 1);
    tables.add(&axes[a].place, args.dst_size[a]);
    at += args.src_size[a] + 1 + args.dst_size[a];
  }
  if (!tables.upload()) return;
  dispatch_floating(args.dtype, [&](auto zero) {
    PYDL_CUDA_LAUNCH((unpad_elements<decltype(zero)>), grid_for(count), kBlock, 0, exec, args, axes[0], axes[1],
                     axes[2], count);
  });
}

}  // namespace
}  // namespace pydl

PYDL_FILL(padding) {
  table.pad_border = pydl::pad_border_kernel;
  table.pad_border_backward = pydl::pad_border_backward_kernel;
}
