#include "backend/registry.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "backend/cpu_features.h"
#include "core/arena.h"
#include "core/thread_pool.h"

#define PYDL_CPU_FILL(family, isa) extern "C" void pydl_fill_##family##_##isa(pydl::KernelTable&) noexcept;
#include "cpu_fills.inc"
#undef PYDL_CPU_FILL

namespace pydl {
namespace {

struct Filler {
  const char* isa;
  void (*fill)(KernelTable&) noexcept;
};
const Filler kFillers[] = {
#define PYDL_CPU_FILL(family, isa) {#isa, pydl_fill_##family##_##isa},
#include "cpu_fills.inc"
#undef PYDL_CPU_FILL
};

struct Registry {
  std::vector<KernelTable*> tables;  // best first, never freed: kernels may run until the process ends
  std::atomic<const KernelTable*> selected{nullptr};
  std::mutex mutex;

  Registry() {
    for (const char* isa : {"v4", "v3", "v2", "neon"}) {
      KernelTable* table = nullptr;
      for (const Filler& filler : kFillers) {
        if (std::string(filler.isa) != isa) continue;
        if (!table) table = new KernelTable{};
        CpuLevel level;
        // A fill function is compiled for its level too: on a lesser CPU it may be an illegal instruction.
        if (cpu_level_from_name(isa, &level) && cpu_supports(level)) filler.fill(*table);
      }
      if (!table) continue;
      if (!cpu_extras().avx512_bf16)
        table->gemm_bf16 = nullptr, table->gemm_block_bf16 = nullptr;  // no level's promise
      table->device = "cpu";
      table->isa = isa;
      table->abi_hash = kernel_abi_hash();
      tables.push_back(table);
    }
  }
};

Registry& registry() {
  static Registry* r = new Registry;
  return *r;
}

std::string names_of(bool only_supported) {
  std::string out;
  for (const TableInfo& info : cpu_tables())
    if (info.supported || !only_supported) out += (out.empty() ? "" : ", ") + info.isa;
  return out;
}

const KernelTable* find(const std::string& isa) {
  CpuLevel level;
  if (!cpu_level_from_name(isa, &level))
    throw ValueError(text("[isa] '", isa, "' is no ISA level; this build has ", names_of(false)));
  for (const KernelTable* table : registry().tables) {
    if (isa != table->isa) continue;
    if (!cpu_supports(level))
      throw ValueError(text("[isa] this machine can't run level '", isa, "': it lacks ", cpu_missing(level),
                            "; it can run ", names_of(true)));
    return table;
  }
  throw ValueError(text("[isa] this build has no tables for level '", isa, "'; it has ", names_of(false)));
}

std::atomic<const KernelTable*> g_device_table{nullptr};

LockHooks g_lock{nullptr, nullptr};

void exec_parallel_for(Exec&, int64_t n, int64_t grain, Exec::Body body, void* context) {
  pydl::parallel_for(n, grain, body, context);  // the pool's, not exec.h's
}

}  // namespace

std::vector<TableInfo> cpu_tables() {
  std::vector<TableInfo> out;
  for (const KernelTable* table : registry().tables) {
    CpuLevel level = CpuLevel::v2;
    cpu_level_from_name(table->isa, &level);
    out.push_back({table->isa, cpu_supports(level), cpu_missing(level)});
  }
  return out;
}

const KernelTable& cpu_table() {
  Registry& r = registry();
  const KernelTable* table = r.selected.load(std::memory_order_acquire);
  if (table) return *table;
  std::lock_guard<std::mutex> guard(r.mutex);
  const char* wanted = std::getenv("PYDL_ISA");
  if (wanted && *wanted) {
    try {
      table = find(wanted);
    } catch (const ValueError& e) {
      throw ValueError(text(e.what(), " (asked for by PYDL_ISA=", wanted, ")"));
    }
  } else {
    for (const TableInfo& info : cpu_tables())
      if (!table && info.supported) table = find(info.isa);
    if (!table)
      throw ValueError(text("[isa] this machine can run none of the levels of this build: ", names_of(false)));
  }
  r.selected.store(table, std::memory_order_release);
  return *table;
}

void select_isa(const std::string& isa) { registry().selected.store(find(isa), std::memory_order_release); }

void register_device(const KernelTable* table, const DeviceHooks* hooks) {
  if (table->abi_hash != kernel_abi_hash())
    throw ValueError("[device] the CUDA module was built from other sources than pydl's; build both together");
  g_device_table.store(table, std::memory_order_release);
  set_device_hooks(hooks);
}
const KernelTable* device_table() { return g_device_table.load(std::memory_order_acquire); }

const KernelTable& table_for(Device device, const char* op) {
  if (device.is_cpu()) return cpu_table();
  const KernelTable* table = device_table();
  if (!table) throw NotImplemented(text("[", op, "] this build has no kernels for device ", device));
  return *table;
}

Exec make_exec(Device device, const KernelTable& table) {
  if (device.is_cpu()) return Exec{exec_parallel_for, scratch_push, scratch_pop, &table, nullptr, num_threads()};
  return Exec{nullptr, scratch_push, scratch_pop, &table, require_device_hooks().begin(device.index), 1};
}

void set_lock_hooks(LockHooks hooks) { g_lock = hooks; }

LockReleased::LockReleased(int64_t work) {
  if (work > kReleaseLockAbove && g_lock.release) token_ = g_lock.release();
}
LockReleased::~LockReleased() noexcept(false) {
  if (token_) g_lock.acquire(token_);
}

}  // namespace pydl
