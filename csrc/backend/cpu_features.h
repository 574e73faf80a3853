// What this CPU and its OS can run, by CPUID and XGETBV. Compiled with baseline flags: it must run anywhere.
#pragma once
#include <string>
#include <vector>

namespace pydl {

// The psABI's micro-architecture levels of x86-64, and aarch64's one.
enum class CpuLevel { v2, v3, v4, neon };

const char* cpu_level_name(CpuLevel level);                          // "v2" ... as in PYDL_ISA and KernelTable::isa
bool cpu_level_from_name(const std::string& name, CpuLevel* level);  // false: no such level

bool cpu_supports(CpuLevel level);        // every instruction set of the level and the OS's saving of its registers
std::string cpu_missing(CpuLevel level);  // what is lacking, "avx2 fma"; empty where supported
std::vector<CpuLevel> cpu_supported_levels();  // best first; empty on an x86-64 older than v2

struct CpuExtras {  // beyond the levels
  bool avx512_bf16, avx512_vnni, avx_vnni, amx_bf16, amx_int8;
};
CpuExtras cpu_extras();
std::string cpu_name();  // the processor's brand string, or its architecture

}  // namespace pydl
