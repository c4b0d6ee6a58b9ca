// Reads and writes scheme words.
#include "runtime/scheme.h"

namespace {

constexpr int kGroupStep = 32;   // a packed block holds 32 columns (FORMAT.md section 2)
constexpr int kGroupMax = 65536;  // the widest linear that the runtime accepts

bool take(std::string_view* word, char letter) {
  if (word->empty() || word->front() != letter) return false;
  word->remove_prefix(1);
  return true;
}

// Digits without a leading zero, at most kGroupMax; -1 for anything else.
int take_number(std::string_view* word) {
  int number = 0;
  size_t digits = 0;
  for (; digits < word->size() && (*word)[digits] >= '0' && (*word)[digits] <= '9'; ++digits) {
    number = number * 10 + ((*word)[digits] - '0');
    if (number == 0 || number > kGroupMax) return -1;
  }
  word->remove_prefix(digits);
  return digits ? number : -1;
}

}  // namespace

std::optional<Scheme> Scheme::parse(std::string_view word) {
  Scheme scheme;
  if (word == "fp16") return scheme;
  if (!take(&word, 'w')) return std::nullopt;
  scheme.ternary = take(&word, 't');
  scheme.weight_bits = scheme.ternary ? 2 : take_number(&word);
  if (!take(&word, 'a')) return std::nullopt;
  scheme.activation_bits = take_number(&word);
  scheme.activation_groups = take(&word, 'a');
  if (take(&word, 'g')) scheme.group = take_number(&word);
  const bool weights = scheme.weight_bits >= 1 && scheme.weight_bits <= 8;
  const bool activations = (scheme.activation_bits >= 2 && scheme.activation_bits <= 8) || scheme.activation_bits == 16;
  const bool groups = !scheme.activation_groups || (scheme.group && scheme.activation_bits != 16);
  if (!weights || !activations || !groups || !word.empty() || scheme.group < 0 || scheme.group % kGroupStep) return std::nullopt;
  return scheme;
}

std::string Scheme::word() const {
  if (is_float()) return "fp16";
  const std::string bits = "w" + (ternary ? "t" : std::to_string(weight_bits)) + "a" + std::to_string(activation_bits);
  return group ? bits + (activation_groups ? "ag" : "g") + std::to_string(group) : bits;
}
