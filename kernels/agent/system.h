// System: what Linux says about this machine, read below a root folder (a recorded tree stands in for a board in tests).
#ifndef BENCH_AGENT_SYSTEM_H_
#define BENCH_AGENT_SYSTEM_H_

#include <stdint.h>

#include <string>
#include <vector>

struct Core {
  int id = 0;
  bool online = true;
  int64_t capacity = -1;  // 0..1024, relative to the fastest core; -1: unknown
  int64_t max_khz = -1;   // -1: unknown
  std::string governor;   // empty: unknown
  std::string name;       // microarchitecture, such as Cortex-A76; empty: unknown
  int policy = -1;        // first CPU of its frequency domain; -1: unknown
  int cluster = 0;
};

struct Cache {
  int level = 0;
  std::string type;  // Data, Instruction or Unified
  int64_t bytes = 0;
  std::vector<int> cores;
};

class System {
 public:
  explicit System(std::string root) : root_(std::move(root)) {}

  // Present cores in order of their number; a cluster holds cores of one frequency domain, capacity, clock and
  // name.
  std::vector<Core> cores() const;
  std::vector<Cache> caches() const;    // empty when the kernel does not tell
  std::vector<int> affinity() const;    // CPUs this process may use
  int64_t current_khz(int cpu) const;   // the clock that the kernel names now; -1: it names none
  std::string cpu_model() const;        // "unknown" when the kernel does not tell
  std::string kernel() const;
  int64_t memory_kib(const char* field) const;  // of /proc/meminfo; 0 when missing

 private:
  std::string read(const std::string& path) const;
  int64_t read_number(const std::string& path) const;
  std::vector<int> present() const;
  void read_policies(std::vector<Core>* cores) const;
  void name_cores(std::vector<Core>* cores) const;

  std::string root_;
};

// Bytes of the last-level cache; 0 when unknown.
int64_t last_level_cache(const std::vector<Cache>& caches);

#endif  // BENCH_AGENT_SYSTEM_H_
