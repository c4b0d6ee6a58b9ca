// Writes lines, and the last line even when the process is in no state to build one.
#include "agent/output.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <iterator>
#include <new>

#include "base/clock.h"
#include "runtime/affinity.h"

namespace {

constexpr int kProtocol = 1;

struct Exit {
  const char* word;
  int status;
};

// Indexed by ErrorCode; the table of PROTOCOL.md.
constexpr Exit kExits[] = {{"", 0}, {"usage", 2}, {"model", 3}, {"memory", 4}, {"unsupported", 5}, {"io", 6}, {"lease", 7}};

const Exit& exit_of(ErrorCode code) { return kExits[static_cast<size_t>(code)]; }

int patience_ms = 0;  // how long a line waits for its reader; 0: as long as it takes, and without a reader there is nothing to do
bool reader_left = false;
std::vector<int> told_cpus;

// False when nobody reads, or nobody did before the deadline.
bool write_until(int64_t deadline, const char* text, size_t size) {
  while (size) {
    const ssize_t written = write(STDOUT_FILENO, text, size);
    if (written < 0 && errno == EINTR && now_ns() < deadline) continue;
    if (written <= 0) return false;
    text += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

// A timer that interrupts the write bounds it on pipes, sockets and terminals alike. O_NONBLOCK would too, but it belongs to the open
// file, which others share: an SSH server gives one socket for standard input and output, a shell its terminal.
void set_alarm(int ms) {
  const timeval first = {ms / 1000, ms % 1000 * 1000}, again = {0, ms ? 20000 : 0};  // again: the first may come just before the write
  const itimerval timer = {again, first};
  setitimer(ITIMER_REAL, &timer, nullptr);
}

void write_all(const char* text, size_t size) {
  if (patience_ms == 0) {
    if (!write_until(INT64_MAX, text, size)) _exit(exit_of(ErrorCode::kIo).status);
    return;
  }
  if (reader_left) return;
  set_alarm(patience_ms);
  reader_left = !write_until(now_ns() + int64_t{patience_ms} * 1000000, text, size);
  set_alarm(0);
}

// Only calls that are allowed in a signal handler, and no memory.
[[noreturn]] void die(ErrorCode code, const char* message) {
  static std::atomic_flag dying = ATOMIC_FLAG_INIT;
  if (dying.test_and_set()) {
    for (;;) pause();  // another thread is about to end the process
  }
  char digits[20];
  char* first = std::end(digits);
  for (int64_t t = now_ns(); t > 0; t /= 10) *--first = static_cast<char>('0' + t % 10);
  char text[512] = "{\"type\":\"error\",\"t\":";
  strncat(text, first, static_cast<size_t>(std::end(digits) - first));
  strcat(text, ",\"code\":\"");
  strcat(text, exit_of(code).word);
  strcat(text, "\",\"message\":\"");
  strncat(text, message, 256);
  strcat(text, "\"}\n");
  write_all(text, strlen(text));
  _exit(exit_of(code).status);
}

void on_bus_error(int) { die(ErrorCode::kIo, "a file became shorter, or its device failed, while it was read"); }

// The harness that took the lease may be gone, and with it the reader: the alarm ends the process if the line is not taken.
void on_lease_lost(int) {
  alarm(1);
  die(ErrorCode::kLease, "the lease that this launch ran under has ended: its results were not finished");
}

void on_no_memory() { die(ErrorCode::kMemory, "the system refused memory"); }

void catch_signal(int number, void (*handler)(int)) {
  struct sigaction action = {};  // without SA_RESTART: an alarm is there to interrupt
  action.sa_handler = handler;
  sigaction(number, &action, nullptr);
}

}  // namespace

Json line(const char* type) {
  Json json;
  json.begin('{').key("type").value(type).key("t").value(now_ns());
  return json;
}

void emit(Json* line) {
  line->end('}');
  const std::string text = line->text() + "\n";
  write_all(text.data(), text.size());
}

void emit_hello(std::string_view command) {
  Json hello = line("hello");
  hello.key("protocol").value(kProtocol).key("agent").value(BENCH_AGENT_VERSION).key("command").value(command.substr(0, 64)).key("pid").value(getpid());
  hello.key("timer_ns").value(timer_resolution_ns());
  add_list(&hello, "affinity", affinity(0));
  emit(&hello);
}

int emit_end(const Error& failed) {
  Json end = line(failed ? "error" : "done");
  if (failed) end.key("code").value(exit_of(failed.code).word).key("message").value(failed.message);
  if (!failed && !told_cpus.empty()) add_list(&end, "cpus", told_cpus);
  emit(&end);
  return exit_of(failed.code).status;
}

void outlive_reader(int ms) {
  patience_ms = ms;
  catch_signal(SIGALRM, [](int) {});
}

bool has_reader() { return !reader_left; }

void tell_cpus(std::vector<int> cpus) { told_cpus = std::move(cpus); }

void add_list(Json* json, const char* key, const std::vector<int>& numbers) {
  json->key(key).begin('[');
  for (const int number : numbers) json->value(number);
  json->end(']');
}

void catch_failures() {
  std::set_new_handler(on_no_memory);
  signal(SIGPIPE, SIG_IGN);
  catch_signal(SIGBUS, on_bus_error);
  catch_signal(SIGIO, on_lease_lost);
}
