// mm: y[M][N] = activations[M][K] * weights[N][K]^T, weights in the packed layouts of ../FORMAT.md.
//
//   y[m][n] = scale_a[m] * sum_g scale_w[n][g] * sum_{k in g} value(code[n][k]) * q[m][k]     (a2..a8; order and rounding:
//   y[m][n] = sum_k value(code[n][k]) * scale_w[n][g] * float(a[m][k])                         (a16)     FORMAT.md section 3)
//
// value(code) is code - 2^(bits-1), of one bit 2 code - 1, of a ternary weight code - 1.
// One signature for every variant. Operands are {pointer, stride}; the group size is a run-time argument.
#ifndef BENCH_MM_MM_H_
#define BENCH_MM_MM_H_

#include <stddef.h>
#include <stdint.h>

// `weight` of a scheme: bits 1..8, 16 for fp16, and this for ternary weights: codes 0, 1, 2 stored as 2 bits.
enum { MM_TERNARY = 9 };

extern "C" {

struct MmShape {
  int m;      // tokens
  int n;      // outputs of this call: a multiple of 8 for packed layouts (padded rows included); any for fp16
  int k;      // inputs, padded to a multiple of 32; for fp16 the true number, no weight past it is read
  int group;  // codes per scale along K, a multiple of 32; k when the scheme has none
};

struct MmWeights {
  const uint8_t* codes;    // first byte of the first row block; for fp16 the first weight
  size_t codes_stride;     // bytes from one block of 8 rows to the next; for fp16 from one row to the next
  const uint16_t* scales;  // fp16 [row block][group][8]; null for fp16
  size_t scales_stride;    // fp16 elements from one block of 8 rows to the next
};

struct MmActivations {
  const void* data;      // a2..a8: int8 [m][k]; a16: fp16 [m][k]; rows 32-byte aligned, columns from the true K to k are zero
  size_t stride;         // bytes from one token to the next
  const float* scales;   // a2..a8: [m], or [m][groups] when every group of the weights has its own
  size_t scales_stride;  // elements from one token to the next; 1: one scale a token
  const int32_t* sums;   // a2..a8: [m][groups], sum of the codes of each group
  size_t sums_stride;    // elements
};

struct MmOutput {
  float* data;
  size_t stride;  // elements from one token to the next
};

typedef void (*MmKernel)(const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);

struct MmVariant {
  const char* name;     // mm_w4a8_1x8x4_avx2
  const char* isa;      // avx2
  int weight;           // 1..8, MM_TERNARY, 16 for fp16
  int activation_bits;  // 16, or the most that the kernel multiplies: one for a8 has any narrower activation too
  int tile_m;           // tokens per inner loop; any M is accepted
  MmKernel kernel;
};

// Every row of variants.inc for this architecture, best first, ends with a null name.
extern const MmVariant kMmVariants[];

// The best variant this CPU can run for M tokens (`m` > 1 prefers tiles with more rows), or the one called `name` if not null.
// Null when there is none, or the CPU lacks a feature of its file.
const MmVariant* mm_find(int weight, int activation_bits, int m, const char* name);
bool mm_runnable(const MmVariant*);
bool mm_multiplies(const MmVariant*, int weight, int activation_bits);

// Sizes of a packed linear.
int mm_stored_bits(int weight);
size_t mm_codes_bytes(int weight, int n, int k);
size_t mm_scales_count(int n, int k, int group);
// The code whose value is nearest to zero (of one bit there is none: 0), which is what pads.
int mm_zero_code(int weight);
// codes: [n][k] one byte each; out: mm_codes_bytes. Same layout as quantizers/primitives.py.
void mm_pack(int weight, int n, int k, const uint8_t* codes, uint8_t* out);

// Quantizes [m][k] floats (row stride in elements) into codes of 2..8 bits, one a byte, or into fp16, in rows of k_padded columns;
// see FORMAT.md section 3. `scales_stride` above 1: a scale for each group, else one for the token.
void mm_pack_a8(int bits, int m, int k, int k_padded, int group, const float* x, size_t x_stride, int8_t* data, size_t stride,
                float* scales, size_t scales_stride, int32_t* sums, size_t sums_stride);
void mm_pack_a16(int m, int k, int k_padded, const float* x, size_t x_stride, uint16_t* data, size_t stride);

// The definition: slow, scalar, reads the packed layout, never optimized.
void mm_reference(int weight, int activation_bits, const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);

}  // extern "C"

#endif  // BENCH_MM_MM_H_
