// The loops of the families: over blocks as they lie, for those that multiply the activation codes themselves, and in strips, for
// those that bring activations into a form of their own: planes, tables, zero points.
//
// In strips, the inputs of a few tokens are converted one strip of columns at a time, into memory that stays in the first cache, and a chunk of
// rows is multiplied before the next strip is converted. Meanwhile the float sums, and the integer sums of groups that go on in the
// next strip, wait in memory.
//
// A family in strips is a struct:
//   kRows                                  rows of a block, a multiple of 8
//   Input                                  one strip of one token; convert(q, blocks)
//   block_bytes()                          of 32 columns
//   dot(codes, blocks, input, at, sums)    sums[row] += expanded code * q, of `blocks` x 32 columns that begin `at` in the strip
// All of it has internal linkage, as ../tile.h, which says what an expanded code is.
#ifndef BENCH_MM_FAMILIES_LOOPS_H_
#define BENCH_MM_FAMILIES_LOOPS_H_

#include "mm/tile.h"

namespace {

constexpr int kStripBlocks = 32;   // of 32 columns
constexpr int kChunkRows = 1024;   // f_ and sums_ of a token are 4 KiB each
constexpr int kChunkTokens = 4;

// An ISA file defines these: f[8] = fma(float(sums - offset) * own, scales, f), and one fp16 number. (Compilers do not find the
// instruction that widens halves in the plain formula.)
inline void add_scaled(const int32_t* sums, int32_t offset, float own, const uint16_t* scales, float* f);
inline float widened(uint16_t half);

// f[row] takes the sums of group g, as FORMAT.md section 3 rounds it; 8 rows. `zero` is the code that means 0.
inline void close_group(const Operands& o, int m, int g, int row_block, int zero, const int32_t* sums, float* f) {
  const float own = o.group_scales() ? o.a.scales[m * o.a.scales_stride + g] : 1.0f;
  add_scaled(sums, zero ? zero * o.a.sums[m * o.a.sums_stride + g] : 0, own, o.scales(row_block) + (size_t)g * kRows, f);
}

inline void finish_rows(const Operands& o, int m, int row_block, const float* f) {
  const float scale = o.group_scales() ? 1.0f : o.a.scales[m];
  float* y = o.out(m, row_block);
  for (int r = 0; r < kRows; ++r) y[r] = f[r] * scale;
}

template <class Family>
class Strips {
 public:
  Strips(const Operands& operands, const Family& family, int zero) : o_(operands), family_(family), zero_(zero) {
    CHECK(o_.shape.n % kRows == 0 && o_.shape.k % kColumns == 0 && o_.shape.group > 0 && o_.shape.group % kColumns == 0);
  }

  void run() {
    for (first_row_ = 0; first_row_ < o_.shape.n; first_row_ += kChunkRows)
      for (first_token_ = 0; first_token_ < o_.shape.m; first_token_ += kChunkTokens) chunk();
  }

 private:
  static constexpr int kFamilyRows = Family::kRows;

  void chunk() {
    tokens_ = least(kChunkTokens, o_.shape.m - first_token_);
    rows_ = least(kChunkRows, o_.shape.n - first_row_);
    __builtin_memset(f_, 0, sizeof f_);
    __builtin_memset(sums_, 0, sizeof sums_);
    for (begin_ = 0; begin_ < o_.blocks(); begin_ = end_) {
      end_ = least(begin_ + kStripBlocks, o_.blocks());
      for (int t = 0; t < tokens_; ++t) input_[t].convert(o_.codes_of_token(first_token_ + t) + (size_t)begin_ * kColumns, end_ - begin_);
      for (int row = 0; row < rows_; row += kFamilyRows)
        for (int t = 0; t < tokens_; ++t) block(row, t);
    }
    for (int t = 0; t < tokens_; ++t)
      for (int row = 0; row < rows_; row += kRows) finish_rows(o_, first_token_ + t, (first_row_ + row) / kRows, f_[t] + row);
  }

  // The groups of one row block and one token in this strip.
  void block(int row, int t) {
    const uint8_t* codes = o_.codes((first_row_ + row) / kFamilyRows);
    for (int at = begin_; at < end_;) {
      const int g = at / o_.per_group(), group_end = least((g + 1) * o_.per_group(), o_.blocks()), stop = least(group_end, end_);
      if (t == 0) prefetch(row + kFamilyRows, at, stop);
      family_.dot(codes + (size_t)at * family_.block_bytes(), stop - at, input_[t], at - begin_, sums_[t] + row);
      if (stop == group_end) close(row, t, g);
      at = stop;
    }
  }

  // Columns of the row block that is next: a strip ends before the processor has seen that it reads ahead.
  void prefetch(int row, int begin, int end) const {
    if (row >= rows_) return;
    const uint8_t* codes = o_.codes((first_row_ + row) / kFamilyRows);
    for (size_t i = (size_t)begin * family_.block_bytes(); i < (size_t)end * family_.block_bytes(); i += 64) __builtin_prefetch(codes + i);
  }

  void close(int row, int t, int g) {
    const int end = least(row + kFamilyRows, rows_);  // a block may have rows that the matrix has not
    for (int r = row; r < end; r += kRows) close_group(o_, first_token_ + t, g, (first_row_ + r) / kRows, zero_, sums_[t] + r, f_[t] + r);
    __builtin_memset(sums_[t] + row, 0, kFamilyRows * sizeof(int32_t));
  }

  const Operands& o_;
  const Family& family_;
  const int zero_;
  int first_row_ = 0, rows_ = 0, first_token_ = 0, tokens_ = 0, begin_ = 0, end_ = 0;
  alignas(64) float f_[kChunkTokens][kChunkRows];
  alignas(64) int32_t sums_[kChunkTokens][kChunkRows];
  typename Family::Input input_[kChunkTokens];
};

template <class Family>
inline void run_strips(const Operands& o, const Family& family, int zero) {
  Strips<Family>(o, family, zero).run();
}

// Packed codes of `Bits` bits: dot(codes, blocks, a, sums) as above, for 8 rows and one token. `beside(m, row_block, f)` adds what the
// codes do not hold.
template <int Bits, class Dot, class Beside>
inline void run_blocks(const Operands& o, int zero, Dot dot, Beside beside) {
  CHECK(o.shape.n % kRows == 0 && o.shape.k % kColumns == 0 && o.shape.group > 0 && o.shape.group % kColumns == 0);
  for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block)
    for (int m = 0; m < o.shape.m; ++m) {
      float f[kRows] = {};
      for (int first = 0, g = 0; first < o.blocks(); first += o.per_group(), ++g) {
        int32_t sums[kRows] = {};
        dot(o.codes(row_block) + (size_t)first * kColumns * Bits, least(o.per_group(), o.blocks() - first),
            o.codes_of_token(m) + (size_t)first * kColumns, sums);
        close_group(o, m, g, row_block, zero, sums, f);
      }
      beside(m, row_block, f);
      finish_rows(o, m, row_block, f);
    }
}

template <int Bits, class Dot>
inline void run_blocks(const Operands& o, int zero, Dot dot) {
  run_blocks<Bits>(o, zero, dot, [](int, int, float*) {});
}

}  // namespace

// An ISA file defines its lines of families.inc with this: family<weight, activation bits>(operands).
#define MM_DEFINE_FAMILY(family, name, weight, activation_bits)                                            \
  extern "C" void name(const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {  \
    family<weight, activation_bits>({*s, *w, *a, *y});                                                     \
  }

#endif  // BENCH_MM_FAMILIES_LOOPS_H_
