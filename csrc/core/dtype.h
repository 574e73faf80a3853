// The element types of a tensor: plain enumeration and sizes, visible to kernels too. No conversion rules here.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pydl {

enum class DType : uint8_t {
  boolean,
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  uint64,
  int64,
  float16,
  bfloat16,
  float32,
  float64,
};
constexpr int kNumDTypes = 13;
constexpr int kMaxRank = 16;

// Kernels use it: always inlined, so that no copy compiled for one ISA level can serve another.
__attribute__((always_inline)) constexpr size_t item_size(DType t) {
  // Their logarithms, the first type's last: a table would be copied to the stack with each call.
  constexpr uint32_t sizes = 0b11'10'01'01'11'11'10'10'01'01'00'00'00;
  return size_t{1} << (sizes >> 2 * static_cast<int>(t) & 3);
}
constexpr bool is_float(DType t) { return t >= DType::float16; }
constexpr bool is_integer(DType t) { return t > DType::boolean && t < DType::float16; }
// Of integers; booleans are neither.
__attribute__((always_inline)) constexpr bool is_signed(DType t) {
  return t == DType::int8 || t == DType::int16 || t == DType::int32 || t == DType::int64;
}
__attribute__((always_inline)) constexpr bool is_unsigned(DType t) { return is_integer(t) && !is_signed(t); }

}  // namespace pydl
