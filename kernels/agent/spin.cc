// agent spin: how many dependent additions a core does per second, which is its clock: governors and firmware may say otherwise.
#include <sched.h>

#include <algorithm>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/system.h"
#include "base/clock.h"
#include "runtime/pool.h"

namespace {

constexpr int kChain = 256;  // additions per turn: the loop around them costs an in-order core less than one percent
constexpr int kTurns = 4096;  // about a million additions, 0.3 to 1 ms
constexpr int64_t kPieceAdditions = int64_t{kChain} * kTurns;

// Every addition waits for the one before. Two registers: some cores do an addition of a constant for free.
void add_chain() {
  uint64_t sum = 0;
  const uint64_t term = 3;
  for (int turn = 0; turn < kTurns; ++turn) {
#if defined(__x86_64__)
    asm volatile(".rept 256\n\taddq %1, %0\n\t.endr" : "+r"(sum) : "r"(term) : "cc");
#else
    asm volatile(".rept 256\n\tadd %0, %0, %1\n\t.endr" : "+r"(sum) : "r"(term));
#endif
  }
}

}  // namespace

Error run_spin(Arguments* arguments) {
  std::vector<int> cpus;
  int64_t ms = 100;
  while (arguments->next()) {
    if (arguments->is("--cpu")) {
      cpus = {static_cast<int>(arguments->integer(0, CPU_SETSIZE - 1))};
    } else if (arguments->is("--ms")) {
      ms = arguments->integer(1, 60000);
    } else {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  Pool pool;
  if (Error failed = pool.start(1, cpus)) return failed;

  int64_t additions = 0, fastest = INT64_MAX;
  const int64_t start = now_ns();
  int64_t end = start;
  while (end - start < ms * 1000000) {
    add_chain();
    const int64_t now = now_ns();
    fastest = std::min(fastest, now - end);
    additions += kPieceAdditions;
    end = now;
  }
  // Read while the core is still warm from the work: an idle one may be named slower.
  const int cpu = sched_getcpu();
  const int64_t claimed = System("").current_khz(cpu);
  tell_cpus(pool.cpus());
  Json spin = line("spin");
  spin.key("cpu").value(cpu).key("additions").value(additions).key("ns").value(end - start);
  spin.key("mhz").value(1e3 * static_cast<double>(kPieceAdditions) / static_cast<double>(fastest));
  spin.key("claimed_mhz");
  claimed > 0 ? spin.value(static_cast<double>(claimed) / 1e3) : spin.null();
  emit(&spin);
  return {};
}
