// The families whose 4-bit codes in the packed layout mean something else, or not all: loops around the integer products of a struct
//   dot_codes(codes, blocks, a, sums)           sums[8] += code * q, of 4-bit codes
//   dot_bytes(codes, blocks, a, sums)           sums[8] += (code - 128) * q, of 8-bit codes
//   add_columns(count, columns, w, a, f)        f[8] = fma(w[i][8], a[columns[i]], f) for each column in order, w fp16
// Internal linkage, as ../tile.h.
#ifndef BENCH_MM_FAMILIES_MEANINGS_H_
#define BENCH_MM_FAMILIES_MEANINGS_H_

#include "mm/families/loops.h"

namespace {

constexpr int kZero = 8;  // of 4-bit codes
constexpr int kBlockBytes = kColumns * 4;
constexpr int kMaxSegments = 8;

// Row block of the matrix, where the operand holds more rows than this call's.
inline int block_of_matrix(const Operands& o, int row_block) { return o.weights.first_row / kRows + row_block; }

// TRIP: channels sorted by their power of two; the sum of a segment is shifted once. The zero point needs the sum of its activations.
template <class Isa>
void run_trip(const Operands& o) {
  const MmExtra& extra = *o.weights.extra;
  CHECK(!o.group_scales() && o.shape.group == o.shape.k && o.shape.n % kRows == 0 && o.shape.k % kColumns == 0);
  CHECK(extra.segments >= 1 && extra.segments <= kMaxSegments && extra.segment_ends[extra.segments - 1] == o.shape.k);
  constexpr int kTokensAtOnce = 32;
  int32_t inputs[kTokensAtOnce];  // sum of q << segment
  for (int first_token = 0; first_token < o.shape.m; first_token += kTokensAtOnce) {
    const int tokens = least(kTokensAtOnce, o.shape.m - first_token);
    for (int t = 0; t < tokens; ++t) {
      const int8_t* a = o.codes_of_token(first_token + t);
      inputs[t] = 0;
      for (int i = 0, k = 0; i < extra.segments; ++i) {
        int32_t sum = 0;
        for (; k < extra.segment_ends[i]; ++k) sum += a[k];
        inputs[t] += sum * (1 << i);
      }
    }
    for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block)
      for (int t = 0; t < tokens; ++t) {
        const int m = first_token + t;
        int32_t total[kRows] = {};
        for (int i = 0, block = 0; i < extra.segments; ++i) {
          const int end = extra.segment_ends[i] / kColumns;
          int32_t sums[kRows] = {};
          Isa::dot_codes(o.codes(row_block) + (size_t)block * kBlockBytes, end - block, o.codes_of_token(m) + (size_t)block * kColumns, sums);
          for (int r = 0; r < kRows; ++r) total[r] += sums[r] * (1 << i);
          block = end;
        }
        float f[kRows];
        for (int r = 0; r < kRows; ++r) f[r] = (float)(total[r] - kZero * inputs[t]) * widened(o.scales(row_block)[r]);
        finish_rows(o, m, row_block, f);
      }
  }
}

// MixLLM: rows of 4 bits, then rows of 8; the outputs go where the rows belong.
template <class Isa>
void run_rowsplit(const Operands& o) {
  const MmExtra& extra = *o.weights.extra;
  CHECK(extra.narrow_rows % kRows == 0 && o.shape.n % kRows == 0 && o.shape.k % kColumns == 0 && o.shape.group % kColumns == 0);
  for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block) {
    const int block = block_of_matrix(o, row_block), wide = block - extra.narrow_rows / kRows;
    for (int m = 0; m < o.shape.m; ++m) {
      float f[kRows] = {};
      for (int first = 0, g = 0; first < o.blocks(); first += o.per_group(), ++g) {
        const int count = least(o.per_group(), o.blocks() - first);
        const int8_t* a = o.codes_of_token(m) + (size_t)first * kColumns;
        int32_t sums[kRows] = {};
        if (wide < 0) Isa::dot_codes(o.codes(row_block) + (size_t)first * kBlockBytes, count, a, sums);
        else Isa::dot_bytes(extra.wide_codes + wide * extra.wide_stride + (size_t)first * 2 * kBlockBytes, count, a, sums);
        close_group(o, m, g, row_block, wide < 0 ? kZero : 0, sums, f);
      }
      const float scale = o.group_scales() ? 1.0f : o.a.scales[m];
      float* y = o.y.data + m * o.y.stride;
      for (int r = 0; r < kRows; ++r) y[extra.row_order[block * kRows + r] - o.weights.first_row] = f[r] * scale;
    }
  }
}

// QUIK: a few input columns are multiplied by fp16 weights besides.
template <class Isa>
void run_sidecar(const Operands& o) {
  const MmExtra& extra = *o.weights.extra;
  CHECK(!o.group_scales());
  run_blocks<4>(o, kZero, Isa::dot_codes, [&](int m, int row_block, float* f) {
    Isa::add_columns(extra.column_count, extra.columns,
                     extra.column_weights + (size_t)block_of_matrix(o, row_block) * extra.column_count * kRows, o.codes_of_token(m), f);
  });
}

// SpQR: single outliers of each row.
template <class Isa>
void run_sparse(const Operands& o) {
  const MmExtra& extra = *o.weights.extra;
  CHECK(!o.group_scales());
  run_blocks<4>(o, kZero, Isa::dot_codes, [&](int m, int row_block, float* f) {
    const int8_t* a = o.codes_of_token(m);
    const int32_t* begin = extra.row_begin + block_of_matrix(o, row_block) * kRows;
    for (int r = 0; r < kRows; ++r)
      for (int32_t i = begin[r]; i < begin[r + 1]; ++i)
        f[r] = __builtin_fmaf((float)a[extra.outlier_columns[i]], widened(extra.outliers[i]), f[r]);
  });
}

}  // namespace

#endif  // BENCH_MM_FAMILIES_MEANINGS_H_
