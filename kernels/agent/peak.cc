// agent peak: what this machine can do at best: bytes read and operations done a second.
//
// Every loop gets one short piece a round, round after round: what slows the machine for a while slows all alike, and among many
// short pieces some were not disturbed. Memory is read piece after piece of a set far larger than the last-level cache, one place
// for all loops of the set: a piece is what was read longest ago.
#include <string.h>

#include <algorithm>
#include <string>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/system.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "peak/peak.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kMemoryPiece = 8 << 20;  // of each thread: 0.3 to 3 ms, so that starting threads does not count
constexpr int64_t kLeastNs = 300000;       // of a piece of any other loop
constexpr int kLeastRounds = 3;
constexpr size_t kMostRounds = 10000;      // a line stays below 1 MiB

// A set is far above the cache (a cyclic scan of little more would partly hit), and no more than a quarter of what is left.
constexpr int64_t kLeastSet = 64 << 20, kMostSet = 1 << 30;
constexpr int64_t kCaches = 8;

struct Set {  // what a read loop reads: `each` bytes of every thread
  std::string level;
  const char* pages = "";
  const uint8_t* data = nullptr;
  int64_t each = 0;
  double huge_share = -1;  // -1: unknown
  int64_t cursor = 0;  // of each thread's part
};

struct Loop {
  const PeakCompute* compute = nullptr;  // or
  const PeakRead* read = nullptr;
  Set* set = nullptr;
  int64_t repeats = 1;  // turns, or times that the set of a cache is read
  int64_t work = 0;     // operations or bytes of a piece, of all threads
  int64_t begin_ns = 0, end_ns = 0;
  std::vector<int64_t> ns;

  const char* what() const { return compute ? compute->what : "read"; }
  const char* isa() const { return compute ? compute->isa : read->isa; }
  std::string name() const;
  bool reads_memory() const { return set && set->level == "memory"; }
  double best() const { return static_cast<double>(work) / static_cast<double>(*std::min_element(ns.begin(), ns.end())); }
  // Two loops that try to do the same.
  bool rivals(const Loop& other) const { return set == other.set && !strcmp(what(), other.what()) && !strcmp(isa(), other.isa()) && !compute; }
};

std::string Loop::name() const {
  if (compute) return compute->loop;
  return std::to_string(read->streams) + (read->streams > 1 ? " streams" : " stream") +
         (read->ahead ? ", prefetch " + std::to_string(read->ahead) : "");
}

class Peaks {
 public:
  explicit Peaks(const PeakOptions& options) : options_(options) {}

  Error prepare();
  void run();
  void report();

 private:
  Error add_memory(Memory* memory, const char* pages, int64_t bytes);
  std::vector<Set> cache_sets() const;
  void add_loops();
  int64_t run_piece(Loop* loop);
  void calibrate(Loop* loop);
  void time(Loop* loop);
  void report(const Loop& loop);

  const PeakOptions& options_;
  Pool pool_;
  Memory huge_, base_;
  int64_t set_bytes_ = 0;
  std::vector<Cache> caches_;
  std::vector<Set> sets_;
  std::vector<Loop> loops_;
};

Error Peaks::prepare() {
  if (Error failed = pool_.start(options_.team.threads, options_.team.cpus)) return failed;
  caches_ = System("").caches();
  set_bytes_ = std::clamp(kCaches * last_level_cache(caches_), kLeastSet, kMostSet);
  const uint64_t quarter = available_memory() / 4;
  if (quarter < uint64_t(set_bytes_)) set_bytes_ = std::max(kLeastSet, static_cast<int64_t>(quarter));
  std::vector<Set> cached = cache_sets();
  int64_t room = 0;
  for (const Set& set : cached) room = std::max(room, set.each * pool_.size());
  if (Error failed = add_memory(&huge_, "huge", set_bytes_ + room)) return failed;
  if (Error failed = add_memory(&base_, "base", set_bytes_)) return failed;
  for (Set& set : cached) {
    set.data = huge_.data() + set_bytes_;  // beyond the set of the memory: no piece of that shall be found in a cache
    set.huge_share = sets_.front().huge_share;
    sets_.push_back(set);
  }
  add_loops();
  return {};
}

Error Peaks::add_memory(Memory* memory, const char* pages, int64_t bytes) {
  if (Error failed = memory->allocate(uint64_t(bytes), memory == &huge_, "the set to read")) return failed;
  const int64_t each = set_bytes_ / pool_.size() / kPage * kPage;
  // Written once, by the thread that reads it: pages that nobody wrote are all one and the same.
  pool_.run([&](int member) {
    for (int64_t at = member * each; at < (member + 1) * each; at += kPage) memory->data()[at] = 1;
  });
  for (int64_t at = set_bytes_; at < bytes; at += kPage) memory->data()[at] = 1;
  sets_.push_back({"memory", pages, memory->data(), each, memory->huge_share()});
  return {};
}

