// Output: the JSON lines of PROTOCOL.md on standard output. Every line is one write, so that it arrives whole and at once.
#ifndef BENCH_AGENT_OUTPUT_H_
#define BENCH_AGENT_OUTPUT_H_

#include <string_view>

#include "base/json.h"
#include "runtime/error.h"

// {"type":TYPE,"t":NOW and room for more; `emit` closes it.
Json line(const char* type);

// Ends the process with the status of `io` when nobody reads.
void emit(Json* line);

void emit_hello(std::string_view command);

// The last line: `done`, or `error`. Returns the exit status of PROTOCOL.md.
int emit_end(const Error& failed);

// From now on a failure that no function returns still ends with an error line and its status: no memory for an object, and
// a mapped file that shrank while it was read (SIGBUS).
void catch_failures();

#endif  // BENCH_AGENT_OUTPUT_H_
