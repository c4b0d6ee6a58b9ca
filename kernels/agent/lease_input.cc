// poll on standard input and a signalfd.
#include "agent/lease_input.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"

bool LeaseInput::start() {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, number);
  signals_ = sigprocmask(SIG_BLOCK, &ends, nullptr) == 0 ? signalfd(-1, &ends, SFD_CLOEXEC) : -1;
  return signals_ >= 0;
}

bool LeaseInput::take_line(std::string* line, bool* whole) {
  const size_t end = buffer_.find('\n');
  if (end == buffer_.npos) {
    if (buffer_.size() <= kMaxCommand) return false;
    skipping_ = true;
    buffer_.clear();
    return false;
  }
  *line = buffer_.substr(0, end);
  *whole = !skipping_ && end <= kMaxCommand;
  skipping_ = false;
  buffer_.erase(0, end + 1);
  return true;
}

Came LeaseInput::next(int64_t deadline_ns, std::string* line) {
  pollfd sources[] = {{signals_, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    bool whole;
    if (poll(sources, 1, 0) > 0) return Came::kSignal;  // before the lines that are waiting
    if (take_line(line, &whole)) return whole ? Came::kLine : Came::kLongLine;
    // Input that is there counts, however long the command before it took.
    const int64_t left_ms = std::max<int64_t>(0, (deadline_ns - now_ns() + 999999) / 1000000);
    const int ready = poll(sources, 2, static_cast<int>(left_ms));
    if (ready == 0) return Came::kExpired;
    if (ready < 0 || !sources[1].revents) continue;
    char piece[kMaxCommand];
    const ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return Came::kEof;
    buffer_.append(piece, static_cast<size_t>(got));
  }
}
