// Writes lines, and the last line even when the process is in no state to build one.
#include "agent/output.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <iterator>
#include <new>

#include "base/clock.h"

namespace {

constexpr int kProtocol = 1;

struct Exit {
  const char* word;
  int status;
};

// Indexed by ErrorCode; the table of PROTOCOL.md.
constexpr Exit kExits[] = {{"", 0}, {"usage", 2}, {"model", 3}, {"memory", 4}, {"unsupported", 5}, {"io", 6}};

const Exit& exit_of(ErrorCode code) { return kExits[static_cast<size_t>(code)]; }

void write_all(const char* text, size_t size) {
  while (size) {
    const ssize_t written = write(STDOUT_FILENO, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(exit_of(ErrorCode::kIo).status);
    text += written;
    size -= static_cast<size_t>(written);
  }
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

void on_no_memory() { die(ErrorCode::kMemory, "the system refused memory"); }

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
  emit(&hello);
}

int emit_end(const Error& failed) {
  Json end = line(failed ? "error" : "done");
  if (failed) end.key("code").value(exit_of(failed.code).word).key("message").value(failed.message);
  emit(&end);
  return exit_of(failed.code).status;
}

void catch_failures() {
  std::set_new_handler(on_no_memory);
  signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {};
  action.sa_handler = on_bus_error;
  sigaction(SIGBUS, &action, nullptr);
}
