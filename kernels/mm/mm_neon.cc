// ARMv8.0: Raspberry Pi 3 and 4, Jetson Nano.
//
// smlal multiplies 8 signed bytes and adds each product to a 16-bit lane of its own; sadalp drains pairs of lanes into 32 bits before
// they could overflow. With activations of 4 bits two products fit a byte: mul, mla and sadalp take 32 of them.
#include "mm/neon.h"

namespace {

// How many products fit 16 bits.
constexpr int products(int largest, int activation_bits) { return 32767 / (largest * largest_activation(activation_bits)); }

// What one token multiplies, which saves the subtraction where it can: 8 bits must lose 128 to be signed bytes, look-ups are values, and
// one bit is 0 or -1.
constexpr bool factors_are_values(int weight) { return weight == 8 || looks_up(weight); }

template <int W>
inline int8x16_t factors_of(int8x16_t table, const uint8_t* codes, int step) {
  if constexpr (factors_are_values(W)) return values_of<W>(table, codes, step);
  else return vreinterpretq_s8_u8(W == 1 ? set_bits(codes, step) : codes_of<W>(codes, step));
}

// sums + what the factors came to, as sums of expanded codes.
template <int W>
inline int32x4_t plus_factors(int32x4_t sums, int32x4_t factors) {
  return W == 1 ? vmlaq_n_s32(sums, factors, -2) : vaddq_s32(sums, factors);
}

// 4 activations for every row; the lane must be a constant: after unrolling it is, and the switch is gone.
inline int8x16_t broadcast4(int8x16_t a, int step) {
  const int32x4_t fours = vreinterpretq_s32_s8(a);
  switch (step % 4) {
    case 0: return vreinterpretq_s8_s32(vdupq_laneq_s32(fours, 0));
    case 1: return vreinterpretq_s8_s32(vdupq_laneq_s32(fours, 1));
    case 2: return vreinterpretq_s8_s32(vdupq_laneq_s32(fours, 2));
    default: return vreinterpretq_s8_s32(vdupq_laneq_s32(fours, 3));
  }
}

// One token, codes as they are packed: 17 products of w4a8.
struct NeonDecode : NeonFloats {
  static constexpr bool kNarrowBooks = true;
  template <int W>
  static constexpr bool kValues = factors_are_values(W);
  template <int W, int A>
  static constexpr int kProducts = products(W == 1 ? 1 : factors_are_values(W) ? offset(W) : largest_code(W), A);

  // Steps between drains, and blocks between drains where a block's 8 steps fit.
  template <int W, int A>
  static constexpr int kDrainSteps = kProducts<W, A> >= 8 ? 8 : kProducts<W, A> >= 4 ? 4 : 2;
  template <int W, int A>
  static constexpr int kDrainBlocks = kProducts<W, A> >= 8 ? kProducts<W, A> / 8 : 1;

  // Two columns of a row a lane; rows 0,1 then 2,3 and so on.
  struct Wide { int16x8_t v[4]; };
  struct Pairs { int32x4_t v[4]; };

  static void drain(Pairs& pairs, Wide& wide) {
    for (int i = 0; i < 4; ++i) {
      pairs.v[i] = vpadalq_s16(pairs.v[i], wide.v[i]);
      wide.v[i] = vdupq_n_s16(0);
    }
  }

  static void add_products(Wide& wide, int8x16_t low, int8x16_t high, int8x16_t x) {
    wide.v[0] = vmlal_s8(wide.v[0], vget_low_s8(low), vget_low_s8(x));
    wide.v[1] = vmlal_high_s8(wide.v[1], low, x);
    wide.v[2] = vmlal_s8(wide.v[2], vget_low_s8(high), vget_low_s8(x));
    wide.v[3] = vmlal_high_s8(wide.v[3], high, x);
  }

