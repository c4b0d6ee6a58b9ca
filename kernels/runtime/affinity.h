// Affinity: the CPUs that the kernel lets a thread run on.
#ifndef BENCH_RUNTIME_AFFINITY_H_
#define BENCH_RUNTIME_AFFINITY_H_

#include <sys/types.h>

#include <vector>

// In ascending order; `thread` 0 is the caller. Empty, with errno, when the kernel does not tell.
std::vector<int> affinity(pid_t thread);

// False, with errno, when the kernel refuses.
bool set_affinity(pid_t thread, const std::vector<int>& cpus);

#endif  // BENCH_RUNTIME_AFFINITY_H_
