// The subcommands of the agent: each parses its arguments, works and prints its lines (PROTOCOL.md).
#ifndef BENCH_AGENT_COMMANDS_H_
#define BENCH_AGENT_COMMANDS_H_

#include <stdint.h>

#include <string>
#include <vector>

#include "agent/arguments.h"
#include "agent/model_file.h"
#include "runtime/scheme.h"

Error run_info(Arguments* arguments);
Error run_spin(Arguments* arguments);
Error run_idle(Arguments* arguments);
Error run_mm(Arguments* arguments);
Error run_peak(Arguments* arguments);
Error run_llm(Arguments* arguments);
Error run_score(Arguments* arguments);
Error run_lease(Arguments* arguments);

constexpr int64_t kMaxMs = 3600000;     // the longest rest, and the longest that --min-ms asks for
constexpr size_t kMaxValues = 100000;   // of one line that --min-ms makes longer: it stays below 1 MiB

// What a command line asks for; parsing is apart from running so that it can be tested with hostile words.
struct MmCase {
  Scheme scheme;
  int n, k, m;
};

struct MmOptions {
  std::vector<MmCase> cases;
  std::string variant;
  bool warm = false;
  int64_t footprint = 0;  // bytes; 0: twice the last-level cache
  int iterations = 20;
  int64_t calls = 0;  // products of a batch; 0: as many as last min_ns
  int64_t min_ns = 1000000;
  int64_t min_ms = 0;
  uint64_t seed = 1;
  Pages pages;
  Team team;
  WatchOptions watch;
};

struct PeakOptions {
  int64_t ms = 2000;
  Team team;
};

struct LlmOptions {
  ModelOptions model;
  int prefill = 128;
  int decode = 64;
  int iterations = 5;
  int64_t min_ms = 0;
  Team team;
  WatchOptions watch;
};

struct ScoreOptions {
  ModelOptions model;
  std::string tokens, reference, write_reference;
  int window = 0;
  int64_t min_ms = 0;
  Team team;
  WatchOptions watch;
};

struct IdleOptions {
  int64_t ms = 0;
  Team team;  // where a signature is played, and what the watch keeps clear of
  WatchOptions watch;
};

Error parse_mm(Arguments* arguments, MmOptions* options);
Error parse_peak(Arguments* arguments, PeakOptions* options);
Error parse_llm(Arguments* arguments, LlmOptions* options);
Error parse_score(Arguments* arguments, ScoreOptions* options);
Error parse_idle(Arguments* arguments, IdleOptions* options);

#endif  // BENCH_AGENT_COMMANDS_H_
