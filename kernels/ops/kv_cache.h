// KvCache: the keys and values of past positions, fp32, [layer][keys|values][head][position][D]: a head's history is contiguous.
#ifndef BENCH_OPS_KV_CACHE_H_
#define BENCH_OPS_KV_CACHE_H_

#include <stddef.h>
#include <string.h>

struct KvCache {
  float* data;
  int heads;
  int capacity;  // positions
  int head_size;

  static size_t floats(int layers, int heads, int capacity, int head_size) {
    return 2 * size_t(layers) * size_t(heads) * size_t(capacity) * size_t(head_size);
  }

  float* keys(int layer, int head) const { return data + (2 * size_t(layer) * heads + head) * capacity * head_size; }
  float* values(int layer, int head) const { return keys(layer, heads + head); }

  // Stores the rows [heads][D] of one position.
  void store(int layer, int position, const float* key_row, const float* value_row) const {
    const size_t bytes = size_t(head_size) * sizeof(float);
    for (int head = 0; head < heads; ++head) {
      memcpy(keys(layer, head) + size_t(position) * head_size, key_row + head * head_size, bytes);
      memcpy(values(layer, head) + size_t(position) * head_size, value_row + head * head_size, bytes);
    }
  }
};

#endif  // BENCH_OPS_KV_CACHE_H_
