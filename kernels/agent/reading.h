// Reading: the number that a sensor's file says.
#ifndef BENCH_AGENT_READING_H_
#define BENCH_AGENT_READING_H_

#include <stdint.h>

#include <string_view>

// The first word of the text, up to a space, a newline or a zero byte: decimal or 0x hexadecimal digits, with a sign or without. False
// when it is anything else ("4a000" is no 4, "12.5" no 12) or outside int64.
bool first_integer(std::string_view text, int64_t* out);

#endif  // BENCH_AGENT_READING_H_
