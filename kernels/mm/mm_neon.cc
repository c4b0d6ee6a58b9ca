// ARMv8.0: Raspberry Pi 3 and 4, Jetson Nano.
//
// smlal multiplies 8 signed bytes and adds each product to a 16-bit lane of its own; sadalp drains pairs of lanes into 32 bits.
#include "mm/neon.h"

namespace {

struct Neon : NeonFloats {
  // Codes up to 7 bits are signed bytes as they are; the epilogue subtracts the offset once a group. 8 bits need it here.
  template <int Bits>
  static constexpr int kSubtract = Bits == 8 ? 128 : 0;

  // How many products fit 16 bits: 86, 36, 17, 8, 4, 2 for codes of 2..7 bits, 2 for signed bytes.
  template <int Bits>
  static constexpr int kProducts = 32767 / (127 * (Bits == 8 ? 128 : (1 << Bits) - 1));

  // Steps between drains, and blocks between drains where a block's 8 steps fit.
  template <int Bits>
  static constexpr int kDrainSteps = kProducts<Bits> >= 8 ? 8 : kProducts<Bits> >= 4 ? 4 : 2;
  template <int Bits>
  static constexpr int kDrainBlocks = kProducts<Bits> >= 8 ? kProducts<Bits> / 8 : 1;

  // Two columns of a row a lane; rows 0,1 then 2,3 and so on.
  struct Wide { int16x8_t v[4]; };
  struct Pairs { int32x4_t v[4]; };

  static void drain(Pairs& pairs, Wide& wide) {
    for (int i = 0; i < 4; ++i) {
      pairs.v[i] = vpadalq_s16(pairs.v[i], wide.v[i]);
      wide.v[i] = vdupq_n_s16(0);
    }
  }

  static void add_products(Wide& wide, int8x16_t low, int8x16_t high, const int8_t* a) {
    const int8x8_t x = vreinterpret_s8_s32(vld1_dup_s32((const int32_t*)a));
    wide.v[0] = vmlal_s8(wide.v[0], vget_low_s8(low), x);
    wide.v[1] = vmlal_s8(wide.v[1], vget_high_s8(low), x);
    wide.v[2] = vmlal_s8(wide.v[2], vget_low_s8(high), x);
    wide.v[3] = vmlal_s8(wide.v[3], vget_high_s8(high), x);
  }

  template <int Bits, int Tokens>
  static void dot_a8(const uint8_t* codes, int blocks, const int8_t* a, size_t stride, Sums (&out)[Tokens]) {
    Pairs pairs[Tokens] = {};
    Wide wide[Tokens] = {};
    for (int b = 0; b < blocks; b += kDrainBlocks<Bits>) {
      for (int left = least(kDrainBlocks<Bits>, blocks - b); left > 0; --left, codes += kColumns * Bits, a += kColumns) {
#pragma unroll
        for (int step = 0; step < 8; ++step) {
          const Step w = codes_of<Bits>(codes, step);
          const int8x16_t low = minus<kSubtract<Bits>>(w.low), high = minus<kSubtract<Bits>>(w.high);
#pragma unroll
          for (int t = 0; t < Tokens; ++t) add_products(wide[t], low, high, a + t * stride + 4 * step);
          if (step < 7 && step % kDrainSteps<Bits> == kDrainSteps<Bits> - 1)
            for (int t = 0; t < Tokens; ++t) drain(pairs[t], wide[t]);
        }
      }
      for (int t = 0; t < Tokens; ++t) drain(pairs[t], wide[t]);
    }
    for (int t = 0; t < Tokens; ++t)
      out[t] = {vpaddq_s32(pairs[t].v[0], pairs[t].v[1]), vpaddq_s32(pairs[t].v[2], pairs[t].v[3])};
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_neon(...) MM_DEFINE(Neon, __VA_ARGS__)
#define MM_DEFINE_dotprod(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
