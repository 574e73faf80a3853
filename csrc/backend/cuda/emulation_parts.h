// What the emulation's files tell each other: launches (emulation.cpp), memory and the plain functions of the runtime
// (emulation_runtime.cpp), graphs (emulation_graphs.cpp).
#pragma once
#include "backend/cuda/emulation.h"

namespace pydl::emulation {

// Says what and where, and aborts.
[[noreturn]] void fail(const char* what);

// Held while device memory is in use, by launches and copies alike.
std::recursive_mutex& mutex();
// While one lives, this thread has the mutex and device memory can be touched.
struct OpenMemory {
  OpenMemory();
  ~OpenMemory();
  OpenMemory(const OpenMemory&) = delete;
  OpenMemory& operator=(const OpenMemory&) = delete;
};

cudaError_t keep(cudaError_t error);  // for cudaGetLastError; returns it

using Work = std::function<cudaError_t()>;
cudaError_t issue(Work work);  // done now, or kept where this thread captures
bool capturing();
// What a stream that captures refuses, and ends the capture by; unless_relaxed: not in that mode.
bool forbidden(bool unless_relaxed = false);

}  // namespace pydl::emulation
