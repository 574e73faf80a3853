// The registry: which kernel tables this build has, which of them the machine can run, and which one is selected.
#pragma once
#include <string>
#include <vector>

#include "backend/kernel_table.h"
#include "core/tensor.h"

namespace pydl {

struct TableInfo {
  std::string isa;
  bool supported;       // by this machine
  std::string missing;  // what it lacks where not
};
std::vector<TableInfo> cpu_tables();

// The selected CPU table. Chosen at the first call: the best supported level, or PYDL_ISA's (ValueError where the
// machine lacks it or the build does not have it).
const KernelTable& cpu_table();
void select_isa(const std::string& isa);  // for tests; what runs already goes on with the old table

// What a device's module registers when it is loaded: ValueError where it was built from other sources.
void register_device(const KernelTable* table, const DeviceHooks* hooks);
const KernelTable* device_table();  // null as long as there is none

const KernelTable& table_for(Device device, const char* op);
Exec make_exec(Device device, const KernelTable& table);

// A lock that kernels of some length give up while they run: Python's, set by the bindings.
struct LockHooks {
  void* (*release)();
  void (*acquire)(void*);
};
void set_lock_hooks(LockHooks hooks);
constexpr int64_t kReleaseLockAbove = 1 << 15;  // elementary operations

class LockReleased {
 public:
  explicit LockReleased(int64_t work);
  ~LockReleased() noexcept(false);  // a daemon thread is unwound here when the interpreter ends
  LockReleased(const LockReleased&) = delete;

 private:
  void* token_ = nullptr;
};

// Runs a kernel of the table: PYDL_LAUNCH(device, work, softmax, args). `work` estimates elementary operations.
template <class Args>
void launch(Device device, const KernelTable& table, void (*kernel)(const Args&, Exec&) noexcept, const char* name,
            int64_t work, const Args& args) {
  if (!kernel) throw NotImplemented(text("[", name, "] has no kernel on device ", table.device));
  Exec exec = make_exec(device, table);
  {
    LockReleased lock(work);
    kernel(args, exec);
  }
  if (!device.is_cpu()) check_device_error(name);
}
#define PYDL_LAUNCH(device, work, kernel, args)                              \
  do {                                                                       \
    const ::pydl::Device device_ = (device);                                 \
    const ::pydl::KernelTable& table_ = ::pydl::table_for(device_, #kernel); \
    ::pydl::launch(device_, table_, table_.kernel, #kernel, (work), (args)); \
  } while (false)

}  // namespace pydl
