// clone, exec, and a pipe with a deadline.
#include "agent/watch_command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"

namespace {

constexpr int64_t kLimitNs = 2000000000;
constexpr int64_t kGraceNs = 100000000;  // for what was killed to be gone
constexpr uint64_t kStackBytes = 64 << 10;

struct Start {
  char* const* arguments;
  int nowhere, output;
};

// In the memory of the agent: nothing here may leave a trace there. Handlers go first, they are the agent's.
int become(void* argument) {
  const Start& start = *static_cast<const Start*>(argument);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  for (const int number : {SIGPIPE, SIGBUS, SIGIO}) signal(number, SIG_DFL);
  dup2(start.nowhere, STDIN_FILENO);
  dup2(start.output, STDOUT_FILENO);
  dup2(start.nowhere, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execvp(start.arguments[0], start.arguments);
  _exit(127);
}

// False at the deadline.
bool wait_for_input(int file, int64_t deadline) {
  pollfd input = {file, POLLIN, 0};
  for (int64_t left; (left = deadline - now_ns()) > 0;) {
    if (poll(&input, 1, static_cast<int>(left / 1000000) + 1) > 0) return true;
  }
  return false;
}

// All that comes until the writers are gone; -1 for more than `size` bytes, and at the deadline.
int receive(int file, char* text, int size, int64_t deadline) {
  for (int got = 0; wait_for_input(file, deadline);) {
    char beyond;
    const bool room = got < size;
    const ssize_t more = read(file, room ? text + got : &beyond, room ? static_cast<size_t>(size - got) : 1);
    if (more == 0) return got;
    if (more < 0 || !room) return -1;
    got += static_cast<int>(more);
  }
  return -1;
}

bool wait_until(int64_t deadline, pid_t child, int* status) {
  for (;; usleep(500)) {
    if (waitpid(child, status, WNOHANG) == child) return true;
    if (now_ns() > deadline) return false;
  }
}

void end(pid_t child) {
  kill(-child, SIGKILL);
  int status;
  wait_until(now_ns() + kGraceNs, child, &status);
}

bool ends_well(pid_t child, int64_t deadline) {
  int status;
  if (wait_until(deadline, child, &status)) return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  end(child);
  return false;
}

}  // namespace

WatchCommand::~WatchCommand() {
  if (nowhere_ >= 0) close(nowhere_);
}

Error WatchCommand::prepare(const std::vector<std::string>& words) {
  words_ = words;
  for (const std::string& word : words_) arguments_.push_back(const_cast<char*>(word.c_str()));
  arguments_.push_back(nullptr);
  nowhere_ = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nowhere_ < 0) return error(ErrorCode::kIo, "cannot open /dev/null: %s", strerror(errno));
  return stack_.allocate(kStackBytes, false, "the stack of the watched command");
}

// No signal may find the new process in this memory.
pid_t WatchCommand::start(int output) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Start start = {arguments_.data(), nowhere_, output};
  const pid_t child = clone(become, stack_.data() + kStackBytes, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return child;
}

int WatchCommand::read(char* text, int size) {
  const int64_t deadline = now_ns() + kLimitNs;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  const pid_t child = start(ends[1]);
  close(ends[1]);
  const int got = child > 0 ? receive(ends[0], text, size, deadline) : -1;
  close(ends[0]);
  if (child > 0 && got < 0) end(child);
  return got >= 0 && ends_well(child, deadline) ? got : -1;
}
