// LeaseInput: what comes next for a lease: a line, the end of the channel, a signal, or nothing for too long.
#ifndef BENCH_AGENT_LEASE_INPUT_H_
#define BENCH_AGENT_LEASE_INPUT_H_

#include <stdint.h>

#include <string>

constexpr size_t kMaxCommand = 4096;  // bytes of a line

enum class Came { kLine, kLongLine, kEof, kExpired, kSignal };

class LeaseInput {
 public:
  // From now on SIGTERM, SIGINT and SIGHUP are answers of `next`, so that none of them interrupts anything. False when the system refuses.
  bool start();

  // The next line of standard input, without its newline, that comes before `deadline_ns`. A line without an end is none.
  Came next(int64_t deadline_ns, std::string* line);

 private:
  bool take_line(std::string* line, bool* whole);

  int signals_ = -1;
  std::string buffer_;
  bool skipping_ = false;  // the rest of a line that is too long
};

#endif  // BENCH_AGENT_LEASE_INPUT_H_
