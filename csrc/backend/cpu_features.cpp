// Detection of CPU features: CPUID leaves as in the manuals of Intel and AMD, levels as in the x86-64 psABI.
#include "backend/cpu_features.h"

#include <cstdint>
#include <cstring>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pydl {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned r[4];  // eax, ebx, ecx, edx
};
enum { EAX, EBX, ECX, EDX };

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers out{};
  if (static_cast<unsigned>(__get_cpuid_max(leaf & 0x80000000u, nullptr)) >= leaf) {
    __cpuid_count(leaf, subleaf, out.r[EAX], out.r[EBX], out.r[ECX], out.r[EDX]);
  }
  return out;
}

// Each leaf that has features is read once: where a hypervisor answers, CPUID takes tens of microseconds.
bool has_bit(unsigned leaf, unsigned subleaf, int reg, int bit) {
  struct Leaf {
    unsigned leaf, subleaf;
    Registers registers;
  };
  static const Leaf kLeaves[] = {
      {1, 0, cpuid(1, 0)}, {7, 0, cpuid(7, 0)}, {7, 1, cpuid(7, 1)}, {0x80000001u, 0, cpuid(0x80000001u, 0)}};
  for (const Leaf& known : kLeaves)
    if (known.leaf == leaf && known.subleaf == subleaf) return (known.registers.r[reg] >> bit & 1) != 0;
  throw InternalError(text("[cpu] leaf ", leaf, " is not among those that are read"));
}

// XCR0: which register states the OS saves. Without OSXSAVE, none beyond SSE.
uint64_t saved_states() {
  if (!has_bit(1, 0, ECX, 27)) return 0;
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}
constexpr uint64_t kYmm = 0x06;       // XMM and the upper halves of YMM
constexpr uint64_t kZmm = 0xE6;       // these, opmasks, the upper halves of ZMM0-15, ZMM16-31
constexpr uint64_t kTiles = 0x60000;  // AMX configuration and data

struct Feature {
  CpuLevel level;
  const char* name;
  unsigned leaf;
  int reg, bit;
};
constexpr Feature kFeatures[] = {
    {CpuLevel::v2, "cmpxchg16b", 1, ECX, 13}, {CpuLevel::v2, "lahf-sahf", 0x80000001u, ECX, 0},
    {CpuLevel::v2, "popcnt", 1, ECX, 23},     {CpuLevel::v2, "sse3", 1, ECX, 0},
    {CpuLevel::v2, "ssse3", 1, ECX, 9},       {CpuLevel::v2, "sse4.1", 1, ECX, 19},
    {CpuLevel::v2, "sse4.2", 1, ECX, 20},     {CpuLevel::v3, "avx", 1, ECX, 28},
    {CpuLevel::v3, "avx2", 7, EBX, 5},        {CpuLevel::v3, "bmi1", 7, EBX, 3},
    {CpuLevel::v3, "bmi2", 7, EBX, 8},        {CpuLevel::v3, "f16c", 1, ECX, 29},
    {CpuLevel::v3, "fma", 1, ECX, 12},        {CpuLevel::v3, "lzcnt", 0x80000001u, ECX, 5},
    {CpuLevel::v3, "movbe", 1, ECX, 22},      {CpuLevel::v3, "osxsave", 1, ECX, 27},
    {CpuLevel::v4, "avx512f", 7, EBX, 16},    {CpuLevel::v4, "avx512bw", 7, EBX, 30},
    {CpuLevel::v4, "avx512cd", 7, EBX, 28},   {CpuLevel::v4, "avx512dq", 7, EBX, 17},
    {CpuLevel::v4, "avx512vl", 7, EBX, 31},
};

std::string missing(CpuLevel level) {
  if (level == CpuLevel::neon) return "aarch64";
  std::string out;
  auto lacks = [&out](const char* name) { out += (out.empty() ? "" : " ") + std::string(name); };
  for (const Feature& f : kFeatures) {
    if (f.level <= level && !has_bit(f.leaf, 0, f.reg, f.bit)) lacks(f.name);
  }
  const uint64_t saved = saved_states();
  if (level >= CpuLevel::v3 && (saved & kYmm) != kYmm) lacks("ymm-state-of-the-os");
  if (level >= CpuLevel::v4 && (saved & kZmm) != kZmm) lacks("zmm-state-of-the-os");
  return out;
}

#endif

constexpr const char* kNames[] = {"v2", "v3", "v4", "neon"};
constexpr CpuLevel kBestFirst[] = {CpuLevel::v4, CpuLevel::v3, CpuLevel::v2, CpuLevel::neon};

}  // namespace

const char* cpu_level_name(CpuLevel level) { return kNames[static_cast<int>(level)]; }

bool cpu_level_from_name(const std::string& name, CpuLevel* level) {
  for (CpuLevel candidate : kBestFirst) {
    if (name == cpu_level_name(candidate)) {
      *level = candidate;
      return true;
    }
  }
  return false;
}

std::string cpu_missing(CpuLevel level) {
#if defined(__x86_64__)
  return missing(level);
#elif defined(__aarch64__)
  return level == CpuLevel::neon ? "" : "x86-64";  // Advanced SIMD is part of every AArch64 Linux and macOS
#else
  return level == CpuLevel::neon ? "aarch64" : "x86-64";
#endif
}

bool cpu_supports(CpuLevel level) { return cpu_missing(level).empty(); }

std::vector<CpuLevel> cpu_supported_levels() {
  std::vector<CpuLevel> out;
  for (CpuLevel level : kBestFirst) {
    if (cpu_supports(level)) out.push_back(level);
  }
  return out;
}

CpuExtras cpu_extras() {
  CpuExtras out{};
#if defined(__x86_64__)
  const uint64_t saved = saved_states();
  const bool v4 = cpu_supports(CpuLevel::v4), v3 = cpu_supports(CpuLevel::v3);
  const bool tiles = (saved & kTiles) == kTiles && has_bit(7, 0, EDX, 24);
  out.avx512_bf16 = v4 && has_bit(7, 1, EAX, 5);
  out.avx512_vnni = v4 && has_bit(7, 0, ECX, 11);
  out.avx_vnni = v3 && has_bit(7, 1, EAX, 4);
  out.amx_bf16 = tiles && has_bit(7, 0, EDX, 22);
  out.amx_int8 = tiles && has_bit(7, 0, EDX, 25);
#endif
  return out;
}

std::string cpu_name() {
#if defined(__x86_64__)
  char brand[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers part = cpuid(0x80000002u + i, 0);
    std::memcpy(brand + 16 * i, part.r, 16);
  }
  const std::string name(brand);
  const size_t first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
  return first == std::string::npos ? "x86-64" : name.substr(first, last - first + 1);
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown";
#endif
}

}  // namespace pydl
