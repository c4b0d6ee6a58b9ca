// Attention of several queries over one head's keys and values, read once for all of them.
//
// out = softmax(query . keys / sqrt(D) - slope * distance) values. The keys pass in tiles of kTile positions with a running maximum and sum for each query
// (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention"), so that room does not
// grow with the history. A query's result does not depend on which others it is computed with.
#ifndef BENCH_OPS_ATTENTION_H_
#define BENCH_OPS_ATTENTION_H_

#include <stddef.h>

#include "ops/kv_cache.h"

constexpr int kQueryRows = 32;  // queries of one call
constexpr int kNoWeight = 16;   // the code of a probability that is too small for 4 bits: it weighs nothing

struct Queries {
  const float* queries;  // token i, head j: queries + i * stride + j * D
  float* out;            // the same shape
  size_t stride;         // floats between tokens
  int tokens;            // consecutive
  int heads;             // that share the keys and values, neighbours in a row; tokens * heads is at most kQueryRows
  int positions;         // that the first token sees, itself included; each later one sees one more
  float* start = nullptr;   // the probability of position 0 for token i, head j: start + i * start_stride + j; null for none
  size_t start_stride = 0;  // floats between tokens
  const float* slopes = nullptr;  // of each head (ALiBi); null: positions do not count
  // Keys (rotated) and values of the tokens themselves: token i: own_keys + i * own_stride. A token then sees its own as it is, and from
  // the cache only those before it (Yue et al. 2024, arXiv:2402.12065). Null: all from the cache.
  const float* own_keys = nullptr;
  const float* own_values = nullptr;
  size_t own_stride = 0;
};

// Tokens of one call, at most: at least 1. More than kQueryRows heads that share a head are several calls.
inline int query_tokens(int heads) { return heads < kQueryRows ? kQueryRows / heads : 1; }

// Floats that `attention` needs to work in: aligned to 64 bytes, zeroed before the first call.
size_t attention_scratch(int head_size);

void attention(const Queries& queries, const KvHead& head, float* scratch);

// The same with probabilities rounded to powers of two and values that are multiples of `step` (Agile-Quant, Shen et al. 2023,
// arXiv:2312.05693, after FQ-ViT, Lin et al. 2021, arXiv:2111.13824): sums of shifted codes, exact but for the probabilities.
size_t log2_attention_scratch(int head_size);

void log2_attention(const Queries& queries, const KvHead& head, float step, float* scratch);

#endif  // BENCH_OPS_ATTENTION_H_
