// What the module registers beside its kernels. For every compiler: nothing of the CUDA runtime is in here.
#pragma once
#include "core/capture.h"
#include "core/device.h"

namespace pydl {
namespace cuda {

const DeviceHooks* hooks();           // runtime.cu
const CaptureHooks* capture_hooks();  // capture.cu

}  // namespace cuda
}  // namespace pydl
