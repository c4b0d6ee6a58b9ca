// Reads and writes /sys and /proc/sys.
#include "agent/knob.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/process.h"

namespace {

constexpr size_t kPage = 4096;  // the kernel gives and takes no more of a knob at once
constexpr int kSudoMs = 5000;

bool is_below_knobs(std::string_view path) { return path.starts_with("/sys/") || path.starts_with("/proc/sys/"); }

bool climbs(const std::string& path) { return (path + "/").find("/../") != std::string::npos; }

bool resolve(const std::string& path, std::string* resolved) {
  char* text = realpath(path.c_str(), nullptr);
  if (!text) return false;
  *resolved = text;
  free(text);
  return true;
}

Error knob_error(const char* what, const std::string& path, int reason) {
  return error(ErrorCode::kIo, "cannot %s %.200s: %s", what, path.c_str(), strerror(reason));
}

// One write: the kernel takes a knob's value whole. Returns errno, or 0.
int write_directly(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return errno;
  const ssize_t written = write(file, text.data(), text.size());
  const int reason = written < 0 ? errno : static_cast<size_t>(written) < text.size() ? EIO : 0;
  close(file);
  return reason;
}

// The word in brackets of a choice; empty when the text is none.
std::string_view chosen(std::string_view text) {
  const size_t open = text.find('['), close = text.find(']');
  if (open == text.npos || close == text.npos || close < open + 2) return {};
  const std::string_view word = text.substr(open + 1, close - open - 1);
  const bool starts_word = open == 0 || text[open - 1] == ' ', ends_word = close + 1 == text.size() || text[close + 1] == ' ';
  return starts_word && ends_word && word.find_first_of(" \t\n[") == word.npos ? word : std::string_view();
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

Error resolve_knob(const std::string& root, const std::string& path, std::string* resolved) {
  std::string base;
  if (!is_below_knobs(path) || climbs(path)) {
    return error(ErrorCode::kUsage, "%.200s is no knob: expected a file below /sys/ or /proc/sys/, without ..", path.c_str());
  }
  if (!resolve(root.empty() ? "/" : root, &base)) return knob_error("find", root, errno);
  if (!resolve(root + path, resolved)) return knob_error("find", path, errno);
  if (base == "/") base.clear();
  if (resolved->starts_with(base) && is_below_knobs(std::string_view(*resolved).substr(base.size()))) return {};
  return error(ErrorCode::kUsage, "%.200s leads to %.200s, which is not below /sys/ or /proc/sys/", path.c_str(), resolved->c_str());
}

Error read_kernel_file(const std::string& path, std::string* text) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return knob_error("read", path, errno);
  text->resize(kPage + 1);
  size_t size = 0;
  ssize_t got;
  while (size < text->size() && (got = read(file, text->data() + size, text->size() - size)) > 0) size += static_cast<size_t>(got);
  const int reason = got < 0 ? errno : 0;
  close(file);
  text->resize(size);
  if (reason) return knob_error("read", path, reason);
  return size <= kPage ? Error{} : knob_error("read", path, EFBIG);
}

Error write_knob(const std::string& resolved, const std::string& text) {
  const int reason = write_directly(resolved, text);
  if (reason == EACCES || reason == EPERM) {
    if (Error failed = run_process({"sudo", "-n", "tee", resolved}, text, kSudoMs)) {
      return {failed.code, "this user may not write " + resolved.substr(0, 200) + ", and " + failed.message};
    }
    return {};
  }
  return reason ? knob_error("write", resolved, reason) : Error{};
}

std::string_view knob_value(std::string_view text) {
  text = trimmed(text);
  const std::string_view word = chosen(text);
  return word.empty() ? text : word;
}

std::string_view knob_setting(std::string_view text) {
  const std::string_view word = chosen(trimmed(text));
  return word.empty() ? text : word;
}
