// Architecture: what a family of models computes besides its linears (FORMAT.md section 1).
#ifndef BENCH_RUNTIME_ARCHITECTURE_H_
#define BENCH_RUNTIME_ARCHITECTURE_H_

#include <string>
#include <string_view>

enum class Positions {
  kRotary,   // queries and keys are turned
  kLearned,  // a row for each position is added to the embedding
  kAlibi,    // scores fall with the distance
};

enum class Activation { kNone, kSiluGate, kRelu, kGelu };  // kSiluGate: silu(gate) * up, with a linear for each

struct Architecture {
  const char* name;  // general.architecture
  Positions positions;
  Activation activation;
  bool layer_norm;      // norms take the mean away and have biases; otherwise RMSNorm
  bool head_norms;      // queries and keys are normed head by head before they are turned
  bool fused_qkv;       // one linear for queries, keys and values
  bool embedding_norm;  // before the first block

  bool gated() const { return activation == Activation::kSiluGate; }
};

inline constexpr int kLearnedOffset = 2;  // rows before that of position 0: OPT never used them

const Architecture* find_architecture(std::string_view name);  // null when there is none
std::string architecture_names();

#endif  // BENCH_RUNTIME_ARCHITECTURE_H_
