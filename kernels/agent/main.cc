// agent: the binary that runs on the device. Subcommands and output: PROTOCOL.md.
#include <string_view>
#include <vector>

#include "agent/commands.h"
#include "agent/output.h"

namespace {

struct Command {
  std::string_view name;
  Error (*run)(Arguments*);
};

constexpr Command kCommands[] = {{"info", run_info}, {"spin", run_spin}, {"mm", run_mm}, {"llm", run_llm}, {"score", run_score}};

Error run(std::string_view name, std::vector<std::string_view> words) {
  Arguments arguments(std::move(words));
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(&arguments);
  }
  return {ErrorCode::kUsage, "unknown subcommand '" + std::string(name.substr(0, 64)) + "', expected info, spin, mm, llm or score"};
}

}  // namespace

int main(int argc, char** argv) {
  catch_failures();
  const std::string_view name = argc > 1 ? argv[1] : "";
  emit_hello(name);
  return emit_end(run(name, argc > 1 ? std::vector<std::string_view>(argv + 2, argv + argc) : std::vector<std::string_view>()));
}
