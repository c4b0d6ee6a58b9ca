// The loops that all instruction sets share: row blocks, strips, tokens, groups, and the float epilogue of FORMAT.md section 3.
//
// One token reads packed codes where they lie. Several share unpacked ones: a strip of a few row blocks is unpacked once into memory
// that stays in the first cache, and up to kChunk tokens pass over it, a tile at a time.
//
// An mm_<isa>.cc file includes this and gives a struct of vector operations:
//   Floats, Sums                          8 floats and 8 int32, one a row of a block
//   kTokens, kBlocks                      tokens and row blocks of a prefill tile
//   kStepBytes<W>                         bytes that one step (8 rows x 4 columns) takes unpacked
//   kSubtracted<W>                        what the dots take off a code themselves; the epilogue takes the rest of offset(W)
//   unpack<W>(codes, blocks, out)         `blocks` x 32 columns of a row block
//   dot<W, A>(w, blocks, a, stride, sums) sums[block][token] += expanded code * q, w[block] unpacked
//   dot_packed<W, A>(codes, blocks, a, sums)                     the same for one block of packed codes and one token
//   unpack_floats<W>(codes, blocks, scale, out)                  value * scale as fp32, [column][8]
//   transpose_halves(w, stride, rows, columns, out)              fp16 [row][column] as fp32 [column][8]
//   dot_floats(w, columns, a, stride, sums)                      sums[block][token] += w * a, w[block] [column][8], a fp32
//   dot_a16<W>(codes, blocks, a)          sum of value * a for one token, of packed codes
//   dot_f16<Rows>(w, w_stride, a, k, out)                        sums of w * a for one token, nothing read past k
//   widen(halves, count, out), zero, none, halves, to_floats, fma, plus, times, load, store
//
// All of it has internal linkage: a copy compiled for one instruction set must never serve another file.
#ifndef BENCH_MM_TILE_H_
#define BENCH_MM_TILE_H_

#include "base/check.h"
#include "mm/mm.h"

namespace {

constexpr int kRows = 8;
constexpr int kColumns = 32;
constexpr int kSteps = kColumns / 4;
constexpr int kChunk = 128;  // tokens that pass over a strip before the next is unpacked
constexpr int kStrip = 32;   // of 32 columns: 16 rows of it are 16 KiB of codes
// fp32 strips and the tokens that pass over them: 16 rows and 32 tokens are 16 and 32 KiB.
constexpr int kFloatChunk = 32;
constexpr int kFloatStrip = 8;
// Columns that one chain of fp32 additions may hold before it is added to the total: keeps the rounding of long sums below 1e-5.
constexpr int kFloatColumns = 1024;

// The widest plane of a code of that many bits: 8, 4, 2 or 1.
constexpr int plane_width(int bits) { return bits >= 8 ? 8 : bits >= 4 ? 4 : bits >= 2 ? 2 : 1; }

constexpr int stored_bits(int weight) { return weight == MM_TERNARY ? 2 : weight; }

// The kernels multiply expanded codes, bytes whose value is code - offset: those of one bit are doubled, {0, 2} for -1 and 1.
constexpr int lowest_bit(int weight) { return weight == 1 ? 1 : 0; }
constexpr int largest_code(int weight) { return weight == 1 ? 2 : (1 << stored_bits(weight)) - 1; }
constexpr int offset(int weight) { return weight == 1 || weight == MM_TERNARY ? 1 : 1 << (weight - 1); }
constexpr int largest_activation(int bits) { return (1 << (bits - 1)) - 1; }

constexpr int least(int a, int b) { return a < b ? a : b; }
constexpr int most(int a, int b) { return a > b ? a : b; }

template <class T>
inline const T* at_byte(const void* base, size_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(base) + bytes);
}

struct Operands {
  const MmShape& shape;
  const MmWeights& weights;
  const MmActivations& a;
  const MmOutput& y;

  int blocks() const { return shape.k / kColumns; }
  int per_group() const { return shape.group / kColumns; }
  const uint8_t* codes(int row_block) const { return weights.codes + row_block * weights.codes_stride; }
  const uint16_t* scales(int row_block) const { return weights.scales + row_block * weights.scales_stride; }
  const int8_t* codes_of_token(int m) const { return at_byte<int8_t>(a.data, m * a.stride); }
  float* out(int m, int row_block) const { return y.data + m * y.stride + (size_t)row_block * kRows; }
  bool group_scales() const { return a.scales_stride > 1; }
};

