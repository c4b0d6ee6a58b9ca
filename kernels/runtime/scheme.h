// Scheme: how a linear is stored and multiplied, as a word such as `w4a8g128` or `fp16` (the same words as quantizers/scheme.py).
#ifndef BENCH_RUNTIME_SCHEME_H_
#define BENCH_RUNTIME_SCHEME_H_

#include <optional>
#include <string>
#include <string_view>

#include "mm/mm.h"

struct Scheme {
  int weight_bits = 16;            // 1..8, 16 for fp16
  bool ternary = false;            // `wt`: codes 0, 1, 2 in 2 bits
  int activation_bits = 16;        // 2..8 or 16
  bool activation_groups = false;  // `ag`: activations too have a scale for every group
  int group = 0;                   // codes per scale along K, a multiple of 32; 0: one scale per row

  int weight() const { return ternary ? MM_TERNARY : weight_bits; }  // as mm.h counts
  bool is_float() const { return weight_bits == 16; }
  bool operator==(const Scheme&) const = default;

  static std::optional<Scheme> parse(std::string_view word);
  std::string word() const;
};

#endif  // BENCH_RUNTIME_SCHEME_H_
