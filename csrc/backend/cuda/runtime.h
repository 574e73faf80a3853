// What runtime.cu and others tell each other: for captured graphs, and of the libraries that families use.
#pragma once
#include "backend/cuda/hooks.h"
#include "backend/cuda/launch.h"

namespace pydl {
namespace cuda {

// ---- for captured graphs (capture.cu)
bool begin_capture(int device) noexcept;  // on the calling thread's stream, which has nothing left to do
cudaError_t end_capture(int device, cudaGraph_t* graph) noexcept;
cudaStream_t issue_stream(int device) noexcept;  // the thread's, behind all that others were given
void copy_to_table(int device, void* dst, const void* host, size_t bytes) noexcept;
bool count_memory(int device, int64_t bytes) noexcept;  // false: over the limit, and not counted
void keep_out_of_memory(int device, size_t wanted) noexcept;

// What gemm's and conv's files tell of the libraries that they use.
const char* gemm_library() noexcept;         // "cuBLASLt 13.0"; null: our own kernels
const char* convolution_library() noexcept;  // "cuDNN 9.1.0"; null: our own kernels
void allow_tf32_products(int on) noexcept;   // off until switched on
void allow_tf32_convolutions(int on) noexcept;

}  // namespace cuda
}  // namespace pydl
