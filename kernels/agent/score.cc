// agent score: the log-probabilities that the model gives to a text, and its distance from a reference.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/watch.h"
#include "base/clock.h"
#include "runtime/data_file.h"
#include "runtime/llm.h"
#include "runtime/mapped_file.h"
#include "runtime/score.h"

namespace {

constexpr int kBatch = 64;          // positions of one forward pass, whose logits are all kept
constexpr int kMaxWindow = 16384;   // its line stays below 1 MiB

// Writes a reference file next to its name and renames it when complete.
class ReferenceWriter {
 public:
  ReferenceWriter() = default;
  ReferenceWriter(const ReferenceWriter&) = delete;
  ReferenceWriter& operator=(const ReferenceWriter&) = delete;

  ~ReferenceWriter() {
    if (!file_) return;
    fclose(file_);
    unlink(temporary_.c_str());
  }

  Error open(const std::string& path, uint32_t vocabulary, uint32_t window, uint32_t rows) {
    path_ = path;
    temporary_ = path + ".part";
    file_ = fopen(temporary_.c_str(), "we");
    if (!file_) return error(ErrorCode::kIo, "cannot write %s: %s", temporary_.c_str(), strerror(errno));
    uint8_t header[kReferenceHeader];
    write_reference_header(vocabulary, window, rows, header);
    return write(header, sizeof header);
  }

  Error write(const void* data, size_t size) {
    if (fwrite(data, 1, size, file_) == size) return {};
    return error(ErrorCode::kIo, "cannot write %s: %s", temporary_.c_str(), strerror(errno));
  }

  Error finish() {
    const bool written = fflush(file_) == 0 && fsync(fileno(file_)) == 0;
    if (!written || rename(temporary_.c_str(), path_.c_str()) != 0) {
      return error(ErrorCode::kIo, "cannot write %s: %s", path_.c_str(), strerror(errno));
    }
    fclose(file_);
    file_ = nullptr;
    return {};
  }

 private:
  std::string path_, temporary_;
  FILE* file_ = nullptr;
};

class Scorer {
 public:
  explicit Scorer(const ScoreOptions& options) : options_(options), watch_(options.watch, options.team.cpus) {}

  Error open();
  Error run();

 private:
  Error check() const;
  Error score_text();
  Error score_window(uint32_t window, std::vector<Score>* scores);
  Error score_rows(const uint32_t* tokens, int count, float* logits, uint64_t row, Score* scores);
  void report(uint32_t window, const std::vector<Score>& scores) const;

  bool has_reference() const { return reference_.logprobs != nullptr; }
  bool writes() const { return !repeating_ && !options_.write_reference.empty(); }
  int predicted() const { return options_.window - 1; }
  uint32_t windows() const { return tokens_.count / uint32_t(options_.window); }

