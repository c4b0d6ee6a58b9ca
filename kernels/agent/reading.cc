// Reads digits with their sign, so that the smallest int64 is no exception.
#include "agent/reading.h"

#include <algorithm>

namespace {

constexpr std::string_view kSpaces(" \t\r\n\v\f\0", 7);

int digit_of(char letter) {
  if (letter >= '0' && letter <= '9') return letter - '0';
  if (letter >= 'a' && letter <= 'f') return letter - 'a' + 10;
  if (letter >= 'A' && letter <= 'F') return letter - 'A' + 10;
  return 16;
}

std::string_view first_word(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  return text.substr(0, text.find_first_of(kSpaces));
}

}  // namespace

bool first_integer(std::string_view text, int64_t* out) {
  std::string_view word = first_word(text);
  const bool negative = word.starts_with('-');
  if (negative || word.starts_with('+')) word.remove_prefix(1);
  const int base = word.starts_with("0x") || word.starts_with("0X") ? 16 : 10;
  if (base == 16) word.remove_prefix(2);
  int64_t number = 0;
  for (const char letter : word) {
    const int digit = digit_of(letter);
    if (digit >= base || __builtin_mul_overflow(number, base, &number)) return false;
    if (__builtin_add_overflow(number, negative ? -digit : digit, &number)) return false;
  }
  *out = number;
  return !word.empty();
}
