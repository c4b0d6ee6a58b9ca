// mm: y[M][N] = activations[M][K] * weights[N][K]^T, weights in the packed layouts of ../FORMAT.md.
//
//   y[m][n] = scale_a[m] * sum_g scale_w[n][g] * sum_{k in g} (code[n][k] - 2^(bits-1)) * q[m][k]      (a8; exact order and
//   rounding: FORMAT.md section 3)                                                                      
//   y[m][n] = sum_k value(n, k) * float(a[m][k])                                                        (a16)
//
// One signature for every variant. Operands are {pointer, stride}; the group size is a run-time argument.
#ifndef BENCH_MM_MM_H_
#define BENCH_MM_MM_H_

#include <stddef.h>
#include <stdint.h>

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
  const void* data;     // a8: int8 [m][k]; a16: fp16 [m][k]; rows 32-byte aligned, columns from the true K to k are zero
  size_t stride;        // bytes from one token to the next
  const float* scales;  // a8: [m]
  const int32_t* sums;  // a8: [m][groups], sum of the codes of each group
  size_t sums_stride;   // elements
};

struct MmOutput {
  float* data;
  size_t stride;  // elements from one token to the next
};

typedef void (*MmKernel)(const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);

struct MmVariant {
  const char* name;      // mm_w4a8_1x8x4_avx2
  const char* isa;       // avx2
  int weight_bits;       // 2..8, 16 for fp16
  int activation_bits;   // 8 or 16
  int tile_m;            // tokens per inner loop; any M is accepted
  MmKernel kernel;
};

// Every row of variants.inc for this architecture, best first, ends with a null name.
extern const MmVariant kMmVariants[];

// The best variant this CPU can run for M tokens (`m` > 1 prefers tiles with more rows), or the one called `name` if not null.
// Null when there is none, or the CPU lacks a feature of its file.
const MmVariant* mm_find(int weight_bits, int activation_bits, int m, const char* name);
bool mm_runnable(const MmVariant*);

// Sizes of a packed linear; bits 2..8.
size_t mm_codes_bytes(int bits, int n, int k);
size_t mm_scales_count(int n, int k, int group);
// codes: [n][k] one byte each; out: mm_codes_bytes. Same layout as quantizers/primitives.py.
void mm_pack(int bits, int n, int k, const uint8_t* codes, uint8_t* out);

// Quantizes [m][k] floats (row stride in elements) into int8 / fp16 rows of k_padded columns; see FORMAT.md section 3.
void mm_pack_a8(int m, int k, int k_padded, int group, const float* x, size_t x_stride, int8_t* data, size_t stride,
                float* scales, int32_t* sums, size_t sums_stride);
void mm_pack_a16(int m, int k, int k_padded, const float* x, size_t x_stride, uint16_t* data, size_t stride);

// The definition: slow, scalar, reads the packed layout, never optimized.
void mm_reference(int weight_bits, int activation_bits, const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);

}  // extern "C"

#endif  // BENCH_MM_MM_H_
