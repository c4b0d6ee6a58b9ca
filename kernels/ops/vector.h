// Floats8: eight floats at a time, for the loops whose order of operations the compiler would not vectorize as we want.
//
// Chosen by what the file is compiled for. A product and a sum are one rounding (fused) where the instruction set has that: AVX2 with
// FMA and NEON; two elsewhere. Internal linkage: a copy compiled for one instruction set must never serve another file.
#ifndef BENCH_OPS_VECTOR_H_
#define BENCH_OPS_VECTOR_H_

#include <stdint.h>

#include "base/half.h"

constexpr int kVector = 8;

// Four words of 64 bits, with the operators of one.
typedef uint64_t Words4 __attribute__((vector_size(32)));

static inline float one_float(float x) { return x; }
static inline float one_float(uint16_t half) { return half_to_float(half); }
static inline float one_float(int8_t x) { return x; }

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include <immintrin.h>

typedef __m256 Floats8;

static inline Floats8 load8(const float* x) { return _mm256_loadu_ps(x); }
static inline Floats8 load8(const uint16_t* halves) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)halves)); }
static inline Floats8 load8(const int8_t* x) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)x))); }
static inline Floats8 load8(const uint8_t* x) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)x))); }
static inline Floats8 spread8(float x) { return _mm256_set1_ps(x); }
static inline void store8(float* y, Floats8 x) { _mm256_storeu_ps(y, x); }
static inline void store8(uint16_t* halves, Floats8 x) { _mm_storeu_si128((__m128i*)halves, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
static inline Floats8 multiply_add8(Floats8 a, Floats8 b, Floats8 sum) { return _mm256_fmadd_ps(a, b, sum); }

// table[codes[i]], of 16 numbers.
static inline Floats8 lookup8(const float* table, const uint8_t* codes) {
  const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)codes));
  const __m256 low = _mm256_permutevar8x32_ps(load8(table), index), high = _mm256_permutevar8x32_ps(load8(table + 8), index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

static inline void exchange_bytes(const __m256i* from, __m256i* to) {
  for (int i = 0; i < 4; ++i) to[2 * i] = _mm256_unpacklo_epi8(from[i], from[i + 4]), to[2 * i + 1] = _mm256_unpackhi_epi8(from[i], from[i + 4]);
}

// Byte r of to[m][j] = byte m of from[r][j], 8x4 words: each round moves a bit of r behind those of m, the last step one of j.
static inline void turn_words(const Words4* from, Words4* to) {
  __m256i a[8], b[8];
  for (int r = 0; r < 8; ++r) a[r] = (__m256i)from[r];
  exchange_bytes(a, b);
  exchange_bytes(b, a);
  exchange_bytes(a, b);
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = (Words4)_mm256_unpacklo_epi64(b[i], b[i + 4]);
    to[2 * i + 1] = (Words4)_mm256_unpackhi_epi64(b[i], b[i + 4]);
  }
}

#elif defined(__aarch64__)

#include <arm_neon.h>

struct Floats8 {
  float32x4_t low, high;
};

static inline Floats8 load8(const float* x) { return {vld1q_f32(x), vld1q_f32(x + 4)}; }
static inline Floats8 load8(const uint16_t* halves) {
  const float16x8_t x = vreinterpretq_f16_u16(vld1q_u16(halves));
  return {vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x)};
}
static inline Floats8 load8(const int8_t* x) {
  const int16x8_t wide = vmovl_s8(vld1_s8(x));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))};
}
static inline Floats8 load8(const uint8_t* x) {
  const uint16x8_t wide = vmovl_u8(vld1_u8(x));
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), vcvtq_f32_u32(vmovl_high_u16(wide))};
}
static inline Floats8 spread8(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
static inline void store8(float* y, Floats8 x) {
  vst1q_f32(y, x.low);
  vst1q_f32(y + 4, x.high);
}
static inline void store8(uint16_t* halves, Floats8 x) {
  vst1q_u16(halves, vreinterpretq_u16_f16(vcombine_f16(vcvt_f16_f32(x.low), vcvt_f16_f32(x.high))));
}
static inline Floats8 multiply_add8(Floats8 a, Floats8 b, Floats8 sum) {
  return {vfmaq_f32(sum.low, a.low, b.low), vfmaq_f32(sum.high, a.high, b.high)};
}

// table[codes[i]], of 16 numbers.
static inline Floats8 lookup8(const float* table, const uint8_t* codes) {
  float found[kVector];
  for (int i = 0; i < kVector; ++i) found[i] = table[codes[i]];
  return load8(found);
}

// Byte r of to[m][j] = byte m of from[r][j], 8x4 words.
static inline void turn_words(const Words4* from, Words4* to) {
  for (int j = 0; j < 4; ++j) {
    uint64_t rows[8];
    for (int r = 0; r < 8; ++r) rows[r] = from[r][j];
    const uint8x16x4_t columns = vld4q_u8((const uint8_t*)rows);  // columns m and m + 4 in turn
    for (int i = 0; i < 4; i += 2) {
      const uint64x2_t low = vreinterpretq_u64_u8(vuzp1q_u8(columns.val[i], columns.val[i + 1]));
      const uint64x2_t high = vreinterpretq_u64_u8(vuzp2q_u8(columns.val[i], columns.val[i + 1]));
      to[i][j] = vgetq_lane_u64(low, 0), to[i + 1][j] = vgetq_lane_u64(low, 1);
      to[i + 4][j] = vgetq_lane_u64(high, 0), to[i + 5][j] = vgetq_lane_u64(high, 1);
    }
  }
}

#else

struct Floats8 {
  float each[kVector];
};

static inline Floats8 load8(const float* x) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = x[i];
  return y;
}
static inline Floats8 load8(const uint16_t* halves) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = half_to_float(halves[i]);
  return y;
}
static inline Floats8 load8(const int8_t* x) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = x[i];
  return y;
}
static inline Floats8 load8(const uint8_t* x) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = x[i];
  return y;
}
static inline Floats8 spread8(float x) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = x;
  return y;
}
static inline void store8(float* y, Floats8 x) {
  for (int i = 0; i < kVector; ++i) y[i] = x.each[i];
}
static inline void store8(uint16_t* halves, Floats8 x) {
  for (int i = 0; i < kVector; ++i) halves[i] = half_from_float(x.each[i]);
}
static inline Floats8 multiply_add8(Floats8 a, Floats8 b, Floats8 sum) {
  for (int i = 0; i < kVector; ++i) sum.each[i] += a.each[i] * b.each[i];
  return sum;
}

// table[codes[i]], of 16 numbers.
static inline Floats8 lookup8(const float* table, const uint8_t* codes) {
  Floats8 y;
  for (int i = 0; i < kVector; ++i) y.each[i] = table[codes[i]];
  return y;
}

// Byte r of to[m][j] = byte m of from[r][j], 8x4 words.
static inline void turn_words(const Words4* from, Words4* to) {
  for (int m = 0; m < 8; ++m)
    for (int j = 0; j < 4; ++j) {
      to[m][j] = 0;
      for (int r = 0; r < 8; ++r) to[m][j] |= (from[r][j] >> 8 * m & 0xff) << 8 * r;
    }
}

#endif

#endif  // BENCH_OPS_VECTOR_H_
