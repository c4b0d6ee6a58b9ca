// What every fuzz target needs: the input where its parser expects it, in memory of exactly its size (so that AddressSanitizer sees
// one byte too many), aligned as a mapped file is.
#ifndef BENCH_FUZZ_BYTES_H_
#define BENCH_FUZZ_BYTES_H_

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

class AlignedCopy {
 public:
  AlignedCopy(const uint8_t* data, size_t size) : memory_(nullptr) {
    if (posix_memalign(&memory_, 64, size ? size : 1) != 0) abort();
    if (size) memcpy(memory_, data, size);
  }
  AlignedCopy(const AlignedCopy&) = delete;
  AlignedCopy& operator=(const AlignedCopy&) = delete;
  ~AlignedCopy() { free(memory_); }

  const uint8_t* data() const { return static_cast<const uint8_t*>(memory_); }

 private:
  void* memory_;
};

#endif  // BENCH_FUZZ_BYTES_H_
