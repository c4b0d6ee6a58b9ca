// agent lease: holds this device for a harness, journals what the harness changes, and undoes it when the harness goes, however it goes.
//
// It must end its work when nobody reads any more: its output waits a second at most, and signals are read, not suffered.
#include <errno.h>
#include <string.h>

#include <algorithm>

#include "agent/commands.h"
#include "agent/knob.h"
#include "agent/lease_file.h"
#include "agent/lease_input.h"
#include "agent/output.h"
#include "agent/undo.h"
#include "base/clock.h"
#include "runtime/affinity.h"

namespace {

constexpr int kReaderMs = 1000;

struct LeaseOptions {
  std::string file, root, holder;
  int64_t fence = 0;
  int ttl_ms = 30000;
};

Error parse_lease(Arguments* arguments, LeaseOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--file")) {
      options->file = arguments->text();
    } else if (arguments->is("--fence")) {
      options->fence = arguments->integer(1, INT64_MAX);
    } else if (arguments->is("--holder")) {
      options->holder = arguments->text();
    } else if (arguments->is("--ttl-ms")) {
      options->ttl_ms = static_cast<int>(arguments->integer(100, 3600000));
    } else if (arguments->is("--root")) {
      options->root = arguments->text();
    } else {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->file.empty() || options->fence == 0 || options->holder.empty()) {
    return {ErrorCode::kUsage, "--file PATH, --fence N and --holder TEXT are all needed"};
  }
  if (options->holder.size() <= kMaxHolder) return {};
  return error(ErrorCode::kUsage, "--holder has %zu bytes, expected up to %zu", options->holder.size(), kMaxHolder);
}

Json event(const char* name) {
  Json json = line("lease");
  json.key("event").value(name);
  return json;
}

// The kernel's name for the time since it started; empty when it does not tell, which counts as one and the same.
std::string boot_id() {
  std::string text;
  if (read_kernel_file("/proc/sys/kernel/random/boot_id", &text)) return {};
  return std::string(knob_value(text)).substr(0, 36);
}

struct Failure {
  std::string what, reason;
};

class Lease {
 public:
  explicit Lease(const LeaseOptions& options) : options_(options) {}

  Error run();

 private:
  Error take();
  Error refuse_holder(const char* reason) const;
  Error recover(LeaseHeader header, const std::string& boot);
  std::vector<Failure> restore(int* restored);

  Came serve();
  bool obey(const std::string& line);  // false after `end`
  void beat(const Words& words);
  void write(const Words& words);
  void mask(const Words& words);
  void note(const Words& words);

  struct Verb {
    std::string_view name;
    size_t fewest, most;  // words, its own included
    void (Lease::*obey)(const Words& words);
  };
  static const Verb kVerbs[];

  const LeaseOptions& options_;
  LeaseInput input_;
  LeaseFile file_;
};

const Lease::Verb Lease::kVerbs[] = {
    {"beat", 1, 1, &Lease::beat}, {"write", 3, 3, &Lease::write}, {"mask", 3, 3, &Lease::mask}, {"undo", 2, kMaxCommand, &Lease::note}};

Json refusal(const char* reason, const std::string& message) {
  Json json = event("refused");
  json.key("reason").value(reason).key("message").value(message);
  return json;
}

void refuse(const char* reason, const std::string& message) {
  Json json = refusal(reason, message);
  emit(&json);
}

void add_failures(Json* json, const std::vector<Failure>& failed) {
  json->key("failed").begin('[');
  for (const Failure& each : failed) json->begin('{').key("what").value(each.what).key("reason").value(each.reason).end('}');
  json->end(']');
}

const char* cause_of(Came end) {
  switch (end) {
    case Came::kEof: return "eof";
    case Came::kExpired: return "expired";
    case Came::kSignal: return "signal";
    default: return "end";
  }
}

