// Model: a LLaMA-architecture language model as FORMAT.md section 1 lays it out, checked and ready to multiply.
#ifndef BENCH_RUNTIME_MODEL_H_
#define BENCH_RUNTIME_MODEL_H_

#include <stdint.h>

#include <vector>

#include "runtime/error.h"
#include "runtime/linear.h"

struct Layer {
  const float* attention_norm;  // [C]
  const float* ffn_norm;        // [C]
  Linear q, k, v;               // C -> heads * head_size, C -> kv_heads * head_size (twice)
  Linear output;                // heads * head_size -> C
  Linear gate, up;              // C -> F
  Linear down;                  // F -> C
  // Steps of the static codes that each head of q, k and v is rounded to; null: it is not.
  const float* q_grid = nullptr;  // [heads]
  const float* k_grid = nullptr;  // [kv_heads]
  const float* v_grid = nullptr;  // [kv_heads]
  float prune = 0;                // the share of a prompt's tokens that is dropped after attention
};

struct Model {
  int vocabulary = 0;  // V
  int context = 0;     // positions it was trained for
  int channels = 0;    // C
  int hidden = 0;      // F
  int heads = 0;
  int kv_heads = 0;
  int head_size = 0;
  float epsilon = 0;
  float rope_base = 0;
  bool log2_softmax = false;  // probabilities are powers of two; every layer has a v_grid
  size_t file_bytes = 0;

  const uint16_t* embedding = nullptr;  // fp16 [V][C]
  const float* final_norm = nullptr;    // [C]
  Linear head;                          // C -> V, the embedding itself when tied
  std::vector<Layer> layers;

  // Whether tokens of a prompt are dropped: it is then one batch.
  bool prunes() const;

  // Reads and checks the bytes of a model file, which must outlive the model and be aligned to 64 bytes. They may be hostile.
  Error parse(const uint8_t* data, size_t size);
};

#endif  // BENCH_RUNTIME_MODEL_H_
