// Maps files. A file that shrinks while it is mapped raises SIGBUS at the access: the agent turns that into an error line.
#include "runtime/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

MappedFile::~MappedFile() {
  if (size_ && !copy_.data()) munmap(const_cast<uint8_t*>(data_), size_);
}

Error MappedFile::copy_to_huge_pages() {
  if (size_ == 0) return {};
  if (Error failed = copy_.allocate(size_, true, "a copy of the model in huge pages")) return failed;
  memcpy(copy_.data(), data_, size_);
  munmap(const_cast<uint8_t*>(data_), size_);
  data_ = copy_.data();
  return {};
}

Error MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a pipe by mistake must not wait for its writer.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return error(ErrorCode::kIo, "cannot open %s: %s", path.c_str(), strerror(errno));
  struct stat status;
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  void* data = nullptr;
  if (regular && status.st_size > 0) {
    data = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  }
  const int reason = errno;
  close(file);
  if (!regular) return error(ErrorCode::kIo, "%s is not a regular file", path.c_str());
  const ErrorCode code = reason == ENOMEM ? ErrorCode::kMemory : ErrorCode::kIo;
  if (data == MAP_FAILED) return error(code, "cannot map %s: %s", path.c_str(), strerror(reason));
  data_ = static_cast<const uint8_t*>(data);
  size_ = static_cast<size_t>(status.st_size);
  return {};
}
