// What the NEON files share: unpacking and everything that works in floats. Internal linkage, as tile.h.
#ifndef BENCH_MM_NEON_H_
#define BENCH_MM_NEON_H_

#include <arm_neon.h>

#include "mm/tile.h"

namespace {

// One 4-column step of a block: low holds rows 0..3, high rows 4..7; byte i of either is row i/4, column i%4.
struct Step {
  uint8x16_t low, high;
};

template <int Width, int At>
inline uint8x16_t field(const uint8_t* vector, int step) {
  const uint8x16_t v = vld1q_u8(vector);
  if constexpr (Width == 8) return v;
  const int shift = Width * (step % (8 / Width)), right = shift - At;
  const uint8x16_t moved = right >= 0 ? v >> right : v << -right;
  // Of the topmost field, moved down to bit 0, nothing else is left.
  if (At == 0 && shift + Width == 8) return moved;
  return vandq_u8(moved, vdupq_n_u8(((1 << Width) - 1) << At));
}

template <int Bits>
inline Step codes_of(const uint8_t* planes, int step) {
  constexpr int kWidth = plane_width(Bits);
  const uint8_t* vector = planes + kColumns * (step * kWidth / 8);
  Step codes = {field<kWidth, Bits - kWidth>(vector, step), field<kWidth, Bits - kWidth>(vector + 16, step)};
  if constexpr (Bits > kWidth) {
    const Step rest = codes_of<Bits - kWidth>(planes + kColumns * kWidth, step);
    codes = {vorrq_u8(codes.low, rest.low), vorrq_u8(codes.high, rest.high)};
  }
  return codes;
}

// As signed bytes: code - Offset. Codes below 128 need no subtraction to be valid operands.
template <int Offset>
inline int8x16_t minus(uint8x16_t codes) {
  if constexpr (Offset == 0) return vreinterpretq_s8_u8(codes);
  return vreinterpretq_s8_u8(vsubq_u8(codes, vdupq_n_u8(Offset)));
}

inline float32x4_t load_halves(const uint16_t* h) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h))); }

inline float half(uint16_t h) {
  __fp16 x;
  __builtin_memcpy(&x, &h, sizeof x);
  return x;
}

// A column of 4 rows: byte j of every 32-bit lane, made a signed number by two shifts.
inline float32x4_t column(int8x16_t w, int j) {
  return vcvtq_f32_s32((vreinterpretq_s32_s8(w) << (24 - 8 * j)) >> 24);
}

// The part of an instruction set struct (tile.h) that needs no integer products.
struct NeonFloats {
  struct Floats { float32x4_t low, high; };
  struct Sums { int32x4_t low, high; };

  static Floats zero() { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
  static Floats halves(const uint16_t* h) { return {load_halves(h), load_halves(h + 4)}; }
  static Floats to_floats(Sums s, int32_t offset) {
    const int32x4_t o = vdupq_n_s32(offset);
    return {vcvtq_f32_s32(vsubq_s32(s.low, o)), vcvtq_f32_s32(vsubq_s32(s.high, o))};
  }
  static Floats fma(Floats a, Floats b, Floats c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
  static Floats plus(Floats a, Floats b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static Floats times(Floats a, float b) { return {vmulq_n_f32(a.low, b), vmulq_n_f32(a.high, b)}; }
  static void store(float* y, Floats f) {
    vst1q_f32(y, f.low);
    vst1q_f32(y + 4, f.high);
  }

  template <int Bits, int Tokens>
  static void dot_a16(const uint8_t* codes, int blocks, const uint16_t* a, size_t stride, Floats (&out)[Tokens]) {
    constexpr int kOffset = 1 << (Bits - 1);
    Floats sums[Tokens][2];
    for (auto& token : sums)
      for (auto& each : token) each = zero();
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns) {
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        const Step w = codes_of<Bits>(codes, step);
        const int8x16_t low = minus<kOffset>(w.low), high = minus<kOffset>(w.high);
        float32x4_t x[Tokens];
#pragma unroll
        for (int t = 0; t < Tokens; ++t) x[t] = load_halves(at_byte<uint16_t>(a, t * stride) + 4 * step);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const Floats c = {column(low, j), column(high, j)};
#pragma unroll
          for (int t = 0; t < Tokens; ++t) {
            const float32x4_t xj = vdupq_n_f32(x[t][j]);
            sums[t][j % 2] = fma(c, {xj, xj}, sums[t][j % 2]);
          }
        }
      }
    }
    for (int t = 0; t < Tokens; ++t) out[t] = plus(sums[t][0], sums[t][1]);
  }

  template <int Rows, int Tokens>
  static void dot_f16(const uint16_t* w, size_t w_stride, const uint16_t* a, size_t a_stride, int k, float (&out)[Rows][Tokens]) {
    Floats sums[Rows][Tokens];
    for (auto& row : sums)
      for (auto& each : row) each = zero();
    int i = 0;
    for (; i + 8 <= k; i += 8) {
      Floats x[Tokens];
      for (int t = 0; t < Tokens; ++t) x[t] = halves(at_byte<uint16_t>(a, t * a_stride) + i);
      for (int r = 0; r < Rows; ++r) {
        const Floats row = halves(at_byte<uint16_t>(w, r * w_stride) + i);
        for (int t = 0; t < Tokens; ++t) sums[r][t] = fma(row, x[t], sums[r][t]);
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int t = 0; t < Tokens; ++t) {
        out[r][t] = vaddvq_f32(vaddq_f32(sums[r][t].low, sums[r][t].high));
        for (int j = i; j < k; ++j)
          out[r][t] += half(at_byte<uint16_t>(w, r * w_stride)[j]) * half(at_byte<uint16_t>(a, t * a_stride)[j]);
      }
  }
};

}  // namespace

#endif  // BENCH_MM_NEON_H_
