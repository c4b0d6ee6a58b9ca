// ARMv8.2 dot product: Raspberry Pi 5, Jetson Orin, Snapdragon 855 and up.
//
// sdot multiplies 16 signed bytes and adds each four to a 32-bit lane: the layout's 4 columns of 4 rows, and nothing to drain.
#include "mm/neon.h"

namespace {

// The lane of a by-element instruction must be a constant; after unrolling it is, and the switch is gone.
inline int32x4_t dot_lane(int32x4_t sum, int8x16_t w, int8x16_t a, int lane) {
  switch (lane) {
    case 0: return vdotq_laneq_s32(sum, w, a, 0);
    case 1: return vdotq_laneq_s32(sum, w, a, 1);
    case 2: return vdotq_laneq_s32(sum, w, a, 2);
    default: return vdotq_laneq_s32(sum, w, a, 3);
  }
}

struct Dotprod : NeonFloats {
  template <int Bits, int Tokens>
  static void dot_a8(const uint8_t* codes, int blocks, const int8_t* a, size_t stride, Sums (&out)[Tokens]) {
    constexpr int kSubtract = Bits == 8 ? 128 : 0;
    constexpr int kChains = Tokens == 1 ? 2 : 1;  // one token alone would wait for its own last sum
    Sums sums[Tokens][kChains] = {};
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns) {
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        const Step w = codes_of<Bits>(codes, step);
        const int8x16_t low = minus<kSubtract>(w.low), high = minus<kSubtract>(w.high);
#pragma unroll
        for (int t = 0; t < Tokens; ++t) {
          const int8x16_t x = vld1q_s8(a + t * stride + step / 4 * 16);
          Sums& s = sums[t][step % kChains];
          s = {dot_lane(s.low, low, x, step % 4), dot_lane(s.high, high, x, step % 4)};
        }
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      out[t] = sums[t][0];
      if constexpr (kChains == 2) out[t] = {vaddq_s32(out[t].low, sums[t][1].low), vaddq_s32(out[t].high, sums[t][1].high)};
    }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_dotprod(...) MM_DEFINE(Dotprod, __VA_ARGS__)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
