#include "core/device.h"

#include <atomic>
#include <new>
#include <ostream>

namespace pydl {
namespace {

std::atomic<const DeviceHooks*> g_hooks{nullptr};

}  // namespace

std::ostream& operator<<(std::ostream& out, Device d) {
  if (d.is_cpu()) return out << "cpu";
  return out << "cuda:" << static_cast<int>(d.index);
}

const DeviceHooks* device_hooks() { return g_hooks.load(std::memory_order_acquire); }
void set_device_hooks(const DeviceHooks* hooks) { g_hooks.store(hooks, std::memory_order_release); }
const DeviceHooks& require_device_hooks() {
  const DeviceHooks* hooks = device_hooks();
  if (!hooks) throw NotImplemented("[device] the CUDA module is not loaded; pydl.cuda.is_available() tells why");
  return *hooks;
}

void check_device_error(const char* op) {
  char message[512];
  switch (require_device_hooks().take_error(message, sizeof message)) {
    case 0:
      return;
    case 2:
      throw OutOfMemory(text("[", op, "] ", message));
    case 3:
      throw ValueError(text("[", op, "] ", message));
    default:
      throw InternalError(text("[", op, "] ", message));
  }
}

void copy_across(Device dst_device, void* dst, Device src_device, const void* src, size_t bytes, const char* op) {
  if (bytes == 0) return;
  const CopyDirection direction = dst_device.is_cpu()        ? CopyDirection::to_host
                                  : src_device.is_cpu()      ? CopyDirection::to_device
                                  : dst_device == src_device ? CopyDirection::within
                                                             : CopyDirection::between;
  require_device_hooks().copy(dst_device.index, dst, src_device.index, src, bytes, direction);
  check_device_error(op);
}

}  // namespace pydl
