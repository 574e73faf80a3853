// KernelTable: one struct of function pointers per (device, ISA level), made from kernels.def. A null entry means that
// the device has no such kernel. The only header, beside its own, that a kernel file includes.
#pragma once
#include "backend/exec.h"
#include "backend/kernel_args.h"

namespace pydl {

struct KernelTable {
  const char* device;    // "cpu", "cuda"
  const char* isa;       // "v2", "v3", "v4", "neon"
  uint64_t abi_hash;     // kernel_abi_hash() of the translation unit that filled it
  int vector_bytes;      // register width the table was compiled for
  int gemm_mr, gemm_nr;  // float32 micro-tile
#define KERNEL(name, Args) void (*name)(const Args&, Exec&) noexcept;
#include "backend/kernels.def"
#undef KERNEL
};

// FNV-1a over the kernels' names, in order, and the sizes of their argument structs.
constexpr uint64_t kernel_abi_hash() {
  uint64_t h = 1469598103934665603ull;
#define KERNEL(name, Args)                                                                          \
  for (const char* c = #name; *c != 0; ++c) h = (h ^ static_cast<uint64_t>(*c)) * 1099511628211ull; \
  h = (h ^ sizeof(Args)) * 1099511628211ull;
#include "backend/kernels.def"
#undef KERNEL
  return h;
}

}  // namespace pydl

// Each cpu/FAMILY.cpp is compiled once per ISA level with PYDL_ISA=v2|v3|v4|neon and exports one symbol:
//   PYDL_FILL(family) { table.gemm = gemm; ... }
#define PYDL_FILL_NAME2(family, isa) pydl_fill_##family##_##isa
#define PYDL_FILL_NAME(family, isa) PYDL_FILL_NAME2(family, isa)
#define PYDL_FILL(family) extern "C" void PYDL_FILL_NAME(family, PYDL_ISA)(pydl::KernelTable & table) noexcept
