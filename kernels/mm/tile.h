// The loops that all instruction sets share: row blocks, strips, tokens, groups, and the float epilogue of FORMAT.md section 3.
//
// One token reads packed codes where they lie. Several share unpacked ones: a strip of a few row blocks is unpacked once into memory
// that stays in the first cache, and up to kChunk tokens pass over it, a tile at a time.
//
// An mm_<isa>.cc file includes this and gives a struct of vector operations:
//   Floats, Sums                          8 floats and 8 int32, one a row of a block
//   kTokens, kBlocks<W>, kFloatTokens     tokens and row blocks of a prefill tile; 16 floats tile with kFloatTokens
//   kStepBytes<W>                         bytes that one step (8 rows x 4 columns) takes unpacked
//   kValues<W>                            optional: the dots take code - offset for the code, and nothing is left to be taken off
//   unpack<W>(book, codes, blocks, out)   `blocks` x 32 columns of a row block; `book` is the codebook of those that look up
//   kNarrowBooks                          optional: whether kNarrowCodebook is faster, which it is not where sums have 32 bits
//   dot<W, A>(w, blocks, a, stride, sums) sums[block][token] += expanded code * q, w[block] unpacked
//   dot_packed<W, A>(book, codes, blocks, a, sums)               the same for one block of packed codes and one token
//   unpack_floats<W>(codes, blocks, scale, out)                  value * scale as fp32, [column][8]
//   transpose_halves(w, stride, rows, columns, out)              fp16 [row][column] as fp32 [column][8]
//   dot_floats(w, columns, a, stride, sums)                      sums[block][token] += w * a, w[block] [column][8], a fp32
//   dot_a16<W>(codes, blocks, a)          sum of value * a for one token, of packed codes
//   dot_f16<Rows>(w, w_stride, a, k, out)                        sums of w * a for one token, nothing read past k
//   Wide                                  optional: for prefill, a struct whose vectors hold two row blocks (kWidth)
//   bytes(p)                              8 int8 or uint8 as Sums
//   widen(halves, count, out), zero, same, halves, to_floats, fma, plus, times, load, store
//
// All of it has internal linkage: a copy compiled for one instruction set must never serve another file.
#ifndef BENCH_MM_TILE_H_
#define BENCH_MM_TILE_H_

#include "base/check.h"
#include "mm/mm.h"

// Small loops over rows and tokens must be gone before arrays of vectors can become registers.
#if defined(__clang__)
#define BENCH_UNROLL _Pragma("unroll")
#else
#define BENCH_UNROLL _Pragma("GCC unroll 16")
#endif
#define BENCH_INLINE __attribute__((always_inline)) inline

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

// Beside the weights of a scheme, 4-bit codes that mean something else (MmExtra): look-ups that are multiplied as 8 bits are, or, where
// all values are within -16..15, as 5 bits are, and codes whose groups have integer scales.
enum { kCodebook = MM_TERNARY + 1, kNarrowCodebook, kTwolevel };

constexpr int stored_bits(int weight) { return weight == MM_TERNARY ? 2 : weight >= kCodebook ? 4 : weight; }

// The kernels multiply expanded codes, bytes whose value is code - offset: those of one bit are doubled, {0, 2} for -1 and 1.
constexpr bool looks_up(int weight) { return weight == kCodebook || weight == kNarrowCodebook; }
constexpr bool fills_bytes(int weight) { return weight == 8 || weight == kCodebook; }
constexpr int expanded_bits(int weight) { return fills_bytes(weight) ? 8 : weight == kNarrowCodebook ? 5 : stored_bits(weight); }
constexpr int lowest_bit(int weight) { return weight == 1 ? 1 : 0; }
constexpr int largest_code(int weight) { return weight == 1 ? 2 : (1 << expanded_bits(weight)) - 1; }
constexpr int offset(int weight) { return weight == 1 || weight == MM_TERNARY ? 1 : (largest_code(weight) + 1) / 2; }
constexpr int largest_activation(int bits) { return (1 << (bits - 1)) - 1; }

constexpr int least(int a, int b) { return a < b ? a : b; }
constexpr int most(int a, int b) { return a > b ? a : b; }

template <class T>
inline const T* at_byte(const void* base, size_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(base) + bytes);
}

// By value everywhere: what vectors are stored to could be anything, and members behind a reference would be read again each time.
struct Operands {
  MmShape shape;
  MmWeights weights;
  MmActivations a;
  MmOutput y;