Error error_of(Came end, int ttl_ms) {
  switch (end) {
    case Came::kEof: return {ErrorCode::kLease, "the channel to the harness closed without `end`: what it had changed was restored"};
    case Came::kExpired: return error(ErrorCode::kLease, "no line came for %d ms: what the harness had changed was restored", ttl_ms);
    case Came::kSignal: return {ErrorCode::kLease, "a signal ended the lease: what the harness had changed was restored"};
    default: return {};
  }
}

Error Lease::run() {
  outlive_reader(kReaderMs);
  if (!input_.start()) return error(ErrorCode::kIo, "cannot receive signals: %s", strerror(errno));
  if (Error failed = take()) return failed;
  const Came end = serve();
  const Error unfinished = file_.end_launches();  // before the settings change under them; without the file only the journal suffers
  int restored;
  const std::vector<Failure> failed = restore(&restored);
  Json json = event("restored");
  json.key("cause").value(cause_of(end)).key("restored").value(restored);
  add_failures(&json, failed);
  emit(&json);
  const Error lost = error_of(end, options_.ttl_ms);
  return lost ? lost : unfinished;
}

Error Lease::take() {
  bool busy;
  if (Error failed = file_.open(options_.file, &busy)) return failed;
  if (busy) return refuse_holder("busy");
  LeaseHeader header = file_.header();
  if (options_.fence <= header.fence) return refuse_holder("fence");
  header.fence = options_.fence;
  header.holder = options_.holder;
  header.since_ns = now_ns();
  const std::string boot = boot_id();
  if (!file_.journal().empty()) {
    if (Error failed = recover(header, boot)) return failed;
  }
  header.boot = boot;
  if (Error failed = file_.set_header(header)) return failed;
  Json held = event("held");
  held.key("fence").value(options_.fence).key("ttl_ms").value(options_.ttl_ms);
  emit(&held);
  return {};
}

Error Lease::refuse_holder(const char* reason) const {
  const LeaseHeader& now = file_.header();
  Json json = event("refused");
  json.key("reason").value(reason).key("fence").value(now.fence).key("holder").value(now.holder);
  emit(&json);
  const long long wanted = options_.fence, last = now.fence;
  if (reason == std::string_view("busy") && now.since_ns == 0) {
    return error(ErrorCode::kLease, "the device is being restored after the lease %lld of %s: expected nobody; wait until that has ended", last,
                 now.holder.c_str());
  }
  if (reason == std::string_view("busy")) {
    const long long seconds = std::max<int64_t>(0, now_ns() - now.since_ns) / 1000000000;
    return error(ErrorCode::kLease, "the device has been held for %lld s under %lld by %s: expected nobody; wait until that lease ends", seconds, last,
                 now.holder.c_str());
  }
  return error(ErrorCode::kLease, "the fence is %lld, expected more than %lld, which %s took last: take a new number", wanted, last,
               now.holder.c_str());
}

// Undoes what a holder left that was killed. The new fence first, so that no launch of the old lease starts meanwhile; the boot stays that of
// the journal until it is empty.
Error Lease::recover(LeaseHeader header, const std::string& boot) {
  if (Error failed = file_.set_header(header)) return failed;
  int dropped = 0;
  for (size_t i = file_.journal().size(); i-- > 0 && header.boot != boot;) {
    if (file_.journal()[i].words[0] == "run") continue;  // a power mode outlives a restart; sysfs and threads do not
    file_.remove(i);
    ++dropped;
  }
  int restored;
  const std::vector<Failure> failed = restore(&restored);
  Json json = event("recovered");
  json.key("restored").value(restored).key("dropped").value(dropped);
  add_failures(&json, failed);
  emit(&json);
  return {};
}

// Last change first. What fails stays in the journal for the next holder.
std::vector<Failure> Lease::restore(int* restored) {
  std::vector<Failure> failures;
  *restored = 0;
  for (size_t i = file_.journal().size(); i-- > 0;) {
    const Words& entry = file_.journal()[i].words;
    if (Error failed = undo(entry)) {
      failures.push_back({undo_name(entry), failed.message});
    } else {
      file_.remove(i);
      ++*restored;
    }
  }
  return failures;
}

