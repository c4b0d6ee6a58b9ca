// CPU features by the architecture's own announcement and by trial.
#include "base/cpu.h"

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#else
#include <sys/auxv.h>
#endif

namespace {

#if defined(__x86_64__)

enum Register { kEax, kEbx, kEcx, kEdx };

bool cpuid_bit(unsigned leaf, unsigned subleaf, Register where, int bit) {
  unsigned r[4] = {0, 0, 0, 0};
  return __get_cpuid_count(leaf, subleaf, &r[kEax], &r[kEbx], &r[kEcx], &r[kEdx]) && (r[where] >> bit & 1);
}

// XCR0: the registers that the system saves. 0x6: xmm and ymm; 0xe6: also zmm and mask registers.
bool system_saves(uint32_t state) {
  if (!cpuid_bit(1, 0, kEcx, 27)) return false;  // OSXSAVE
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & state) == state;
}

// Bit positions: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, CPUID.
bool has_avx2() { return system_saves(0x6) && cpuid_bit(7, 0, kEbx, 5); }
bool has_fma() { return system_saves(0x6) && cpuid_bit(1, 0, kEcx, 12); }
bool has_f16c() { return system_saves(0x6) && cpuid_bit(1, 0, kEcx, 29); }
bool has_avxvnni() { return system_saves(0x6) && cpuid_bit(7, 1, kEax, 4); }
bool has_avx512f() { return system_saves(0xe6) && cpuid_bit(7, 0, kEbx, 16); }
bool has_avx512dq() { return system_saves(0xe6) && cpuid_bit(7, 0, kEbx, 17); }
bool has_avx512bw() { return system_saves(0xe6) && cpuid_bit(7, 0, kEbx, 30); }
bool has_avx512vl() { return system_saves(0xe6) && cpuid_bit(7, 0, kEbx, 31); }
bool has_avx512vnni() { return system_saves(0xe6) && cpuid_bit(7, 0, kEcx, 11); }

#define EXECUTE(name, instruction) \
  void name() { __asm__ volatile(instruction "\n\tvzeroupper" ::: "xmm0"); }
EXECUTE(run_avx2, "vpabsb %%ymm0, %%ymm0")
EXECUTE(run_fma, "vfmadd231ps %%ymm0, %%ymm0, %%ymm0")
EXECUTE(run_f16c, "vcvtph2ps %%xmm0, %%ymm0")
EXECUTE(run_avxvnni, "%{vex%} vpdpbusd %%ymm0, %%ymm0, %%ymm0")
EXECUTE(run_avx512f, "vpabsd %%zmm0, %%zmm0")
EXECUTE(run_avx512dq, "vpmullq %%zmm0, %%zmm0, %%zmm0")
EXECUTE(run_avx512bw, "vpabsb %%zmm0, %%zmm0")
EXECUTE(run_avx512vl, "vpabsq %%ymm0, %%ymm0")
EXECUTE(run_avx512vnni, "vpdpbusd %%zmm0, %%zmm0, %%zmm0")

#else

// Bit positions: Linux, arch/arm64/include/uapi/asm/hwcap.h.
bool has_neon() { return getauxval(AT_HWCAP) >> 1 & 1; }
bool has_fp16() { return getauxval(AT_HWCAP) >> 10 & 1; }
bool has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }
bool has_sve() { return getauxval(AT_HWCAP) >> 22 & 1; }
bool has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }

// As words, since the file is compiled for ARMv8.0, whose assembler refuses the newer names.
#define EXECUTE(name, instruction) \
  void name() { __asm__ volatile(instruction ::: "v0"); }
EXECUTE(run_neon, ".inst 0x4e20b800")     // abs v0.16b, v0.16b
EXECUTE(run_fp16, ".inst 0x4ef8f800")     // fabs v0.8h, v0.8h
EXECUTE(run_dotprod, ".inst 0x4e809400")  // sdot v0.4s, v0.16b, v0.16b
EXECUTE(run_sve, ".inst 0x04603000")          // orr z0.d, z0.d, z0.d
EXECUTE(run_i8mm, ".inst 0x4e80a400")     // smmla v0.4s, v0.16b, v0.16b

#endif

// One bit a feature, found once: under a hypervisor each cpuid costs microseconds.
uint32_t announced_features() {
  uint32_t found = 0;
  for (int i = 0; kCpuFeatures[i].name; ++i) found |= (uint32_t)kCpuFeatures[i].announced() << i;
  return found;
}

struct Isa {
  const char* name;
  const char* features[8];
};
constexpr Isa kIsas[] = {
    {"scalar", {}},
    {"avx2", {"avx2", "fma", "f16c"}},
    {"avxvnni", {"avx2", "fma", "f16c", "avxvnni"}},
    {"avx512vnni", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"}},
    {"neon", {"neon"}},
    {"dotprod", {"neon", "dotprod"}},
    {"i8mm", {"neon", "dotprod", "i8mm"}},
};

sigjmp_buf illegal_instruction;
void on_illegal_instruction(int) { siglongjmp(illegal_instruction, 1); }

}  // namespace

const CpuFeature kCpuFeatures[] = {
#if defined(__x86_64__)
    {"avx2", has_avx2, run_avx2},          {"fma", has_fma, run_fma},
    {"f16c", has_f16c, run_f16c},          {"avxvnni", has_avxvnni, run_avxvnni},
    {"avx512f", has_avx512f, run_avx512f}, {"avx512dq", has_avx512dq, run_avx512dq},
    {"avx512bw", has_avx512bw, run_avx512bw}, {"avx512vl", has_avx512vl, run_avx512vl},
    {"avx512vnni", has_avx512vnni, run_avx512vnni},
#else
    {"neon", has_neon, run_neon}, {"fp16", has_fp16, run_fp16}, {"dotprod", has_dotprod, run_dotprod},
    {"sve", has_sve, run_sve},    {"i8mm", has_i8mm, run_i8mm},
#endif
    {nullptr, nullptr, nullptr},
};

bool cpu_has(const char* feature) {
  static const uint32_t announced = announced_features();
  for (int i = 0; kCpuFeatures[i].name; ++i)
    if (strcmp(kCpuFeatures[i].name, feature) == 0) return announced >> i & 1;
  return false;
}

bool cpu_runs(const char* isa) {
  for (const Isa& one : kIsas) {
    if (strcmp(one.name, isa) != 0) continue;
    for (const char* feature : one.features)
      if (feature && !cpu_has(feature)) return false;
    return true;
  }
  return false;
}

bool cpu_executes(const CpuFeature& feature) {
  struct sigaction catch_it = {}, before;
  catch_it.sa_handler = on_illegal_instruction;
  sigaction(SIGILL, &catch_it, &before);
  const bool ran = sigsetjmp(illegal_instruction, 1) == 0;
  if (ran) feature.execute();
  sigaction(SIGILL, &before, nullptr);
  return ran;
}
