// agent llm: times the prefill of a prompt and the greedy decoding after it.
#include <math.h>

#include "agent/commands.h"
#include "agent/output.h"
#include "base/clock.h"
#include "runtime/llm.h"
#include "runtime/mapped_file.h"

namespace {

constexpr int kBatch = 512;  // tokens of one forward pass: bounds the buffers of a long prompt
constexpr int kMaxTokens = 1 << 20;

// The prompt is the same for every model of one vocabulary size: a linear congruential generator (Knuth, MMIX).
std::vector<uint32_t> prompt(int count, int vocabulary) {
  std::vector<uint32_t> tokens(static_cast<size_t>(count));
  uint64_t state = 1;
  for (uint32_t& token : tokens) {
    state = state * 6364136223846793005 + 1442695040888963407;
    token = static_cast<uint32_t>((state >> 33) % static_cast<uint64_t>(vocabulary));
  }
  return tokens;
}

struct Pass {
  int64_t prefill_ns, decode_ns;
  bool finite;  // whether the model still computes numbers
};

Pass time_pass(Llm* llm, const Model& model, const std::vector<uint32_t>& tokens, int decode) {
  const int64_t start = now_ns();
  const float* logits = llm->prefill(tokens.data(), static_cast<int>(tokens.size()));
  uint32_t next = static_cast<uint32_t>(argmax(logits, model.vocabulary));
  const int64_t prefilled = now_ns();
  for (int i = 0; i < decode; ++i) {
    logits = llm->forward(&next, 1, static_cast<int>(tokens.size()) + i, Logits::kLast);
    next = static_cast<uint32_t>(argmax(logits, model.vocabulary));
  }
  return {prefilled - start, now_ns() - prefilled, isfinite(logits[next]) != 0};
}

void report(const char* phase, int tokens, int threads, const std::vector<int64_t>& ns) {
  Json llm = line("llm");
  llm.key("phase").value(phase).key("tokens").value(tokens).key("threads").value(threads);
  llm.key("first_ns").value(ns.front()).key("ns").begin('[');
  for (size_t i = 1; i < ns.size(); ++i) llm.value(ns[i]);
  llm.end(']');
  emit(&llm);
}

}  // namespace

Error parse_llm(Arguments* arguments, LlmOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--model")) {
      options->model = arguments->text();
    } else if (arguments->is("--prefill")) {
      options->prefill = static_cast<int>(arguments->integer(1, kMaxTokens));
    } else if (arguments->is("--decode")) {
      options->decode = static_cast<int>(arguments->integer(1, kMaxTokens));
    } else if (arguments->is("--iterations")) {
      options->iterations = static_cast<int>(arguments->integer(1, 10000));
    } else if (!options->team.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->model.empty()) return {ErrorCode::kUsage, "--model FILE is missing"};
  return options->team.settle();
}

Error run_llm(Arguments* arguments) {
  LlmOptions options;
  if (Error failed = parse_llm(arguments, &options)) return failed;
  MappedFile file;
  Model model;
  if (Error failed = file.open(options.model)) return failed;
  if (Error failed = model.parse(file.data(), file.size())) return failed;
  const int positions = options.prefill + options.decode;
  if (positions > model.context) {
    return error(ErrorCode::kUsage, "--prefill %d and --decode %d need %d positions, the model has %d", options.prefill, options.decode, positions,
                 model.context);
  }
  Pool pool;
  Llm llm;
  if (Error failed = pool.start(options.team.threads, options.team.cpus)) return failed;
  if (Error failed = llm.start(&model, &pool, positions, std::min(options.prefill, kBatch), 1)) return failed;

  const std::vector<uint32_t> tokens = prompt(options.prefill, model.vocabulary);
  std::vector<int64_t> prefill_ns, decode_ns;
  for (int i = 0; i <= options.iterations; ++i) {
    const Pass pass = time_pass(&llm, model, tokens, options.decode);
    if (!pass.finite) return {ErrorCode::kModel, "the logits are not finite: the file holds infinite or undefined weights"};
    prefill_ns.push_back(pass.prefill_ns);
    decode_ns.push_back(pass.decode_ns);
  }
  tell_cpus(pool.cpus());
  report("prefill", options.prefill, pool.size(), prefill_ns);
  report("decode", options.decode, pool.size(), decode_ns);
  return {};
}
