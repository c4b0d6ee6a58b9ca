// Parses the command line; every number has a range.
#include "agent/arguments.h"

#include <inttypes.h>
#include <sched.h>

#include <algorithm>

#include "agent/samples.h"

namespace {

constexpr int kMaxThreads = 256;
constexpr size_t kMaxWords = 16;

// Takes the text up to the separator, or all of it.
std::string_view split(std::string_view* rest, char separator) {
  const size_t at = std::min(rest->find(separator), rest->size());
  const std::string_view part = rest->substr(0, at);
  rest->remove_prefix(std::min(at + 1, rest->size()));
  return part;
}

}  // namespace

bool parse_integer(std::string_view text, int64_t minimum, int64_t maximum, int64_t* out) {
  int64_t number = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9' || __builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, digit - '0', &number)) return false;
  }
  *out = number;
  return !text.empty() && number >= minimum && number <= maximum;
}

std::vector<int> parse_cpu_list(std::string_view text) {
  std::vector<int> cpus;
  while (!text.empty()) {
    std::string_view range = split(&text, ',');
    const bool open = range.ends_with('-');
    int64_t first, last;
    if (open || !parse_integer(split(&range, '-'), 0, CPU_SETSIZE - 1, &first)) return {};
    if (!range.empty() && !parse_integer(range, first, CPU_SETSIZE - 1, &last)) return {};
    if (range.empty()) last = first;
    for (; first <= last; ++first) {
      if (std::find(cpus.begin(), cpus.end(), first) != cpus.end()) return {};
      cpus.push_back(static_cast<int>(first));
    }
  }
  return cpus;
}

bool Arguments::next() {
  if (error_ || position_ == words_.size()) return false;
  option_ = words_[position_++];
  return true;
}

std::string Arguments::text() {
  if (position_ < words_.size()) return std::string(words_[position_++]);
  complain(std::string(option_) + " needs a value");
  return {};
}

int64_t Arguments::integer(int64_t minimum, int64_t maximum) {
  const std::string word = text();
  int64_t number = 0;
  if (!error_ && !parse_integer(word, minimum, maximum, &number)) {
    complain(std::string(option_) + " is '" + word.substr(0, 64) + "', expected an integer from " + std::to_string(minimum) + " to " +
             std::to_string(maximum));
    return 0;
  }
  return number;
}

std::vector<int> Arguments::cpus() {
  const std::string word = text();
  std::vector<int> cpus = parse_cpu_list(word);
  if (!error_ && cpus.empty()) complain(std::string(option_) + " is '" + word.substr(0, 64) + "', expected distinct CPU numbers such as 0,2-3");
  return cpus;
}

int Arguments::choice(const char* const* words, int count) {
  const std::string word = text();
  std::string expected;
  for (int i = 0; i < count; ++i) {
    if (word == words[i]) return i;
    expected += (i ? ", " : "") + std::string(words[i]);
  }
  if (!error_) complain(std::string(option_) + " is '" + word.substr(0, 64) + "', expected one of " + expected);
  return 0;
}

void Arguments::refuse() { complain("unknown option '" + std::string(option_.substr(0, 64)) + "'"); }

void Arguments::complain(std::string message) {
  if (!error_) error_ = {ErrorCode::kUsage, std::move(message)};
}

bool Team::take(Arguments* arguments) {
  if (arguments->is("--threads")) {
    threads = static_cast<int>(arguments->integer(1, kMaxThreads));
  } else if (arguments->is("--cpus")) {
    cpus = arguments->cpus();
  } else {
    return false;
  }
  return true;
}

Error Team::settle() {
  if (threads == 0) threads = std::max<int>(1, static_cast<int>(std::min<size_t>(cpus.size(), kMaxThreads)));
  if (cpus.empty() || cpus.size() >= static_cast<size_t>(threads)) return {};
  return error(ErrorCode::kUsage, "%d threads on %zu cpus: name at least one cpu per thread", threads, cpus.size());
}

bool Pages::take(Arguments* arguments) {
  if (!arguments->is("--pages")) return false;
  static constexpr const char* kWords[] = {"base", "huge"};
  huge = arguments->choice(kWords, 2) == 1;
  return true;
}

bool WatchOptions::take(Arguments* arguments) {
  if (arguments->is("--watch")) {
    paths.push_back(arguments->text());
    if (!paths.back().starts_with('/')) arguments->complain("--watch is '" + paths.back().substr(0, 64) + "', expected an absolute path");
    if (paths.size() > kMaxWatched) arguments->complain("more than " + std::to_string(kMaxWatched) + " files to --watch");
  } else if (arguments->is("--watch-period-ns")) {
    period_ns = arguments->integer(200000, 10000000000);
  } else if (arguments->is("--watch-cpu")) {
    cpu = static_cast<int>(arguments->integer(0, CPU_SETSIZE - 1));
  } else if (arguments->is("--watch-run")) {
    run.push_back(arguments->text());
    if (run.size() > kMaxWords) arguments->complain("more than " + std::to_string(kMaxWords) + " words of --watch-run");
  } else if (arguments->is("--signature")) {
    signature = true;
  } else {
    return false;
  }
  return true;
}
