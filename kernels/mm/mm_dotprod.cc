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
  static constexpr bool kValues = W == 8;

  template <int W, int A>
  static void dot_packed(const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    if constexpr (stored_bits(W) == 2) return dot_2_bits(codes, blocks, a, sums);
    Sums chains[2] = {W == 1 ? same(0) : sums, same(0)};  // one alone would wait for its own last sum
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t x = vld1q_s8(a + step / 4 * 16);
        Sums& s = chains[step % 2];
        s = {add_dot(s.low, factors_of<W>(codes, step), x, step), add_dot(s.high, factors_of<W>(codes + kHalf, step), x, step)};
      }
    }
    const Sums total = {vaddq_s32(chains[0].low, chains[1].low), vaddq_s32(chains[0].high, chains[1].high)};
    sums = W == 1 ? Sums{plus_factors<W>(sums.low, total.low), plus_factors<W>(sums.high, total.high)} : total;
  }

  // A field of two bits is not moved but masked where it lies: its products are 4 or 16 times too large, and so is their sum, exactly.
  // Only the uppermost would be negative there.
  static void dot_2_bits(const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    Sums places[4] = {sums, same(0), same(0), same(0)};
    for (int b = 0; b < blocks; ++b, codes += kColumns * 2, a += kColumns) {
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t x = vld1q_s8(a + step / 4 * 16);
        const uint8_t* vector = codes + step / 4 * kColumns;
        Sums& s = places[step % 4];
        s = {add_dot(s.low, in_place(vector, step % 4), x, step), add_dot(s.high, in_place(vector + kHalf, step % 4), x, step)};
      }
    }
    sums = {total_of(places[0].low, places[1].low, places[2].low, places[3].low),
            total_of(places[0].high, places[1].high, places[2].high, places[3].high)};
  }

  static int8x16_t in_place(const uint8_t* vector, int place) {
    const uint8x16_t v = vld1q_u8(vector);
    return vreinterpretq_s8_u8(place == 3 ? v >> 6 : vandq_u8(v, vdupq_n_u8((uint8_t)(3 << 2 * place))));
  }

  static int32x4_t total_of(int32x4_t ones, int32x4_t fours, int32x4_t sixteens, int32x4_t last) {
    return vsraq_n_s32(vsraq_n_s32(vaddq_s32(ones, last), fours, 2), sixteens, 4);
  }
};

// 8 tokens x 8 rows: 16 sums, 8 activations, and 2 weights that serve all tokens.
struct DotprodPrefill : NeonFloats {
  static constexpr int kTokens = 8;
  template <int W>
  static constexpr int kBlocks = 1;
  template <int W>
  static constexpr bool kValues = true;

  template <int W>
  static void unpack(const uint8_t* codes, int blocks, uint8_t* __restrict out) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step, out += kColumns) {
        vst1q_s8((int8_t*)out, values_of<W>(codes, step));
        vst1q_s8((int8_t*)out + kHalf, values_of<W>(codes + kHalf, step));
      }
  }

  template <int W, int A, int Tokens>
  static void dot(const uint8_t* const (&w)[1], int blocks, const int8_t* a, size_t stride, Sums (&sums)[1][Tokens]) {
    const int8_t* codes = (const int8_t*)w[0];
    for (int four = 0; four < blocks * kSteps / 4; ++four, a += 16) {
      int8x16_t x[Tokens];
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) x[t] = vld1q_s8(a + t * stride);
      BENCH_UNROLL for (int step = 0; step < 4; ++step, codes += kColumns) {
        const int8x16_t low = vld1q_s8(codes), high = vld1q_s8(codes + kHalf);
        BENCH_UNROLL for (int t = 0; t < Tokens; ++t) sums[0][t] = {add_dot(sums[0][t].low, low, x[t], step), add_dot(sums[0][t].high, high, x[t], step)};
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
