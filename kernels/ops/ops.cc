// Chooses the widest compiled form of the ops that this CPU runs.
#include "ops/ops.h"

#include <math.h>

#include "base/cpu.h"
#include "ops/attention.h"
#include "ops/kv_codes.h"

#define OPS(DO)                                                                                                       \
  DO(rmsnorm) DO(rmsnorm_heads) DO(layernorm) DO(rope) DO(softmax) DO(silu_multiply) DO(relu) DO(gelu)                  \
  DO(add) DO(floats_from_halves) DO(quantize_codes) DO(quantize_a16)                                                  \
  DO(fixed_codes) DO(group_sums) DO(hadamard) DO(add_side) DO(sparse_dot)                                              \
  DO(kv_load) DO(attention_scratch) DO(attention) DO(log_sum_exp) DO(log2_codes) DO(log2_attend) \
  DO(log2_attention_scratch) DO(log2_attention) DO(snap_heads)

#define DECLARE(name) decltype(::name) name;
namespace ops_baseline {
OPS(DECLARE)
}
#if defined(__x86_64__)
namespace ops_avx2 {
OPS(DECLARE)
}
#endif

namespace {

#define MEMBER(name) decltype(&::name) name;
struct Table {
  OPS(MEMBER)
};

Table choose() {
#if defined(__x86_64__)
#define AVX2(name) ops_avx2::name,
  if (cpu_has("avx2") && cpu_has("fma") && cpu_has("f16c")) return {OPS(AVX2)};
#endif
#define BASELINE(name) ops_baseline::name,
  return {OPS(BASELINE)};
}

const Table kTable = choose();

}  // namespace

void rmsnorm(const float* x, const float* weight, int channels, float epsilon, float* y) { kTable.rmsnorm(x, weight, channels, epsilon, y); }

void rmsnorm_heads(float* x, const float* weight, int heads, int head_size, float epsilon) {
  kTable.rmsnorm_heads(x, weight, heads, head_size, epsilon);
}

void layernorm(const float* x, const float* weight, const float* bias, int channels, float epsilon, float* y) {
  kTable.layernorm(x, weight, bias, channels, epsilon, y);
}

void rope(float* x, int heads, int head_size, const float* cosine, const float* sine) { kTable.rope(x, heads, head_size, cosine, sine); }

void softmax(float* x, int count) { kTable.softmax(x, count); }

void silu_multiply(const float* gate, const float* up, int count, float* y) { kTable.silu_multiply(gate, up, count, y); }

void relu(const float* x, int count, float* y) { kTable.relu(x, count, y); }

void gelu(const float* x, int count, float* y) { kTable.gelu(x, count, y); }

void add(float* x, const float* y, int count) { kTable.add(x, y, count); }

void floats_from_halves(const uint16_t* halves, int count, float* y) { kTable.floats_from_halves(halves, count, y); }

void quantize_codes(const float* x, int columns, int padded, int bits, int group, bool own_scales, int8_t* codes, float* scales, int32_t* sums) {
  kTable.quantize_codes(x, columns, padded, bits, group, own_scales, codes, scales, sums);
}

void quantize_a16(const float* x, int columns, int padded, uint16_t* halves) { kTable.quantize_a16(x, columns, padded, halves); }

void fixed_codes(const float* x, int columns, int padded, int bits, float scale, int zero, int8_t* codes) {
  kTable.fixed_codes(x, columns, padded, bits, scale, zero, codes);
}

void group_sums(const int8_t* codes, int count, int group, int32_t* sums) { kTable.group_sums(codes, count, group, sums); }

void hadamard(float* x, int columns, int size) { kTable.hadamard(x, columns, size); }

void add_side(const float* inputs, int count, const uint16_t* weights, int blocks, float* y) { kTable.add_side(inputs, count, weights, blocks, y); }

float sparse_dot(const float* row, const int32_t* columns, const uint16_t* values, int count) {
  return kTable.sparse_dot(row, columns, values, count);
}

void kv_load(const KvCodes& codes, int head, const uint8_t* row, float* y) { kTable.kv_load(codes, head, row, y); }

size_t attention_scratch(int head_size) { return kTable.attention_scratch(head_size); }

void attention(const Queries& queries, const KvHead& head, float* scratch) { kTable.attention(queries, head, scratch); }

double log_sum_exp(const float* x, int count) { return kTable.log_sum_exp(x, count); }

void log2_codes(const float* probabilities, int count, uint8_t* codes) { kTable.log2_codes(probabilities, count, codes); }

size_t log2_attention_scratch(int head_size) { return kTable.log2_attention_scratch(head_size); }

void log2_attention(const Queries& queries, const KvHead& head, float step, float* scratch) { kTable.log2_attention(queries, head, step, scratch); }

void snap_heads(float* x, int heads, int head_size, const float* steps) { kTable.snap_heads(x, heads, head_size, steps); }

void log2_attend(const uint8_t* codes, const int8_t* values, int positions, int head_size, int32_t* out) {
  kTable.log2_attend(codes, values, positions, head_size, out);
}

void rope_table(int positions, int head_size, float base, float* cosine, float* sine) {
  const int pairs = head_size / 2;
  for (int pair = 0; pair < pairs; ++pair) {
    // fp32 like transformers, whose logits we are compared with; the angle itself grows and wants double.
    const float frequency = static_cast<float>(1.0 / pow(base, 2.0 * pair / head_size));
    for (int position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(frequency) * position;
      cosine[static_cast<int64_t>(position) * pairs + pair] = static_cast<float>(cos(angle));
      sine[static_cast<int64_t>(position) * pairs + pair] = static_cast<float>(sin(angle));
    }
  }
}

void alibi_slopes(int heads, float* slopes) {
  int power = 1;
  while (2 * power <= heads) power *= 2;
  for (int i = 0; i < heads; ++i) {
    const double exponent = i < power ? -8.0 * (i + 1) / power : -4.0 * (2 * (i - power) + 1) / power;
    slopes[i] = static_cast<float>(exp2(exponent));
  }
}
