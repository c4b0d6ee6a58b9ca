// Pool: a team of threads that does one piece of work together, each its fixed share; the caller is the first of the team.
//
// Workers wait for the next piece spinning for a few microseconds (the next product of a token comes that soon), then asleep
// on a futex: an idle pool uses no CPU. Running allocates nothing.
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

// The part of [0, count) that member `index` of a team of `team` does: contiguous, sizes differ by one at most.
inline Range share(int count, int index, int team) {
  return {static_cast<int>(int64_t{count} * index / team), static_cast<int>(int64_t{count} * (index + 1) / team)};
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
  Function function_ = nullptr;
  const void* work_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // counts pieces of work; workers wait for it to change
  std::atomic<uint32_t> pending_{0};     // workers that have not finished the current piece
  std::atomic<bool> stopping_{false};
};

#endif  // BENCH_RUNTIME_POOL_H_
