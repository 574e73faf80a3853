// Per-thread scratch memory behind Exec::scratch_push and scratch_pop: a stack of 64-byte aligned blocks.
// Blocks are popped by the thread that pushed them, last in first out; nothing in them outlives the pop.
#pragma once
#include <cstddef>

namespace pydl {

void* scratch_push(size_t bytes);  // never null; throws std::bad_alloc
void scratch_pop(void* block) noexcept;

}  // namespace pydl
