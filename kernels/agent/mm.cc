// agent mm: times products of chosen schemes and shapes.
//
// Weights are random bytes in one ring of memory. Every product takes the next piece of it, so that it reads what was read
// longest ago, whichever case that was. Iterations of all cases are interleaved: slow drift of the machine hits all alike.
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/system.h"
#include "agent/watch.h"
#include "base/clock.h"
#include "base/random.h"
#include "mm/families/example.h"
#include "mm/families/families.h"
#include "runtime/multiply.h"
#include "runtime/memory.h"

namespace {

constexpr int kMaxTokens = 4096;
constexpr size_t kMaxCases = 1024;
constexpr int64_t kMaxCalls = 1000000000;
constexpr int64_t kUnknownCache = 16 << 20;  // assumed where the kernel does not tell the last-level cache
constexpr uint64_t kLine = 64;

uint64_t round_to_line(uint64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

struct Timed {  // a case and what was measured of it
  MmCase wanted;
  Linear linear;
  uint64_t scales_offset = 0;  // bytes from the codes
  uint64_t piece = 0;          // bytes of codes and scales, in whole cache lines
  std::vector<MmExample> extras;  // other operands of the variant's family, taken in turn
  size_t next_extra = 0;
  int64_t calls = 1;
  std::vector<int64_t> ns;
  int64_t begin_ns = 0, end_ns = 0;  // of the first and of the last batch
  int64_t total_ns = 0;

  uint64_t weight_bytes() const {
    return linear.weight_bytes() + (extras.empty() ? 0 : extras.front().bytes - extras.front().unread);
  }
  const MmVariant& variant() const { return *(wanted.m > 1 ? linear.prefill : linear.decode); }
};

Error parse_case(const std::string& word, MmCase* out) {
  std::string_view rest = word;
  const auto field = [&](char separator) {
    const size_t at = std::min(rest.find(separator), rest.size());
    const std::string_view part = rest.substr(0, at);
    rest.remove_prefix(std::min(at + 1, rest.size()));
    return part;
  };
  const std::optional<Scheme> scheme = Scheme::parse(field(':'));
  int64_t n, k, m;
  if (!scheme || !parse_integer(field('x'), 1, kMaxRows, &n) || !parse_integer(field(':'), 1, kMaxColumns, &k) ||
      !parse_integer(rest, 1, kMaxTokens, &m)) {
    return error(ErrorCode::kUsage, "case '%.64s', expected SCHEME:NxK:M such as w4a8g128:4096x4096:1 with N up to %d, K up to %d and M up to %d",
                 word.c_str(), kMaxRows, kMaxColumns, kMaxTokens);
  }
  *out = {*scheme, static_cast<int>(n), static_cast<int>(k), static_cast<int>(m)};
  return {};
}

Error check_variant(const std::string& name, const MmCase& wanted) {
  for (const MmVariant* variant = kMmVariants; variant->name; ++variant) {
    if (name != variant->name) continue;
    if (!mm_multiplies(variant, wanted.scheme.weight(), wanted.scheme.activation_bits)) {
      return error(ErrorCode::kUsage, "variant %s does not multiply %s", variant->name, wanted.scheme.word().c_str());
    }
    if (variant->family == &mm_family_trip && wanted.scheme.group) {
      return error(ErrorCode::kUsage, "variant %s has one scale a row: %s, expected w4a8", variant->name, wanted.scheme.word().c_str());
    }
    if (variant->family->needs_extra && wanted.scheme.activation_groups) {
      return error(ErrorCode::kUsage, "variant %s has one scale a token: %s", variant->name, wanted.scheme.word().c_str());
    }
    if (mm_runnable(variant)) return {};
    return error(ErrorCode::kUnsupported, "this CPU lacks a feature that variant %s uses", variant->name);
  }
  return error(ErrorCode::kUsage, "unknown variant '%.64s': `agent info` lists those that run here", name.c_str());
}

class Bench {
 public:
  explicit Bench(const MmOptions& options) : options_(options), watch_(options.watch, options.team.cpus) {}

  Error prepare();
  void calibrate(Timed* timed);
  Error run();
  void report();

 private:
  void multiply_next(Timed* timed);
  int64_t time_batch(Timed* timed, int64_t calls, int64_t* begin_ns = nullptr);
  void time(Timed* timed);
  void time_all(std::vector<Timed*> order);
  std::vector<Timed*> unfinished();
  void fill();
  void add_extras(Timed* timed);

  const MmOptions& options_;
  Watch watch_;
  std::vector<Timed> cases_;
  Pool pool_;
  Memory memory_;
  Activations activations_;
  uint8_t* ring_ = nullptr;
  uint64_t ring_size_ = 0, cursor_ = 0, footprint_ = 0;
  float* x_ = nullptr;
  float* y_ = nullptr;
  uint64_t state_ = 0;
};

Error Bench::prepare() {
  uint64_t piece = 0, outputs = 0;
  int tokens = 0, columns = 0;
  for (const MmCase& wanted : options_.cases) {
    if (!options_.variant.empty()) {
      if (Error failed = check_variant(options_.variant, wanted)) return failed;
    }
    Timed& timed = cases_.emplace_back();
    timed.wanted = wanted;
    timed.linear.scheme = wanted.scheme;
    timed.linear.rows = wanted.n;
    timed.linear.columns = wanted.k;
    if (Error failed = timed.linear.find_kernels(options_.variant.empty() ? nullptr : options_.variant.c_str())) return failed;
    const uint64_t codes = timed.linear.codes_bytes();
    timed.scales_offset = round_to_line(codes);
    timed.piece = round_to_line(timed.scales_offset + timed.linear.weight_bytes() - codes);
    piece = std::max(piece, timed.piece);
    outputs = std::max(outputs, uint64_t(wanted.m) * round_up(wanted.n, kRowBlock));
    tokens = std::max(tokens, wanted.m);
    columns = std::max(columns, wanted.k);
  }
  const int64_t cache = last_level_cache(System("").caches());
  footprint_ = options_.footprint ? uint64_t(options_.footprint) : 2 * uint64_t(cache ? cache : kUnknownCache);
  // The room for the largest piece beyond the footprint: a piece that does not fit at the end is not used, the rest still exceeds it.
  ring_size_ = piece + (options_.warm ? 0 : round_to_line(footprint_));

  for (Timed& timed : cases_) {
    if (timed.variant().family->needs_extra) add_extras(&timed);
  }

  if (Error failed = pool_.start(options_.team.threads, options_.team.cpus)) return failed;
  const uint64_t inputs = uint64_t(tokens) * columns * sizeof(float), packed = Activations::bytes({tokens, columns, pool_.size()});
  const uint64_t bytes = ring_size_ + round_to_line(inputs) + round_to_line(packed) + outputs * sizeof(float);
  if (Error failed = memory_.allocate(bytes, options_.pages.huge, "the cases")) return failed;  // as llm has its weights in
  ring_ = memory_.data();
  x_ = reinterpret_cast<float*>(ring_ + ring_size_);
  activations_.place(ring_ + ring_size_ + round_to_line(inputs), {tokens, columns, pool_.size()});
  y_ = reinterpret_cast<float*>(ring_ + ring_size_ + round_to_line(inputs) + round_to_line(packed));
  fill();
  for (uint64_t i = 0; i < inputs / sizeof(float); ++i) x_[i] = static_cast<float>(next_random(&state_) >> 40) * 0x1p-23f - 1.0f;
  return {};
}

// Any byte is a valid code. As fp16 (scales and weights) the numbers stay below 2: the top bit of each exponent is 0.
void Bench::fill() {
  state_ = options_.seed;
  for (uint64_t at = 0; at < ring_size_; at += sizeof(uint64_t)) {
    const uint64_t bits = next_random(&state_) & 0xbfffbfffbfffbfff;
    memcpy(ring_ + at, &bits, sizeof bits);
  }
}

// As many as pieces fit in the ring, so that they are as cold as the codes; a few for small cases, whose extras stay in the caches.
void Bench::add_extras(Timed* timed) {
  constexpr uint64_t kMost = 64;
  const uint64_t pieces = options_.warm ? 1 : std::clamp<uint64_t>(ring_size_ / timed->piece, 1, kMost);
  const Linear& linear = timed->linear;
  for (uint64_t i = 0; i < pieces; ++i) {
    timed->extras.emplace_back(*timed->variant().family, linear.padded_rows(), linear.padded_columns(), linear.group(), options_.seed + i);
  }
}

void Bench::multiply_next(Timed* timed) {
  if (options_.warm || cursor_ + timed->piece > ring_size_) cursor_ = 0;
  uint8_t* codes = ring_ + cursor_;
  cursor_ += timed->piece;
  Linear& linear = timed->linear;
  if (!timed->extras.empty()) linear.weights.extra = &timed->extras[timed->next_extra++ % timed->extras.size()].extra;
  linear.set_weights(codes, linear.scheme.is_float() ? nullptr : reinterpret_cast<uint16_t*>(codes + timed->scales_offset));
  activations_.set_input({x_, size_t(timed->wanted.k), timed->wanted.m, timed->wanted.k});
  const Linear* one = &linear;
  const size_t stride = size_t(round_up(timed->wanted.n, kRowBlock));
  multiply(&pool_, &activations_, 1, &one, &y_, &stride);
}

int64_t Bench::time_batch(Timed* timed, int64_t calls, int64_t* begin_ns) {
  if (options_.warm) multiply_next(timed);  // another case may have pushed the weights out of the cache
  const int64_t start = now_ns();
  for (int64_t i = 0; i < calls; ++i) multiply_next(timed);
  const int64_t ns = now_ns() - start;
  if (begin_ns) *begin_ns = start;
  return ns;
}

void Bench::time(Timed* timed) {
  int64_t begin;
  const int64_t ns = time_batch(timed, timed->calls, &begin);
  if (timed->ns.empty()) timed->begin_ns = begin;
  timed->end_ns = begin + ns;
  timed->total_ns += ns;
  timed->ns.push_back(ns);
}

void Bench::time_all(std::vector<Timed*> order) {
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next_random(&state_) % i]);
  for (Timed* timed : order) time(timed);
}

