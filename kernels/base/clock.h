// The device's clock: every stamp and every duration that the agent prints.
#ifndef BENCH_BASE_CLOCK_H_
#define BENCH_BASE_CLOCK_H_

#include <stdint.h>
#include <time.h>

// Nanoseconds of CLOCK_MONOTONIC_RAW: not slewed by NTP, so a millisecond is the same length in every run.
inline int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

#endif  // BENCH_BASE_CLOCK_H_
