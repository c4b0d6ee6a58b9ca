// Llm: runs a model on tokens, as its architecture says; every linear in its own scheme.
//
// All memory is taken at the start; a forward pass allocates nothing. Buffers are [token][...] with rows padded as the kernels want.
#ifndef BENCH_RUNTIME_LLM_H_
#define BENCH_RUNTIME_LLM_H_

#include <stdint.h>

#include <vector>

#include "ops/kv_cache.h"
#include "runtime/memory.h"
#include "runtime/model.h"
#include "runtime/multiply.h"
#include "runtime/pool.h"

enum class Logits { kNone, kLast, kAll };

class Llm {
 public:
  // For up to `positions` positions, `batch` tokens per forward pass and the logits of `logit_rows` of them (1 or `batch`), with keys and
  // values kept as `kv`; kCodes: as the model file says.
  // `unsupported` when a linear has no kernel on this CPU, `usage` when the model has not learned so many positions, `memory` when there is too
  // little of it, counting the model file.
  // The model and the pool must outlive this object.
  Error start(Model* model, Pool* pool, int positions, int batch, int logit_rows, KvType kv);

  // Runs tokens at positions `position`, `position + 1`, ...; earlier positions must have been run. Each id is below the vocabulary
  // size. Returns logits: [count][logits_stride()] for kAll, one row for kLast, null for kNone.
  const float* forward(const uint32_t* tokens, int count, int position, Logits wanted);

  // Runs any number of tokens, batch by batch, and returns the logits of the last.
  const float* prefill(const uint32_t* tokens, int count);

  // After kAll: the row of the logits that belong to token i of the batch, and how many of its tokens no layer dropped. Of a model that
  // prunes, those that are left have the first rows; what was dropped has the logits of its last hidden state.
  int row_of(int token) const { return row_of_[size_t(token)]; }
  int kept() const { return kept_; }

  size_t logits_stride() const { return logits_stride_; }
  int batch() const { return batch_; }
  int threads() const { return pool_->size(); }
  const KvCache& cache() const { return cache_; }

 private:
  uint64_t place(uint8_t* memory);
  Error find_kernels();
  void prepare_codes();
  void place_cache(uint8_t* memory);
  bool stores_unrotated() const { return kv_ == KvType::kCodes && !model_->cache.rotated; }
  void embed(const uint32_t* tokens, int count, int position);
  void attend(const Layer& layer, int index, int count, int position);
  void feed_forward(const Layer& layer, int count);
  void project(const Layer& layer);
  Rows normed(const Norm& norm, int first, int count) const;
  void add_product(const Linear& linear, int count);
  void store(const Layer& layer, int index, int count, int position);
  void norm_heads(const Layer& layer, float* query, float* key) const;
  void rotate(float* query, float* key, int position) const;
  void look_back(int layer, int count, int position);
  int drop_tokens(size_t layer, int count);
  void rank_tokens(int count, int kept);

  Model* model_ = nullptr;
  Pool* pool_ = nullptr;
  int positions_ = 0, batch_ = 0, logit_rows_ = 0;
  KvType kv_ = KvType::kFp16;
  Memory memory_;
  Activations activations_;
  KvCache cache_;
  std::vector<KvCodes> key_codes_, value_codes_;  // [layer], of kCodes

  size_t channel_stride_ = 0, query_stride_ = 0, key_stride_ = 0, hidden_stride_ = 0, logits_stride_ = 0, scratch_stride_ = 0;
  float* residual_ = nullptr;    // [batch][C]
  float* projected_ = nullptr;   // [batch][C], what a block adds to the residual
  float* queries_ = nullptr;     // [batch][heads * head size], followed by keys and values when one linear gives all three
  float* keys_ = nullptr;        // [batch][kv heads * head size]
  float* values_ = nullptr;      // [batch][kv heads * head size]
  float* attended_ = nullptr;    // [batch][heads * head size]
  float* gate_ = nullptr;        // [batch][F] if there is one
  float* up_ = nullptr;          // [batch][F]
  float* scratch_ = nullptr;     // [threads][scratch_stride_], for attention
  float* cosine_ = nullptr;      // [positions][head size / 2] of rotary positions
  float* sine_ = nullptr;        // [positions][head size / 2]
  float* key_cosine_ = nullptr;  // [head size / 2][positions], for keys that are stored before rotation
  float* key_sine_ = nullptr;
  float* slopes_ = nullptr;      // [heads] of ALiBi
  float* logits_ = nullptr;      // [logit rows][V]
  float* start_ = nullptr;       // [batch][heads], what each token's heads pay to the first one
  float* importance_ = nullptr;  // [batch]

  int kept_ = 0;
  std::vector<int> token_of_, row_of_;  // [batch]: of the rows of residual_, and the other way round
  std::vector<int> ranked_, moved_;     // [batch], to reorder rows with
  std::vector<int> dropped_;            // [layer], how many tokens of the prompt it does not know: later positions are so much smaller
};

// The most probable token: the first of the largest.
int argmax(const float* logits, int count);

#endif  // BENCH_RUNTIME_LLM_H_
