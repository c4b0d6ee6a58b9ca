// ARMv8.6 int8 matrix multiplication: smmla, 32 multiply-accumulates.
#include <arm_neon.h>

#define REGISTER "w"
#include "peak/chains.h"

extern "C" int64_t peak_int8_i8mm(int64_t turns) {
  const int8x16_t codes = vdupq_n_s8(3), activations = vdupq_n_s8(-5);
  return run_chains<16, int32x4_t>(turns, 2 * 32, codes, [=](int32x4_t sum, int8x16_t codes) { return vmmlaq_s32(sum, codes, activations); });
}
