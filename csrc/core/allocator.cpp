// The caching allocator. State is constant-initialized and never destroyed, so any thread may free at any moment until
// exit.
#include "core/allocator.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __linux__
#define PYDL_FAST_TLS __attribute__((tls_model("initial-exec")))  // one pointer: fits what glibc reserves for dlopen
#else
#define PYDL_FAST_TLS
#endif

namespace pydl {
namespace {

#if defined(__SANITIZE_ADDRESS__) && !defined(PYDL_ALLOCATOR_ALWAYS_CACHE)
constexpr bool kCaching = false;
#else
constexpr bool kCaching = true;
#endif

constexpr size_t kSmallLimit = size_t{32} << 10;  // up to here, per-thread lists
constexpr size_t kMapFrom = size_t{256} << 10;    // from here on, a mapping of its own
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMaxBytes = size_t{1} << 46;
constexpr int64_t kCacheSlack = int64_t{64} << 20;
constexpr int64_t kPendingLimit = int64_t{64} << 10;
constexpr int kPeakWindow = 1 << 14;  // shared operations after which an old peak begins to be forgotten

// Classes 0-15 are 64, 128 ... 1024 bytes; then eight per doubling.
constexpr int size_class(size_t bytes) {
  const uint64_t last = bytes == 0 ? 0 : (bytes - 1) / kAlignment;  // units of 64 bytes, less one
  if (last < 16) return static_cast<int>(last);
  const int log = 63 - __builtin_clzll(last);
  return 16 + (log - 4) * 8 + static_cast<int>((last >> (log - 3)) & 7);
}
constexpr size_t class_bytes(int c) {
  if (c < 16) return static_cast<size_t>(c + 1) * kAlignment;
  const int log = (c - 16) / 8 + 4, sub = (c - 16) % 8;
  return (static_cast<size_t>(9 + sub) << (log - 3)) * kAlignment;
}
constexpr int kSmallClasses = size_class(kSmallLimit) + 1;
constexpr int kClasses = size_class(kMaxBytes) + 1;
static_assert(class_bytes(kSmallClasses - 1) == kSmallLimit, "the last small class is full");
static_assert(class_bytes(size_class(kMapFrom + 1)) % 4096 == 0, "mapped classes are whole pages");

struct ClassTable {
  uint32_t bytes[kSmallClasses];
  uint32_t keep[kSmallClasses];  // blocks that a thread may hold of each class
};
constexpr ClassTable make_class_table() {
  ClassTable table{};
  for (int c = 0; c < kSmallClasses; ++c) {
    const uint32_t bytes = static_cast<uint32_t>(class_bytes(c));
    const uint32_t fit = (128u << 10) / bytes;
    table.bytes[c] = bytes;
    table.keep[c] = fit < 2 ? 2 : fit > 128 ? 128 : fit;
  }
  return table;
}
constexpr ClassTable kTable = make_class_table();

struct SmallBlock {
  SmallBlock* next;
};

// A free large block: in its class's list, newest first, and in the list of all by age.
struct LargeBlock {
  LargeBlock *class_prev, *class_next;
  LargeBlock *newer, *older;
  int size_class;
};

// Written by its own thread only; the atomics (relaxed) are for readers in allocator_stats.
struct ThreadCache {
  SmallBlock* head[kSmallClasses];
  std::atomic<uint32_t> count[kSmallClasses];
  std::atomic<int64_t> pending;  // allocated less freed, not yet in g_allocated
  ThreadCache *prev, *next;
};

struct Shared {  // all under g_mutex
  SmallBlock* small[kSmallClasses];
  LargeBlock* large[kClasses];
  LargeBlock *newest, *oldest;
  ThreadCache* threads;
  int64_t cached;
  int64_t recent_peak, window_peak;
  int window_left;
};

Shared g_shared;
pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
std::atomic<int64_t> g_allocated{0}, g_peak{0};
pthread_key_t g_key;

ThreadCache* const kDead = reinterpret_cast<ThreadCache*>(1);  // this thread is past its cleanup
thread_local ThreadCache* t_cache PYDL_FAST_TLS = nullptr;

struct Lock {
  Lock() { pthread_mutex_lock(&g_mutex); }
  ~Lock() { pthread_mutex_unlock(&g_mutex); }
};

void count_allocated(int64_t delta) {
  const int64_t now = g_allocated.fetch_add(delta, std::memory_order_relaxed) + delta;
  int64_t peak = g_peak.load(std::memory_order_relaxed);
  while (now > peak && !g_peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

// ---- from and to the system

void* system_allocate(size_t bytes) noexcept {
  if (bytes < kMapFrom || !kCaching) {
    void* block = nullptr;
    return posix_memalign(&block, kAlignment, bytes) == 0 ? block : nullptr;
  }
  const size_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  char* const first = static_cast<char*>(mapped);
  char* const block = first + (-reinterpret_cast<uintptr_t>(first) & (kHugePage - 1));
  const size_t before = static_cast<size_t>(block - first), after = slack - before;
  if (before != 0) munmap(first, before);
  if (after != 0) munmap(block + bytes, after);
#ifdef MADV_HUGEPAGE
  madvise(block, bytes, MADV_HUGEPAGE);  // a wish: failure is harmless
#endif
  return block;
}

void system_free(void* block, size_t bytes) noexcept {
  if (bytes < kMapFrom || !kCaching) {
    free(block);
  } else {
    munmap(block, bytes);
  }
}

void* system_allocate_or_throw(size_t bytes) {
  void* block = system_allocate(bytes);
  if (block == nullptr) {
    allocator_release_cache();
    block = system_allocate(bytes);
    if (block == nullptr) throw std::bad_alloc();
  }
  return block;
}

// ---- the shared cache; the mutex is held

void push_large(LargeBlock* block, int c) {
  LargeBlock*& head = g_shared.large[c];
  *block = {nullptr, head, nullptr, g_shared.newest, c};
  if (head != nullptr) head->class_prev = block;
  head = block;
  if (g_shared.newest != nullptr) g_shared.newest->newer = block;
  g_shared.newest = block;
  if (g_shared.oldest == nullptr) g_shared.oldest = block;
  g_shared.cached += static_cast<int64_t>(class_bytes(c));
}

void unlink_large(LargeBlock* block) {
  if (block->class_prev != nullptr) {
    block->class_prev->class_next = block->class_next;
  } else {
    g_shared.large[block->size_class] = block->class_next;
  }
  if (block->class_next != nullptr) block->class_next->class_prev = block->class_prev;
  (block->newer != nullptr ? block->newer->older : g_shared.newest) = block->older;
  (block->older != nullptr ? block->older->newer : g_shared.oldest) = block->newer;
  g_shared.cached -= static_cast<int64_t>(class_bytes(block->size_class));
}

void push_small(SmallBlock* block, int c) {
  block->next = g_shared.small[c];
  g_shared.small[c] = block;
  g_shared.cached += kTable.bytes[c];
}

SmallBlock* pop_small(int c) {
  SmallBlock* block = g_shared.small[c];
  if (block != nullptr) {
    g_shared.small[c] = block->next;
    g_shared.cached -= kTable.bytes[c];
  }
  return block;
}

// What has to go back to the system, once the mutex is released.
struct Evicted {
  LargeBlock* large = nullptr;
  SmallBlock* small = nullptr;

  void add(LargeBlock* block) {
    unlink_large(block);
    block->older = large;
    large = block;
  }
  void add(SmallBlock* block) {
    block->next = small;
    small = block;
  }
  void free_all() noexcept {
    while (large != nullptr) {
      LargeBlock* next = large->older;
      system_free(large, class_bytes(large->size_class));
      large = next;
    }
    while (small != nullptr) {
      SmallBlock* next = small->next;
      system_free(small, 0);  // small blocks all come from malloc
      small = next;
    }
  }
};

// Keeps cached + allocated below 5/4 of the recent peak + slack. c: a small class to shrink when no large block is
// left.
void trim(Evicted* evicted, int c) {
  const int64_t allocated = g_allocated.load(std::memory_order_relaxed);
  if (allocated > g_shared.window_peak) g_shared.window_peak = allocated;
  if (--g_shared.window_left < 0) {
    g_shared.recent_peak = g_shared.window_peak;
    g_shared.window_peak = allocated;
    g_shared.window_left = kPeakWindow;
  }
  const int64_t peak = std::max(g_shared.recent_peak, g_shared.window_peak);
  const int64_t limit = peak + peak / 4 + kCacheSlack;
  while (g_shared.cached + allocated > limit && g_shared.oldest != nullptr) evicted->add(g_shared.oldest);
  while (c >= 0 && g_shared.cached + allocated > limit) {
    SmallBlock* block = pop_small(c);
    if (block == nullptr) break;
    evicted->add(block);
  }
}

// ---- per-thread lists

ThreadCache* make_thread_cache() noexcept {
  void* memory = calloc(1, sizeof(ThreadCache));
  if (memory == nullptr) return nullptr;
  ThreadCache* cache = new (memory) ThreadCache();
  if (pthread_setspecific(g_key, cache) != 0) {
    free(memory);
    return nullptr;
  }
  Lock lock;
  cache->next = g_shared.threads;
  if (cache->next != nullptr) cache->next->prev = cache;
  g_shared.threads = cache;
  return t_cache = cache;
}

// Moves blocks of class c to the shared lists until `keep` are left. The mutex is held.
void give_back(ThreadCache* cache, int c, uint32_t keep) {
  uint32_t count = cache->count[c].load(std::memory_order_relaxed);
  while (count > keep) {
    SmallBlock* block = cache->head[c];
    cache->head[c] = block->next;
    push_small(block, c);
    --count;
  }
  cache->count[c].store(count, std::memory_order_relaxed);
}

void on_thread_exit(void* memory) {
  ThreadCache* cache = static_cast<ThreadCache*>(memory);
  t_cache = kDead;
  count_allocated(cache->pending.load(std::memory_order_relaxed));
  {
    Lock lock;
    for (int c = 0; c < kSmallClasses; ++c) give_back(cache, c, 0);
    (cache->prev != nullptr ? cache->prev->next : g_shared.threads) = cache->next;
    if (cache->next != nullptr) cache->next->prev = cache->prev;
  }
  free(cache);
}

// In the child only this thread lives. What others had in their lists is lost to it; what they had counted is not.
void after_fork_in_child() {
  ThreadCache* own = t_cache == kDead ? nullptr : t_cache;
  for (ThreadCache* cache = g_shared.threads; cache != nullptr; cache = cache->next) {
    if (cache != own) g_allocated.fetch_add(cache->pending.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  g_shared.threads = own;
  if (own != nullptr) own->prev = own->next = nullptr;
  pthread_mutex_unlock(&g_mutex);
}

[[maybe_unused]] const bool g_registered = [] {
  pthread_key_create(&g_key, on_thread_exit);
  pthread_atfork([] { pthread_mutex_lock(&g_mutex); }, [] { pthread_mutex_unlock(&g_mutex); }, after_fork_in_child);
  return true;
}();

inline void add_pending(ThreadCache* cache, int64_t delta) {
  const int64_t pending = cache->pending.load(std::memory_order_relaxed) + delta;
  if (pending < kPendingLimit && pending > -kPendingLimit) {
    cache->pending.store(pending, std::memory_order_relaxed);
  } else {
    cache->pending.store(0, std::memory_order_relaxed);
    count_allocated(pending);
  }
}

__attribute__((noinline)) void* allocate_small_slow(int c) {
  ThreadCache* cache = t_cache;
  if (cache == nullptr) cache = make_thread_cache();
  const bool alive = cache != nullptr && cache != kDead;
  SmallBlock* block = nullptr;
  {
    Lock lock;
    block = pop_small(c);
    const uint32_t refill = alive && block != nullptr ? kTable.keep[c] / 2 : 0;
    for (uint32_t i = 0; i < refill; ++i) {
      SmallBlock* more = pop_small(c);
      if (more == nullptr) break;
      more->next = cache->head[c];
      cache->head[c] = more;
      cache->count[c].store(cache->count[c].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
  void* result = block != nullptr ? block : system_allocate_or_throw(kTable.bytes[c]);
  if (alive) {
    add_pending(cache, kTable.bytes[c]);
  } else {
    count_allocated(kTable.bytes[c]);
  }
  return result;
}

__attribute__((noinline)) void deallocate_small_slow(SmallBlock* block, int c) noexcept {
  ThreadCache* cache = t_cache;
  if (cache == nullptr) cache = make_thread_cache();
  Evicted evicted;
  if (cache == nullptr || cache == kDead) {
    count_allocated(-static_cast<int64_t>(kTable.bytes[c]));
    Lock lock;
    push_small(block, c);
    trim(&evicted, c);
  } else {
    add_pending(cache, -static_cast<int64_t>(kTable.bytes[c]));
    Lock lock;
    give_back(cache, c, kTable.keep[c] / 2);
    block->next = cache->head[c];
    cache->head[c] = block;
    cache->count[c].store(cache->count[c].load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    trim(&evicted, c);
  }
  evicted.free_all();
}

void* allocate_large(size_t bytes) {
  if (bytes > kMaxBytes) throw std::bad_alloc();
  const int c = size_class(bytes);
  const size_t rounded = class_bytes(c);
  Evicted evicted;
  {
    Lock lock;
    LargeBlock* block = g_shared.large[c];
    if (block != nullptr) {
      unlink_large(block);
      count_allocated(static_cast<int64_t>(rounded));
      return block;
    }
  }
  void* fresh = system_allocate_or_throw(rounded);
  {
    Lock lock;
    count_allocated(static_cast<int64_t>(rounded));
    trim(&evicted, -1);
  }
  evicted.free_all();
  return fresh;
}

void deallocate_large(void* block, size_t bytes) noexcept {
  const int c = size_class(bytes);
  Evicted evicted;
  {
    Lock lock;
    count_allocated(-static_cast<int64_t>(class_bytes(c)));
    push_large(static_cast<LargeBlock*>(block), c);
    trim(&evicted, -1);
  }
  evicted.free_all();
}

void* allocate_uncached(size_t bytes) {
  void* block = bytes > kMaxBytes ? nullptr : system_allocate(bytes == 0 ? 1 : bytes);
  if (block == nullptr) throw std::bad_alloc();
  count_allocated(static_cast<int64_t>(class_bytes(size_class(bytes))));
  return block;
}

void deallocate_uncached(void* block, size_t bytes) noexcept {
  count_allocated(-static_cast<int64_t>(class_bytes(size_class(bytes))));
  system_free(block, 0);
}

}  // namespace

void* allocate(size_t bytes) {
  if (!kCaching) return allocate_uncached(bytes);
  if (bytes > kSmallLimit) return allocate_large(bytes);
  const int c = size_class(bytes);
  ThreadCache* cache = t_cache;
  if (reinterpret_cast<uintptr_t>(cache) <= 1 || cache->head[c] == nullptr) return allocate_small_slow(c);
  SmallBlock* block = cache->head[c];
  cache->head[c] = block->next;
  cache->count[c].store(cache->count[c].load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  add_pending(cache, kTable.bytes[c]);
  return block;
}

void deallocate(void* memory, size_t bytes) noexcept {
  if (memory == nullptr) return;
  if (!kCaching) return deallocate_uncached(memory, bytes);
  if (bytes > kSmallLimit) return deallocate_large(memory, bytes);
  const int c = size_class(bytes);
  ThreadCache* cache = t_cache;
  SmallBlock* block = static_cast<SmallBlock*>(memory);
  if (reinterpret_cast<uintptr_t>(cache) <= 1) return deallocate_small_slow(block, c);
  const uint32_t count = cache->count[c].load(std::memory_order_relaxed);
  if (count >= kTable.keep[c]) return deallocate_small_slow(block, c);
  block->next = cache->head[c];
  cache->head[c] = block;
  cache->count[c].store(count + 1, std::memory_order_relaxed);
  add_pending(cache, -static_cast<int64_t>(kTable.bytes[c]));
}

AllocatorStats allocator_stats() {
  Lock lock;
  AllocatorStats stats{g_allocated.load(std::memory_order_relaxed), 0, g_shared.cached};
  for (ThreadCache* cache = g_shared.threads; cache != nullptr; cache = cache->next) {
    stats.allocated += cache->pending.load(std::memory_order_relaxed);
    for (int c = 0; c < kSmallClasses; ++c) {
      stats.cached += int64_t{kTable.bytes[c]} * cache->count[c].load(std::memory_order_relaxed);
    }
  }
  stats.peak = std::max(stats.allocated, g_peak.load(std::memory_order_relaxed));
  return stats;
}

void allocator_reset_peak() {
  const int64_t now = allocator_stats().allocated;
  g_peak.store(now, std::memory_order_relaxed);
}

void allocator_release_cache() {
  Evicted evicted;
  {
    Lock lock;
    ThreadCache* cache = t_cache;
    for (int c = 0; c < kSmallClasses; ++c) {
      if (reinterpret_cast<uintptr_t>(cache) > 1) give_back(cache, c, 0);
      while (SmallBlock* block = pop_small(c)) evicted.add(block);
    }
    while (g_shared.oldest != nullptr) evicted.add(g_shared.oldest);
  }
  evicted.free_all();
}

}  // namespace pydl
