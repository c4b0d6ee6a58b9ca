// LeaseFile: a lease file that this process holds locked, until it ends.
#ifndef BENCH_AGENT_LEASE_FILE_H_
#define BENCH_AGENT_LEASE_FILE_H_

#include <string>

#include "agent/lease_text.h"

class LeaseFile {
 public:
  // Creates the file if there is none, and locks it. `io` when that cannot be done, `lease` when the file is not ours. When another
  // process has the lock, `busy` becomes true and the file is only read.
  Error open(const std::string& path, bool* busy);

  const LeaseHeader& header() const { return text_.header; }
  const std::vector<JournalEntry>& journal() const { return text_.journal; }
  bool lists(const Words& first) const;  // whether an entry of the journal begins with these words

  Error set_header(const LeaseHeader& header);

  // On the disk when it returns, so that what comes next can be undone after any crash.
  Error append(Words words);
  void remove(size_t index);

  // Says in the header that the lease has ended, so that no launch starts under it any more, and closes the file for a moment, which
  // those that run are told by the kernel (lease_guard.h). The lock stays.
  Error end_launches();

 private:
  Error reopen();
  Error write_at(int64_t offset, const std::string& bytes);

  std::string path_;
  int lock_ = -1;  // open for reading, because one who only asks for the lock must not look as if he had written
  int file_ = -1;  // open for writing
  LeaseText text_;
};

// Opens a regular file, through no symbolic link: the folder may be one where others write.
Error open_lease(const std::string& path, int flags, int* file);

// The whole file, up to kMaxLeaseFile + 1 bytes.
Error read_lease(const std::string& path, int file, std::string* text);

#endif  // BENCH_AGENT_LEASE_FILE_H_
