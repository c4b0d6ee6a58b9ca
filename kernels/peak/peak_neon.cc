// NEON of ARMv8.0: int8 by widening multiplications, fp32 by fused multiply-adds; reads of 16 bytes.
#include <arm_neon.h>

#define REGISTER "w"
typedef uint8x16_t Vector;
#include "peak/chains.h"
#include "peak/read.h"

PEAK_READS(neon)

extern "C" int64_t peak_int8_neon(int64_t turns) {
  const int8x8_t codes = vdup_n_s8(3), activations = vdup_n_s8(-5);
  return run_chains<12, int32x4_t>(turns, 2 * 8, codes, [=](int32x4_t sum, int8x8_t codes) { return vpadalq_s16(sum, vmull_s8(codes, activations)); });
}

extern "C" int64_t peak_short_neon(int64_t turns) {
  const int8x8_t codes = vdup_n_s8(3), activations = vdup_n_s8(-5);
  return run_chains<16, int16x8_t>(turns, 2 * 8, codes, [=](int16x8_t sum, int8x8_t codes) { return vmlal_s8(sum, codes, activations); });
}

extern "C" int64_t peak_fp32_neon(int64_t turns) {
  const float32x4_t weight = vdupq_n_f32(0.5f), activation = vdupq_n_f32(0.25f);
  return run_chains<16, float32x4_t>(turns, 2 * 4, weight, [=](float32x4_t sum, float32x4_t weight) { return vfmaq_f32(sum, weight, activation); });
}
