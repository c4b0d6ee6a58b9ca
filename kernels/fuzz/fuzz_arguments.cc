// Any bytes as a command line: the first byte chooses the subcommand, zero bytes separate the words. What is accepted must be in range.
#include "agent/commands.h"
#include "fuzz/bytes.h"

namespace {

void require(bool truth) {
  if (!truth) abort();
}

void check(const Team& team) {
  require(team.threads >= 1 && team.threads <= 256);
  require(team.cpus.empty() || team.cpus.size() >= static_cast<size_t>(team.threads));
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t end; !text.empty(); text.remove_prefix(end + (end < text.size()))) {
    end = std::min(text.find('\0'), text.size());
    words.push_back(text.substr(0, end));
  }
  return words;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Arguments arguments(split({reinterpret_cast<const char*>(data + 1), size - 1}));
  MmOptions mm;
  LlmOptions llm;
  ScoreOptions score;
  switch (data[0] % 3) {
    case 0:
      if (parse_mm(&arguments, &mm)) return 0;
      check(mm.team);
      require(!mm.cases.empty());
      for (const MmCase& wanted : mm.cases) {
        require(wanted.n > 0 && wanted.k > 0 && wanted.m > 0 && wanted.k <= 65536);
        require(Scheme::parse(wanted.scheme.word()) == wanted.scheme);
      }
      break;
    case 1:
      if (parse_llm(&arguments, &llm)) return 0;
      check(llm.team);
      require(llm.prefill >= 1 && llm.decode >= 1 && llm.prefill <= 1 << 20);
      break;
    default:
      if (parse_score(&arguments, &score)) return 0;
      check(score.team);
      require(score.window >= 2 && score.window <= 16384);
  }
  return 0;
}
