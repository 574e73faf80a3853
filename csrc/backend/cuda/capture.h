// The module's side of captured graphs: runtime.cu asks it for memory and pinned copies while a thread captures.
#pragma once
#include "backend/cuda/hooks.h"

namespace pydl {
namespace cuda {

// Of the calling thread.
bool capturing() noexcept;
// Memory of the graph that is captured; null, with the error kept, where there is none left.
void* allocate_captured(size_t bytes) noexcept;
// A host array as long as the graph lives, to be copied from at each replay.
const void* keep_host(const void* host, size_t bytes) noexcept;
// Whether a graph takes care of the block: because it is the graph's, or because one is being captured.
bool release_captured(int device, void* block, size_t bytes) noexcept;

}  // namespace cuda
}  // namespace pydl
