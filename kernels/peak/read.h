// The read loops of one instruction set, whose file has defined REGISTER and Vector (what one load brings), and lists
// PEAK_READS(isa) below. Internal linkage throughout.
#ifndef BENCH_PEAK_READ_H_
#define BENCH_PEAK_READ_H_

#include <stdint.h>

#include "peak/opaque.h"
#include "peak/reads.h"

namespace {

constexpr int kLine = 64;
constexpr int kLoads = kLine / static_cast<int>(sizeof(Vector));
constexpr int kSums = 8;  // independent: else a cache would wait for the last xor

template <int kStreams, int kAhead>
int64_t read(const uint8_t* data, int64_t bytes) {
  const int64_t part = bytes / (kStreams * kLine) * kLine;
  Vector seen[kSums] = {};
  for (int64_t at = 0; at < part; at += kLine) {
#pragma GCC unroll 8
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint8_t* line = data + stream * part + at;
      if (kAhead) __builtin_prefetch(line + kAhead);  // beyond the end it does nothing
#pragma GCC unroll 8
      for (int i = 0; i < kLoads; ++i) seen[(stream * kLoads + i) % kSums] ^= reinterpret_cast<const Vector*>(line)[i];
    }
  }
  for (const Vector& one : seen) keep(one);
  return part * kStreams;
}

}  // namespace

#define PEAK_READ(isa, streams, ahead)                                                    \
  extern "C" int64_t PEAK_READ_NAME(isa, streams, ahead)(const uint8_t* data, int64_t bytes) { \
    return read<streams, ahead>(data, bytes);                                             \
  }

#endif  // BENCH_PEAK_READ_H_
