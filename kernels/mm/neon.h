// What the files for Arm share: unpacking and everything that works in floats. Internal linkage, as tile.h.
#ifndef BENCH_MM_NEON_H_
#define BENCH_MM_NEON_H_

#include <arm_neon.h>

#include "mm/tile.h"

namespace {

constexpr int kHalf = kColumns / 2;  // bytes of a step in one register: 4 rows x 4 columns

// The byte field of `Width` bits of one 4-column step at bit 0, with what lies above it.
template <int Width>
inline uint8x16_t field(const uint8_t* plane, int step) {
  return vld1q_u8(plane + kColumns * (step * Width / 8)) >> Width * (step % (8 / Width));
}

// Codes at bit 0, with strangers above them. sli puts the upper plane over the strangers of the lower ones.
template <int Bits>
inline uint8x16_t planes_of(const uint8_t* planes, int step) {
  constexpr int kWidth = plane_width(Bits);
  const uint8x16_t top = field<kWidth>(planes, step);
  if constexpr (Bits == kWidth) return top;
  else return vsliq_n_u8(planes_of<Bits - kWidth>(planes + kColumns * kWidth, step), top, Bits - kWidth);
}

// The codes of 4 rows of one step (`codes` + kHalf: rows 4..7): byte i is row i/4, column i%4.
template <int W>
inline uint8x16_t codes_of(const uint8_t* codes, int step) {
  constexpr int kBits = stored_bits(W), kPerVector = 8 / plane_width(kBits);
  const uint8x16_t v = planes_of<kBits>(codes, step);
  return step % kPerVector == kPerVector - 1 ? v : vandq_u8(v, vdupq_n_u8((1 << kBits) - 1));  // nothing is above the last field
}

// 0xff where the code of one bit is 1.
inline uint8x16_t set_bits(const uint8_t* codes, int step) { return vtstq_u8(vld1q_u8(codes), vdupq_n_u8((uint8_t)(1 << step))); }

// Codes less their offset.
template <int W>
inline int8x16_t values_of(const uint8_t* codes, int step) {
  const uint8x16_t one = vdupq_n_u8(1);
  if constexpr (W == 1) return vreinterpretq_s8_u8(vornq_u8(one, set_bits(codes, step)));
  else return vreinterpretq_s8_u8(vsubq_u8(codes_of<W>(codes, step), vdupq_n_u8(offset(W))));
}

template <int W>
inline int8x16_t table_of(const int8_t* book) {
  if constexpr (looks_up(W)) return vld1q_s8(book);
  else return vdupq_n_s8(0);
}

// The same; those of a codebook are looked up.
template <int W>
inline int8x16_t values_of(int8x16_t table, const uint8_t* codes, int step) {
  if constexpr (looks_up(W)) return vqtbl1q_s8(table, codes_of<W>(codes, step));
  else return values_of<W>(codes, step);
}

// The lane of a by-element instruction must be a constant; after unrolling it is, and the switch is gone.
inline float32x4_t fma_lane(float32x4_t sum, float32x4_t w, float32x4_t a, int lane) {
  switch (lane) {
    case 0: return vfmaq_laneq_f32(sum, w, a, 0);
    case 1: return vfmaq_laneq_f32(sum, w, a, 1);
    case 2: return vfmaq_laneq_f32(sum, w, a, 2);
    default: return vfmaq_laneq_f32(sum, w, a, 3);
  }
}

inline float32x4_t load_halves(const uint16_t* h) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h))); }

inline float half(uint16_t h) {
  __fp16 x;
  __builtin_memcpy(&x, &h, sizeof x);
  return x;
}

// Column j of 4 rows, that is byte j of every 32-bit lane: moved to the top of the lane it needs no sign extension, and the conversion
// divides by 2^24.
inline float32x4_t column(int8x16_t w, int j) {
  constexpr uint8_t kFrom[2][16] = {{16, 16, 16, 1, 16, 16, 16, 5, 16, 16, 16, 9, 16, 16, 16, 13},
                                    {16, 16, 16, 2, 16, 16, 16, 6, 16, 16, 16, 10, 16, 16, 16, 14}};
  const int32x4_t lanes = vreinterpretq_s32_s8(w);
  if (j == 0) return vcvtq_n_f32_s32(lanes << 24, 24);
  if (j == 3) return vcvtq_n_f32_s32(vandq_s32(lanes, vdupq_n_s32((int32_t)0xff000000)), 24);
  return vcvtq_n_f32_s32(vreinterpretq_s32_s8(vqtbl1q_s8(w, vld1q_u8(kFrom[j - 1]))), 24);
}

// The part of an instruction set struct (tile.h) that needs no integer products.
struct NeonFloats {
  struct Floats { float32x4_t low, high; };
  struct Sums { int32x4_t low, high; };
  static constexpr int kFloatTokens = 4;
  template <int W>
  static constexpr int kStepBytes = kColumns;

