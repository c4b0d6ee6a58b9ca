// The thread and its timing.
#include "agent/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "agent/output.h"
#include "agent/reading.h"
#include "base/clock.h"
#include "base/random.h"
#include "runtime/affinity.h"

namespace {

int64_t read_clock(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

bool holds(const std::vector<int>& cpus, int cpu) { return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end(); }

// In a full buffer the last word may be cut.
std::string_view whole_words(std::string_view text, size_t capacity) {
  return text.size() < capacity ? text : text.substr(0, text.find_last_of(" \t\n") + 1);
}

// The highest-numbered CPU that the work does not use.
std::optional<int> spare_cpu(const std::vector<int>& allowed, const std::vector<int>& work) {
  for (size_t i = allowed.size(); i-- > 0;) {
    if (!holds(work, allowed[i])) return allowed[i];
  }
  return std::nullopt;
}

}  // namespace

bool Watch::File::read(int64_t* value) {
  // Neither a pipe without a writer nor a terminal shall stop the watch.
  if (descriptor_ < 0) descriptor_ = open(path_, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) return false;
  char text[64];
  const ssize_t size = pread(descriptor_, text, sizeof text, 0);
  if (size < 0) close();
  return size >= 0 && first_integer(whole_words({text, static_cast<size_t>(size)}, sizeof text), value);
}

void Watch::File::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Watch::Watch(const WatchOptions& options, const std::vector<int>& work_cpus) : options_(options), allowed_(affinity(0)) {
  chosen_ = options.cpu >= 0 ? options.cpu : spare_cpu(allowed_, work_cpus);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
}

Watch::~Watch() {
  end_thread();
  for (File& file : files_) file.close();
}

Error Watch::start(Pool* pool) {
  pool_ = pool;
  if (options_.cpu >= 0 && !holds(allowed_, options_.cpu)) {
    return error(ErrorCode::kUsage, "this process may not run on --watch-cpu %d: it is absent, offline or outside its cpuset", options_.cpu);
  }
  if (samples_anything()) {
    if (Error failed = start_thread()) return failed;
  }
  if (options_.signature) signature_.play(pool_);
  return {};
}

void Watch::stop() {
  if (options_.signature) signature_.play(pool_);
  end_thread();
}

Error Watch::start_thread() {
  for (const std::string& path : options_.paths) files_.emplace_back(path.c_str());
  if (!options_.run.empty()) {
    if (Error failed = command_.prepare(options_.run)) return failed;
  }
  if (Error failed = samples_.allocate(files_.size(), !options_.run.empty())) return failed;
  const auto run = [](void* watch) -> void* {
    static_cast<Watch*>(watch)->serve();
    return nullptr;
  };
  if (const int reason = pthread_create(&thread_, nullptr, run, this)) {
    return error(ErrorCode::kMemory, "the system refused the thread of the watch: %s", strerror(reason));
  }
  running_ = true;
  pthread_mutex_lock(&mutex_);
  while (!started_) pthread_cond_wait(&changed_, &mutex_);
  pthread_mutex_unlock(&mutex_);
  return {};
}

void Watch::end_thread() {
  if (!running_) return;
  pthread_mutex_lock(&mutex_);
  stopping_ = true;
  pthread_cond_broadcast(&changed_);
  pthread_mutex_unlock(&mutex_);
  pthread_join(thread_, nullptr);
  running_ = false;
}

void Watch::serve() {
  settle_on_cpu();
  take();
  pthread_mutex_lock(&mutex_);
  started_ = true;
  pthread_cond_broadcast(&changed_);
  pthread_mutex_unlock(&mutex_);
  for (int64_t due = after(read_clock(CLOCK_MONOTONIC)); wait_until(due); due = after(due)) take();
  take();
  cpu_ns_ = read_clock(CLOCK_THREAD_CPUTIME_ID);
}

// The thread inherits the CPUs of the one that started it, which by now may be pinned to the work's.
void Watch::settle_on_cpu() {
  set_affinity(0, chosen_ ? std::vector<int>{*chosen_} : allowed_);
  if (chosen_ && affinity(0) == std::vector<int>{*chosen_}) cpu_ = chosen_;
}

void Watch::take() {
  if (samples_.full()) return samples_.drop();
  sample_.known = 0;
  sample_.begin_ns = now_ns();
  for (size_t i = 0; i < files_.size(); ++i) {
    if (files_[i].read(&sample_.values[i])) sample_.known |= uint64_t{1} << i;
  }
  if (!options_.run.empty()) sample_.text_size = command_.read(sample_.text, sizeof sample_.text);
  sample_.end_ns = now_ns();
  samples_.keep(sample_);
}

// False when the watch shall end.
bool Watch::wait_until(int64_t monotonic_ns) {
  const timespec end = {static_cast<time_t>(monotonic_ns / 1000000000), static_cast<long>(monotonic_ns % 1000000000)};
  pthread_mutex_lock(&mutex_);
  while (!stopping_ && pthread_cond_timedwait(&changed_, &mutex_, &end) != ETIMEDOUT) {
  }
  const bool stopping = stopping_;
  pthread_mutex_unlock(&mutex_);
  return !stopping;
}

// 0.9 to 1.1 periods later: work that repeats with the period of the watch would otherwise always be seen at the same point. When reading
// took longer than that, what was missed is not made up for.
int64_t Watch::after(int64_t due) {
  const uint64_t span = static_cast<uint64_t>(options_.period_ns) / 5;
  const int64_t period = options_.period_ns - static_cast<int64_t>(span / 2) + static_cast<int64_t>(next_random(&dither_) % (span + 1));
  const int64_t now = read_clock(CLOCK_MONOTONIC);
  return due + period > now ? due + period : now + period;
}

void Watch::report() const {
  if (options_.signature) signature_.report();
  if (!samples_anything()) return;
  Json watch = line("watch");
  watch.key("paths").value(files_.size()).key("period_ns").value(options_.period_ns);
  watch.key("samples").value(samples_.size()).key("dropped").value(samples_.dropped()).key("cpu");
  cpu_ ? watch.value(*cpu_) : watch.null();
  watch.key("cpu_ns").value(cpu_ns_);
  emit(&watch);
  samples_.report();
}
