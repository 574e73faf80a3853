// The extension module pydl._cuda: a kernel table and the device's hooks in a capsule, for pydl._C to register.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "backend/cuda/hooks.h"
#include "backend/kernel_table.h"

#define PYDL_CUDA_FILL(family) extern "C" void PYDL_FILL_NAME(family, sm)(pydl::KernelTable&) noexcept;
#include "cuda_fills.inc"
#undef PYDL_CUDA_FILL

namespace pydl {
namespace cuda {

namespace {

struct Backend {  // as csrc/python/backend.cpp reads it
  const KernelTable* table;
  const DeviceHooks* hooks;
  const CaptureHooks* capture;
};

const Backend* backend() {
  static KernelTable table{};
  static const Backend made = [] {
#define PYDL_CUDA_FILL(family) PYDL_FILL_NAME(family, sm)(table);
#include "cuda_fills.inc"
#undef PYDL_CUDA_FILL
    table.device = "cuda";
    table.isa = "sm";
    table.abi_hash = kernel_abi_hash();
    return Backend{&table, hooks(), capture_hooks()};
  }();
  return &made;
}

PyModuleDef kModule = {PyModuleDef_HEAD_INIT,
                       "pydl._cuda",
                       "pydl's CUDA kernels. Use them through pydl.",
                       -1,
                       nullptr,
                       nullptr,
                       nullptr,
                       nullptr,
                       nullptr};

}  // namespace
}  // namespace cuda
}  // namespace pydl

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__cuda() {
  PyObject* module = PyModule_Create(&pydl::cuda::kModule);
  if (!module) return nullptr;
  PyObject* capsule = PyCapsule_New(const_cast<pydl::cuda::Backend*>(pydl::cuda::backend()), "pydl._cuda", nullptr);
#if defined(PYDL_CUDA_EMULATED)
  const long emulated = 1;
#else
  const long emulated = 0;
#endif
  if (!capsule || PyModule_AddObject(module, "backend", capsule) < 0 ||
      PyModule_AddObject(module, "emulated", PyBool_FromLong(emulated)) < 0 ||
      PyModule_AddStringConstant(module, "architectures", PYDL_CUDA_ARCHITECTURES) < 0)
    return nullptr;
  return module;
}
