// One function for each kind of journal entry.
#include "agent/undo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/arguments.h"
#include "agent/knob.h"
#include "agent/process.h"
#include "runtime/affinity.h"

namespace {

constexpr int kRunMs = 30000;  // nvpmodel takes seconds

// Reads back: a knob that takes a value and keeps another is not restored.
Error undo_write(const Words& entry) {
  if (Error failed = write_knob(entry[1], entry[2])) return failed;
  std::string now;
  if (Error failed = read_kernel_file(entry[1], &now)) return failed;
  if (knob_value(now) == knob_value(entry[2])) return {};
  return error(ErrorCode::kIo, "wrote '%.100s', but it reads '%.100s'", entry[2].c_str(), std::string(knob_value(now)).c_str());
}

Error undo_mask(const Words& entry) {
  const pid_t thread = static_cast<pid_t>(atoi(entry[1].c_str()));
  if (start_time(thread) != entry[2]) return {};
  if (set_affinity(thread, parse_cpu_list(entry[3])) || errno == ESRCH) return {};
  return error(ErrorCode::kIo, "cannot let thread %d run on cpus %.100s: %s", thread, entry[3].c_str(), strerror(errno));
}

}  // namespace

Error undo(const Words& entry) {
  if (entry[0] == "write") return undo_write(entry);
  if (entry[0] == "mask") return undo_mask(entry);
  return run_process({entry.begin() + 1, entry.end()}, "", kRunMs);
}

std::string undo_name(const Words& entry) {
  if (entry[0] != "run") return entry[0] + " " + entry[1];
  std::string name;
  for (const std::string& word : entry) name += (name.empty() ? "" : " ") + word;
  return name.substr(0, 200);
}

// Field 22 of stat, the 20th after the name in parentheses, which may hold spaces and parentheses itself.
std::string start_time(pid_t thread) {
  std::string text;
  if (read_kernel_file("/proc/" + std::to_string(thread) + "/stat", &text)) return {};
  size_t at = text.rfind(')');
  for (int field = 2; field < 22 && at != text.npos; ++field) at = text.find(' ', at + 1);
  return at == text.npos ? std::string() : text.substr(at + 1, text.find(' ', at + 1) - at - 1);
}
