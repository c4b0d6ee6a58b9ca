// Watch: a thread that reads sensors while the work goes on, on another CPU than the work, and stamps them with the clock of the work.
//
//   Watch watch(options.watch, options.team.cpus);              // before a pool pins this thread
//   if (Error failed = watch.start(&pool)) return failed;       // the first sample is taken
//   ...
//   watch.stop();                                               // the last one is taken
//   watch.report();
//
// Without anything to watch these do nothing.
#ifndef BENCH_AGENT_WATCH_H_
#define BENCH_AGENT_WATCH_H_

#include <pthread.h>
#include <stdint.h>

#include <optional>
#include <string>
#include <vector>

#include "agent/arguments.h"
#include "agent/samples.h"
#include "agent/signature.h"
#include "agent/watch_command.h"
#include "runtime/pool.h"

class Watch {
 public:
  Watch(const WatchOptions& options, const std::vector<int>& work_cpus);
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch();

  // Plays the signature on `pool`, if one is wanted, once the watch is on; `usage` when this process may not run on --watch-cpu.
  Error start(Pool* pool);

  // Plays it again; from here on nothing is watched.
  void stop();

  // Lines `signature`, `watch`, `samples`.
  void report() const;

 private:
  class File {  // opened once; after an error the next reading opens it again
   public:
    explicit File(const char* path) : path_(path) {}
    bool read(int64_t* value);
    void close();

   private:
    const char* path_;
    int descriptor_ = -1;
  };

  bool samples_anything() const { return !options_.paths.empty() || !options_.run.empty(); }
  Error start_thread();
  void end_thread();
  void serve();
  void settle_on_cpu();
  void take();
  bool wait_until(int64_t monotonic_ns);
  int64_t after(int64_t due);

  const WatchOptions& options_;
  std::vector<int> allowed_;   // where the process may run
  std::optional<int> chosen_;  // where the thread shall run; none: wherever the process may
  Pool* pool_ = nullptr;
  Signature signature_;

  std::vector<File> files_;
  WatchCommand command_;
  Sample sample_;
  Samples samples_;
  uint64_t dither_ = 1;

  pthread_t thread_{};
  bool running_ = false;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_;
  bool started_ = false, stopping_ = false;  // under mutex_

  std::optional<int> cpu_;  // where the kernel says that the thread ran
  int64_t cpu_ns_ = 0;
};

#endif  // BENCH_AGENT_WATCH_H_
