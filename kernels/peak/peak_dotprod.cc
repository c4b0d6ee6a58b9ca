// ARMv8.2 dot product: sdot, 16 multiply-accumulates.
#include <arm_neon.h>

#define REGISTER "w"
#include "peak/chains.h"

extern "C" int64_t peak_int8_dotprod(int64_t turns) {
  const int8x16_t codes = vdupq_n_s8(3), activations = vdupq_n_s8(-5);
  return run_chains<16, int32x4_t>(turns, 2 * 16, codes, [=](int32x4_t sum, int8x16_t codes) { return vdotq_s32(sum, codes, activations); });
}