  int blocks() const { return shape.k / kColumns; }
  int per_group() const { return shape.group / kColumns; }
  int groups() const { return (shape.k + shape.group - 1) / shape.group; }
  const uint8_t* codes(int row_block) const { return weights.codes + row_block * weights.codes_stride; }
  const uint16_t* scales(int row_block) const { return weights.scales + row_block * weights.scales_stride; }
  const int8_t* codes_of_token(int m) const { return at_byte<int8_t>(a.data, m * a.stride); }
  float* out(int m, int row_block) const { return y.data + m * y.stride + (size_t)row_block * kRows; }
  bool group_scales() const { return a.scales_stride > 1; }
  const int8_t* book() const { return weights.extra ? weights.extra->codebook : nullptr; }
  size_t level(int row_block, int g) const { return ((size_t)(weights.first_row / kRows + row_block) * groups() + g) * kRows; }
};

template <class Isa, int W>
constexpr bool takes_values() {
  if constexpr (requires { Isa::template kValues<W>; }) return Isa::template kValues<W>;
  return false;
}

// Row blocks in one vector of Isa: 2 where it gives a kWidth, then unpack and halves take what belongs to both.
template <class Isa>
constexpr int width() {
  if constexpr (requires { Isa::kWidth; }) return Isa::kWidth;
  return 1;
}
template <class Isa>
constexpr int kWidth = width<Isa>();

// fp16 scales of group g.
template <class Isa>
inline typename Isa::Floats scales_of(Operands o, int row_block, int g) {
  const uint16_t* scales = o.scales(row_block) + (size_t)g * kRows;
  if constexpr (kWidth<Isa> == 2) return Isa::halves(scales, scales + o.weights.scales_stride);
  else return Isa::halves(scales);
}

// What the sums of the groups of a row add up to, as FORMAT.md section 3 rounds it.
template <class Isa, int W>
struct Total {
  using Number = float;
  using Vector = typename Isa::Floats;
  using Scale = typename Isa::Floats;
  using Sums = typename Isa::Sums;

  static Vector zero() { return Isa::zero(); }
  static Scale scale(Operands o, int row_block, int g) { return scales_of<Isa>(o, row_block, g); }

  // Codes are the values plus an offset, so the offset times the sum of the activations is too much.
  static Sums first(Operands o, int m, int g) {
    return Isa::same(takes_values<Isa, W>() ? 0 : -offset(W) * o.a.sums[m * o.a.sums_stride + g]);
  }

  static Vector add(Operands o, int m, int g, Scale scale, Sums sums, Vector f) {
    auto exact = Isa::to_floats(sums);
    if (o.group_scales()) exact = Isa::times(exact, o.a.scales[m * o.a.scales_stride + g]);
    return Isa::fma(exact, scale, f);
  }

  static void finish(Operands o, int m, int row_block, Vector f) {
    Isa::store(o.out(m, row_block), o.group_scales() ? f : Isa::times(f, o.a.scales[m]));
  }
};

// int32 over the whole row (section 6); where weights are beyond int8, which only a hostile file has, it wraps.
template <class Isa>
struct Total<Isa, kTwolevel> {
  using Number = int32_t;
  using Vector = typename Isa::Sums;
  struct Scale { Vector levels, zeros; };

  static Vector zero() { return Isa::same(0); }
  static Vector first(Operands, int, int) { return Isa::same(0); }

  static Scale scale(Operands o, int row_block, int g) {
    const size_t at = o.level(row_block, g), next = (size_t)o.groups() * kRows;
    const Vector taken_off = Isa::same(takes_values<Isa, kTwolevel>() ? -offset(kTwolevel) : 0);
    return {bytes(o.weights.extra->level_scales + at, next), Isa::plus(bytes(o.weights.extra->level_zeros + at, next), taken_off)};
  }

  static Vector add(Operands o, int m, int g, Scale scale, Vector sums, Vector total) {
    const Vector zeros = Isa::times(scale.zeros, Isa::same(-o.a.sums[m * o.a.sums_stride + g]));
    return Isa::plus(total, Isa::times(scale.levels, Isa::plus(sums, zeros)));
  }

  static void finish(Operands o, int m, int row_block, Vector total) {
    Isa::store(o.out(m, row_block), Isa::times(Isa::times(Isa::to_floats(total), scales_of<Isa>(o, row_block, 0)), o.a.scales[m]));
  }

 private:
  template <class Byte>
  static Vector bytes(const Byte* p, size_t next) {
    if constexpr (kWidth<Isa> == 2) return Isa::bytes(p, p + next);
    else return Isa::bytes(p);
  }
};

// One token, one row block.
template <class Isa, int W, int A>
inline void decode_block(Operands o, int m, int row_block) {
  const uint8_t* codes = o.codes(row_block);
  const int8_t* a = o.codes_of_token(m);
  auto f = Total<Isa, W>::zero();
  for (int first = 0, g = 0; first < o.blocks(); first += o.per_group(), ++g) {
    auto sums = Total<Isa, W>::first(o, m, g);
    Isa::template dot_packed<W, A>(o.book(), codes + (size_t)first * kColumns * stored_bits(W), least(o.per_group(), o.blocks() - first),
                                   a + (size_t)first * kColumns, sums);
    f = Total<Isa, W>::add(o, m, g, Total<Isa, W>::scale(o, row_block, g), sums, f);
  }
  Total<Isa, W>::finish(o, m, row_block, f);
}

