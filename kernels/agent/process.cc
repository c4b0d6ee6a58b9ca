// fork and exec. The agent has no other threads here.
#include "agent/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

namespace {

constexpr int kNotFound = 127;  // what a shell says

[[noreturn]] void become(const std::vector<std::string>& words, int input) {
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(input, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  dup2(nowhere, STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(kNotFound);
}

// Looks every 2 ms: a wait with a limit would need a handler or a kernel that has pidfd_open.
bool wait_for(pid_t child, int limit_ms, int* status) {
  for (const int64_t end = now_ns() + int64_t{limit_ms} * 1000000;; usleep(2000)) {
    if (waitpid(child, status, WNOHANG) == child) return true;
    if (now_ns() > end) return false;
  }
}

Error judge(const char* program, int status) {
  if (WIFSIGNALED(status)) return error(ErrorCode::kIo, "%.100s was ended by signal %d", program, WTERMSIG(status));
  if (WEXITSTATUS(status) == kNotFound) return error(ErrorCode::kIo, "%.100s was not found, or could not start", program);
  if (WEXITSTATUS(status) != 0) return error(ErrorCode::kIo, "%.100s ended with status %d", program, WEXITSTATUS(status));
  return {};
}

}  // namespace

Error run_process(const std::vector<std::string>& words, const std::string& input, int limit_ms) {
  CHECK(!words.empty() && input.size() <= 4096);  // a pipe takes that much before anybody reads
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return error(ErrorCode::kIo, "cannot make a pipe: %s", strerror(errno));
  const bool fed = write(ends[1], input.data(), input.size()) == static_cast<ssize_t>(input.size());
  close(ends[1]);
  const pid_t child = fed ? fork() : -1;
  const int reason = errno;
  if (child == 0) become(words, ends[0]);
  close(ends[0]);
  if (child < 0) return error(ErrorCode::kIo, "cannot start %.100s: %s", words[0].c_str(), strerror(reason));
  int status;
  if (wait_for(child, limit_ms, &status)) return judge(words[0].c_str(), status);
  // What runs as another user by way of sudo may survive this; then it stays behind rather than us with it.
  kill(-child, SIGKILL);
  wait_for(child, 100, &status);
  return error(ErrorCode::kIo, "%.100s did not end within %d ms", words[0].c_str(), limit_ms);
}