// f += sums of one group, as FORMAT.md rounds it.
template <class Isa, int W>
inline void add_group(const Operands& o, int m, int g, typename Isa::Floats scale, typename Isa::Sums sums, typename Isa::Floats* f) {
  constexpr int kOffset = offset(W) - Isa::template kSubtracted<W>;
  auto exact = Isa::to_floats(sums, kOffset ? kOffset * o.a.sums[m * o.a.sums_stride + g] : 0);
  if (o.group_scales()) exact = Isa::times(exact, o.a.scales[m * o.a.scales_stride + g]);
  *f = Isa::fma(exact, scale, *f);
}

template <class Isa>
inline void finish(const Operands& o, int m, int row_block, typename Isa::Floats f) {
  Isa::store(o.out(m, row_block), o.group_scales() ? f : Isa::times(f, o.a.scales[m]));
}

// One token, one row block.
template <class Isa, int W, int A>
inline void decode_block(const Operands& o, int m, int row_block) {
  const uint8_t* codes = o.codes(row_block);
  const uint16_t* scales = o.scales(row_block);
  const int8_t* a = o.codes_of_token(m);
  auto f = Isa::zero();
  for (int first = 0, g = 0; first < o.blocks(); first += o.per_group(), ++g) {
    auto sums = Isa::none();
    Isa::template dot_packed<W, A>(codes + (size_t)first * kColumns * stored_bits(W), least(o.per_group(), o.blocks() - first),
                                   a + (size_t)first * kColumns, sums);
    add_group<Isa, W>(o, m, g, Isa::halves(scales + (size_t)g * kRows), sums, &f);
  }
  finish<Isa>(o, m, row_block, f);
}

template <class Isa, int W, int A>
inline void decode(const Operands& o) {
  for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block)
    for (int m = 0; m < o.shape.m; ++m) decode_block<Isa, W, A>(o, m, row_block);
}

// Several tokens, `Blocks` row blocks.
template <class Isa, int W, int A, int Blocks>
class Prefill {
 public:
  Prefill(const Operands& operands, int row_block) : o_(operands), row_block_(row_block) {}

  void run() {
    for (first_token_ = 0; first_token_ < o_.shape.m; first_token_ += kChunk) {
      const int tokens = least(kChunk, o_.shape.m - first_token_);
      for (begin_ = 0; begin_ < o_.blocks(); begin_ = end_) {
        end_ = least(begin_ + kStrip, o_.blocks());
        for (int i = 0; i < Blocks; ++i)
          Isa::template unpack<W>(o_.codes(row_block_ + i) + (size_t)begin_ * kColumns * stored_bits(W), end_ - begin_, codes_[i]);
        tiles<Isa::kTokens>(0, tokens);
      }
    }
  }

 private:
  using Floats = typename Isa::Floats;
  using Sums = typename Isa::Sums;
  static constexpr int kBlockBytes = kSteps * Isa::template kStepBytes<W>;

  // Whole tiles, then smaller ones.
  template <int Tokens>
  void tiles(int slot, int tokens) {
    for (; slot + Tokens <= tokens; slot += Tokens) tile<Tokens>(slot);
    if constexpr (Tokens > 1) tiles<Tokens / 2>(slot, tokens);
  }

  template <int Tokens>
  void tile(int slot) {
    Floats f[Blocks][Tokens];
    for (int i = 0; i < Blocks; ++i)
      for (int t = 0; t < Tokens; ++t) f[i][t] = begin_ ? Isa::load(f_[slot + t][i]) : Isa::zero();
    for (int at = begin_, g = begin_ / o_.per_group(); at < end_; ++g) at = group<Tokens>(slot, at, g, f);
    for (int i = 0; i < Blocks; ++i)
      for (int t = 0; t < Tokens; ++t) {
        if (end_ == o_.blocks()) finish<Isa>(o_, first_token_ + slot + t, row_block_ + i, f[i][t]);
        else Isa::store(f_[slot + t][i], f[i][t]);
      }
  }

