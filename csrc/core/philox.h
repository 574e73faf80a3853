// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1,
// 2, 3" (SC 2011), and the one way in which pydl turns its bits into numbers. Usable in kernels and on devices; holds
// no state.
//
// A position (rng.h) is a counter: one 128-bit block, that is four uint32. Element i of a draw that begins at position
// p uses
//   float32, int32 or bits: word i % 4 of block p + i / 4       (a draw of n takes ceil(n / 4) blocks)
//   float64 or int64:       words 2j, 2j + 1, j = i % 2, of block p + i / 2   (low word first; ceil(n / 2) blocks)
// so a value depends on its index alone. Normals (Box and Muller 1958), pairwise on the same layout: elements 2j and 2j
// + 1
//   radius = sqrt(-2 ln u), angle = 2 pi v, first = radius cos(angle), second = radius sin(angle)
// with u = philox_float_open(word 2j), v = philox_float(word 2j + 1); in float64 the whole block makes one pair.
#pragma once
#include <cstdint>

#ifndef PYDL_HOST_DEVICE
#ifdef __CUDACC__
#define PYDL_HOST_DEVICE __host__ __device__
#else
#define PYDL_HOST_DEVICE
#endif
#endif

namespace pydl {
namespace {

struct Philox4 {
  uint32_t v[4];
};

// The counter's words are, lowest first, low and high half of counter_lo, low and high half of counter_hi.
PYDL_HOST_DEVICE inline Philox4 philox4x32(uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t m0 = uint64_t{0xD2511F53u} * c0, m1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t next0 = static_cast<uint32_t>(m1 >> 32) ^ c1 ^ k0;
    const uint32_t next2 = static_cast<uint32_t>(m0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(m1);
    c3 = static_cast<uint32_t>(m0);
    c0 = next0;
    c2 = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// [0, 1), multiples of 2^-24.
PYDL_HOST_DEVICE inline float philox_float(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f;
}
// (0, 1], down to 2^-32: what goes into a logarithm.
PYDL_HOST_DEVICE inline float philox_float_open(uint32_t bits) { return (static_cast<float>(bits) + 1.0f) * 0x1p-32f; }
// [0, 1), multiples of 2^-53.
PYDL_HOST_DEVICE inline double philox_double(uint32_t low, uint32_t high) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 11;
  return static_cast<double>(static_cast<int64_t>(bits)) * 0x1p-53;
}
// (0, 1], multiples of 2^-53.
PYDL_HOST_DEVICE inline double philox_double_open(uint32_t low, uint32_t high) {
  return philox_double(low, high) + 0x1p-53;
}

}  // namespace
}  // namespace pydl
