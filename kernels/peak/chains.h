// The compute loops of one instruction set, whose file has defined REGISTER. Internal linkage throughout.
#ifndef BENCH_PEAK_CHAINS_H_
#define BENCH_PEAK_CHAINS_H_

#include <stdint.h>

#include "peak/opaque.h"

namespace {

// Gives every chain one `step`, (sum, operand) -> sum, a turn: enough chains cover the latency of an instruction. `operations` are
// those of a step; returns those of all.
template <int kChains, typename Vector, typename Operand, typename Step>
int64_t run_chains(int64_t turns, int operations, Operand operand, const Step& step) {
  Vector sums[kChains] = {};
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
    for (int chain = 0; chain < kChains; ++chain) {
      obscure(operand);  // else its products would be the same for all chains, and made once
      sums[chain] = step(sums[chain], operand);
    }
  }
  for (const Vector& sum : sums) keep(sum);
  return turns * kChains * operations;
}

}  // namespace

#endif  // BENCH_PEAK_CHAINS_H_