  // The part of group g that lies in this strip, from `at`; returns where it ends.
  template <int Tokens>
  int group(int slot, int at, int g, Floats (&f)[Blocks][Tokens]) {
    const int begin = g * o_.per_group(), end = least(begin + o_.per_group(), o_.blocks()), stop = least(end, end_);
    const int m = first_token_ + slot;
    const uint8_t* w[Blocks];
    Sums sums[Blocks][Tokens];
    for (int i = 0; i < Blocks; ++i) {
      w[i] = codes_[i] + (size_t)(at - begin_) * kBlockBytes;
      for (int t = 0; t < Tokens; ++t) sums[i][t] = at == begin ? Isa::none() : Isa::load(sums_[slot + t][i]);
    }
    Isa::template dot<W, A>(w, stop - at, o_.codes_of_token(m) + (size_t)at * kColumns, o_.a.stride, sums);
    for (int i = 0; i < Blocks; ++i) {
      const auto scale = Isa::halves(o_.scales(row_block_ + i) + (size_t)g * kRows);
      for (int t = 0; t < Tokens; ++t) {
        if (stop == end) add_group<Isa, W>(o_, m + t, g, scale, sums[i][t], &f[i][t]);
        else Isa::store(sums_[slot + t][i], sums[i][t]);
      }
    }
    return stop;
  }

  const Operands& o_;
  const int row_block_;
  int first_token_ = 0, begin_ = 0, end_ = 0;  // the strip, in units of 32 columns
  alignas(64) uint8_t codes_[Blocks][kStrip * kBlockBytes];
  alignas(64) float f_[kChunk][Blocks][kRows];
  alignas(64) int32_t sums_[kChunk][Blocks][kRows];  // of a group that goes on in the next strip
};

template <class Isa, int W, int A>
inline void prefill(const Operands& o) {
  const int row_blocks = o.shape.n / kRows;
  int b = 0;
  for (; b + Isa::kBlocks <= row_blocks; b += Isa::kBlocks) Prefill<Isa, W, A, Isa::kBlocks>(o, b).run();
  for (; b < row_blocks; ++b) Prefill<Isa, W, A, 1>(o, b).run();
}

// fp16 activations: value * scale and activations become fp32, and the rest is one product for all widths. Strips are the outer loop,
// since the activations of a strip are widened once for all rows; y holds the sums meanwhile.
template <class Isa, int W>
class FloatPrefill {
 public:
  explicit FloatPrefill(const Operands& operands) : o_(operands) {}

  void run() {
    for (first_token_ = 0; first_token_ < o_.shape.m; first_token_ += kFloatChunk) {
      tokens_ = least(kFloatChunk, o_.shape.m - first_token_);
      for (begin_ = 0; begin_ < o_.shape.k; begin_ += kWidth) {
        columns_ = least(kWidth, o_.shape.k - begin_);
        for (int t = 0; t < tokens_; ++t)
          Isa::widen(at_byte<uint16_t>(o_.a.data, (first_token_ + t) * o_.a.stride) + begin_, columns_, a_[t]);
        int n = 0;
        for (; n + Isa::kBlocks * kRows <= o_.shape.n; n += Isa::kBlocks * kRows) rows<Isa::kBlocks>(n);
        for (; n < o_.shape.n; n += kRows) rows<1>(n);
      }
    }
  }

 private:
  using Floats = typename Isa::Floats;
  static constexpr int kWidth = kFloatStrip * kColumns;

  template <int Blocks>
  void rows(int n) {
    for (int i = 0; i < Blocks; ++i) unpack(n + i * kRows, w_[i]);
    tiles<Blocks, Isa::kFloatTokens>(n, 0);
  }

  void unpack(int n, float* out) {
    if constexpr (W == 16) {
      Isa::transpose_halves(at_byte<uint16_t>(o_.weights.codes, n * o_.weights.codes_stride) + begin_, o_.weights.codes_stride,
                            least(kRows, o_.shape.n - n), columns_, out);
    } else {
      const int first = begin_ / kColumns, row_block = n / kRows;
      for (int b = 0; b < columns_ / kColumns; ++b)
        Isa::template unpack_floats<W>(o_.codes(row_block) + (size_t)(first + b) * kColumns * stored_bits(W), 1,
                                       Isa::halves(o_.scales(row_block) + (size_t)((first + b) / o_.per_group()) * kRows),
                                       out + b * kColumns * kRows);
    }
  }

  template <int Blocks, int Tokens>
  void tiles(int n, int slot) {
    for (; slot + Tokens <= tokens_; slot += Tokens) tile<Blocks, Tokens>(n, slot);
    if constexpr (Tokens > 1) tiles<Blocks, Tokens / 2>(n, slot);
  }

