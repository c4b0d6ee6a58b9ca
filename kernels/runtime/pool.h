// Pool: a team of threads that does one piece of work together, each its fixed share; the caller is the first of the team.
//
// Workers wait for the next piece spinning for a few microseconds (the next product of a token comes that soon), then asleep
// on a futex: an idle pool uses no CPU. Running allocates nothing.
//
// Shares are proportional to the speed of the cores (big.LITTLE). It is measured once, at the start, where threads stay on their CPUs;
// elsewhere, and where all cores are of one kind, shares are equal. Who computes a result never changes it.
#ifndef BENCH_RUNTIME_POOL_H_
#define BENCH_RUNTIME_POOL_H_

#include <pthread.h>
#include <stdint.h>

#include <atomic>
#include <vector>

#include "runtime/error.h"

struct Range {
  int begin, end;
};

// The part of [0, count) that belongs to the units [begin, end) of `units`: parts of neighbours follow each other.
inline Range part(int count, Range own, int units) {
  return {static_cast<int>(int64_t{count} * own.begin / units), static_cast<int>(int64_t{count} * own.end / units)};
}

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // Starts `threads - 1` workers. With `cpus` (as many as threads) each member, the caller included, stays on its CPU;
  // `usage` when this process may not run there, `memory` when the system refuses a thread.
  Error start(int threads, const std::vector<int>& cpus);

  // The CPUs that the kernel lets its members run on, together: asked of each member by itself, so that it is what came of `cpus`.
  std::vector<int> cpus();

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // The part of [0, count) that the member does: contiguous, in proportion to the speed of its core.
  Range share(int count, int member) const { return part(count, shares_[static_cast<size_t>(member)], shares_.back().end); }

  // Shares work by these speeds, one for each member; `start` has measured them where it can.
  void set_speeds(const std::vector<int>& speeds);

  // Calls work(member) once for every member 0..size()-1 and returns when all are done.
  template <typename Work>
  void run(const Work& work) {
    run_erased([](const void* w, int member) { (*static_cast<const Work*>(w))(member); }, &work);
  }

 private:
  using Function = void (*)(const void* work, int member);

  struct Worker {
    Pool* pool;
    int member;
    pthread_t thread;
  };

  void run_erased(Function function, const void* work);
  void serve(int member);

  std::vector<Worker> workers_;
  std::vector<Range> shares_{{0, 1}};  // the units of each member
  Function function_ = nullptr;
  const void* work_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // counts pieces of work; workers wait for it to change
  std::atomic<uint32_t> pending_{0};     // workers that have not finished the current piece
  std::atomic<bool> stopping_{false};
};

// Calls work(i, member) for every i in [0, count), split over the team; one is not worth waking it.
template <typename Work>
void for_each(Pool* pool, int count, const Work& work) {
  if (count == 1) return work(0, 0);
  pool->run([&](int member) {
    const Range own = pool->share(count, member);
    for (int i = own.begin; i < own.end; ++i) work(i, member);
  });
}

#endif  // BENCH_RUNTIME_POOL_H_