// Half of each cache, and of one that cores share a fair part: the other half is for what else lives there.
std::vector<Set> Peaks::cache_sets() const {
  std::vector<Set> sets;
  for (const Cache& cache : caches_) {
    const std::string level = "L" + std::to_string(cache.level);
    const auto is_level = [&](const Set& set) { return set.level == level; };
    if (cache.type == "Instruction" || std::any_of(sets.begin(), sets.end(), is_level)) continue;
    const int64_t sharers = cache.cores.size() > 1 ? pool_.size() : 1;
    const int64_t each = std::min(cache.bytes / 2 / sharers, set_bytes_ / pool_.size()) / kPage * kPage;
    if (each > 0) sets.push_back({level, "huge", nullptr, each});
  }
  return sets;
}

void Peaks::add_loops() {
  for (const PeakCompute* compute = kPeakComputes; compute->isa; ++compute) {
    if (cpu_runs(compute->isa)) loops_.emplace_back().compute = compute;
  }
  // The first instruction set that runs here: the best one, and its reads are not slower than those of a narrower one.
  const char* isa = nullptr;
  for (const PeakRead* read = kPeakReads; read->isa; ++read) {
    if (!isa && cpu_runs(read->isa)) isa = read->isa;
    if (!isa || strcmp(isa, read->isa)) continue;
    for (Set& set : sets_) {
      loops_.emplace_back().read = read;
      loops_.back().set = &set;
    }
  }
}

// Returns the operations or bytes done by all threads.
int64_t Peaks::run_piece(Loop* loop) {
  if (loop->compute) {
    std::atomic<int64_t> done{0};
    pool_.run([&](int) { done += loop->compute->run(loop->repeats); });
    return done;
  }
  Set& set = *loop->set;
  const int64_t piece = loop->reads_memory() ? std::min(kMemoryPiece, set.each) : set.each;
  if (set.cursor + piece > set.each) set.cursor = 0;
  const int64_t at = set.cursor;
  if (loop->reads_memory()) set.cursor += piece;
  std::atomic<int64_t> done{0};
  pool_.run([&](int member) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < loop->repeats; ++i) bytes += loop->read->run(set.data + member * set.each + at, piece);
    done += bytes;
  });
  return done;
}

void Peaks::calibrate(Loop* loop) {
  if (loop->reads_memory()) return;
  for (;; loop->repeats *= 2) {
    const int64_t start = now_ns();
    run_piece(loop);
    if (now_ns() - start >= kLeastNs) return;
  }
}

void Peaks::time(Loop* loop) {
  if (loop->set && !loop->reads_memory()) loop->read->run(loop->set->data, loop->set->each);
  const int64_t start = now_ns();
  const int64_t work = run_piece(loop);
  const int64_t end = now_ns();
  if (loop->ns.empty()) loop->begin_ns = start;
  loop->end_ns = end;
  loop->work = work;
  loop->ns.push_back(std::max<int64_t>(end - start, 1));
}

void Peaks::run() {
  for (Loop& loop : loops_) calibrate(&loop);
  const int64_t end = now_ns() + options_.ms * 1000000;
  for (size_t round = 0; round < kMostRounds && (round < kLeastRounds || now_ns() < end); ++round) {
    for (Loop& loop : loops_) time(&loop);
  }
}

void Peaks::report() {
  tell_cpus(pool_.cpus());
  for (const Loop& loop : loops_) {
    const bool beaten = std::any_of(loops_.begin(), loops_.end(), [&](const Loop& other) {
      return loop.rivals(other) && (other.best() > loop.best() || (other.best() == loop.best() && &other < &loop));
    });
    if (!beaten) report(loop);
  }
}

void Peaks::report(const Loop& loop) {
  Json peak = line("peak");
  peak.key("what").value(loop.what()).key("isa").value(loop.isa()).key("loop").value(loop.name());
  peak.key("level").value(loop.set ? loop.set->level : "registers");
  peak.key("bytes").value(loop.set ? loop.set->each * pool_.size() : int64_t{0}).key("pages");
  loop.set ? peak.value(loop.set->pages) : peak.null();
  peak.key("huge_share");
  loop.set && loop.set->huge_share >= 0 ? peak.value(loop.set->huge_share) : peak.null();
  peak.key("threads").value(pool_.size()).key("work").value(loop.work);
  peak.key("begin_ns").value(loop.begin_ns).key("end_ns").value(loop.end_ns).key("ns").begin('[');
  for (const int64_t ns : loop.ns) peak.value(ns);
  peak.end(']');
  emit(&peak);
}

}  // namespace

Error parse_peak(Arguments* arguments, PeakOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--ms")) {
      options->ms = arguments->integer(1, 60000);
    } else if (!options->team.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  return options->team.settle();
}

Error run_peak(Arguments* arguments) {
  PeakOptions options;
  if (Error failed = parse_peak(arguments, &options)) return failed;
  Peaks peaks(options);
  if (Error failed = peaks.prepare()) return failed;
  peaks.run();
  peaks.report();
  return {};
}
