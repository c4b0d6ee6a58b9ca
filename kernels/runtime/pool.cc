// Threads, futexes and pinning.
#include "runtime/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "runtime/affinity.h"
#include "runtime/core_speed.h"

namespace {

// How long a thread looks before it goes to sleep: longer than the gap between two products, far shorter than a time slice.
constexpr int64_t kSpinNs = 20000;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

void wait_while(std::atomic<uint32_t>* word, uint32_t value) {
  for (const int64_t end = now_ns() + kSpinNs; now_ns() < end; pause_cpu()) {
    if (word->load(std::memory_order_acquire) != value) return;
  }
  while (word->load(std::memory_order_acquire) == value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
  }
}

void wake_all(std::atomic<uint32_t>* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0); }

Error pin(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (pthread_setaffinity_np(thread, sizeof set, &set) == 0) return {};
  return error(ErrorCode::kUsage, "this process may not run on cpu %d: it is absent, offline or outside its cpuset", cpu);
}

}  // namespace

Pool::~Pool() {
  stopping_ = true;
  generation_.fetch_add(1);
  wake_all(&generation_);
  for (const Worker& worker : workers_) pthread_join(worker.thread, nullptr);
}

Error Pool::start(int threads, const std::vector<int>& cpus) {
  if (!cpus.empty()) {
    if (Error failed = pin(pthread_self(), cpus[0])) return failed;
  }
  workers_.reserve(static_cast<size_t>(threads) - 1);  // workers keep their address
  const auto run = [](void* argument) -> void* {
    const Worker* worker = static_cast<Worker*>(argument);
    worker->pool->serve(worker->member);
    return nullptr;
  };
  for (int member = 1; member < threads; ++member) {
    // pthread and not std::thread, which can only throw when the system refuses.
    Worker& worker = workers_.emplace_back(Worker{this, member, {}});
    if (const int reason = pthread_create(&worker.thread, nullptr, run, &worker)) {
      workers_.pop_back();
      return error(ErrorCode::kMemory, "the system refused thread %d of %d: %s", member + 1, threads, strerror(reason));
    }
    if (cpus.empty()) continue;
    if (Error failed = pin(worker.thread, cpus[static_cast<size_t>(member)])) return failed;
  }
  std::vector<int64_t> ns(static_cast<size_t>(threads), 1);
  if (threads > 1 && !cpus.empty()) this->run([&](int member) { ns[static_cast<size_t>(member)] = product_ns(); });
  set_speeds(speeds(ns));
  return {};
}

void Pool::set_speeds(const std::vector<int>& speeds) {
  shares_.clear();
  for (int end = 0; const int speed : speeds) {
    shares_.push_back({end, end + speed});
    end += speed;
  }
}

std::vector<int> Pool::cpus() {
  std::vector<std::vector<int>> own(static_cast<size_t>(size()));
  run([&](int member) { own[static_cast<size_t>(member)] = affinity(0); });
  std::vector<int> all;
  for (const std::vector<int>& each : own) all.insert(all.end(), each.begin(), each.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void Pool::serve(int member) {
  for (uint32_t seen = 0;; ++seen) {
    wait_while(&generation_, seen);
    if (stopping_) return;
    function_(work_, member);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake_all(&pending_);
  }
}

void Pool::run_erased(Function function, const void* work) {
  if (workers_.empty()) return function(work, 0);
  function_ = function;
  work_ = work;
  pending_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  wake_all(&generation_);
  function(work, 0);
  for (uint32_t left; (left = pending_.load(std::memory_order_acquire)) != 0;) wait_while(&pending_, left);
}
