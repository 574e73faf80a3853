// How libraries of NVIDIA's are found: none is needed to build, each is used where it is there.
#pragma once
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>

namespace pydl {
namespace {

// The library that the environment's `variable` names ("off": none), else the first one that opens: of `wheels`, paths
// in the site-packages that pydl is installed in, then of `names`, as the system finds them. Null where none does.
inline void* open_library(const char* variable, std::initializer_list<const char*> wheels,
                          std::initializer_list<const char*> names) {
  const char* wanted = std::getenv(variable);
  if (wanted) return std::strcmp(wanted, "off") == 0 ? nullptr : dlopen(wanted, RTLD_NOW | RTLD_LOCAL);
#if defined(PYDL_CUDA_EMULATED)
  (void)wheels, (void)names;
  return nullptr;  // a real library could not read emulated memory
#else
  static const char here = 0;
  void* library = nullptr;
  Dl_info info;
  if (dladdr(&here, &info) && info.dli_fname) {
    std::string packages = info.dli_fname;  // .../site-packages/pydl/_cuda.so
    for (int i = 0; i < 2; ++i) {
      const size_t slash = packages.rfind('/');
      packages.erase(slash == std::string::npos ? 0 : slash);
    }
    for (const char* wheel : wheels)
      if (!library) library = dlopen((packages + "/" + wheel).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  for (const char* name : names)
    if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  return library;
#endif
}

}  // namespace
}  // namespace pydl
