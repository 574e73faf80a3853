// What the module is made of beside its kernels: runtime.cu's hooks, and what a family tells of the libraries it uses.
#pragma once
#include "core/device.h"

namespace pydl {
namespace cuda {

const DeviceHooks* hooks();

// Weak: gemm's file, where it has something to say, defines its own.
const char* gemm_library() noexcept;  // "cuBLASLt 13.0"; null: our own kernels
void allow_tf32(int on) noexcept;     // off until switched on

}  // namespace cuda
}  // namespace pydl
