// MappedFile: a whole regular file, read-only in memory. Pages come from the page cache; nothing is copied unless asked for.
#ifndef BENCH_RUNTIME_MAPPED_FILE_H_
#define BENCH_RUNTIME_MAPPED_FILE_H_

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "runtime/error.h"
#include "runtime/memory.h"

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // `io` when the file cannot be opened or is not a regular file, `memory` when there is no room for it; an empty file has size 0.
  Error open(const std::string& path);

  // Moves the content into memory of this process, in huge pages where the system has them: fewer translations to look up, but as much
  // memory again as the file has in the page cache. `memory` when there is too little.
  Error copy_to_huge_pages();

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  Memory copy_;  // what data_ points to after copy_to_huge_pages
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

#endif  // BENCH_RUNTIME_MAPPED_FILE_H_
