// Devices beside the CPU: the functions that a device's module (backend/cuda) registers, and what the core makes of
// them. Nothing here costs a CPU tensor more than one comparison of a byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace pydl {

enum class DeviceKind : uint8_t { cpu, cuda };
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int8_t index = 0;
  bool operator==(Device o) const { return kind == o.kind && index == o.index; }
  bool operator!=(Device o) const { return !(*this == o); }
  bool is_cpu() const { return kind == DeviceKind::cpu; }
};
std::ostream& operator<<(std::ostream& out, Device d);

struct DeviceMemory {
  int64_t allocated, peak;          // bytes in tensors and workspaces: now, and the most since the last reset
  int64_t reserved;                 // taken from the device, what is cached included
  int64_t free_bytes, total_bytes;  // of the device
};
struct DeviceProperties {
  char name[256];
  int64_t total_bytes;
  int major, minor;  // compute capability
  int multiprocessors;
};
enum class CopyDirection : uint8_t { to_device, to_host, within, between };

// All are noexcept; what fails is kept by the thread until take_error.
struct DeviceHooks {
  int (*count)() noexcept;
  void* (*allocate)(int index, size_t bytes) noexcept;  // null where there is no memory left
  void (*deallocate)(int index, void* block, size_t bytes) noexcept;
  // Asynchronous where it can be: a host block may be reused, and is filled, when the call returns.
  void (*copy)(int dst_index, void* dst, int src_index, const void* src, size_t bytes, CopyDirection) noexcept;
  void (*synchronize)(int index) noexcept;
  void* (*begin)(int index) noexcept;  // makes the device current; the calling thread's stream there
  // Whether something failed since the last call: 1, or 2 where memory ran out. The text goes to message.
  int (*take_error)(char* message, size_t size) noexcept;
  bool (*properties)(int index, DeviceProperties* out) noexcept;
  bool (*memory)(int index, DeviceMemory* out) noexcept;
  void (*reset_peak)(int index) noexcept;
  void (*empty_cache)(int index) noexcept;
  void (*set_limit)(int index, double fraction) noexcept;
  void (*versions)(int* runtime, int* driver) noexcept;
  const char* (*gemm_library)() noexcept;         // what multiplies matrices; null: our own kernels
  const char* (*convolution_library)() noexcept;  // what convolves; null: our own kernels
  void (*allow_tf32)(int on) noexcept;
};
const DeviceHooks* device_hooks();  // null as long as no module has registered
const DeviceHooks& require_device_hooks();
void set_device_hooks(const DeviceHooks* hooks);

// Raises what the device's module has kept; op names the one that finds it.
void check_device_error(const char* op);

// Copies between two blocks, at least one of them on a device.
void copy_across(Device dst_device, void* dst, Device src_device, const void* src, size_t bytes, const char* op);

}  // namespace pydl
