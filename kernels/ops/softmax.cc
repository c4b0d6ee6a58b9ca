// Softmax and its logarithm, shifted by the maximum so that nothing overflows.
#include <math.h>

#include "ops/exp.h"
#include "ops/lanes.h"
#include "ops/ops.h"

static float maximum(const float* x, int count) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = x[0];
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  }
  for (; i < count; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  float most = lanes[0];
  for (const float lane : lanes) most = lane > most ? lane : most;
  return most;
}

void softmax(float* x, int count) {
  const float most = maximum(x, count);
  for (int i = 0; i < count; ++i) x[i] = fast_exp(x[i] - most);
  const float scale = 1.0f / lane_sum(count, [x](int i) { return x[i]; });
  for (int i = 0; i < count; ++i) x[i] *= scale;
}

double log_sum_exp(const float* x, int count) {
  const float most = maximum(x, count);
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += static_cast<double>(expf(x[i] - most));
  return static_cast<double>(most) + log(sum);
}