  template <int W, int A>
  static void dot_packed(const int8_t* book, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    constexpr int kDrain = kDrainSteps<W, A>;
    const int8x16_t table = table_of<W>(book);
    Pairs pairs = {};
    for (int b = 0; b < blocks;) {
      Wide wide = {};
      for (const int end = least(b + kDrainBlocks<W, A>, blocks); b < end; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
        BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
          const int8x16_t x = broadcast4(vld1q_s8(a + step / 4 * 16), step);
          add_products(wide, factors_of<W>(table, codes, step), factors_of<W>(table, codes + kHalf, step), x);
          if (step < kSteps - 1 && step % kDrain == kDrain - 1) drain(pairs, wide);
        }
      }
      drain(pairs, wide);
    }
    sums.low = plus_factors<W>(sums.low, vpaddq_s32(pairs.v[0], pairs.v[1]));
    sums.high = plus_factors<W>(sums.high, vpaddq_s32(pairs.v[2], pairs.v[3]));
  }
};

// 4 tokens x 8 rows, in two passes of 4 rows: 16 sums of 16 bits. Strips hold 16 columns of a row a register, which the activations
// have as they come: nothing is broadcast.
struct NeonPrefill : NeonFloats {
  static constexpr int kTokens = 4;
  static constexpr bool kNarrowBooks = true;
  static constexpr int kPassRows = 4;
  static constexpr int kPassBytes = kPassRows * kColumns;
  template <int W>
  static constexpr int kBlocks = 1;
  template <int W>
  static constexpr bool kValues = true;
  // A block puts 4 products into each 16-bit lane; 32 of w4a8 fit, 8 blocks.
  template <int W, int A>
  static constexpr int kDrainBlocks = products(most(offset(W), largest_code(W) - offset(W)), A) / 4;

