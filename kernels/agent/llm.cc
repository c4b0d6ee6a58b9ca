// agent llm: times the prefill of a prompt and the greedy decoding after it.
#include <math.h>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/watch.h"
#include "base/clock.h"
#include "runtime/llm.h"

namespace {

constexpr int kBatch = 512;  // tokens of one forward pass: bounds the buffers of a long prompt
constexpr int kMaxTokens = 1 << 20;
constexpr size_t kMaxSpans = 20000;  // with its spans a line of more iterations could exceed 1 MiB

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

struct Span {
  int64_t begin_ns, end_ns;

  int64_t ns() const { return end_ns - begin_ns; }
};

struct Pass {
  Span prefill, decode;
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
  return {{start, prefilled}, {prefilled, now_ns()}, isfinite(logits[next]) != 0};
}

// The first pass is not recorded, only its duration. `timed` has one at least.
void report(const LlmOptions& options, const Model& model, const Llm& ran, const char* phase, int tokens, const Span& first,
            const std::vector<Span>& timed) {
  Json llm = line("llm");
  llm.key("phase").value(phase).key("tokens").value(tokens).key("threads").value(ran.threads());
  options.model.tell_cache(model, ran.cache(), &llm);
  llm.key("begin_ns").value(timed.front().begin_ns).key("end_ns").value(timed.back().end_ns);
  llm.key("first_ns").value(first.ns()).key("ns").begin('[');
  for (const Span& span : timed) llm.value(span.ns());
  llm.end(']');
  if (options.watch.any()) {
    llm.key("spans").begin('[');
    for (const Span& span : timed) llm.begin('[').value(span.begin_ns).value(span.end_ns).end(']');
    llm.end(']');
  }
  emit(&llm);
}

// Whether another pass is due after those.
bool wants_more(const LlmOptions& options, size_t passes, int64_t total_ns) {
  if (passes < static_cast<size_t>(options.iterations)) return true;
  return total_ns < options.min_ms * 1000000 && passes < (options.watch.any() ? kMaxSpans : kMaxValues);
}

}  // namespace

Error parse_llm(Arguments* arguments, LlmOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--prefill")) {
      options->prefill = static_cast<int>(arguments->integer(1, kMaxTokens));
    } else if (arguments->is("--decode")) {
      options->decode = static_cast<int>(arguments->integer(0, kMaxTokens));
    } else if (arguments->is("--iterations")) {
      options->iterations = static_cast<int>(arguments->integer(1, 10000));
    } else if (arguments->is("--min-ms")) {
      options->min_ms = arguments->integer(0, kMaxMs);
    } else if (!options->model.take(arguments) && !options->team.take(arguments) && !options->watch.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->model.path.empty()) return {ErrorCode::kUsage, "--model FILE is missing"};
  return options->team.settle();
}

Error run_llm(Arguments* arguments) {
  LlmOptions options;
  if (Error failed = parse_llm(arguments, &options)) return failed;
  MappedFile file;
  Model model;
  if (Error failed = open_model(options.model, &file, &model)) return failed;
  const int positions = options.prefill + options.decode;
  if (positions > model.context) {
    return error(ErrorCode::kUsage, "--prefill %d and --decode %d need %d positions, the model has %d", options.prefill, options.decode, positions,
                 model.context);
  }
  Watch watch(options.watch, options.team.cpus);
  Pool pool;
  Llm llm;
  if (Error failed = pool.start(options.team.threads, options.team.cpus)) return failed;
  const int batch = model.prunes() ? options.prefill : std::min(options.prefill, kBatch);
  if (Error failed = llm.start(&model, &pool, positions, batch, 1, options.model.cache_of(model))) return failed;

  const std::vector<uint32_t> tokens = prompt(options.prefill, model.vocabulary);
  if (Error failed = watch.start(&pool)) return failed;
  const Pass first = time_pass(&llm, model, tokens, options.decode);
  std::vector<Span> prefills, decodes;
  bool finite = first.finite;
  for (int64_t total_ns = 0; finite && wants_more(options, decodes.size(), total_ns);) {
    const Pass pass = time_pass(&llm, model, tokens, options.decode);
    prefills.push_back(pass.prefill);
    decodes.push_back(pass.decode);
    total_ns += pass.prefill.ns() + pass.decode.ns();
    finite = pass.finite;
  }
  if (!finite) return {ErrorCode::kModel, "the logits are not finite: the file holds infinite or undefined weights"};
  watch.stop();
  tell_cpus(pool.cpus());
  report(options, model, llm, "prefill", options.prefill, first.prefill, prefills);
  if (options.decode > 0) report(options, model, llm, "decode", options.decode, first.decode, decodes);
  watch.report();
  return {};
}
