// Signature: bursts of work that a power meter with a clock of its own cannot miss: where its readings rise and fall, its clock meets ours.
#ifndef BENCH_AGENT_SIGNATURE_H_
#define BENCH_AGENT_SIGNATURE_H_

#include <stdint.h>

#include <vector>

#include "runtime/pool.h"

class Signature {
 public:
  // 200 ms of rest, then three times 200 ms of work on every member and 200 ms of rest.
  void play(Pool* pool);

  // The `signature` line: begin and end of every burst played.
  void report() const;

 private:
  std::vector<int64_t> edges_ns_;
};

#endif  // BENCH_AGENT_SIGNATURE_H_
