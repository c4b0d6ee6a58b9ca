// Model: a language model as FORMAT.md section 1 lays it out, checked and ready to multiply.
#ifndef BENCH_RUNTIME_MODEL_H_
#define BENCH_RUNTIME_MODEL_H_

#include <stdint.h>

#include <vector>

#include "runtime/architecture.h"
#include "runtime/cache_format.h"
#include "runtime/error.h"
#include "runtime/general_linear.h"
#include "runtime/norm.h"

// What an architecture does not have stays empty.
struct Layer {
  Norm attention_norm, ffn_norm;
  const float* query_norm = nullptr;  // [head size]
  const float* key_norm = nullptr;    // [head size]
  Linear q, k, v;                     // C -> heads * head_size, C -> kv_heads * head_size (twice)
  Linear qkv;                         // the three of them one below the other
  Linear output;                      // heads * head_size -> C
  Linear gate, up;                    // C -> F
  Linear down;                        // F -> C
  // Steps of the static codes that each head of q, k and v is rounded to; null: it is not.
  const float* q_grid = nullptr;  // [heads]
  const float* k_grid = nullptr;  // [kv_heads]
  const float* v_grid = nullptr;  // [kv_heads]
  float prune = 0;                // the share of a prompt's tokens that is dropped after attention
};

struct Model {
  const Architecture* architecture = nullptr;
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
  const uint16_t* positions = nullptr;  // fp16 [kLearnedOffset + context][C] when they are learned
  Norm embedding_norm, final_norm;
  Linear head;  // C -> V, the embedding itself when tied
  std::vector<Layer> layers;
  GeneralLinears general;  // those of the linears that are more than one matrix
  CacheFormat cache;

  // Whether tokens of a prompt are dropped: it is then one batch.
  bool prunes() const;

  // Reads and checks the bytes of a model file, which must outlive the model and be aligned to 64 bytes. They may be hostile.
  Error parse(const uint8_t* data, size_t size);

  // The linears of a layer that this architecture has, in the order of computation, with their shapes and names in the file.
  struct Place {
    const char* name;
    int rows, columns;
    Linear* linear;
  };
  std::vector<Place> linears(Layer* layer) const;
};

#endif  // BENCH_RUNTIME_MODEL_H_
