// What this CPU announces (cpuid and the state that the system saves; HWCAP), and what it really executes.
#ifndef BENCH_BASE_CPU_H_
#define BENCH_BASE_CPU_H_

struct CpuFeature {
  const char* name;      // "avx2", "fma", "f16c", "dotprod", ... as in the agent's `info`
  bool (*announced)();   // by the CPU, and enabled by the system
  void (*execute)();     // one instruction of it; raises SIGILL where it is missing
};

// Features of this architecture; ends with a null name.
extern const CpuFeature kCpuFeatures[];

// Whether the CPU announces the feature; false for an unknown name. Cheap: callers may ask for every product.
bool cpu_has(const char* feature);

// Whether the CPU announces every feature that the files of an instruction set ("avx2", "dotprod") are compiled with
// (cmake/isa.cmake); false for an unknown name.
bool cpu_runs(const char* isa);

// Whether one instruction of the feature runs. Takes over SIGILL while it tries: not for use beside other threads.
bool cpu_executes(const CpuFeature& feature);

#endif  // BENCH_BASE_CPU_H_
