// Watches first and asks then, so that no end of the lease falls between the two.
#include "agent/lease_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/arguments.h"
#include "agent/lease_file.h"

namespace {

// The descriptor stays open as long as the process. IN_CLOSE_WRITE and not IN_MODIFY: the holder may note more while we run.
Error watch(const std::string& path) {
  const int watcher = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  if (watcher < 0 || inotify_add_watch(watcher, path.c_str(), IN_CLOSE_WRITE) < 0) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::kLease : ErrorCode::kIo;
    return error(code, "cannot watch the lease file %.200s: %s", path.c_str(), strerror(errno));
  }
  if (fcntl(watcher, F_SETOWN, getpid()) == 0 && fcntl(watcher, F_SETFL, O_ASYNC | O_NONBLOCK) == 0) return {};
  return error(ErrorCode::kIo, "cannot be told of the end of the lease: %s", strerror(errno));
}

// Asks by trying: a shared lock is refused exactly while somebody holds the lease.
Error read_holder(const std::string& path, LeaseHeader* header, bool* held) {
  int file;
  if (Error failed = open_lease(path, O_RDONLY, &file)) return failed;
  std::string text;
  Error failed = read_lease(path, file, &text);
  *held = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(file);
  if (failed) return failed;
  LeaseText lease;
  if (Error foreign = lease.parse(text)) return {foreign.code, path.substr(0, 200) + ": " + foreign.message};
  *header = lease.header;
  return {};
}

}  // namespace

Error guard_launch(const char* variable) {
  if (!variable) return {};
  const std::string_view words = variable;
  const size_t colon = words.find(':');
  int64_t fence;
  if (colon == words.npos || colon + 1 == words.size() || !parse_integer(words.substr(0, colon), 1, INT64_MAX, &fence)) {
    return error(ErrorCode::kUsage, "BENCH_LEASE is '%.64s', expected FENCE:PATH such as 12:/data/local/tmp/bench/lease", variable);
  }
  const std::string path(words.substr(colon + 1));
  if (Error failed = watch(path)) return failed;
  LeaseHeader now;
  bool held;
  if (Error failed = read_holder(path, &now, &held)) return failed;
  const bool ended = now.since_ns == 0;
  if (held && !ended && now.fence == fence) return {};
  const long long lost = fence, last = now.fence;
  if (held && ended) {
    return error(ErrorCode::kLease, "the lease %lld was lost: the device is being restored after the lease %lld of %s", lost, last, now.holder.c_str());
  }
  if (held) return error(ErrorCode::kLease, "the lease %lld was lost: the device is now held under %lld by %s", lost, last, now.holder.c_str());
  return error(ErrorCode::kLease, "the lease %lld was lost: nobody holds the device; the last lease was %lld of %s", lost, last, now.holder.c_str());
}
