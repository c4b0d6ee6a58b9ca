// Random numbers that are the same in every run: splitmix64 (Steele, Lea and Flood 2014).
#ifndef BENCH_BASE_RANDOM_H_
#define BENCH_BASE_RANDOM_H_

#include <stdint.h>

inline uint64_t next_random(uint64_t* state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

#endif  // BENCH_BASE_RANDOM_H_