  static Floats zero() { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
  static Sums same(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x)}; }
  static Floats halves(const uint16_t* h) { return {load_halves(h), load_halves(h + 4)}; }
  static Floats to_floats(Sums s) { return {vcvtq_f32_s32(s.low), vcvtq_f32_s32(s.high)}; }
  static Floats fma(Floats a, Floats b, Floats c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static Sums plus(Sums a, Sums b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
  static Sums times(Sums a, Sums b) { return {vmulq_s32(a.low, b.low), vmulq_s32(a.high, b.high)}; }
  static Sums bytes(const int8_t* p) { return bytes(vmovl_s8(vld1_s8(p))); }
  static Sums bytes(const uint8_t* p) { return bytes(vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)))); }
  static Sums bytes(int16x8_t v) { return {vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)}; }
  static Floats plus(Floats a, Floats b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static Floats times(Floats a, Floats b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static Floats times(Floats a, float b) { return {vmulq_n_f32(a.low, b), vmulq_n_f32(a.high, b)}; }
  static Floats load(const float* y) { return {vld1q_f32(y), vld1q_f32(y + 4)}; }
  static Sums load(const int32_t* s) { return {vld1q_s32(s), vld1q_s32(s + 4)}; }
  static void store(float* y, Floats f) {
    vst1q_f32(y, f.low);
    vst1q_f32(y + 4, f.high);
  }
  static void store(int32_t* s, Sums v) {
    vst1q_s32(s, v.low);
    vst1q_s32(s + 4, v.high);
  }

  static void widen(const uint16_t* h, int count, float* out) {
    int i = 0;
    for (; i + 8 <= count; i += 8) store(out + i, halves(h + i));
    for (; i < count; ++i) out[i] = half(h[i]);
  }

  template <int W>
  static void unpack_floats(const uint8_t* codes, int blocks, Floats scale, float* __restrict out) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t low = values_of<W>(codes, step), high = values_of<W>(codes + kHalf, step);
        BENCH_UNROLL for (int j = 0; j < 4; ++j, out += kRows) store(out, {vmulq_f32(column(low, j), scale.low), vmulq_f32(column(high, j), scale.high)});
      }
  }

  // 4 rows x 8 columns at a time: st4 writes the rows of 4 registers as columns, and two of these make a column of 8.
  static void transpose_halves(const uint16_t* w, size_t stride, int rows, int columns, float* out) {
    int k = 0;
    for (; k + 8 <= columns; k += 8) {
      float turned[2][8][4];
      for (int first = 0; first < kRows; first += 4) {
        Floats r[4];
        for (int i = 0; i < 4; ++i) r[i] = first + i < rows ? halves(at_byte<uint16_t>(w, (first + i) * stride) + k) : zero();
        vst4q_f32(turned[first / 4][0], (float32x4x4_t{{r[0].low, r[1].low, r[2].low, r[3].low}}));
        vst4q_f32(turned[first / 4][4], (float32x4x4_t{{r[0].high, r[1].high, r[2].high, r[3].high}}));
      }
      for (int i = 0; i < 8; ++i) store(out + (k + i) * kRows, {vld1q_f32(turned[0][i]), vld1q_f32(turned[1][i])});
    }
    for (; k < columns; ++k)
      for (int i = 0; i < kRows; ++i) out[k * kRows + i] = i < rows ? half(at_byte<uint16_t>(w, i * stride)[k]) : 0;
  }

  // Column j of the activations x.
  template <int Blocks, int Tokens>
  static BENCH_INLINE void add_column(const float* const (&w)[Blocks], int column, const float32x4_t (&x)[Tokens], int j, Floats (&sums)[Blocks][Tokens]) {
    BENCH_UNROLL for (int i = 0; i < Blocks; ++i) {
      const Floats rows = load(w[i] + column * kRows);
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t)
        sums[i][t] = {fma_lane(sums[i][t].low, rows.low, x[t], j), fma_lane(sums[i][t].high, rows.high, x[t], j)};
    }
  }

  // One load of activations serves 4 columns; fp16 weights are not padded, and their last columns come one by one.
  template <int Blocks, int Tokens>
  static BENCH_INLINE void dot_floats(const float* const (&w)[Blocks], int columns, const float* a, int stride, Floats (&sums)[Blocks][Tokens]) {
    float32x4_t x[Tokens];
    int k = 0;
    for (; k + 4 <= columns; k += 4) {
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) x[t] = vld1q_f32(a + t * stride + k);
      add_column(w, k, x, 0, sums);
      add_column(w, k + 1, x, 1, sums);
      add_column(w, k + 2, x, 2, sums);
      add_column(w, k + 3, x, 3, sums);
    }
    for (; k < columns; ++k) {
      BENCH_UNROLL for (int t = 0; t < Tokens; ++t) x[t] = vdupq_n_f32(a[t * stride + k]);
      add_column(w, k, x, 0, sums);
    }
  }

  template <int W>
  static Floats dot_a16(const uint8_t* codes, int blocks, const uint16_t* a) {
    Floats sums[4] = {zero(), zero(), zero(), zero()};
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      BENCH_UNROLL for (int step = 0; step < kSteps; ++step) {
        const int8x16_t low = values_of<W>(codes, step), high = values_of<W>(codes + kHalf, step);
        const float32x4_t x = load_halves(a + 4 * step);
        BENCH_UNROLL for (int j = 0; j < 4; ++j) sums[j] = {fma_lane(sums[j].low, column(low, j), x, j), fma_lane(sums[j].high, column(high, j), x, j)};
      }
    }
    return plus(plus(sums[0], sums[1]), plus(sums[2], sums[3]));
  }

  template <int Rows>
  static void dot_f16(const uint16_t* w, size_t stride, const uint16_t* a, int k, float (&out)[Rows]) {
    Floats sums[Rows];
    for (auto& each : sums) each = zero();
    int i = 0;
    for (; i + 8 <= k; i += 8) {
      const Floats x = halves(a + i);
      for (int r = 0; r < Rows; ++r) sums[r] = fma(halves(at_byte<uint16_t>(w, r * stride) + i), x, sums[r]);
    }
    for (int r = 0; r < Rows; ++r) {
      out[r] = vaddvq_f32(vaddq_f32(sums[r].low, sums[r].high));
      for (int j = i; j < k; ++j) out[r] += half(at_byte<uint16_t>(w, r * stride)[j]) * half(a[j]);
    }
  }
};

}  // namespace

#endif  // BENCH_MM_NEON_H_
