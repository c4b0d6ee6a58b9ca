// The device's clock: every stamp and every duration that the agent prints.
#ifndef BENCH_BASE_CLOCK_H_
#define BENCH_BASE_CLOCK_H_

#include <stdint.h>
#include <time.h>

#include <algorithm>

// Nanoseconds of CLOCK_MONOTONIC_RAW: not slewed by NTP, so a millisecond is the same length in every run.
inline int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

// The smallest step seen between two readings: what the counter resolves, or what a reading costs if that is more.
inline int64_t timer_resolution_ns() {
  int64_t smallest = INT64_MAX;
  for (int i = 0; i < 1000; ++i) {
    const int64_t start = now_ns();
    int64_t step;
    while ((step = now_ns() - start) == 0) {
    }
    smallest = std::min(smallest, step);
  }
  return smallest;
}

#endif  // BENCH_BASE_CLOCK_H_
