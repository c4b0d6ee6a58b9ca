// The definition of a product, written from FORMAT.md: one code at a time, one output at a time. Never optimized.
#include "base/half.h"
#include "mm/mm.h"

namespace {

// The code of row r (0..7) and column c (0..31) of a packed block.
int code_at(int bits, const uint8_t* block, int r, int c) {
  int code = 0;
  for (int left = bits; left > 0;) {
    const int width = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const int step = c / 4, byte = 4 * r + c % 4;
    const int shift = width * (step % (8 / width));
    code = code << width | (block[32 * (step * width / 8) + byte] >> shift & ((1 << width) - 1));
    block += 32 * width;
    left -= width;
  }
  return code;
}

int value(int weight, int code) {
  if (weight == 1) return 2 * code - 1;
  return weight == MM_TERNARY ? code - 1 : code - (1 << (weight - 1));
}

int value_at(int weight, const MmWeights& w, int n, int k) {
  const int bits = weight == MM_TERNARY ? 2 : weight;
  const uint8_t* row_block = w.codes + n / 8 * w.codes_stride;
  return value(weight, code_at(bits, row_block + (size_t)(k / 32) * 32 * bits, n % 8, k % 32));
}

float scale(const MmShape& s, const MmWeights& w, int n, int k) {
  return half_to_float(w.scales[n / 8 * w.scales_stride + (size_t)(k / s.group) * 8 + n % 8]);
}

float product_a8(int weight, const MmShape& s, const MmWeights& w, const MmActivations& a, int m, int n) {
  const int8_t* q = (const int8_t*)a.data + m * a.stride;
  float f = 0;
  for (int first = 0; first < s.k; first += s.group) {
    int32_t sum = 0;
    for (int k = first; k < s.k && k < first + s.group; ++k) sum += value_at(weight, w, n, k) * q[k];
    const float exact = a.scales_stride > 1 ? (float)sum * a.scales[m * a.scales_stride + first / s.group] : (float)sum;
    f = __builtin_fmaf(exact, scale(s, w, n, first), f);
  }
  return a.scales_stride > 1 ? f : f * a.scales[m];
}

// In double, so that the order of additions does not matter: the kernels' fp32 sums are compared with the exact one.
float product_a16(int weight, const MmShape& s, const MmWeights& w, const MmActivations& a, int m, int n) {
  const uint16_t* x = (const uint16_t*)((const char*)a.data + m * a.stride);
  double f = 0;
  for (int k = 0; k < s.k; ++k) f += (double)value_at(weight, w, n, k) * scale(s, w, n, k) * half_to_float(x[k]);
  return (float)f;
}

float product_f16(const MmShape& s, const MmWeights& w, const MmActivations& a, int m, int n) {
  const uint16_t* row = (const uint16_t*)(w.codes + n * w.codes_stride);
  const uint16_t* x = (const uint16_t*)((const char*)a.data + m * a.stride);
  double f = 0;
  for (int k = 0; k < s.k; ++k) f += (double)half_to_float(row[k]) * half_to_float(x[k]);
  return (float)f;
}

}  // namespace

void mm_reference(int weight, int activation_bits, const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {
  for (int m = 0; m < s->m; ++m)
    for (int n = 0; n < s->n; ++n)
      y->data[m * y->stride + n] = weight == 16       ? product_f16(*s, *w, *a, m, n)
                                   : activation_bits == 16 ? product_a16(weight, *s, *w, *a, m, n)
                                                           : product_a8(weight, *s, *w, *a, m, n);
}
