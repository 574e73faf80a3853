// The transposing copy of a block of elements. Compiled once for each ISA level, in copy.cpp.
#pragma once
#include "backend/cpu/vec.h"
#include "backend/kernel_table.h"

// dst[p * dst_row + j] = src[j * src_row + p] for j < rows, p < cols, of elements of `item` bytes: 1, 2, 4 or 8. Unless
// it is 0, memory is asked for what lies `ahead` elements behind each that is read. Past the cache: rows of dst are
// aligned to vectors then, and rows whole vectors of elements.
#define PYDL_TRANSPOSE_OF(isa) pydl_transpose_##isa
#define PYDL_TRANSPOSE_AT(isa) PYDL_TRANSPOSE_OF(isa)
#define PYDL_TRANSPOSE PYDL_TRANSPOSE_AT(PYDL_ISA)
extern "C" void PYDL_TRANSPOSE(size_t item, int64_t rows, int64_t cols, const void* src, int64_t src_row, void* dst,
                               int64_t dst_row, int64_t ahead, bool past_cache) noexcept;

namespace pydl {
namespace {

template <class T>
PYDL_INLINE void transpose_copy(int64_t rows, int64_t cols, const T* src, int64_t src_row, T* dst, int64_t dst_row,
                                int64_t ahead = 0, bool past_cache = false) {
  PYDL_TRANSPOSE(sizeof(T), rows, cols, src, src_row, dst, dst_row, ahead, past_cache);
}

}  // namespace
}  // namespace pydl
