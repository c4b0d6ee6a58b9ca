// Norm: the parameters of a norm of rows.
#ifndef BENCH_RUNTIME_NORM_H_
#define BENCH_RUNTIME_NORM_H_

#include "ops/ops.h"

struct Norm {
  const float* weight = nullptr;  // [C]
  const float* bias = nullptr;    // [C] of a layer norm; null: RMSNorm

  // `y` is apart from `x`.
  void apply(const float* x, int channels, float epsilon, float* y) const {
    if (bias) {
      layernorm(x, weight, bias, channels, epsilon, y);
    } else {
      rmsnorm(x, weight, channels, epsilon, y);
    }
  }
};

#endif  // BENCH_RUNTIME_NORM_H_
