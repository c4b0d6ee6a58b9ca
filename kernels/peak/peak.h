// Peaks: loops that do one thing as fast as an instruction set goes: what a product can reach at best on this machine.
//
//   compute  multiply-accumulates on registers alone, in independent chains that cover the latency; one counts as 2 operations
//   read     loads of memory in one or several streams, prefetched or not; what is loaded is combined and thrown away
//
// One instruction set = one file, as for products: peak_<isa>.cc has its flags, and runs only where cpu_runs(isa).
#ifndef BENCH_PEAK_PEAK_H_
#define BENCH_PEAK_PEAK_H_

#include <stdint.h>

struct PeakCompute {
  const char* isa;
  const char* what;  // "int8" or "fp32"
  const char* loop;  // the instructions of a step
  int64_t (*run)(int64_t turns);  // returns the operations done
};

struct PeakRead {
  const char* isa;
  int streams;  // equal parts of the data, read side by side
  int ahead;    // bytes that each stream prefetches ahead; 0: nothing
  int64_t (*run)(const uint8_t* data, int64_t bytes);  // returns the bytes read: whole lines of every stream
};

extern const PeakCompute kPeakComputes[];  // ends with a null isa
extern const PeakRead kPeakReads[];        // ends with a null isa

#endif  // BENCH_PEAK_PEAK_H_
