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

// Every plane is multiplied by itself and their sums are joined: the codes need no joining, which would take shifts, and many cores
// have one unit for these.
struct DotprodDecode : NeonFloats {
  template <int W>
  static constexpr bool kValues = fills_bytes(W);

  // Of 2 bits by the place of a field in its byte, else in turns where there is one plane: a chain alone would wait for itself.
  struct Chains { Sums at[3]; };

  template <int W, int A>
  static void dot_packed(const int8_t* book, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    if constexpr (W == kCodebook) return dot_book(vld1q_s8(book), codes, blocks, a, sums);
    constexpr int kBits = stored_bits(W);
    constexpr bool kOnePlane = kBits > 1 && plane_width(kBits) == kBits;
    Chains planes[3] = {};
    if (kOnePlane) planes[0].at[0] = sums;
    for (int b = 0; b < blocks; ++b, codes += kColumns * kBits, a += kColumns)
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step)
        add_planes<kBits, kOnePlane || W == 1 ? 2 : 1>(codes, step, vld1q_s8(a + step / 4 * 16), planes);
    const Sums total = joined<kBits>(planes, same(0));
    sums = kOnePlane ? total : plus(sums, times_power<lowest_bit(W)>(total));
  }

  static void dot_book(int8x16_t table, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    Sums chains[2] = {sums, same(0)};
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(kCodebook), a += kColumns)
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t x = vld1q_s8(a + step / 4 * 16);
        Sums& s = chains[step % 2];
        s = {add_dot(s.low, values_of<kCodebook>(table, codes, step), x, step), add_dot(s.high, values_of<kCodebook>(table, codes + kHalf, step), x, step)};
      }
    sums = plus(chains[0], chains[1]);
  }

  template <int Bits, int Turns>
  static BENCH_INLINE void add_planes(const uint8_t* codes, int step, int8x16_t x, Chains* planes) {
    constexpr int kWidth = plane_width(Bits);
    const uint8_t* vector = codes + kColumns * (step * kWidth / 8);
    Sums& s = planes->at[kWidth == 2 ? step % 4 % 3 : step % Turns];
    s = {add_dot(s.low, factors_of<kWidth>(vector, step), x, step), add_dot(s.high, factors_of<kWidth>(vector + kHalf, step), x, step)};
    if constexpr (Bits > kWidth) add_planes<Bits - kWidth, Turns>(codes + kColumns * kWidth, step, x, planes + 1);
  }

  // The fields of one step, or what is quicker to get: of 8 bits less 128, of 2 bits masked where they lie, of 1 bit 0 or -1.
  template <int Width>
  static int8x16_t factors_of(const uint8_t* vector, int step) {
    const uint8x16_t v = vld1q_u8(vector);
    const int low = Width * (step % (8 / Width));
    if (Width == 8) return vreinterpretq_s8_u8(vsubq_u8(v, vdupq_n_u8(128)));
    if (Width == 1) return vreinterpretq_s8_u8(vtstq_u8(v, vdupq_n_u8((uint8_t)(1 << low))));
    if (low + Width == 8) return vreinterpretq_s8_u8(v >> low);  // where it lies it would be negative
    return vreinterpretq_s8_u8(vandq_u8(Width == 4 ? v >> low : v, vdupq_n_u8((uint8_t)(Width == 4 ? 15 : 3 << low))));
  }

  // Sums of fields from the sums of their factors: in the second and third place of two bits these are 4 and 16 times as large.
  template <int Width>
  static Sums total(const Chains& c) {
    if constexpr (Width == 2) return {by_place(c.at[0].low, c.at[1].low, c.at[2].low), by_place(c.at[0].high, c.at[1].high, c.at[2].high)};
    const Sums both = plus(c.at[0], c.at[1]);
    return Width == 1 ? Sums{vnegq_s32(both.low), vnegq_s32(both.high)} : both;
  }

  static int32x4_t by_place(int32x4_t ones, int32x4_t fours, int32x4_t sixteens) {
    return vsraq_n_s32(vsraq_n_s32(ones, fours, 2), sixteens, 4);
  }

  template <int Bits>
  static Sums joined(const Chains* planes, Sums upper) {
    constexpr int kWidth = plane_width(Bits);
    const Sums sums = plus(times_power<kWidth>(upper), total<kWidth>(*planes));
    if constexpr (Bits > kWidth) return joined<Bits - kWidth>(planes + 1, sums);
    else return sums;
  }

  template <int Power>
  static Sums times_power(Sums s) { return {s.low << Power, s.high << Power}; }
};

// 8 tokens x 8 rows: 16 sums, 8 activations, and 2 weights that serve all tokens.
struct DotprodPrefill : NeonFloats {
  static constexpr int kTokens = 8;
  template <int W>
  static constexpr int kBlocks = 1;
  template <int W>
  static constexpr bool kValues = true;

  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* __restrict out) {
    const int8x16_t table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step, out += kColumns) {
        vst1q_s8((int8_t*)out, values_of<W>(table, codes, step));
        vst1q_s8((int8_t*)out + kHalf, values_of<W>(table, codes + kHalf, step));
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
        BENCH_UNROLL for (int t = 0; t < Tokens; ++t)
          sums[0][t] = {add_dot(sums[0][t].low, low, x[t], step), add_dot(sums[0][t].high, high, x[t], step)};
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
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_dotprod(name, weight, activation_bits, tile_m) MM_DEFINE(Dotprod<tile_m>, name, weight, activation_bits, tile_m)
#define MM_DEFINE_i8mm(...)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