// The cases that have not lasted long enough.
std::vector<Timed*> Bench::unfinished() {
  std::vector<Timed*> cases;
  for (Timed& timed : cases_) {
    if (timed.total_ns < options_.min_ms * 1000000 && timed.ns.size() < kMaxValues) cases.push_back(&timed);
  }
  return cases;
}

// Doubles the batch until the fastest of three lasts long enough, then leaves a quarter more for the variation between batches.
void Bench::calibrate(Timed* timed) {
  const auto fastest = [&] {
    int64_t ns = time_batch(timed, timed->calls);
    for (int again = 0; again < 2 && ns >= options_.min_ns; ++again) ns = std::min(ns, time_batch(timed, timed->calls));
    return ns;
  };
  time_batch(timed, 1);  // not counted: code and buffers come into the caches
  int64_t ns;
  while ((ns = fastest()) < options_.min_ns) timed->calls *= 2;
  const double wanted = 1.25 * static_cast<double>(timed->calls) * static_cast<double>(options_.min_ns) / static_cast<double>(ns);
  timed->calls = std::min(timed->calls, static_cast<int64_t>(wanted) + 1);
}

Error Bench::run() {
  if (Error failed = watch_.start(&pool_)) return failed;
  std::vector<Timed*> order;
  for (Timed& timed : cases_) {
    if (options_.calls) {
      timed.calls = options_.calls;
    } else {
      calibrate(&timed);
    }
    timed.ns.reserve(size_t(options_.iterations));
    order.insert(order.end(), size_t(options_.iterations), &timed);
  }
  for (; !order.empty(); order = unfinished()) time_all(order);
  watch_.stop();
  return {};
}

