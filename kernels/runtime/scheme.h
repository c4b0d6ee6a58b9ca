// Scheme: how a linear is stored and multiplied, as a word such as `w4a8g128` or `fp16` (the same words as quantizers/scheme.py).
#ifndef BENCH_RUNTIME_SCHEME_H_
#define BENCH_RUNTIME_SCHEME_H_

#include <optional>
#include <string>
#include <string_view>

struct Scheme {
  int weight_bits = 16;      // 2..8, 16 for fp16
  int activation_bits = 16;  // 8 or 16
  int group = 0;             // codes per scale along K, a multiple of 32; 0: one scale per row

  bool is_float() const { return weight_bits == 16; }
  bool operator==(const Scheme&) const = default;

  static std::optional<Scheme> parse(std::string_view word);
  std::string word() const;
};

#endif  // BENCH_RUNTIME_SCHEME_H_
