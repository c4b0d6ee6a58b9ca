// Arguments: walks `--name value` pairs. The first complaint stays; reading goes on harmlessly after it.
//
//   while (arguments.next()) {
//     if (arguments.is("--model")) model = arguments.text();
//     else if (arguments.is("--threads")) threads = arguments.integer(1, 256);
//     else arguments.refuse();
//   }
//   if (Error failed = arguments.error()) return failed;
#ifndef BENCH_AGENT_ARGUMENTS_H_
#define BENCH_AGENT_ARGUMENTS_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.h"

class Arguments {
 public:
  explicit Arguments(std::vector<std::string_view> words) : words_(std::move(words)) {}

  // Steps to the next option; false at the end and after a complaint.
  bool next();
  bool is(std::string_view option) const { return option_ == option; }

  // The value of the option. Integers are decimal digits, in [minimum, maximum]; 0 or empty after a complaint.
  std::string text();
  int64_t integer(int64_t minimum, int64_t maximum);
  std::vector<int> cpus();  // "0,2-3", distinct
  int choice(const char* const* words, int count);  // the index of one of these words

  void refuse();  // this option is unknown
  void complain(std::string message);

  const Error& error() const { return error_; }

 private:
  std::vector<std::string_view> words_;
  size_t position_ = 0;
  std::string_view option_;
  Error error_;
};

// Decimal digits only, in [minimum, maximum].
bool parse_integer(std::string_view text, int64_t minimum, int64_t maximum, int64_t* out);

// A kernel CPU list such as "0,2-3"; empty when malformed.
std::vector<int> parse_cpu_list(std::string_view text);

// The team that runs the work: --threads and --cpus.
struct Team {
  int threads = 0;  // 0: as many as cpus, or 1
  std::vector<int> cpus;

  bool take(Arguments* arguments);  // whether the option was one of the two
  Error settle();                   // fills in threads; `usage` when there are fewer cpus than threads
};

// The pages that weights lie in: --pages.
struct Pages {
  bool huge = false;

  bool take(Arguments* arguments);  // whether the option was this one
};

// What is watched while the work goes on: --watch, --watch-period-ns, --watch-cpu, --watch-run and --signature.
struct WatchOptions {
  std::vector<std::string> paths;
  int64_t period_ns = 10000000;
  int cpu = -1;                  // -1: one that the work does not use
  std::vector<std::string> run;  // a command and its words
  bool signature = false;

  bool take(Arguments* arguments);  // whether the option was one of these
  bool any() const { return !paths.empty() || !run.empty() || signature; }
};

#endif  // BENCH_AGENT_ARGUMENTS_H_