  // st4 writes 4 steps of 4 rows as rows of 16 columns.
  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* __restrict out) {
    const int8x16_t table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL for (int half = 0; half < kColumns; half += kHalf)
        BENCH_UNROLL for (int step = 0; step < kSteps; step += 4, out += 64) {
          int32x4x4_t four;
          BENCH_UNROLL for (int i = 0; i < 4; ++i) four.val[i] = vreinterpretq_s32_s8(values_of<W>(table, codes + half, step + i));
          vst4q_s32((int32_t*)out, four);
        }
  }

  template <int W, int A, int Tokens>
  static void dot(const uint8_t* const (&w)[1], int blocks, const int8_t* a, size_t stride, Sums (&sums)[1][Tokens]) {
    int32x4_t pass[Tokens];
    dot_4_rows<W, A>((const int8_t*)w[0], blocks, a, stride, pass);
    BENCH_UNROLL for (int t = 0; t < Tokens; ++t) sums[0][t].low = vaddq_s32(sums[0][t].low, pass[t]);
    dot_4_rows<W, A>((const int8_t*)w[0] + kPassBytes, blocks, a, stride, pass);
    BENCH_UNROLL for (int t = 0; t < Tokens; ++t) sums[0][t].high = vaddq_s32(sums[0][t].high, pass[t]);
  }

  template <int W, int A, int Tokens>
  static void dot_4_rows(const int8_t* w, int blocks, const int8_t* a, size_t stride, int32x4_t (&out)[Tokens]) {
    if constexpr (kDrainBlocks<W, A> >= 4) dot_deep<A, kDrainBlocks<W, A> / 2>(w, blocks, a, stride, out);
    else dot_shallow<W>(w, blocks, a, stride, out);
  }

  static int16x8_t plus_products(int16x8_t sums, int8x16_t w, int8x16_t x) {
    return vmlal_high_s8(vmlal_s8(sums, vget_low_s8(w), vget_low_s8(x)), w, x);
  }

  static int16x8_t products_of(int8x16_t w, int8x16_t x) { return vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x); }

  // Half as many blocks as fit, so that two rows may be added in 16 bits, and as many 32-bit sums stay in registers.
  template <int A, int DrainBlocks, int Tokens>
  static void dot_deep(const int8_t* w, int blocks, const int8_t* a, size_t stride, int32x4_t (&out)[Tokens]) {
    int32x4_t pairs[2][Tokens] = {};
    for (int b = 0; b < blocks;) {
      int16x8_t wide[kPassRows][Tokens] = {};
      for (const int end = least(b + DrainBlocks, blocks); b < end; ++b, w += 2 * kPassBytes, a += kColumns) add_block<A>(w, a, stride, wide);
      BENCH_UNROLL for (int i = 0; i < 2; ++i)
        BENCH_UNROLL for (int t = 0; t < Tokens; ++t) pairs[i][t] = vpadalq_s16(pairs[i][t], vpaddq_s16(wide[2 * i][t], wide[2 * i + 1][t]));
    }
    BENCH_UNROLL for (int t = 0; t < Tokens; ++t) out[t] = vpaddq_s32(pairs[0][t], pairs[1][t]);
  }

  template <int A, int Tokens>
  static BENCH_INLINE void add_block(const int8_t* w, const int8_t* a, size_t stride, int16x8_t (&wide)[kPassRows][Tokens]) {
    if constexpr (A == 4) {
      BENCH_UNROLL for (int r = 0; r < kPassRows; ++r)
        BENCH_UNROLL for (int t = 0; t < Tokens; ++t) {
          const int8_t* x = a + t * stride;
          const int8x16_t two = vmlaq_s8(vmulq_s8(vld1q_s8(w + 16 * r), vld1q_s8(x)), vld1q_s8(w + 64 + 16 * r), vld1q_s8(x + 16));
          wide[r][t] = vpadalq_s8(wide[r][t], two);
        }
    } else {
      BENCH_UNROLL for (int half = 0; half < 2; ++half)
        BENCH_UNROLL for (int r = 0; r < kPassRows; ++r)
          BENCH_UNROLL for (int t = 0; t < Tokens; ++t)
            wide[r][t] = plus_products(wide[r][t], vld1q_s8(w + 64 * half + 16 * r), vld1q_s8(a + t * stride + 16 * half));
    }
  }

  // Drained at every block, at 8 bits twice.
  template <int W, int Tokens>
  static void dot_shallow(const int8_t* w, int blocks, const int8_t* a, size_t stride, int32x4_t (&out)[Tokens]) {
    int32x4_t sums[kPassRows][Tokens] = {};
    for (int b = 0; b < blocks; ++b, w += 2 * kPassBytes, a += kColumns)
      BENCH_UNROLL for (int r = 0; r < kPassRows; ++r)
        BENCH_UNROLL for (int t = 0; t < Tokens; ++t) {
          const int8x16_t w0 = vld1q_s8(w + 16 * r), w1 = vld1q_s8(w + 64 + 16 * r), x0 = vld1q_s8(a + t * stride), x1 = vld1q_s8(a + t * stride + 16);
          if constexpr (fills_bytes(W)) {
            sums[r][t] = vpadalq_s16(vpadalq_s16(sums[r][t], products_of(w0, x0)), products_of(w1, x1));
          } else {
            sums[r][t] = vpadalq_s16(sums[r][t], plus_products(products_of(w0, x0), w1, x1));
          }
        }
    BENCH_UNROLL for (int t = 0; t < Tokens; ++t) out[t] = vpaddq_s32(vpaddq_s32(sums[0][t], sums[1][t]), vpaddq_s32(sums[2][t], sums[3][t]));
  }
};

template <int TileM>
struct Neon : NeonPrefill {};
template <>
struct Neon<1> : NeonDecode {};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_neon(name, weight, activation_bits, tile_m) MM_DEFINE(Neon<tile_m>, name, weight, activation_bits, tile_m)
#define MM_DEFINE_i8mm(...)
#define MM_DEFINE_dotprod(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