template <class Isa, int W, int A>
inline void decode(Operands o) {
  for (int row_block = 0; row_block < o.shape.n / kRows; ++row_block)
    for (int m = 0; m < o.shape.m; ++m) decode_block<Isa, W, A>(o, m, row_block);
}

// What several tokens and `Blocks` row blocks keep in the first cache.
template <class Isa, int W, int Blocks>
struct StripMemory {
  static constexpr int kBlockBytes = kSteps * Isa::template kStepBytes<W>;

  alignas(64) uint8_t codes[Blocks][kStrip * kBlockBytes];
  alignas(64) typename Total<Isa, W>::Number f[kChunk][Blocks][kRows * kWidth<Isa>];
  alignas(64) int32_t sums[kChunk][Blocks][kRows * kWidth<Isa>];  // of a group that goes on in the next strip
};

// One strip of columns [begin, end), in units of 32, of `Blocks` row blocks, for the tokens from `first_token` on.
template <class Isa, int W, int A, int Blocks>
struct Strip {
  using RowTotal = Total<Isa, W>;
  using Vector = typename RowTotal::Vector;
  using Sums = typename Isa::Sums;
  using Memory = StripMemory<Isa, W, Blocks>;

  Operands o;
  Memory* memory;
  int row_block, first_token, begin, end;

  // Whole tiles, then smaller ones.
  template <int Tokens>
  BENCH_INLINE void tiles(int slot, int tokens) const {
    for (; slot + Tokens <= tokens; slot += Tokens) tile<Tokens>(slot);
    if constexpr (Tokens > 1) tiles<Tokens / 2>(slot, tokens);
  }

  template <int Tokens>
  BENCH_INLINE void tile(int slot) const {
    Vector f[Blocks][Tokens];
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i)
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) f[i][t] = begin ? Isa::load(memory->f[slot + t][i]) : RowTotal::zero();
    for (int at = begin, g = begin / o.per_group(); at < end; ++g) at = group<Tokens>(slot, at, g, f);
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i)
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) {
        if (end == o.blocks()) RowTotal::finish(o, first_token + slot + t, row_block + i * kWidth<Isa>, f[i][t]);
        else Isa::store(memory->f[slot + t][i], f[i][t]);
      }
  }

  // The part of group g that lies in this strip, from `at`; returns where it ends.
  template <int Tokens>
  BENCH_INLINE int group(int slot, int at, int g, Vector (&f)[Blocks][Tokens]) const {
    const int first = g * o.per_group(), last = least(first + o.per_group(), o.blocks()), stop = least(last, end);
    const int m = first_token + slot;
    const uint8_t* w[Blocks];
    Sums sums[Blocks][Tokens];
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i) {
      w[i] = memory->codes[i] + (size_t)(at - begin) * Memory::kBlockBytes;
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t)
        sums[i][t] = at == first ? RowTotal::first(o, m + t, g) : Isa::load(memory->sums[slot + t][i]);
    }
    Isa::template dot<W, A>(w, stop - at, o.codes_of_token(m) + (size_t)at * kColumns, o.a.stride, sums);
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i) {
      const auto scale = RowTotal::scale(o, row_block + i * kWidth<Isa>, g);
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) {
        if (stop == last) f[i][t] = RowTotal::add(o, m + t, g, scale, sums[i][t], f[i][t]);
        else Isa::store(memory->sums[slot + t][i], sums[i][t]);
      }
    }
    return stop;
  }
};

// `Blocks` row blocks, all tokens.
template <class Isa, int W, int A, int Blocks>
inline void prefill_blocks(Operands o, int row_block) {
  StripMemory<Isa, W, Blocks> memory;
  for (int first_token = 0; first_token < o.shape.m; first_token += kChunk)
    for (int begin = 0; begin < o.blocks(); begin += kStrip) {
      const int end = least(begin + kStrip, o.blocks());
      for (int i = 0; i < Blocks; ++i) {
        const uint8_t* codes = o.codes(row_block + i * kWidth<Isa>) + (size_t)begin * kColumns * stored_bits(W);
        if constexpr (kWidth<Isa> == 2) Isa::template unpack<W>(o.book(), codes, codes + o.weights.codes_stride, end - begin, memory.codes[i]);
        else Isa::template unpack<W>(o.book(), codes, end - begin, memory.codes[i]);
      }
      const Strip<Isa, W, A, Blocks> strip = {o, &memory, row_block, first_token, begin, end};
      strip.template tiles<Isa::kTokens>(0, least(kChunk, o.shape.m - first_token));
    }
}

