// Rotary position embedding (Su et al. 2021, "RoFormer"), on neighbouring pairs as in the paper.
#include <math.h>

#include "ops/ops.h"

void rope_table(int positions, int head_size, float base, float* cosine, float* sine) {
  const int pairs = head_size / 2;
  for (int pair = 0; pair < pairs; ++pair) {
    // fp32 like transformers, whose logits we are compared with; the angle itself grows and wants double.
    const float frequency = static_cast<float>(1.0 / pow(base, 2.0 * pair / head_size));
    for (int position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(frequency) * position;
      cosine[static_cast<int64_t>(position) * pairs + pair] = static_cast<float>(cos(angle));
      sine[static_cast<int64_t>(position) * pairs + pair] = static_cast<float>(sin(angle));
    }
  }
}

void rope(float* x, int heads, int head_size, const float* cosine, const float* sine) {
  for (int head = 0; head < heads; ++head, x += head_size) {
    for (int i = 0; i < head_size / 2; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cosine[i] - b * sine[i];
      x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
  }
}