void Bench::report() {
  tell_cpus(pool_.cpus());
  const double huge = memory_.huge_share();
  for (const Timed& timed : cases_) {
    Json mm = line("mm");
    mm.key("scheme").value(timed.wanted.scheme.word()).key("variant").value(timed.variant().name);
    mm.key("n").value(timed.wanted.n).key("k").value(timed.wanted.k).key("m").value(timed.wanted.m);
    mm.key("footprint_bytes").value(options_.warm ? timed.piece : std::max(footprint_, timed.piece));
    mm.key("pages").value(options_.pages.huge ? "huge" : "base").key("huge_share");
    huge < 0 ? mm.null() : mm.value(huge);
    mm.key("threads").value(pool_.size()).key("calls").value(timed.calls).key("weight_bytes").value(timed.weight_bytes());
    mm.key("begin_ns").value(timed.begin_ns).key("end_ns").value(timed.end_ns);
    mm.key("ns").begin('[');
    for (const int64_t ns : timed.ns) mm.value(ns);
    mm.end(']');
    emit(&mm);
  }
  watch_.report();
}

}  // namespace

Error parse_mm(Arguments* arguments, MmOptions* options) {
  bool cold = false;
  while (arguments->next()) {
    if (arguments->is("--case")) {
      MmCase wanted;
      const std::string word = arguments->text();
      if (arguments->error()) break;
      if (Error failed = parse_case(word, &wanted)) return failed;
      options->cases.push_back(wanted);
    } else if (arguments->is("--variant")) {
      options->variant = arguments->text();
    } else if (arguments->is("--cold")) {
      cold = true;
    } else if (arguments->is("--warm")) {
      options->warm = true;
    } else if (arguments->is("--footprint")) {
      options->footprint = arguments->integer(1, int64_t{1} << 40);
    } else if (arguments->is("--iterations")) {
      options->iterations = static_cast<int>(arguments->integer(1, 10000));
    } else if (arguments->is("--calls")) {
      options->calls = arguments->integer(1, kMaxCalls);
    } else if (arguments->is("--min-ns")) {
      options->min_ns = arguments->integer(0, 10000000000);
    } else if (arguments->is("--min-ms")) {
      options->min_ms = arguments->integer(0, kMaxMs);
    } else if (arguments->is("--seed")) {
      options->seed = static_cast<uint64_t>(arguments->integer(0, INT64_MAX));
    } else if (!options->pages.take(arguments) && !options->team.take(arguments) && !options->watch.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->cases.empty() || options->cases.size() > kMaxCases) {
    return error(ErrorCode::kUsage, "%zu cases, expected 1 to %zu: --case SCHEME:NxK:M", options->cases.size(), kMaxCases);
  }
  if (int{cold} + int{options->warm} + int{options->footprint != 0} > 1) {
    return {ErrorCode::kUsage, "--cold, --warm and --footprint exclude each other"};
  }
  return options->team.settle();
}

Error run_mm(Arguments* arguments) {
  MmOptions options;
  if (Error failed = parse_mm(arguments, &options)) return failed;
  // A timed unit is at least so many steps of the timer that reading it is no part of the time.
  if (options.min_ns > 0) options.min_ns = std::max(options.min_ns, 1000 * timer_resolution_ns());
  Bench bench(options);
  if (Error failed = bench.prepare()) return failed;
  if (Error failed = bench.run()) return failed;
  bench.report();
  return {};
}