  template <int Blocks, int Tokens>
  void tile(int n, int slot) {
    Floats sums[Blocks][Tokens];
    const float* w[Blocks];
    for (int i = 0; i < Blocks; ++i) {
      w[i] = w_[i];
      for (auto& each : sums[i]) each = Isa::zero();
    }
    Isa::dot_floats(w, columns_, a_[slot], kWidth, sums);
    for (int i = 0; i < Blocks; ++i)
      for (int t = 0; t < Tokens; ++t) add_to(o_.y.data + (first_token_ + slot + t) * o_.y.stride + n, n + i * kRows, i, sums[i][t]);
  }

  void add_to(float* y, int n, int i, Floats sums) {
    y += i * kRows;
    if (n + kRows <= o_.shape.n) return Isa::store(y, begin_ ? Isa::plus(Isa::load(y), sums) : sums);
    float each[kRows];
    Isa::store(each, sums);
    for (int r = 0; r < o_.shape.n - n; ++r) y[r] = begin_ ? y[r] + each[r] : each[r];
  }

  const Operands& o_;
  int first_token_ = 0, tokens_ = 0, begin_ = 0, columns_ = 0;
  alignas(64) float w_[Isa::kBlocks][kWidth * kRows];
  alignas(64) float a_[kFloatChunk][kWidth];
};

template <class Isa, int W>
inline void decode_a16(const Operands& o) {
  for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block)
    for (int m = 0; m < o.shape.m; ++m) {
      auto f = Isa::zero();
      for (int group = 0, g = 0; group < o.blocks(); group += o.per_group(), ++g) {
        const auto scale = Isa::halves(o.scales(row_block) + (size_t)g * kRows);
        const int end = least(group + o.per_group(), o.blocks());
        for (int first = group; first < end; first += kFloatStrip)
          f = Isa::fma(Isa::template dot_a16<W>(o.codes(row_block) + (size_t)first * kColumns * stored_bits(W), least(kFloatStrip, end - first),
                                                at_byte<uint16_t>(o.a.data, m * o.a.stride) + (size_t)first * kColumns),
                       scale, f);
      }
      Isa::store(o.out(m, row_block), f);
    }
}

template <class Isa, int Rows>
inline void decode_f16_rows(const Operands& o, int n, int m) {
  float total[Rows] = {};
  for (int k = 0; k < o.shape.k; k += kFloatColumns) {
    float sums[Rows];
    Isa::template dot_f16<Rows>(at_byte<uint16_t>(o.weights.codes, n * o.weights.codes_stride) + k, o.weights.codes_stride,
                                at_byte<uint16_t>(o.a.data, m * o.a.stride) + k, least(kFloatColumns, o.shape.k - k), sums);
    for (int r = 0; r < Rows; ++r) total[r] += sums[r];
  }
  for (int r = 0; r < Rows; ++r) o.y.data[m * o.y.stride + n + r] = total[r];
}

template <class Isa>
inline void decode_f16(const Operands& o) {
  constexpr int kRowsAtOnce = 4;  // 4 sums fill the pipelines
  for (int m = 0; m < o.shape.m; ++m) {
    int n = 0;
    for (; n + kRowsAtOnce <= o.shape.n; n += kRowsAtOnce) decode_f16_rows<Isa, kRowsAtOnce>(o, n, m);
    for (; n < o.shape.n; ++n) decode_f16_rows<Isa, 1>(o, n, m);
  }
}

template <class Isa, int W, int A, int TileM>
inline void run(const Operands& o) {
  if constexpr (W != 16) CHECK(o.shape.n % kRows == 0 && o.shape.k % kColumns == 0 && o.shape.group > 0 && o.shape.group % kColumns == 0);
  if constexpr (TileM == 1 && W == 16) decode_f16<Isa>(o);
  else if constexpr (TileM == 1 && A == 16) decode_a16<Isa, W>(o);
  else if constexpr (TileM == 1) decode<Isa, W, A>(o);
  else if constexpr (A == 16) FloatPrefill<Isa, W>(o).run();
  else prefill<Isa, W, A>(o);
}

}  // namespace

// An ISA file defines its rows of variants.inc with this, the other rows with nothing.
#define MM_DEFINE(Isa, name, weight, activation_bits, tile_m)                                              \
  extern "C" void name(const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {  \
    run<Isa, weight, activation_bits, tile_m>({*s, *w, *a, *y});                                           \
  }

#endif  // BENCH_MM_TILE_H_
