// ARMv8.2 dot product: Raspberry Pi 5, Jetson Orin, Snapdragon 855 and up.
//
// sdot multiplies 16 signed bytes and adds each four to a 32-bit lane: the layout's 4 columns of 4 rows, and nothing to drain. It takes
// the activations of a step from a lane: one load of 16 serves 4 steps.
#include "mm/neon.h"

namespace {

inline int32x4_t add_dot(int32x4_t sums, int8x16_t w, int8x16_t a, int step) {
  switch (step % 4) {
    case 0: return vdotq_laneq_s32(sums, w, a, 0);
    case 1: return vdotq_laneq_s32(sums, w, a, 1);
    case 2: return vdotq_laneq_s32(sums, w, a, 2);
    default: return vdotq_laneq_s32(sums, w, a, 3);
  }
}

struct DotprodDecode : NeonFloats {
  template <int W>
  static constexpr int kSubtracted = kFactorsSubtracted<W>;

  template <int W, int A>
  static void dot_packed(const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    Sums chains[2] = {none(), none()};  // one alone would wait for its own last sum
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int8x16_t x = vld1q_s8(a + step / 4 * 16);
        Sums& s = chains[step % 2];
        s = {add_dot(s.low, factors_of<W>(codes, step), x, step), add_dot(s.high, factors_of<W>(codes + kHalf, step), x, step)};
      }
    }
    sums.low = vaddq_s32(sums.low, of_codes<W>(vaddq_s32(chains[0].low, chains[1].low)));
    sums.high = vaddq_s32(sums.high, of_codes<W>(vaddq_s32(chains[0].high, chains[1].high)));
  }
};

// 8 tokens x 8 rows: 16 sums, 8 activations, and 2 weights that serve all tokens.
struct DotprodPrefill : NeonFloats {
  static constexpr int kTokens = 8;
  template <int W>
  static constexpr int kSubtracted = offset(W);

  template <int W>
  static void unpack(const uint8_t* codes, int blocks, uint8_t* __restrict out) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
#pragma unroll
      for (int step = 0; step < kSteps; ++step, out += kColumns) {
        vst1q_s8((int8_t*)out, values_of<W>(codes, step));
        vst1q_s8((int8_t*)out + kHalf, values_of<W>(codes + kHalf, step));
      }
  }

  template <int W, int A, int Tokens>
  static void dot(const uint8_t* const (&w)[1], int blocks, const int8_t* a, size_t stride, Sums (&sums)[1][Tokens]) {
    const int8_t* codes = (const int8_t*)w[0];
    for (int four = 0; four < blocks * kSteps / 4; ++four, a += 16) {
      int8x16_t x[Tokens];
      for (int t = 0; t < Tokens; ++t) x[t] = vld1q_s8(a + t * stride);
#pragma unroll
      for (int step = 0; step < 4; ++step, codes += kColumns) {
        const int8x16_t low = vld1q_s8(codes), high = vld1q_s8(codes + kHalf);
        for (auto t = 0; t < Tokens; ++t) sums[0][t] = {add_dot(sums[0][t].low, low, x[t], step), add_dot(sums[0][t].high, high, x[t], step)};
      }
    }
  }
};

template <int TileM>
struct Dotprod : DotprodPrefill {};
template <>
struct Dotprod<1> : DotprodDecode {};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_dotprod(name, weight, activation_bits, tile_m) MM_DEFINE(Dotprod<tile_m>, name, weight, activation_bits, tile_m)
#define MM_DEFINE_i8mm(...)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
