// The definitions of the families whose weights mean something else (../../FORMAT.md section 6): one weight at a time.
#include "base/check.h"
#include "base/half.h"
#include "mm/families/families.h"

namespace {

// Row r and column c of a packed block of 4 or 8 bits.
int nibble_at(const uint8_t* block, int r, int c) { return block[32 * (c / 8) + 4 * r + c % 4] >> 4 * (c / 4 % 2) & 15; }
int byte_at(const uint8_t* block, int r, int c) { return block[32 * (c / 4) + 4 * r + c % 4]; }

struct Product {
  const MmFamily* family;
  const MmShape& shape;
  const MmWeights& w;
  const MmActivations& a;

  bool is(const MmFamily& other) const { return family == &other; }
  const MmExtra& extra() const { return *w.extra; }
  int groups() const { return (shape.k + shape.group - 1) / shape.group; }
  int q(int m, int k) const { return ((const int8_t*)a.data)[m * a.stride + k]; }
  float scale(int n, int g) const { return half_to_float(w.scales[n / 8 * w.scales_stride + (size_t)g * 8 + n % 8]); }
  int code(int n, int k) const { return nibble_at(w.codes + n / 8 * w.codes_stride + (size_t)(k / 32) * 128, n % 8, k % 32); }
  size_t level(int n, int g) const { return ((size_t)((w.first_row + n) / 8) * groups() + g) * 8 + n % 8; }

  int shift(int k) const {
    int segment = 0;
    while (k >= extra().segment_ends[segment]) ++segment;
    return segment;
  }

  int value(int n, int k) const {
    const int row = w.first_row + n;
    if (is(mm_family_codebook)) return extra().codebook[code(n, k)];
    if (is(mm_family_twolevel)) return (code(n, k) - extra().level_zeros[level(n, k / shape.group)]) * extra().level_scales[level(n, k / shape.group)];
    if (is(mm_family_trip)) return (code(n, k) - 8) * (1 << shift(k));
    if (is(mm_family_rowsplit) && row >= extra().narrow_rows)
      return byte_at(extra().wide_codes + (row - extra().narrow_rows) / 8 * extra().wide_stride + (size_t)(k / 32) * 256, row % 8, k % 32) - 128;
    return code(n, k) - 8;
  }

  int32_t sum(int m, int n, int begin, int end) const {
    int32_t total = 0;
    for (int k = begin; k < end && k < shape.k; ++k) total += value(n, k) * q(m, k);
    return total;
  }

  float row(int m, int n) const {
    if (is(mm_family_twolevel) || is(mm_family_trip)) return (float)sum(m, n, 0, shape.k) * scale(n, 0) * a.scales[m];
    float f = 0;
    for (int g = 0; g < groups(); ++g) {
      float exact = (float)sum(m, n, g * shape.group, (g + 1) * shape.group);
      if (a.scales_stride > 1) exact *= a.scales[m * a.scales_stride + g];
      f = __builtin_fmaf(exact, scale(n, g), f);
    }
    f = besides(m, n, f);
    return a.scales_stride > 1 ? f : f * a.scales[m];
  }

  float besides(int m, int n, float f) const {
    const int row = w.first_row + n;
    if (is(mm_family_sidecar))
      for (int i = 0; i < extra().column_count; ++i)
        f = __builtin_fmaf((float)q(m, extra().columns[i]), half_to_float(extra().column_weights[((size_t)(row / 8) * extra().column_count + i) * 8 + row % 8]), f);
    if (is(mm_family_sparse))
      for (int i = extra().row_begin[row]; i < extra().row_begin[row + 1]; ++i)
        f = __builtin_fmaf((float)q(m, extra().outlier_columns[i]), half_to_float(extra().outliers[i]), f);
    return f;
  }
};

}  // namespace

void mm_reference_extra(const MmFamily* family, const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {
  CHECK(family->needs_extra && w->extra);
  const Product product = {family, *s, *w, *a};
  for (int m = 0; m < s->m; ++m)
    for (int n = 0; n < s->n; ++n) {
      const int out = family == &mm_family_rowsplit ? w->extra->row_order[w->first_row + n] - w->first_row : n;
      y->data[m * y->stride + out] = product.row(m, n);
    }
}
