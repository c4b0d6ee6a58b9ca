// Sums in independent lanes: floating-point addition may not be reordered by the compiler, so the source says which order.
#ifndef BENCH_OPS_LANES_H_
#define BENCH_OPS_LANES_H_

constexpr int kLanes = 16;

// Sum of term(i) for i in [0, count).
template <typename Term>
static inline float lane_sum(int count, const Term& term) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  }
  for (; i < count; ++i) lanes[i % kLanes] += term(i);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

#endif  // BENCH_OPS_LANES_H_
