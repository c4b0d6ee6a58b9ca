// Makes what the kernels read: weight codes in planes of 8 rows x 4 columns, activations as int8 or fp16 (FORMAT.md sections 2 and 3).
#include <string.h>

#include "base/check.h"
#include "base/half.h"
#include "mm/mm.h"

namespace {

constexpr int kRows = 8;
constexpr int kColumns = 32;

int least(int a, int b) { return a < b ? a : b; }

int round_up(int x, int step) { return (x + step - 1) / step * step; }

int widest_plane(int bits) { return bits >= 8 ? 8 : bits >= 4 ? 4 : bits >= 2 ? 2 : 1; }

// Puts one code into the planes of its zeroed block, most significant plane first.
void put(int bits, int row, int column, int code, uint8_t* block) {
  const int step = column / 4, byte = 4 * row + column % 4;
  for (int left = bits; left > 0;) {
    const int width = widest_plane(left);
    left -= width;
    const int field = code >> left & ((1 << width) - 1);
    block[kColumns * (step * width / 8) + byte] |= (uint8_t)(field << width * (step % (8 / width)));
    block += kColumns * width;
  }
}

// |x| of floats orders like their bits as integers.
float largest_magnitude(const float* x, int k) {
  int32_t largest = 0;
  for (int i = 0; i < k; ++i) {
    int32_t bits;
    memcpy(&bits, &x[i], sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return float_from_bits((uint32_t)largest);
}

// clip(rint(x * inverse), -most, most), NaN as -most. Adding 1.5 * 2^23 leaves the rounded number in the low bits.
void quantize(const float* x, int k, float inverse, float most, int8_t* q) {
  for (int i = 0; i < k; ++i) {
    float v = x[i] * inverse;
    v = v > -most ? v : -most;
    v = v < most ? v : most;
    q[i] = (int8_t)float_bits(v + 0x1.8p23f);
  }
}

int32_t sum(const int8_t* q, int count) {
  int32_t total = 0;
  for (int i = 0; i < count; ++i) total += q[i];
  return total;
}

}  // namespace

int mm_stored_bits(int weight) { return weight == MM_TERNARY ? 2 : weight; }

int mm_zero_code(int weight) { return weight == MM_TERNARY ? 1 : weight == 1 ? 0 : 1 << (weight - 1); }

size_t mm_codes_bytes(int weight, int n, int k) {
  return (size_t)round_up(n, kRows) * (size_t)round_up(k, kColumns) * (size_t)mm_stored_bits(weight) / 8;
}

size_t mm_scales_count(int n, int k, int group) {
  CHECK(group > 0);
  const int k_padded = round_up(k, kColumns);
  return (size_t)round_up(n, kRows) * (size_t)((k_padded + group - 1) / group);
}

void mm_pack(int weight, int n, int k, const uint8_t* codes, uint8_t* out) {
  CHECK(weight >= 1 && weight <= MM_TERNARY);
  const int rows = round_up(n, kRows), columns = round_up(k, kColumns), bits = mm_stored_bits(weight), zero = mm_zero_code(weight);
  memset(out, 0, mm_codes_bytes(weight, n, k));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) {
      const int code = r < n && c < k ? codes[(size_t)r * k + c] : zero;
      CHECK(code < 1 << bits);
      const size_t block = (size_t)(r / kRows) * (columns / kColumns) + c / kColumns;
      put(bits, r % kRows, c % kColumns, code, out + block * kColumns * bits);
    }
}

void mm_pack_a8(int bits, int m, int k, int k_padded, int group, const float* x, size_t x_stride, int8_t* data, size_t stride,
                float* scales, size_t scales_stride, int32_t* sums, size_t sums_stride) {
  CHECK(bits >= 2 && bits <= 8 && k <= k_padded && k_padded % kColumns == 0 && group > 0);
  const float most = (float)((1 << (bits - 1)) - 1);
  const int columns = scales_stride > 1 ? group : k_padded;  // that share a scale
  for (int i = 0; i < m; ++i, x += x_stride, data += stride, sums += sums_stride, scales += scales_stride) {
    memset(data + k, 0, k_padded - k);
    for (int first = 0, g = 0; first < k_padded; first += columns, ++g) {
      const int count = least(columns, k - first);
      const float absmax = largest_magnitude(x + first, count);
      scales[g] = absmax == 0 ? 1.0f : absmax / most;
      quantize(x + first, count, absmax == 0 ? 0.0f : most / absmax, most, data + first);
    }
    for (int first = 0, g = 0; first < k_padded; first += group, ++g) sums[g] = sum(data + first, least(group, k_padded - first));
  }
}

void mm_pack_a16(int m, int k, int k_padded, const float* x, size_t x_stride, uint16_t* data, size_t stride) {
  CHECK(k <= k_padded);
  for (int i = 0; i < m; ++i, x += x_stride, data += stride / sizeof *data) {
    for (int c = 0; c < k; ++c) data[c] = half_from_float(x[c]);
    memset(data + k, 0, (k_padded - k) * sizeof *data);
  }
}
