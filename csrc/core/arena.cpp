// The scratch stack: a few chunks, the lower ones full. One chunk in the steady state, as an empty stack merges what it
// grew.
#include "core/arena.h"

#include <pthread.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "core/allocator.h"

namespace pydl {
namespace {

constexpr size_t kFirstChunk = size_t{64} << 10;
constexpr size_t kKeep =
    size_t{1} << 20;  // an idle thread holds no more; larger chunks go back to the allocator's cache

struct Chunk {  // header at the start of its own memory
  Chunk* below;
  size_t bytes;  // with the header
  char* top;     // first free byte
};
constexpr size_t kHeader = kAlignment;
static_assert(sizeof(Chunk) <= kHeader, "blocks begin after the header, aligned");

struct Arena {
  Chunk* chunk;   // the topmost
  size_t wanted;  // bytes for the next first chunk: the sum of what the last run needed
};

pthread_key_t g_key;
thread_local Arena t_arena = {nullptr, kFirstChunk};

char* begin_of(Chunk* chunk) { return reinterpret_cast<char*>(chunk) + kHeader; }
char* end_of(Chunk* chunk) { return reinterpret_cast<char*>(chunk) + chunk->bytes; }

void on_thread_exit(void*) {
  while (t_arena.chunk != nullptr) {
    Chunk* below = t_arena.chunk->below;
    deallocate(t_arena.chunk, t_arena.chunk->bytes);
    t_arena.chunk = below;
  }
}

[[maybe_unused]] const bool g_registered = [] {
  pthread_key_create(&g_key, on_thread_exit);
  return true;
}();

__attribute__((noinline)) void grow(Arena& arena, size_t bytes) {
  if (bytes > SIZE_MAX / 4) throw std::bad_alloc();
  size_t size = arena.chunk == nullptr ? arena.wanted : 2 * arena.chunk->bytes;
  if (size < bytes + kHeader) size = bytes + kHeader;
  Chunk* chunk = static_cast<Chunk*>(allocate(size));
  *chunk = {arena.chunk, size, nullptr};
  chunk->top = begin_of(chunk);
  arena.chunk = chunk;
  pthread_setspecific(g_key, &arena);
}

// The topmost of several chunks is empty, or the only one is and is too large to keep.
__attribute__((noinline)) void shrink(Arena& arena) {
  while (arena.chunk->below != nullptr && arena.chunk->top == begin_of(arena.chunk)) {
    Chunk* chunk = arena.chunk;
    arena.chunk = chunk->below;
    arena.wanted += chunk->bytes;  // as if it had been one from the start
    deallocate(chunk, chunk->bytes);
  }
  Chunk* last = arena.chunk;
  if (last->below == nullptr && last->top == begin_of(last) && (last->bytes < arena.wanted || last->bytes > kKeep)) {
    arena.chunk = nullptr;
    if (arena.wanted > kKeep) arena.wanted = kKeep;
    deallocate(last, last->bytes);
  }
}

}  // namespace

void* scratch_push(size_t bytes) {
  Arena& arena = t_arena;
  const size_t rounded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) & ~(kAlignment - 1);
  if (arena.chunk == nullptr || rounded < bytes ||
      static_cast<size_t>(end_of(arena.chunk) - arena.chunk->top) < rounded) {
    grow(arena, rounded < bytes ? SIZE_MAX : rounded);
  }
  char* block = arena.chunk->top;
  arena.chunk->top = block + rounded;
  return block;
}

void scratch_pop(void* block) noexcept {
  Arena& arena = t_arena;
  Chunk* chunk = arena.chunk;
  chunk->top = static_cast<char*>(block);
  if (chunk->top == begin_of(chunk) &&
      (chunk->below != nullptr || chunk->bytes < arena.wanted || chunk->bytes > kKeep)) {
    shrink(arena);
  }
}

}  // namespace pydl