  const ScoreOptions& options_;
  Watch watch_;
  bool repeating_ = false;  // after the first time nothing is written
  MappedFile model_file_, token_file_, reference_file_;
  Model model_;
  TokenFile tokens_;
  ReferenceFile reference_;
  ReferenceWriter writer_;
  Pool pool_;
  Llm llm_;
};

Error Scorer::open() {
  if (Error failed = open_model(options_.model, &model_file_, &model_)) return failed;
  if (Error failed = token_file_.open(options_.tokens)) return failed;
  if (Error failed = tokens_.parse(token_file_.data(), token_file_.size())) return failed;
  if (!options_.reference.empty()) {
    if (Error failed = reference_file_.open(options_.reference)) return failed;
    if (Error failed = reference_.parse(reference_file_.data(), reference_file_.size())) return failed;
  }
  if (Error failed = check()) return failed;
  if (Error failed = pool_.start(options_.team.threads, options_.team.cpus)) return failed;
  const int batch = model_.prunes() ? predicted() : std::min(kBatch, predicted());
  if (Error failed = llm_.start(&model_, &pool_, predicted(), batch, batch, options_.model.cache_of(model_))) return failed;
  if (options_.write_reference.empty()) return {};
  return writer_.open(options_.write_reference, uint32_t(model_.vocabulary), uint32_t(options_.window), windows() * uint32_t(predicted()));
}

Error Scorer::check() const {
  if (options_.window > model_.context) {
    return error(ErrorCode::kUsage, "--window is %d, the model has %d positions", options_.window, model_.context);
  }
  if (tokens_.vocabulary != uint32_t(model_.vocabulary)) {
    return error(ErrorCode::kModel, "the token file has a vocabulary of %u, the model %d", tokens_.vocabulary, model_.vocabulary);
  }
  if (windows() == 0) return error(ErrorCode::kModel, "the token file has %u tokens, less than one window of %d", tokens_.count, options_.window);
  if (!has_reference()) return {};
  const uint64_t rows = uint64_t{windows()} * uint64_t(predicted());
  if (reference_.vocabulary == tokens_.vocabulary && reference_.window == uint32_t(options_.window) && reference_.rows == rows) return {};
  return error(ErrorCode::kModel, "the reference has vocabulary %u, window %u and %u rows, expected %d, %d and %llu", reference_.vocabulary,
               reference_.window, reference_.rows, model_.vocabulary, options_.window, static_cast<unsigned long long>(rows));
}

Error Scorer::run() {
  if (Error failed = watch_.start(&pool_)) return failed;
  const int64_t end = now_ns() + options_.min_ms * 1000000;
  do {
    if (Error failed = score_text()) return failed;
    repeating_ = true;
  } while (now_ns() < end);
  watch_.stop();
  tell_cpus(pool_.cpus());
  watch_.report();
  return options_.write_reference.empty() ? Error{} : writer_.finish();
}

Error Scorer::score_text() {
  std::vector<Score> scores(static_cast<size_t>(predicted()));
  for (uint32_t window = 0; window < windows(); ++window) {
    if (Error failed = score_window(window, &scores)) return failed;
    if (!repeating_) report(window, scores);
  }
  return {};
}

Error Scorer::score_window(uint32_t window, std::vector<Score>* scores) {
  const uint32_t* tokens = tokens_.tokens + size_t(window) * size_t(options_.window);
  for (int position = 0; position < predicted(); position += llm_.batch()) {
    const int count = std::min(llm_.batch(), predicted() - position);
    const float* logits = llm_.forward(tokens + position, count, position, Logits::kAll);
    const uint64_t row = uint64_t{window} * uint64_t(predicted()) + uint64_t(position);
    if (Error failed = score_rows(tokens + position + 1, count, const_cast<float*>(logits), row, scores->data() + position)) return failed;
  }
  return {};
}

// `tokens[i]` came after position i of this batch; `row` is the first position's row in the reference.
Error Scorer::score_rows(const uint32_t* tokens, int count, float* logits, uint64_t row, Score* scores) {
  const size_t stride = llm_.logits_stride(), vocabulary = size_t(model_.vocabulary);
  std::atomic<bool> finite{true};
  pool_.run([&](int member) {
    const Range rows = pool_.share(count, member);
    for (int i = rows.begin; i < rows.end; ++i) {
      float* own = logits + size_t(llm_.row_of(i)) * stride;
      scores[i] = score_row(own, model_.vocabulary, tokens[i], has_reference() ? reference_.logprobs + (row + uint64_t(i)) * vocabulary : nullptr);
      scores[i].kept = llm_.row_of(i) < llm_.kept();
      if (!isfinite(scores[i].logprob) || !isfinite(scores[i].kl)) finite = false;
      if (writes()) log_softmax(own, model_.vocabulary, own);
    }
  });
  if (!finite) return {ErrorCode::kModel, "a log-probability is not finite: the model or the reference holds infinite or undefined numbers"};
  for (int i = 0; i < count && writes(); ++i) {
    if (Error failed = writer_.write(logits + size_t(llm_.row_of(i)) * stride, vocabulary * sizeof(float))) return failed;
  }
  return {};
}

void Scorer::report(uint32_t window, const std::vector<Score>& scores) const {
  Json score = line("score");
  score.key("window").value(window);
  options_.model.tell_cache(model_, llm_.cache(), &score);
  score.key("logprob").begin('[');
  for (const Score& each : scores) score.value(each.logprob);
  score.end(']');
  if (has_reference()) {
    score.key("kl").begin('[');
    for (const Score& each : scores) score.value(each.kl);
    score.end(']').key("same_top").begin('[');
    for (const Score& each : scores) score.value(int{each.same_top});
    score.end(']');
  }
  if (model_.prunes()) {
    score.key("kept").begin('[');
    for (const Score& each : scores) score.value(int{each.kept});
    score.end(']');
  }
  emit(&score);
}

}  // namespace

Error parse_score(Arguments* arguments, ScoreOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--tokens")) {
      options->tokens = arguments->text();
    } else if (arguments->is("--window")) {
      options->window = static_cast<int>(arguments->integer(2, kMaxWindow));
    } else if (arguments->is("--reference")) {
      options->reference = arguments->text();
    } else if (arguments->is("--write-reference")) {
      options->write_reference = arguments->text();
    } else if (arguments->is("--min-ms")) {
      options->min_ms = arguments->integer(0, kMaxMs);
    } else if (!options->model.take(arguments) && !options->team.take(arguments) && !options->watch.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->model.path.empty() || options->tokens.empty() || options->window == 0) {
    return {ErrorCode::kUsage, "--model FILE, --tokens FILE and --window W are all needed"};
  }
  return options->team.settle();
}

Error run_score(Arguments* arguments) {
  ScoreOptions options;
  if (Error failed = parse_score(arguments, &options)) return failed;
  Scorer scorer(options);
  if (Error failed = scorer.open()) return failed;
  return scorer.run();
}
