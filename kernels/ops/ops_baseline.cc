// The ops, compiled for the preset's own instruction set.
#include <math.h>
#include <stdint.h>

#include "base/half.h"
#include "ops/attention.h"
#include "ops/exp.h"
#include "ops/kv_codes.h"
#include "ops/lanes.h"
#include "ops/planes.h"
#include "ops/vector.h"

namespace ops_baseline {
#include "ops/elementwise.inc"
#include "ops/gelu.inc"
#include "ops/hadamard.inc"
#include "ops/layernorm.inc"
#include "ops/quantize.inc"
#include "ops/relu.inc"
#include "ops/rmsnorm.inc"
#include "ops/rope.inc"
#include "ops/side.inc"
#include "ops/silu.inc"
#include "ops/softmax.inc"
#include "ops/kv_load.inc"
#include "ops/attention.inc"
#include "ops/log2_attention.inc"
}  // namespace ops_baseline
