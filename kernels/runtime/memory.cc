// Asks the kernel for memory and how much there is.
#include "runtime/memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

namespace {

uint64_t mem_available() {
  FILE* file = fopen("/proc/meminfo", "re");
  if (!file) return UINT64_MAX;
  char line[128];
  unsigned long long kib, bytes = UINT64_MAX;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = kib * 1024;
  }
  fclose(file);
  return bytes;
}

uint64_t cgroup_limit() {
  FILE* file = fopen("/sys/fs/cgroup/memory.max", "re");
  if (!file) return UINT64_MAX;
  unsigned long long bytes;
  const bool limited = fscanf(file, "%llu", &bytes) == 1;  // else the word "max"
  fclose(file);
  return limited ? bytes : UINT64_MAX;
}

}  // namespace

uint64_t available_memory() { return std::min(mem_available(), cgroup_limit()); }

Error check_memory(uint64_t bytes, const char* what) {
  const uint64_t available = available_memory();
  if (bytes <= available) return {};
  return error(ErrorCode::kMemory, "%s needs %.1f MiB, %.1f MiB are available", what, static_cast<double>(bytes) / (1 << 20),
               static_cast<double>(available) / (1 << 20));
}

Memory::~Memory() {
  if (data_) munmap(data_, size_);
}

Error Memory::allocate(uint64_t bytes, bool huge, const char* what) {
  if (Error failed = check_memory(bytes, what)) return failed;
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return error(ErrorCode::kMemory, "%s needs %.1f MiB, the system refused them", what, static_cast<double>(bytes) / (1 << 20));
  }
  data_ = static_cast<uint8_t*>(data);
  size_ = static_cast<size_t>(bytes);
  madvise(data_, size_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);  // a wish: kernels without huge pages refuse it
  return {};
}

double Memory::huge_share() const {
  FILE* file = fopen("/proc/self/smaps", "re");
  if (!file) return -1;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data_), end = begin + size_;
  char line[512];
  unsigned long long from, to, kib, huge = 0;
  bool inside = false, told = false;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "%llx-%llx ", &from, &to) == 2) {
      inside = from < end && begin < to;
    } else if (inside && sscanf(line, "AnonHugePages: %llu kB", &kib) == 1) {
      huge += kib * 1024;
      told = true;
    }
  }
  fclose(file);
  return told ? std::min(1.0, static_cast<double>(huge) / static_cast<double>(size_)) : -1;
}
