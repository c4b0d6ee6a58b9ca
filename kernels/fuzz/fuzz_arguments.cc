// Any bytes as a command line: the first byte chooses the subcommand, zero bytes separate the words. What is accepted must be in range.
#include "agent/commands.h"
#include "agent/samples.h"
#include "fuzz/bytes.h"

namespace {

void require(bool truth) {
  if (!truth) abort();
}

void check(const Team& team) {
  require(team.threads >= 1 && team.threads <= 256);
  require(team.cpus.empty() || team.cpus.size() >= static_cast<size_t>(team.threads));
}

void check(const WatchOptions& watch) {
  require(watch.paths.size() <= kMaxWatched && watch.run.size() <= 16);
  for (const std::string& path : watch.paths) require(path[0] == '/');
  require(watch.period_ns >= 200000 && watch.period_ns <= 10000000000);
  require(watch.cpu >= -1 && watch.cpu <= 1023);
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
  IdleOptions idle;
  PeakOptions peak;
  switch (data[0] % 5) {
    case 0:
      if (parse_mm(&arguments, &mm)) return 0;
      check(mm.team);
      check(mm.watch);
      require(mm.min_ms <= kMaxMs);
      require(!mm.cases.empty());
      for (const MmCase& wanted : mm.cases) {
        require(wanted.n > 0 && wanted.k > 0 && wanted.m > 0 && wanted.k <= 65536);
        require(Scheme::parse(wanted.scheme.word()) == wanted.scheme);
      }
      break;
    case 1:
      if (parse_llm(&arguments, &llm)) return 0;
      check(llm.team);
      check(llm.watch);
      require(llm.prefill >= 1 && llm.decode >= 1 && llm.prefill <= 1 << 20);
      break;
    case 2:
      if (parse_score(&arguments, &score)) return 0;
      check(score.team);
      check(score.watch);
      require(score.window >= 2 && score.window <= 16384);
      break;
    case 3:
      if (parse_idle(&arguments, &idle)) return 0;
      check(idle.team);
      check(idle.watch);
      require(idle.ms >= 1 && idle.ms <= kMaxMs);
      break;
    default:
      if (parse_peak(&arguments, &peak)) return 0;
      check(peak.team);
      require(peak.ms >= 1 && peak.ms <= 60000);
  }
  return 0;
}
