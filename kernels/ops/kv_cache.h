// KvCache: the keys and values of past positions, as fp32, fp16 or int8 with an fp32 scale for each position and head.
//
// A head's history is contiguous: [layer][head] { keys [block][D][16], values [position][D], and for int8 scales [keys|values][position] }.
// 16 positions of keys interleave, so that a query's products with 16 positions fall into lanes: no horizontal sums.
// int8: scale = absmax / 127 of the D numbers, code = rint(x / scale); a row of zeros has scale 0.
#ifndef BENCH_OPS_KV_CACHE_H_
#define BENCH_OPS_KV_CACHE_H_

#include <stddef.h>
#include <stdint.h>

constexpr int kKeyBlock = 16;  // positions

enum class KvType { kFp32, kFp16, kInt8 };

// One head's history.
struct KvHead {
  KvType type;
  int head_size;          // D
  uint8_t* keys;          // [block][D][kKeyBlock] of the type
  uint8_t* values;        // [position][D] of the type
  float* key_scales;      // [position], null unless int8
  float* value_scales;    // [position], null unless int8
};

class KvCache {
 public:
  KvCache() = default;
  // In `data`: bytes() of it, aligned to 64, zeroed.
  KvCache(uint8_t* data, KvType type, int layers, int heads, int positions, int head_size);

  uint64_t bytes() const { return uint64_t(layers_) * uint64_t(heads_) * head_bytes(); }
  KvHead head(int layer, int head) const;

  // Stores the rows [heads][D] of one position.
  void store(int layer, int position, const float* key_row, const float* value_row) const;

 private:
  uint64_t part_bytes() const { return uint64_t(capacity_) * uint64_t(head_size_) * element_bytes(); }
  uint64_t scale_bytes() const { return type_ == KvType::kInt8 ? uint64_t(capacity_) * sizeof(float) : 0; }
  uint64_t head_bytes() const { return 2 * (part_bytes() + scale_bytes()); }
  size_t element_bytes() const { return type_ == KvType::kFp32 ? 4 : type_ == KvType::kFp16 ? 2 : 1; }

  uint8_t* data_ = nullptr;
  KvType type_ = KvType::kFp32;
  int layers_ = 0, heads_ = 0, head_size_ = 0;
  int capacity_ = 0;  // positions, a multiple of kKeyBlock
};

#endif  // BENCH_OPS_KV_CACHE_H_
