// IEEE 754 binary16 to and from float. Internal linkage: a copy compiled with special flags must not serve other files.
#ifndef BENCH_BASE_HALF_H_
#define BENCH_BASE_HALF_H_

#include <stdint.h>

static inline uint32_t float_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float float_from_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

#if defined(__aarch64__)

static inline float half_to_float(uint16_t h) {
  __fp16 x;
  __builtin_memcpy(&x, &h, sizeof x);
  return x;
}

static inline uint16_t half_from_float(float f) {
  const __fp16 x = (__fp16)f;
  uint16_t h;
  __builtin_memcpy(&h, &x, sizeof h);
  return h;
}

#else

// Moving exponent and mantissa 13 places leaves the value too small by 2^112 (the biases are 127 and 15);
// a multiplication repairs it and makes subnormals right as well.
static inline float half_to_float(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
  const uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13;
  const uint32_t finite = float_bits(float_from_bits(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000;
  return float_from_bits(sign | (magnitude >= 0x0f800000 ? special : finite));
}

// Rounds half to even: adding a number whose last place is the wanted one makes the float adder do it.
static inline uint16_t half_from_float(float f) {
  const uint32_t sign = float_bits(f) & 0x80000000;
  const uint32_t magnitude = float_bits(f) ^ sign;
  uint32_t h;
  if (magnitude > 0x7f800000) {
    h = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    h = 0x7c00;  // 65520 and up round to infinity
  } else if (magnitude < 0x38800000) {
    h = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000;  // below 2^-14: places of 2^-24
  } else {
    const uint32_t odd = magnitude >> 13 & 1;
    h = (magnitude - 0x38000000 + 0xfff + odd) >> 13;
  }
  return (uint16_t)(h | sign >> 16);
}

#endif

// Whether none is infinite or undefined. No early end, so that it is vectorized: files hold millions.
static inline bool all_finite(const uint16_t* halves, uint64_t count) {
  uint16_t special = 0;
  for (uint64_t i = 0; i < count; ++i) special |= (uint16_t)((halves[i] & 0x7c00) == 0x7c00);
  return !special;
}

#endif  // BENCH_BASE_HALF_H_
