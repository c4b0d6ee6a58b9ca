// The ops, compiled for AVX2: the same sums in the same order, twice as many at once.
#include <math.h>
#include <stdint.h>

#include "base/half.h"
#include "ops/exp.h"
#include "ops/lanes.h"

namespace ops_avx2 {
#include "ops/elementwise.inc"
#include "ops/rmsnorm.inc"
#include "ops/rope.inc"
#include "ops/silu.inc"
#include "ops/softmax.inc"
#include "ops/attention.inc"
#include "ops/log2_attention.inc"
}  // namespace ops_avx2