template <class Isa, int W, int A>
inline void prefill(Operands o) {
  const int row_blocks = o.shape.n / kRows;
  int b = 0;
  if constexpr (requires { typename Isa::Wide; })
    for (; b + 2 <= row_blocks; b += 2) prefill_blocks<typename Isa::Wide, W, A, 1>(o, b);
  constexpr int kBlocks = Isa::template kBlocks<W>;
  for (; b + kBlocks <= row_blocks; b += kBlocks) prefill_blocks<Isa, W, A, kBlocks>(o, b);
  if constexpr (kBlocks > 1)
    for (; b < row_blocks; ++b) prefill_blocks<Isa, W, A, 1>(o, b);
}

// fp16 activations: value * scale and activations become fp32, and the rest is one product for all widths. Strips are the outer loop,
// since the activations of a strip are widened once for all rows; y holds the sums meanwhile.
template <class Isa, int W>
class FloatPrefill {
 public:
  explicit FloatPrefill(Operands operands) : o_(operands) {}

  void run() {
    for (first_token_ = 0; first_token_ < o_.shape.m; first_token_ += kFloatChunk) {
      tokens_ = least(kFloatChunk, o_.shape.m - first_token_);
      for (begin_ = 0; begin_ < o_.shape.k; begin_ += kStripColumns) {
        columns_ = least(kStripColumns, o_.shape.k - begin_);
        for (int t = 0; t < tokens_; ++t)
          Isa::widen(at_byte<uint16_t>(o_.a.data, (first_token_ + t) * o_.a.stride) + begin_, columns_, a_[t]);
        int n = 0;
        for (; n + 2 * kRows <= o_.shape.n; n += 2 * kRows) rows<2>(n);
        for (; n < o_.shape.n; n += kRows) rows<1>(n);
      }
    }
  }

 private:
  using Floats = typename Isa::Floats;
  static constexpr int kStripColumns = kFloatStrip * kColumns;

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
    Isa::dot_floats(w, columns_, a_[slot], kStripColumns, sums);
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

  const Operands o_;
  int first_token_ = 0, tokens_ = 0, begin_ = 0, columns_ = 0;
  alignas(64) float w_[2][kStripColumns * kRows];
  alignas(64) float a_[kFloatChunk][kStripColumns];
};

template <class Isa, int W>
inline void decode_a16(Operands o) {
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
inline void decode_f16_rows(Operands o, int n, int m) {
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
inline void decode_f16(Operands o) {
  constexpr int kRowsAtOnce = 4;  // 4 sums fill the pipelines
  for (int m = 0; m < o.shape.m; ++m) {
    int n = 0;
    for (; n + kRowsAtOnce <= o.shape.n; n += kRowsAtOnce) decode_f16_rows<Isa, kRowsAtOnce>(o, n, m);
    for (; n < o.shape.n; ++n) decode_f16_rows<Isa, 1>(o, n, m);
  }
}

template <class Isa>
constexpr bool has_narrow_books() {
  if constexpr (requires { Isa::kNarrowBooks; }) return Isa::kNarrowBooks;
  return false;
}

inline bool is_narrow(const int8_t* book) {
  for (int i = 0; i < 16; ++i)
    if (book[i] < -offset(kNarrowCodebook) || book[i] >= offset(kNarrowCodebook)) return false;
  return true;
}

template <class Isa, int W, int A, int TileM>
inline void run(Operands o) {
  if constexpr (W != 16) CHECK(o.shape.n % kRows == 0 && o.shape.k % kColumns == 0 && o.shape.group > 0 && o.shape.group % kColumns == 0);
  if constexpr (looks_up(W)) CHECK(o.book());
  if constexpr (W == kCodebook && has_narrow_books<Isa>())
    if (is_narrow(o.book())) return run<Isa, kNarrowCodebook, A, TileM>(o);
  if constexpr (W == kTwolevel) CHECK(!o.group_scales() && o.weights.extra && o.weights.extra->level_scales && o.weights.extra->level_zeros);
  if constexpr (TileM == 1 && W == 16) decode_f16<Isa>(o);
  else if constexpr (TileM == 1 && A == 16) decode_a16<Isa, W>(o);
  else if constexpr (TileM == 1) decode<Isa, W, A>(o);
  else if constexpr (A == 16) FloatPrefill<Isa, W>(o).run();
  else prefill<Isa, W, A>(o);
}

}  // namespace

// An ISA file defines its rows of variants.inc and families/tiles.inc with this, the other rows with nothing.
#define MM_DEFINE(Isa, name, weight, activation_bits, tile_m)                                              \
  extern "C" void name(const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {  \
    run<Isa, weight, activation_bits, tile_m>(Operands{*s, *w, *a, *y});                                           \
  }

#endif  // BENCH_MM_TILE_H_
