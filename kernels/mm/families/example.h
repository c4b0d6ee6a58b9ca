// Operands of the families that need more than codes and scales: random, but valid. For tests and timing.
#ifndef BENCH_MM_FAMILIES_EXAMPLE_H_
#define BENCH_MM_FAMILIES_EXAMPLE_H_

#include <stdint.h>

#include <vector>

#include "mm/mm.h"

class MmExample {
 public:
  // n padded to 8 rows, k to 32 columns. A fifth of the rows is wide, 1/16 of the columns (at most 256) ride in a side-car, 1 % are outliers.
  MmExample(const MmFamily& family, int n, int k, int group, uint64_t seed);
  MmExample(MmExample&&) = default;

  MmExtra extra;
  size_t bytes = 0;  // of operands that a product reads
  size_t unread = 0;  // of codes that it does not

 private:
  int below(int limit);
  uint16_t half();
  void add_codebook();
  void add_levels(int n, int groups);
  void add_segments(int k);
  void add_wide_rows(int n, int k);
  void add_columns(int n, int k);
  void add_outliers(int n, int k);

  uint64_t state_;
  std::vector<int8_t> signed_;
  std::vector<uint8_t> bytes_;
  std::vector<uint16_t> halves_;
  std::vector<int32_t> places_, begins_;
};

#endif  // BENCH_MM_FAMILIES_EXAMPLE_H_
