// agent: the binary that runs on the device. Subcommands and output: PROTOCOL.md.
#include <stdlib.h>

#include <string_view>
#include <vector>

#include "agent/commands.h"
#include "agent/lease_guard.h"
#include "agent/output.h"

namespace {

struct Command {
  std::string_view name;
  Error (*run)(Arguments*);
  bool launch;  // does work that needs the device to itself: runs only under the lease that the environment names
};

constexpr Command kCommands[] = {{"info", run_info, false}, {"spin", run_spin, true},   {"idle", run_idle, true},  {"mm", run_mm, true},
                                 {"peak", run_peak, true},  {"llm", run_llm, true},     {"score", run_score, true}, {"lease", run_lease, false}};

Error run(std::string_view name, std::vector<std::string_view> words) {
  Arguments arguments(std::move(words));
  for (const Command& command : kCommands) {
    if (command.name != name) continue;
    if (command.launch) {
      if (Error failed = guard_launch(getenv("BENCH_LEASE"))) return failed;
    }
    return command.run(&arguments);
  }
  return {ErrorCode::kUsage, "unknown subcommand '" + std::string(name.substr(0, 64)) + "', expected info, spin, idle, mm, peak, llm, score or lease"};
}

}  // namespace

int main(int argc, char** argv) {
  catch_failures();
  const std::string_view name = argc > 1 ? argv[1] : "";
  emit_hello(name);
  return emit_end(run(name, argc > 1 ? std::vector<std::string_view>(argv + 2, argv + argc) : std::vector<std::string_view>()));
}
