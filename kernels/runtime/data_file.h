// Token files and reference files (FORMAT.md sections 4 and 5), read in place and checked against their size.
#ifndef BENCH_RUNTIME_DATA_FILE_H_
#define BENCH_RUNTIME_DATA_FILE_H_

#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

struct TokenFile {
  uint32_t vocabulary = 0;
  uint32_t count = 0;
  const uint32_t* tokens = nullptr;  // [count], each below the vocabulary size

  // `data` must outlive this object and be aligned to 4 bytes. Errors are `model`.
  Error parse(const uint8_t* data, size_t size);
};

struct ReferenceFile {
  uint32_t vocabulary = 0;  // V
  uint32_t window = 0;      // W
  uint32_t rows = 0;        // R
  const float* logprobs = nullptr;  // [R][V], natural logarithms

  Error parse(const uint8_t* data, size_t size);
};

inline constexpr size_t kReferenceHeader = 32;  // bytes

// The header of a reference file.
void write_reference_header(uint32_t vocabulary, uint32_t window, uint32_t rows, uint8_t (&out)[kReferenceHeader]);

#endif  // BENCH_RUNTIME_DATA_FILE_H_
