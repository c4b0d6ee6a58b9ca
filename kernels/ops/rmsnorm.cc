// RMSNorm (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization").
#include <math.h>

#include "ops/lanes.h"
#include "ops/ops.h"

void rmsnorm(const float* x, const float* weight, int channels, float epsilon, float* y) {
  const float squares = lane_sum(channels, [x](int i) { return x[i] * x[i]; });
  const float scale = 1.0f / sqrtf(squares / static_cast<float>(channels) + epsilon);
  for (int i = 0; i < channels; ++i) y[i] = x[i] * scale * weight[i];
}
