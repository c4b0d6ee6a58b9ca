// Scaled dot-product attention (Vaswani et al. 2017) of one query, over a cache of keys and values.
#include <math.h>

#include "ops/lanes.h"
#include "ops/ops.h"

void attention(const float* query, const float* keys, const float* values, int positions, int head_size, float* scores, float* out) {
  const float scale = 1.0f / sqrtf(static_cast<float>(head_size));
  for (int t = 0; t < positions; ++t) {
    const float* key = keys + static_cast<int64_t>(t) * head_size;
    scores[t] = scale * lane_sum(head_size, [query, key](int i) { return query[i] * key[i]; });
  }
  softmax(scores, positions);
  for (int i = 0; i < head_size; ++i) out[i] = 0;
  for (int t = 0; t < positions; ++t) {
    const float* value = values + static_cast<int64_t>(t) * head_size;
    const float weight = scores[t];
    for (int i = 0; i < head_size; ++i) out[i] += weight * value[i];
  }
}