// Returns why the lease ends; kLine after `end`.
Came Lease::serve() {
  std::string line;
  for (;;) {
    const Came came = input_.next(now_ns() + int64_t{options_.ttl_ms} * 1000000, &line);
    if (came == Came::kLongLine) {
      refuse("line", "a line has more than 4096 bytes");
    } else if (came != Came::kLine || !obey(line)) {
      return came;
    }
    if (!has_reader()) return Came::kEof;  // half of the channel is gone: the harness cannot know what happens here
  }
}

bool Lease::obey(const std::string& line) {
  Words words;
  for (const std::string_view word : split_tabs(line)) words.emplace_back(word);
  if (line == "end") return false;
  for (const Verb& verb : kVerbs) {
    if (verb.name != words[0]) continue;
    if (words.size() >= verb.fewest && words.size() <= verb.most && line.find('\0') == line.npos) {
      (this->*verb.obey)(words);
    } else {
      refuse("line", "`" + words[0] + "` with " + std::to_string(words.size() - 1) + " words, or a zero byte in one");
    }
    return true;
  }
  refuse("line", "unknown command '" + words[0].substr(0, 64) + "', expected beat, write, mask, undo or end");
  return true;
}

void Lease::beat(const Words&) {
  Json json = event("beat");
  emit(&json);
}

void Lease::write(const Words& words) {
  const std::string &path = words[1], &wanted = words[2];
  std::string knob, old, now;
  if (Error failed = resolve_knob(options_.root, path, &knob)) return refuse("path", failed.message);
  if (Error failed = read_kernel_file(knob, &old)) return refuse("io", failed.message);
  const bool first = !file_.lists({"write", knob});
  if (first) {
    if (Error failed = file_.append({"write", knob, std::string(knob_setting(old))})) return refuse("journal", failed.message);
  }
  Error failed = write_knob(knob, wanted);
  if (Error unread = read_kernel_file(knob, &now); unread && !failed) failed = std::move(unread);
  if (failed && first && now == old) file_.remove(file_.journal().size() - 1);  // nothing happened, so there is nothing to undo
  const bool lied = !failed && knob_value(now) != knob_value(wanted);
  Json json = failed ? refusal("io", failed.message) : lied ? refusal("lied", "the value read back is not the one written") : event("written");
  json.key("path").value(path).key("old").value(knob_value(old)).key("now").value(knob_value(now));
  emit(&json);
}

void Lease::mask(const Words& words) {
  int64_t thread;
  const std::vector<int> cpus = parse_cpu_list(words[2]);
  if (!parse_integer(words[1], 1, INT32_MAX, &thread) || cpus.empty()) {
    return refuse("line", "`mask` expects the number of a thread and distinct CPU numbers such as 0,2-3");
  }
  const pid_t tid = static_cast<pid_t>(thread);
  const std::string started = start_time(tid);
  const std::vector<int> old = affinity(tid);
  if (started.empty() || old.empty()) return refuse("io", "there is no thread " + words[1]);
  const bool first = !file_.lists({"mask", words[1], started});
  if (first) {
    if (Error failed = file_.append({"mask", words[1], started, cpu_list(old)})) return refuse("journal", failed.message);
  }
  if (!set_affinity(tid, cpus)) {
    refuse("io", "cannot let thread " + words[1] + " run on cpus " + words[2].substr(0, 64) + ": " + strerror(errno));
    if (first) file_.remove(file_.journal().size() - 1);
    return;
  }
  Json json = event("masked");
  json.key("tid").value(thread);
  add_list(&json, "cpus", affinity(tid));
  emit(&json);
}

void Lease::note(const Words& words) {
  Words entry = words;
  entry[0] = "run";
  if (Error failed = file_.append(std::move(entry))) return refuse("journal", failed.message);
  Json json = event("noted");
  emit(&json);
}

}  // namespace

Error run_lease(Arguments* arguments) {
  LeaseOptions options;
  if (Error failed = parse_lease(arguments, &options)) return failed;
  return Lease(options).run();
}
