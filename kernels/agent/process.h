// Process: runs another program and waits for it, at most so long.
#ifndef BENCH_AGENT_PROCESS_H_
#define BENCH_AGENT_PROCESS_H_

#include <string>
#include <vector>

#include "runtime/error.h"

// No shell; the program is looked up on PATH. `input` (4096 bytes at most) is its standard input, its output is dropped: whoever would
// read that may be gone. `io` unless it exits with 0 within `limit_ms`, when it is killed with its group.
Error run_process(const std::vector<std::string>& words, const std::string& input, int limit_ms);

#endif  // BENCH_AGENT_PROCESS_H_
