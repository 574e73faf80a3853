// The CPU allocator: 64-byte aligned, caching. Not a general malloc: the caller remembers the size of what it frees.
//
// Sizes are rounded to classes, eight per doubling, so at most an eighth (63 bytes below 1 KB) is wasted in a block.
// Blocks up to 32 KB are kept in per-thread lists with a shared overflow; larger ones in a shared cache, newest first.
// From 256 KB on, blocks are mappings of their own, and from 2 MB on, aligned for and advised to huge pages. What is
// cached plus what is in use stays below 5/4 of the recent peak + 64 MB; the block unused for longest goes first.
// Usable in a forked child at once. Under AddressSanitizer nothing is cached, so that it sees every use after free.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pydl {

constexpr size_t kAlignment = 64;

// Never null, also for zero bytes. Throws std::bad_alloc, after the cache has been emptied in vain.
void* allocate(size_t bytes);
// bytes: as given to allocate. Any thread may free. Null is ignored.
void deallocate(void* block, size_t bytes) noexcept;

// Bytes, rounded to size classes. Small blocks are counted per thread first, so peak may be low by 64 KB per thread.
struct AllocatorStats {
  int64_t allocated;  // in use now
  int64_t peak;       // the most ever in use since the start or the last reset
  int64_t cached;     // free, kept for reuse
};
AllocatorStats allocator_stats();
void allocator_reset_peak();
// Gives back to the system all that the shared cache and the calling thread's lists hold.
void allocator_release_cache();

}  // namespace pydl
