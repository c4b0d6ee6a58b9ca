// Knob: a file below /sys or /proc/sys that tunes the kernel.
#ifndef BENCH_AGENT_KNOB_H_
#define BENCH_AGENT_KNOB_H_

#include <string>
#include <string_view>

#include "runtime/error.h"

// Where `path` leads to below `root` (a recorded tree in tests, otherwise empty). `usage` unless it is absolute, without `..`, and below
// /sys or /proc/sys both as written and after symbolic links: /sys is full of those, and they lead from /sys to /sys.
Error resolve_knob(const std::string& root, const std::string& path, std::string* resolved);

// Any short file of the kernel; `io` when it cannot be read, or is longer than a page: no knob is.
Error read_kernel_file(const std::string& path, std::string* text);

// By `sudo -n tee` when this user may not write it.
Error write_knob(const std::string& resolved, const std::string& text);

// What the text says: without spaces at its end, and of a choice such as "always [madvise] never" the one in brackets.
std::string_view knob_value(std::string_view text);

// What to write so that the knob says the same again: a choice is made by its word alone.
std::string_view knob_setting(std::string_view text);

#endif  // BENCH_AGENT_KNOB_H_
