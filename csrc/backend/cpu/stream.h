// Loads and stores of a vector's first lanes, and stores that go past the cache, for results too large to be found
// there again: memory is not read before it is written. Values are the same either way. A thread's range ends with
// stream_fence() where they were used; a fence waits for memory, so there is none after each piece.
#pragma once
#include "backend/cpu/vec.h"

namespace pydl {
namespace {

// The first n lanes, 0 < n <= size.
template <class V, class T>
PYDL_INLINE V load_some(const T* p, int n) {
  return n == V::size ? V::load(p) : V::load_partial(p, n);
}
template <class V, class T>
PYDL_INLINE void store_some(V v, T* p, int n) {
  n == V::size ? v.store(p) : v.store_partial(p, n);
}

// body(first, lanes) for n elements, a vector at a time.
template <class T, class F>
PYDL_INLINE void each_vector(int64_t n, F body) {
  constexpr int size = Vec<T>::size;
  int64_t i = 0;
  for (; i + size <= n; i += size) body(i, size);
  if (i < n) body(i, static_cast<int>(n - i) & (size - 1));  // not `size`, as the compiler can see
}

constexpr int64_t kStreamBytes = 16 << 20;  // of a result that is written past the cache, of which kernels read more
constexpr int64_t kStreamedResults = 48 << 20;  // the same of one pass: smaller ones lie in a last-level cache after it

// True where `bytes` from p on are whole vectors, aligned to their size.
inline bool vectors_at(const void* p, int64_t bytes) {
  return (reinterpret_cast<uintptr_t>(p) | static_cast<uintptr_t>(bytes)) % kVectorBytes == 0;
}

// True where rows of row_bytes from p on are aligned to vectors, and there are enough of them.
inline bool worth_streaming(const void* p, int64_t row_bytes, int64_t bytes, int64_t least = kStreamBytes) {
#if defined(__x86_64__)
  return bytes >= least && vectors_at(p, row_bytes);
#else
  return p == nullptr && row_bytes + bytes + least < 0;  // never
#endif
}

inline void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// A whole register to p, which is aligned to it.
template <class R>
PYDL_INLINE void put_past_cache(R raw, void* p) {
  static_assert(sizeof(R) == kVectorBytes, "of a vector");
#if defined(PYDL_VEC_AVX512)
  _mm512_stream_si512(static_cast<__m512i*>(p), (__m512i)raw);
#elif defined(PYDL_VEC_AVX2)
  _mm256_stream_si256(static_cast<__m256i*>(p), (__m256i)raw);
#elif defined(__x86_64__)
  _mm_stream_si128(static_cast<__m128i*>(p), (__m128i)raw);
#else
  __builtin_memcpy(p, &raw, sizeof(R));
#endif
}

// To dst, which is aligned to a vector.
inline void copy_past_cache(const char* src, char* dst, int64_t bytes) {
  int64_t i = 0;
  for (; i + kVectorBytes <= bytes; i += kVectorBytes) {
    Register<char> raw;
    __builtin_memcpy(&raw, src + i, sizeof raw);
    put_past_cache(raw, dst + i);
  }
  __builtin_memcpy(dst + i, src + i, static_cast<size_t>(bytes - i));
}

// The first n lanes; p is aligned to a vector where past_cache.
template <bool past_cache, class T>
PYDL_INLINE void put(Vec<T> v, T* p, int n) {
  if (n < Vec<T>::size) return v.store_partial(p, n);
  if constexpr (past_cache) return put_past_cache(v.raw, p);
  v.store(p);
}

}  // namespace
}  // namespace pydl
