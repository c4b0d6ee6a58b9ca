// mm: y[M][N] = activations[M][K] * weights[N][K]^T, weights in the packed layouts of ../FORMAT.md.
//
//   y[m][n] = scale_a[m] * sum_g scale_w[n][g] * sum_{k in g} value(code[n][k]) * q[m][k]     (a2..a8; order and rounding:
//   y[m][n] = sum_k value(code[n][k]) * scale_w[n][g] * float(a[m][k])                         (a16)     FORMAT.md section 3)
//
// value(code) is code - 2^(bits-1), of one bit 2 code - 1, of a ternary weight code - 1.
// One signature for every variant. Operands are {pointer, stride}; the group size is a run-time argument. Families (families/) store
// the weights in other ways, or mean something else by them: see MmFamily and MmExtra.
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

// What some families multiply besides codes and scales. Rows are counted from the first of the matrix, blocks are 8 rows.
struct MmExtra {
  // codebook: value(code) = codebook[code], 16 values, none of them -128.
  const int8_t* codebook = nullptr;

  // twolevel: value(code) = (code - level_zeros) * level_scales within int8, [row block][group][8]; the one fp16 scale of a row is
  // that of its first group.
  const int8_t* level_scales = nullptr;
  const uint8_t* level_zeros = nullptr;

  // trip: columns (multiples of 32, the last is k) where each segment ends; the sum of segment i counts 2^i fold.
  const int32_t* segment_ends = nullptr;
  int segments = 0;  // at most 8

  // rowsplit: the stored rows from narrow_rows (a multiple of 8) on have 8 bits, packed here instead of in `codes`. Stored row i is
  // output row_order[i], for the padding rows too.
  int narrow_rows = 0;
  const uint8_t* wide_codes = nullptr;
  size_t wide_stride = 0;  // bytes from one block of 8 rows to the next
  const int32_t* row_order = nullptr;

  // sidecar: inputs that are multiplied by fp16 weights besides, [row block][column_count][8].
  const int32_t* columns = nullptr;
  int column_count = 0;
  const uint16_t* column_weights = nullptr;

  // sparse: fp16 weights added to single places, in compressed rows: row n has the outliers from row_begin[n] up to row_begin[n + 1].
  const int32_t* row_begin = nullptr;
  const int32_t* outlier_columns = nullptr;
  const uint16_t* outliers = nullptr;
};

struct MmWeights {
  const uint8_t* codes;    // first byte of the first row block; for fp16 the first weight
  size_t codes_stride;     // bytes from one block of 8 rows (of the family's) to the next; for fp16 from one row to the next
  const uint16_t* scales;  // fp16 [row block][group][8]; null for fp16
  size_t scales_stride;    // fp16 elements from one block of 8 rows to the next
  const MmExtra* extra = nullptr;
  int first_row = 0;  // of the matrix: where in `extra` this call's rows begin
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

// How weights are stored. Scales are in blocks of 8 rows whatever the family.
struct MmFamily {
  const char* name;  // packed
  bool by_default;   // whether mm_find without a name takes it
  int rows;          // of a block: calls begin at a multiple of it
  size_t (*codes_bytes)(int weight, int n, int k);
  void (*pack)(int weight, int n, int k, const uint8_t* codes, uint8_t* out);  // as mm_pack; null: stored as it is
  bool needs_extra;  // weights mean something else: MmExtra and mm_reference_extra
};

// packed (FORMAT.md section 2), rows (fp16) and those of families/; ends with null.
extern const MmFamily* const kMmFamilies[];

struct MmVariant {
  const char* name;     // mm_w4a8_1x8x4_avx2
  const char* isa;      // avx2
  int weight;           // 1..8, MM_TERNARY, 16 for fp16
  int activation_bits;  // 16, or the most that the kernel multiplies: one for a8 has any narrower activation too
  int tile_m;           // tokens per inner loop; any M is accepted
  MmKernel kernel;
  const MmFamily* family;
};

// Every row of variants.inc, then of families/families.inc and families/tiles.inc for this architecture, each best first, ends with a
// null name.
extern const MmVariant kMmVariants[];

// The best variant of a default family this CPU can run for M tokens (`m` > 1 prefers tiles with more rows), or, of any family, the
// one called `name` if not null.
// Null when there is none, or the CPU lacks a feature of its file.
const MmVariant* mm_find(int weight, int activation_bits, int m, const char* name);
// The same of one family.
const MmVariant* mm_find_family(const MmFamily*, int weight, int activation_bits, int m);
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
// The same for the families whose weights mean something else: 4-bit codes in the packed layout, int8 activations, and `extra`.
void mm_reference_extra(const MmFamily*, const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);

}  // extern "C"

#endif  // BENCH_MM_MM_H_
