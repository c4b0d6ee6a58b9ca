// ARMv8.6 (and many ARMv8.2) int8 matrix products: Cortex-X2, A710, A510 and up, Neoverse V1 and N2.
//
// smmla multiplies 2 tokens x 8 columns by 8 columns x 2 rows and adds to the 2 x 2 sums of a register: twice the work of sdot. usdot
// takes codes of 8 bits as they are. Where neither helps, the rows of dotprod serve.
#include "mm/neon.h"

namespace {

inline int32x4_t add_dot(int32x4_t sums, uint8x16_t w, int8x16_t a, int step) {
  switch (step % 4) {
    case 0: return vusdotq_laneq_s32(sums, w, a, 0);
    case 1: return vusdotq_laneq_s32(sums, w, a, 1);
    case 2: return vusdotq_laneq_s32(sums, w, a, 2);
    default: return vusdotq_laneq_s32(sums, w, a, 3);
  }
}

struct I8mmDecode : NeonFloats {
  template <int W, int A>
  static void dot_packed(const int8_t*, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    Sums chains[2] = {sums, same(0)};  // one alone would wait for its own last sum
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t x = vld1q_s8(a + step / 4 * 16);
        Sums& s = chains[step % 2];
        s = {add_dot(s.low, codes_of<W>(codes, step), x, step), add_dot(s.high, codes_of<W>(codes + kHalf, step), x, step)};
      }
    }
    sums = {vaddq_s32(chains[0].low, chains[1].low), vaddq_s32(chains[0].high, chains[1].high)};
  }
};

// 4 tokens x 16 rows: 16 sums, and the activations of two tokens are brought together (zip) once for 16 rows.
struct I8mmPrefill : NeonFloats {
  static constexpr int kTokens = 4;
  template <int W>
  static constexpr int kBlocks = 2;
  template <int W>
  static constexpr bool kValues = true;

  // st2 writes two steps of 4 rows as rows of 8 columns.
  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* __restrict out) {
    const int8x16_t table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL for (int step = 0; step < kSteps; step += 2)
        BENCH_UNROLL for (int half = 0; half < kColumns; half += kHalf, out += kColumns) {
          int32x4x2_t two;
          for (int i = 0; i < 2; ++i) two.val[i] = vreinterpretq_s32_s8(values_of<W>(table, codes + half, step + i));
          vst2q_s32((int32_t*)out, two);
        }
  }

  // Two tokens of 8 columns. A token without a second is its own, and what comes of it is left out.
  static int8x16_t pair(int8x16_t first, int8x16_t second, int upper) {
    const int64x2_t a = vreinterpretq_s64_s8(first), b = vreinterpretq_s64_s8(second);
    return vreinterpretq_s8_s64(upper ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
  }

  template <int W, int A, int Blocks, int Tokens>
  static void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    constexpr int kPairs = (Tokens + 1) / 2;
    int32x4_t squares[Blocks][kPairs][4] = {};  // [..][2 rows]: 2 tokens x 2 rows
    for (int at = 0; at < blocks * kColumns; at += 16) {
      int8x16_t x[Tokens];
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) x[t] = vld1q_s8(a + t * stride + at);
      BENCH_UNROLL for (int eight = 0; eight < 2; ++eight) {
        int8x16_t both[kPairs];
        BENCH_UNROLL for (int p = 0; p < kPairs; ++p) both[p] = pair(x[2 * p], x[least(2 * p + 1, Tokens - 1)], eight);
        BENCH_UNROLL for (int i = 0; i < Blocks; ++i)
          BENCH_UNROLL for (int r = 0; r < 4; ++r) {
            const int8x16_t rows = vld1q_s8((const int8_t*)w[i] + kRows * (at + 8 * eight) + 16 * r);
            BENCH_UNROLL for (int p = 0; p < kPairs; ++p) squares[i][p][r] = vmmlaq_s32(squares[i][p][r], both[p], rows);
          }
      }
    }
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i)
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) {
        const int32x4_t(&s)[4] = squares[i][t / 2];
        sums[i][t] = {vaddq_s32(sums[i][t].low, of_token(s[0], s[1], t)), vaddq_s32(sums[i][t].high, of_token(s[2], s[3], t))};
      }
  }

  static int32x4_t of_token(int32x4_t first, int32x4_t second, int t) {
    const int64x2_t a = vreinterpretq_s64_s32(first), b = vreinterpretq_s64_s32(second);
    return vreinterpretq_s32_s64(t % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
  }
};

template <int TileM>
struct I8mm : I8mmPrefill {};
template <>
struct I8mm<1> : I8mmDecode {};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_i8mm(name, weight, activation_bits, tile_m) MM_DEFINE(I8mm<tile_m>, name, weight, activation_bits, tile_m)
#define MM_DEFINE_dotprod(...)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
