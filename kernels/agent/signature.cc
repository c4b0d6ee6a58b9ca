// The bursts and their line.
#include "agent/signature.h"

#include <unistd.h>

#include "agent/output.h"
#include "base/clock.h"
#include "base/random.h"

namespace {

constexpr int kBursts = 3;
constexpr int64_t kBurstNs = 200000000;
constexpr int kRestUs = 200000;

// Four chains at once keep the multipliers busy, which a chain of additions does not.
void burn(int64_t end) {
  uint64_t states[4] = {1, 2, 3, 4};
  uint64_t sum = 0;
  while (now_ns() < end) {
    for (int turn = 0; turn < 1000; ++turn) {
      for (uint64_t& state : states) sum ^= next_random(&state);
    }
    asm volatile("" ::"r"(sum));
  }
}

}  // namespace

void Signature::play(Pool* pool) {
  usleep(kRestUs);
  for (int i = 0; i < kBursts; ++i) {
    const int64_t begin = now_ns();
    pool->run([&](int) { burn(begin + kBurstNs); });
    edges_ns_.insert(edges_ns_.end(), {begin, now_ns()});
    usleep(kRestUs);
  }
}

void Signature::report() const {
  Json signature = line("signature");
  signature.key("edges_ns").begin('[');
  for (const int64_t edge : edges_ns_) signature.value(edge);
  signature.end(']');
  emit(&signature);
}
