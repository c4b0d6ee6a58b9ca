// KvCache: the keys and values of past positions, as fp32, fp16, int8 with an fp32 scale for each position and head, or codes.
//
// A head's history is contiguous: [layer][head] { keys [block][D][16], values [position][D], and for int8 scales [keys|values][position] }.
// 16 positions of keys interleave, so that a query's products with 16 positions fall into lanes: no horizontal sums.
// int8: scale = absmax / 127 of the D numbers, code = rint(x / scale); a row of zeros has scale 0.
// Codes (kv_codes.h): [layer][head] { fp16 keys and values [first][D], rows of keys, rows of values }, rows from position `first` on.
#ifndef BENCH_OPS_KV_CACHE_H_
#define BENCH_OPS_KV_CACHE_H_

#include <stddef.h>
#include <stdint.h>

#include "ops/kv_codes.h"

constexpr int kKeyBlock = 16;  // positions

enum class KvType { kFp32, kFp16, kInt8, kCodes };

// How a cache of type kCodes is coded.
struct KvCoding {
  const KvCodes* keys = nullptr;    // [layer]
  const KvCodes* values = nullptr;  // [layer]
  int first = 0;                    // positions at the start that are kept as fp16
  const float* cosine = nullptr;    // [D / 2][angle_stride], of positions, with `sine`: keys are stored before rotation; null: after it
  const float* sine = nullptr;
  int angle_stride = 0;
};

// One head's history.
struct KvHead {
  KvType type;
  int head_size;          // D
  uint8_t* keys;          // [block][D][kKeyBlock] of the type; rows of codes
  uint8_t* values;        // [position][D] of the type; rows of codes
  float* key_scales;      // [position], null unless int8
  float* value_scales;    // [position], null unless int8
  // Of codes:
  int head;               // among those with keys and values
  uint16_t* first_keys;   // fp16 [first][D]
  uint16_t* first_values;
  KvCoding coding;        // its keys and values are those of the layer
};

class KvCache {
 public:
  KvCache() = default;
  // In `data`: bytes() of it, aligned to 64, zeroed.
  KvCache(uint8_t* data, KvType type, int layers, int heads, int positions, int head_size, const KvCoding& coding = {});

  uint64_t bytes() const { return uint64_t(layers_) * uint64_t(heads_) * head_bytes(); }
  uint64_t position_bytes() const;  // of one position that is not among the first
  KvHead head(int layer, int head) const;

  // Stores the rows [heads][D] of one position.
  void store(int layer, int position, const float* key_row, const float* value_row) const;

 private:
  KvHead coded_head(int layer, int head) const;
  void store_codes(const KvHead& to, int position, const float* key, const float* value) const;
  uint64_t part_bytes() const { return uint64_t(capacity_) * uint64_t(head_size_) * element_bytes(); }
  uint64_t scale_bytes() const { return type_ == KvType::kInt8 ? uint64_t(capacity_) * sizeof(float) : 0; }
  uint64_t head_bytes() const;
  uint64_t row_bytes() const { return uint64_t(coding_.keys->row_bytes + coding_.values->row_bytes); }
  size_t element_bytes() const { return type_ == KvType::kFp32 ? 4 : type_ == KvType::kFp16 ? 2 : 1; }

  uint8_t* data_ = nullptr;
  KvType type_ = KvType::kFp32;
  int layers_ = 0, heads_ = 0, head_size_ = 0;
  int capacity_ = 0;  // positions, a multiple of kKeyBlock
  KvCoding coding_;
};

#endif  // BENCH_OPS_KV_CACHE_H_
