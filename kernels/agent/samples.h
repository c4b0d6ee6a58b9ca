// Samples: what a watch saw, in memory of a fixed size that is taken before the work: keeping one allocates nothing.
#ifndef BENCH_AGENT_SAMPLES_H_
#define BENCH_AGENT_SAMPLES_H_

#include <stddef.h>
#include <stdint.h>

#include <string_view>

#include "runtime/memory.h"

inline constexpr size_t kMaxWatched = 64;
inline constexpr size_t kMaxSampleText = 8192;

struct Sample {
  int64_t begin_ns = 0, end_ns = 0;
  uint64_t known = 0;  // bit i: values[i] is a number, not null
  int64_t values[kMaxWatched];
  int text_size = -1;  // bytes of text; -1: null
  char text[kMaxSampleText];
};

class Samples {
 public:
  // For samples of `paths` values. 64 MiB hold a million samples of up to 5 values, 125 thousand of 64; texts get another 40 MiB. The
  // system gives a page when it is first written.
  Error allocate(size_t paths, bool text);

  // The first that finds no room, and all after it, are only counted.
  void keep(const Sample& sample);
  void drop() { ++dropped_; }

  bool full() const { return dropped_ != 0 || size_ == capacity_; }
  size_t size() const { return size_; }
  size_t dropped() const { return dropped_; }

  // The `samples` lines: at most 500 samples each, and below 1 MiB.
  void report() const;

 private:
  const int64_t* row(size_t index) const { return rows() + index * stride_; }
  int64_t* rows() const { return reinterpret_cast<int64_t*>(rows_.data()); }
  std::string_view text(size_t index) const;
  bool has_text(size_t index) const;
  size_t end_of_line(size_t first) const;
  void report(size_t first, size_t end) const;

  size_t paths_ = 0, stride_ = 0, capacity_ = 0, size_ = 0, dropped_ = 0, text_used_ = 0;
  bool with_text_ = false;
  Memory rows_;   // int64 [sample][begin, end, known, text begin, text size or -1, values..]
  Memory texts_;  // one after the other
};

#endif  // BENCH_AGENT_SAMPLES_H_
