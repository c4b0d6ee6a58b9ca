// The architectures that this agent runs.
#include "runtime/architecture.h"

namespace {

constexpr Architecture kArchitectures[] = {
    // name, positions, activation, layer norm, head norms, fused qkv, embedding norm
    {"llama", Positions::kRotary, Activation::kSiluGate, false, false, false, false},  // and Mistral
    {"qwen2", Positions::kRotary, Activation::kSiluGate, false, false, false, false},  // and Qwen2.5
    {"qwen3", Positions::kRotary, Activation::kSiluGate, false, true, false, false},
    {"opt", Positions::kLearned, Activation::kRelu, true, false, false, false},
    {"bloom", Positions::kAlibi, Activation::kGelu, true, false, true, true},
};

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& one : kArchitectures) {
    if (name == one.name) return &one;
  }
  return nullptr;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& one : kArchitectures) names += (names.empty() ? "" : ", ") + std::string(one.name);
  return names;
}
