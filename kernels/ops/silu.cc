// The gate of SwiGLU (Shazeer 2020, "GLU Variants Improve Transformer").
#include "ops/exp.h"
#include "ops/ops.h"

void silu_multiply(const float* gate, const float* up, int count, float* y) {
  for (int i = 0; i < count; ++i) y[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * up[i];
}
