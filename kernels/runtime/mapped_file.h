// MappedFile: a whole regular file, read-only in memory. Pages come from the page cache; nothing is copied.
#ifndef BENCH_RUNTIME_MAPPED_FILE_H_
#define BENCH_RUNTIME_MAPPED_FILE_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "runtime/error.h"

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // `io` when the file cannot be opened or is not a regular file, `memory` when there is no room for it; an empty file has size 0.
  Error open(const std::string& path);

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

#endif  // BENCH_RUNTIME_MAPPED_FILE_H_
