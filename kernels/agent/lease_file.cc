// Opens, locks and writes the file.
#include "agent/lease_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace {

Error io_error(const char* what, const std::string& path) {
  return error(ErrorCode::kIo, "cannot %s the lease file %.200s: %s", what, path.c_str(), strerror(errno));
}

// A launch that asks whether the lock is taken has it for an instant: one refusal is none.
bool lock(int file) {
  for (int attempt = 0; attempt < 5; ++attempt) {
    if (flock(file, LOCK_EX | LOCK_NB) == 0) return true;
    usleep(10000);
  }
  return false;
}

// The journal holds commands that will be run: nobody else may have written it.
Error check_owner(const std::string& path, int file) {
  struct stat status;
  if (fstat(file, &status) != 0) return io_error("examine", path);
  if (status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  return error(ErrorCode::kLease, "the lease file %.200s can be written by another user: expected one of user %d that nobody else can write", path.c_str(),
               static_cast<int>(geteuid()));
}

}  // namespace

Error open_lease(const std::string& path, int flags, int* file) {
  // O_NONBLOCK: opening a pipe by mistake must not wait for its other end.
  *file = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
  if (*file < 0) return io_error("open", path);
  struct stat status;
  if (fstat(*file, &status) == 0 && S_ISREG(status.st_mode)) return {};
  close(*file);
  *file = -1;
  return error(ErrorCode::kIo, "%.200s is not a regular file", path.c_str());
}

Error read_lease(const std::string& path, int file, std::string* text) {
  text->resize(kMaxLeaseFile + 1);
  const ssize_t got = pread(file, text->data(), text->size(), 0);
  text->resize(got < 0 ? 0 : static_cast<size_t>(got));
  return got < 0 ? io_error("read", path) : Error{};
}

Error LeaseFile::open(const std::string& path, bool* busy) {
  path_ = path;
  if (Error failed = open_lease(path, O_RDONLY | O_CREAT, &lock_)) return failed;
  *busy = !lock(lock_);
  std::string text;
  if (Error failed = read_lease(path, lock_, &text)) return failed;
  // An empty file is a new one, or one whose maker was killed before it wrote the header.
  if (!text.empty()) {
    if (Error failed = text_.parse(text)) return {failed.code, path.substr(0, 200) + ": " + failed.message};
  }
  if (*busy) return {};
  if (Error failed = check_owner(path, lock_)) return failed;
  if (Error failed = reopen()) return failed;
  // A line without an end is what a crash left of an entry; the next one must not grow on it.
  return ftruncate(file_, static_cast<off_t>(text_.size)) == 0 ? Error{} : io_error("write", path_);
}

bool LeaseFile::lists(const Words& first) const {
  return std::any_of(journal().begin(), journal().end(), [&](const JournalEntry& entry) {
    return first.size() <= entry.words.size() && std::equal(first.begin(), first.end(), entry.words.begin());
  });
}

Error LeaseFile::set_header(const LeaseHeader& header) {
  text_.header = header;
  if (text_.size < kLeaseHeader) text_.size = kLeaseHeader;
  return write_at(0, header.text());
}

Error LeaseFile::append(Words words) {
  const std::string line = lease_line(words);
  if (text_.size + line.size() > kMaxLeaseFile || journal().size() == kMaxEntries) {
    return error(ErrorCode::kIo, "the journal is full: it has %zu entries, expected up to %zu in 64 KiB", journal().size(), kMaxEntries);
  }
  if (Error failed = write_at(static_cast<int64_t>(text_.size), line)) {
    // What was written of the line goes. Were it to stay, the next holder would find no end of it, or undo what was not done.
    if (ftruncate(file_, static_cast<off_t>(text_.size)) != 0) failed.message += ", nor cut it";
    return failed;
  }
  text_.journal.push_back({std::move(words), static_cast<int64_t>(text_.size)});
  text_.size += line.size();
  return {};
}

// A failure here is none: the entry is then undone once more, by the next holder, which changes nothing.
void LeaseFile::remove(size_t index) {
  const bool marked = pwrite(file_, "#", 1, text_.journal[index].offset) == 1;
  text_.journal.erase(text_.journal.begin() + static_cast<long>(index));
  if (marked && text_.journal.empty() && ftruncate(file_, kLeaseHeader) == 0) text_.size = kLeaseHeader;
}

Error LeaseFile::end_launches() {
  LeaseHeader header = text_.header;
  header.since_ns = 0;
  const Error unwritten = set_header(header);
  close(file_);
  Error failed = reopen();
  return failed ? failed : unwritten;
}

// By way of /proc, so that it is the locked inode whatever the path leads to now.
Error LeaseFile::reopen() {
  file_ = ::open(("/proc/self/fd/" + std::to_string(lock_)).c_str(), O_RDWR | O_CLOEXEC);
  return file_ >= 0 ? Error{} : io_error("write", path_);
}

Error LeaseFile::write_at(int64_t offset, const std::string& bytes) {
  const ssize_t written = pwrite(file_, bytes.data(), bytes.size(), offset);
  if (written >= 0 && static_cast<size_t>(written) < bytes.size()) errno = ENOSPC;
  if (written != static_cast<ssize_t>(bytes.size()) || fsync(file_) != 0) return io_error("write", path_);
  return {};
}
