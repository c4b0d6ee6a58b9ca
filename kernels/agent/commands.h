// The subcommands of the agent: each parses its arguments, works and prints its lines (PROTOCOL.md).
#ifndef BENCH_AGENT_COMMANDS_H_
#define BENCH_AGENT_COMMANDS_H_

#include <stdint.h>

#include <string>
#include <vector>

#include "agent/arguments.h"
#include "runtime/scheme.h"

Error run_info(Arguments* arguments);
Error run_spin(Arguments* arguments);
Error run_mm(Arguments* arguments);
Error run_llm(Arguments* arguments);
Error run_score(Arguments* arguments);
Error run_lease(Arguments* arguments);

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
  int64_t min_ns = 1000000;
  uint64_t seed = 1;
  Team team;
};

struct LlmOptions {
  std::string model;
  int prefill = 128;
  int decode = 64;
  int iterations = 5;
  Team team;
};

struct ScoreOptions {
  std::string model, tokens, reference, write_reference;
  int window = 0;
  Team team;
};

Error parse_mm(Arguments* arguments, MmOptions* options);
Error parse_llm(Arguments* arguments, LlmOptions* options);
Error parse_score(Arguments* arguments, ScoreOptions* options);

#endif  // BENCH_AGENT_COMMANDS_H_
