// Addition and conversion of rows.
#include "base/half.h"
#include "ops/ops.h"

void add(float* x, const float* y, int count) {
  for (int i = 0; i < count; ++i) x[i] += y[i];
}

void floats_from_halves(const uint16_t* halves, int count, float* y) {
  for (int i = 0; i < count; ++i) y[i] = half_to_float(halves[i]);
}
