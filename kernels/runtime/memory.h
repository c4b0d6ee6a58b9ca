// Memory: one block for everything a run needs, refused before it is asked for when the system has less.
#ifndef BENCH_RUNTIME_MEMORY_H_
#define BENCH_RUNTIME_MEMORY_H_

#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

// Bytes this process can still get without swapping or being killed: MemAvailable, or the limit of its cgroup if that is less.
// UINT64_MAX when the system tells neither.
uint64_t available_memory();

// `memory` when `bytes` more than there are; `what` needs them.
Error check_memory(uint64_t bytes, const char* what);

class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  // Zeroed bytes, aligned to a page, in pages of the base size unless `huge`; `memory` when refused.
  Error allocate(uint64_t bytes, bool huge, const char* what);
  // The share of it, 0 to 1, that the kernel keeps in huge pages now; -1 when it does not tell.
  double huge_share() const;
  uint8_t* data() const { return data_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

#endif  // BENCH_RUNTIME_MEMORY_H_
