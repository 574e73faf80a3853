// What the module is made of beside its kernels: runtime.cu's hooks, and what a family tells of the libraries it uses.
#pragma once
#include "backend/cuda/launch.h"
#include "core/device.h"

namespace pydl {
namespace cuda {

const DeviceHooks* hooks();

// ---- for captured graphs (capture.cu)
bool begin_capture(int device) noexcept;  // on the calling thread's stream, which has nothing left to do
cudaError_t end_capture(int device, cudaGraph_t* graph) noexcept;
cudaStream_t issue_stream(int device) noexcept;  // the thread's, behind all that others were given
void copy_to_table(int device, void* dst, const void* host, size_t bytes) noexcept;
bool count_memory(int device, int64_t bytes) noexcept;  // false: over the limit, and not counted
void keep_out_of_memory(int device, size_t wanted) noexcept;

// Weak: gemm's file, where it has something to say, defines its own.
const char* gemm_library() noexcept;  // "cuBLASLt 13.0"; null: our own kernels
void allow_tf32(int on) noexcept;     // off until switched on

}  // namespace cuda
}  // namespace pydl
