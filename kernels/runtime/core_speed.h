// Core speed: how fast the cores of a team multiply, as whole numbers to share work by.
#ifndef BENCH_RUNTIME_CORE_SPEED_H_
#define BENCH_RUNTIME_CORE_SPEED_H_

#include <stdint.h>

#include <vector>

// Nanoseconds that the calling thread's core takes for one short int8 product in its caches: the fastest of those within 3 ms, so that
// an interruption does not count.
int64_t product_ns();

// One number for each core, proportional to its speed. Cores of one kind get the same, 1 when there is only one kind: cores are of one
// kind when their times lie within kOneKind of the fastest of them.
std::vector<int> speeds(const std::vector<int64_t>& ns);

// Kinds of cores differ by more in int8 products (Cortex-A55 and A76: three times), two equal ones at different heat by less.
constexpr double kOneKind = 1.3;

#endif  // BENCH_RUNTIME_CORE_SPEED_H_
