// Puts rows into the cache.
#include "ops/kv_cache.h"

#include <math.h>

#include "base/check.h"
#include "base/half.h"

namespace {

// Calls put(i, x[i]) for a row of D numbers.
template <typename Element, typename Convert>
void put_row(const float* x, int count, Element* to, int stride, const Convert& convert) {
  for (int i = 0; i < count; ++i) to[int64_t{i} * stride] = convert(x[i]);
}

float largest_magnitude(const float* x, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  return largest;
}

// Returns the scale.
float put_codes(const float* x, int count, int8_t* to, int stride) {
  const float largest = largest_magnitude(x, count);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  put_row(x, count, to, stride, [inverse](float value) {
    const float code = rintf(value * inverse);
    return int8_t(code > 127.0f ? 127.0f : code > -127.0f ? code : -127.0f);  // NaN becomes -127
  });
  return largest / 127.0f;
}

float put(KvType type, const float* x, int count, uint8_t* part, int64_t first, int stride) {
  if (type == KvType::kInt8) return put_codes(x, count, reinterpret_cast<int8_t*>(part) + first, stride);
  if (type == KvType::kFp16) {
    put_row(x, count, reinterpret_cast<uint16_t*>(part) + first, stride, half_from_float);
  } else {
    put_row(x, count, reinterpret_cast<float*>(part) + first, stride, [](float value) { return value; });
  }
  return 1;
}

}  // namespace

KvCache::KvCache(uint8_t* data, KvType type, int layers, int heads, int positions, int head_size, const KvCoding& coding)
    : data_(data),
      type_(type),
      layers_(layers),
      heads_(heads),
      head_size_(head_size),
      capacity_((positions + kKeyBlock - 1) / kKeyBlock * kKeyBlock),
      coding_(coding) {}

uint64_t KvCache::head_bytes() const {
  if (type_ != KvType::kCodes) return 2 * (part_bytes() + scale_bytes());
  const uint64_t first = uint64_t(coding_.first < capacity_ ? coding_.first : capacity_);
  return (first * uint64_t(head_size_) * 4 + (uint64_t(capacity_) - first) * row_bytes() + 63) / 64 * 64;
}

uint64_t KvCache::position_bytes() const {
  const uint64_t scale = type_ == KvType::kInt8 ? 2 * sizeof(float) : 0;
  return uint64_t(layers_) * uint64_t(heads_) * (type_ == KvType::kCodes ? row_bytes() : 2 * uint64_t(head_size_) * element_bytes() + scale);
}

KvHead KvCache::coded_head(int layer, int head) const {
  const int first = coding_.first < capacity_ ? coding_.first : capacity_;
  KvHead found = {type_, head_size_, nullptr, nullptr, nullptr, nullptr, head, nullptr, nullptr, coding_};
  found.coding.keys += layer;
  found.coding.values += layer;
  uint8_t* begin = data_ + (uint64_t(layer) * uint64_t(heads_) + uint64_t(head)) * head_bytes();
  found.first_keys = reinterpret_cast<uint16_t*>(begin);
  found.first_values = found.first_keys + int64_t{first} * head_size_;
  found.keys = reinterpret_cast<uint8_t*>(found.first_values + int64_t{first} * head_size_);
  found.values = found.keys + int64_t{capacity_ - first} * found.coding.keys->row_bytes;
  return found;
}

void KvCache::store_codes(const KvHead& to, int position, const float* key, const float* value) const {
  if (position < coding_.first) {
    put_row(key, head_size_, to.first_keys + int64_t{position} * head_size_, 1, half_from_float);
    put_row(value, head_size_, to.first_values + int64_t{position} * head_size_, 1, half_from_float);
    return;
  }
  const int64_t row = position - coding_.first;
  kv_store(*to.coding.keys, to.head, key, to.keys + row * to.coding.keys->row_bytes);
  kv_store(*to.coding.values, to.head, value, to.values + row * to.coding.values->row_bytes);
}

KvHead KvCache::head(int layer, int head) const {
  if (type_ == KvType::kCodes) return coded_head(layer, head);
  uint8_t* keys = data_ + (uint64_t(layer) * uint64_t(heads_) + uint64_t(head)) * head_bytes();
  uint8_t* values = keys + part_bytes();
  if (type_ != KvType::kInt8) return {type_, head_size_, keys, values, nullptr, nullptr, head, nullptr, nullptr, {}};
  float* scales = reinterpret_cast<float*>(values + part_bytes());
  return {type_, head_size_, keys, values, scales, scales + capacity_, head, nullptr, nullptr, {}};
}

void KvCache::store(int layer, int position, const float* key_row, const float* value_row) const {
  CHECK(position < capacity_);
  const int64_t key_first = int64_t{position / kKeyBlock} * head_size_ * kKeyBlock + position % kKeyBlock;
  for (int i = 0; i < heads_; ++i, key_row += head_size_, value_row += head_size_) {
    const KvHead to = head(layer, i);
    if (type_ == KvType::kCodes) {
      store_codes(to, position, key_row, value_row);
      continue;
    }
    const float key_scale = put(type_, key_row, head_size_, to.keys, key_first, kKeyBlock);
    const float value_scale = put(type_, value_row, head_size_, to.values, int64_t{position} * head_size_, 1);
    if (type_ != KvType::kInt8) continue;
    to.key_scales[position] = key_scale;
    to.value_scales[position] = value_scale;
  }
}
