// Output: the JSON lines of PROTOCOL.md on standard output. Every line is one write, so that it arrives whole and at once.
#ifndef BENCH_AGENT_OUTPUT_H_
#define BENCH_AGENT_OUTPUT_H_

#include <stdint.h>

#include <string_view>
#include <vector>

#include "base/json.h"
#include "runtime/error.h"

// {"type":TYPE,"t":NOW and room for more; `emit` closes it.
Json line(const char* type);

// Ends the process with the status of `io` when nobody reads.
void emit(Json* line);

// From now on a line waits `ms` at most for its reader. One that is not taken by then, or a reader that is gone, ends the output but not
// the process: later lines are dropped at once. For a command that has work to do when nobody reads any more.
void outlive_reader(int ms);
bool has_reader();

void emit_hello(std::string_view command);

// The CPUs that the work could run on, read back from the kernel after it; the `done` line says them.
void tell_cpus(std::vector<int> cpus);

void add_list(Json* json, const char* key, const std::vector<int>& numbers);

// The last line: `done`, or `error`. Returns the exit status of PROTOCOL.md.
int emit_end(const Error& failed);

// From now on a failure that no function returns still ends with an error line and its status: no memory for an object, and
// a mapped file that shrank while it was read (SIGBUS), the end of the lease that a launch runs under (SIGIO, lease_guard.h).
void catch_failures();

#endif  // BENCH_AGENT_OUTPUT_H_
