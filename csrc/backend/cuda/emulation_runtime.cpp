// The emulation's device memory, which is guarded, and the runtime's functions but for graphs.
#include <sys/mman.h>

#include <map>

#include "backend/cuda/emulation_parts.h"

namespace pydl::emulation {
namespace {

constexpr size_t kReserved = size_t{64} << 30, kTotal = size_t{16} << 30, kAlign = 256, kGuard = 64;

struct Memory {
  char* base = nullptr;
  size_t top = 0;                      // bytes of the mapping that were ever used
  std::map<size_t, size_t> free;       // offset: bytes
  std::map<size_t, size_t> allocated;  // offset: bytes asked for
  size_t in_use = 0;
  int open = 0;
  bool guarded = true;

  Memory() {
    const char* wanted = std::getenv("PYDL_EMULATED_GUARD");
    guarded = !(wanted && std::strcmp(wanted, "0") == 0);
    void* p = mmap(nullptr, kReserved, guarded ? PROT_NONE : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail("the address space for device memory can't be reserved");
    base = static_cast<char*>(p);
  }
  static size_t rounded(size_t bytes) { return (bytes + kGuard + kAlign - 1) / kAlign * kAlign; }
  void protect(int rights) {
    if (guarded && top && mprotect(base, (top + 4095) / 4096 * 4096, rights) != 0) fail("mprotect failed");
  }
  void unlock() {
    if (open++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void lock() {
    if (--open == 0) protect(PROT_NONE);
  }
  void* allocate(size_t bytes) {
    const size_t size = rounded(bytes);
    if (in_use + size > kTotal) return nullptr;
    auto hole = free.begin();
    while (hole != free.end() && hole->second < size) ++hole;
    size_t at;
    if (hole != free.end()) {
      at = hole->first;
      const size_t rest = hole->second - size;
      free.erase(hole);
      if (rest) free[at + size] = rest;
    } else {
      if (top + size > kReserved) return nullptr;
      at = top;
      top += size;
    }
    in_use += size;
    allocated[at] = bytes;
    unlock();
    std::memset(base + at, 0xFF, size);
    std::memset(base + at + bytes, 0xA5, size - bytes);
    lock();
    return base + at;
  }
  bool release(void* block) {
    const size_t at = static_cast<size_t>(static_cast<char*>(block) - base);
    const auto found = allocated.find(at);
    if (found == allocated.end()) return false;
    size_t size = rounded(found->second);
    unlock();
    for (size_t i = found->second; i < size; ++i)
      if (base[at + i] != static_cast<char>(0xA5)) fail("a kernel wrote behind the end of a block of device memory");
    lock();
    in_use -= size;
    allocated.erase(found);
    auto after = free.lower_bound(at);
    if (after != free.end() && after->first == at + size) {
      size += after->second;
      after = free.erase(after);
    }
    if (after != free.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == at) {
        before->second += size;
        return true;
      }
    }
    free[at] = size;
    return true;
  }
};

Memory& memory() {
  static auto* m = new Memory;
  return *m;
}
thread_local cudaError_t t_error = cudaSuccess;

}  // namespace

std::recursive_mutex& mutex() {
  static auto* m = new std::recursive_mutex;
  return *m;
}
OpenMemory::OpenMemory() {
  mutex().lock();
  memory().unlock();
}
OpenMemory::~OpenMemory() {
  memory().lock();
  mutex().unlock();
}

cudaError_t keep(cudaError_t error) {
  if (error != cudaSuccess) t_error = error;
  return error;
}

}  // namespace pydl::emulation

using pydl::emulation::forbidden;
using pydl::emulation::issue;
using pydl::emulation::keep;
using pydl::emulation::memory;
using pydl::emulation::mutex;
using pydl::emulation::OpenMemory;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(pydl::emulation::t_error, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
  const char* wanted = std::getenv("CUDA_VISIBLE_DEVICES");  // as with CUDA, an empty one hides all
  *count = wanted && (*wanted == 0 || *wanted == '-') ? 0 : 1;
  return *count ? cudaSuccess : keep(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : keep(cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated on the CPU");
  properties->totalGlobalMem = pydl::emulation::kTotal;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->multiProcessorCount = pydl::emulation::kMultiprocessors;
  properties->major = 9;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  const int values[] = {pydl::emulation::kMultiprocessors, 227 << 10, 9, 0, 1, 2048, 50 << 20};
  *value = values[attribute];
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::recursive_mutex> guard(mutex());
  *total = pydl::emulation::kTotal;
  *free = *total - memory().in_use;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** block, size_t bytes) {
  if (forbidden(true)) return cudaErrorStreamCaptureUnsupported;
  std::lock_guard<std::recursive_mutex> guard(mutex());
  *block = memory().allocate(bytes);
  return *block ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* block) {
  if (!block) return cudaSuccess;
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  std::lock_guard<std::recursive_mutex> guard(mutex());
  return memory().release(block) ? cudaSuccess : keep(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** block, size_t bytes) {
  if (forbidden(true)) return cudaErrorStreamCaptureUnsupported;
  *block = std::malloc(bytes ? bytes : 1);
  return *block ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* block) { return std::free(block), cudaSuccess; }
cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  return cudaMemcpyAsync(dst, src, bytes, kind);
}
cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  return cudaMemsetAsync(dst, value, bytes);
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return issue([=] {
    const OpenMemory open;
    std::memmove(dst, src, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t) {
  return issue([=] {
    const OpenMemory open;
    std::memset(dst, value, bytes);
    return cudaSuccess;
  });
}
// On a device these are allowed, and make memory that is the graph's: no part of pydl wants that.
cudaError_t cudaMallocAsync(void** block, size_t bytes, cudaStream_t) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaMalloc(block, bytes);
}
cudaError_t cudaFreeAsync(void* block, cudaStream_t) { return cudaFree(block); }

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }
