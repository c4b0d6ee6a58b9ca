// Every variant against the reference, on shapes and values chosen to break them.
//
//   mm_test [--expect scalar,avx2] [--every N]   exit 0 when all agree and exactly these instruction sets can run here (default: at
//                                                least scalar and the architecture's first), on every N-th case
//   mm_test --pack BITS N K [FAMILY]   codes, one byte each, from standard input; the packed layout, or a family's, on standard output
#include "mm/mm.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/half.h"
#include "mm/families/example.h"
#include "mm/families/families.h"

namespace {

int passed = 0, failed = 0;

void expect(bool ok, const std::string& claim) {
  ++(ok ? passed : failed);
  if (!ok && failed <= 20) fprintf(stderr, "FAILED %s\n", claim.c_str());
}

struct Random {
  uint64_t state;
  uint32_t next() {  // xorshift64*, Vigna 2016
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)(state * 0x2545f4914f6cdd1d >> 32);
  }
  float uniform() { return (float)next() * 0x1p-31f - 1; }
};

enum class Fill { kLowest, kHighest, kRandom };

struct Case {
  int n, k, group;  // group 0: none
  int m;
  Fill codes, activations;

  int n_padded() const { return (n + 7) / 8 * 8; }
  int k_padded() const { return (k + 31) / 32 * 32; }
  int group_or_k() const { return group ? group : k_padded(); }
  std::string text() const {
    return "n=" + std::to_string(n) + " k=" + std::to_string(k) + " group=" + std::to_string(group) + " m=" + std::to_string(m) +
           " fills=" + std::to_string((int)codes) + "," + std::to_string((int)activations);
  }
};

int every = 1;  // of so many cases one is tried

// Odd row counts, columns that need padding, last groups that are shorter, groups long enough to overflow a 16-bit sum.
std::vector<Case> cases(const std::vector<int>& tokens) {
  const int shapes[][3] = {{8, 32, 32},   {1, 32, 0},    {13, 64, 32},  {24, 96, 64},   {8, 96, 96},   {9, 128, 128}, {16, 172, 64},
                           {8, 172, 0},   {8, 256, 128}, {31, 256, 96}, {16, 128, 256}, {8, 544, 0},   {8, 1120, 512}, {24, 2080, 0}, {8, 2080, 1536}};
  const Fill fills[][2] = {{Fill::kLowest, Fill::kHighest}, {Fill::kHighest, Fill::kHighest}, {Fill::kHighest, Fill::kLowest}, {Fill::kRandom, Fill::kRandom}};
  std::vector<Case> all;
  int counted = 0;
  for (auto& [n, k, group] : shapes)
    for (int m : tokens) {
      if (k > 2000 && m != tokens.back()) continue;  // several strips: the others would only take longer
      for (auto& [codes, activations] : fills)
        if (counted++ % every == 0) all.push_back({n, k, group, m, codes, activations});
    }
  return all;
}

struct Scheme {
  int weight, activation_bits;
  bool activation_groups;  // a scale for each group

  std::string text() const {
    return "w" + (weight == MM_TERNARY ? "t" : std::to_string(weight)) + "a" + std::to_string(activation_bits) + (activation_groups ? "ag" : "");
  }
};

constexpr float kUntouched = -12345.0f;
constexpr uint16_t kNan = 0x7e00;

// Operands of one product with strides larger than they need be: what lies between must be neither read nor written.
struct Problem {
  MmShape shape;
  MmWeights weights;
  MmActivations activations;
  int columns;                        // of the plain codes
  std::vector<uint8_t> plain, codes;  // as written, and packed
  std::vector<uint16_t> scales, half_weights, half_activations;
  std::vector<int8_t> q;
  std::vector<float> token_scales, magnitude;  // magnitude[m][n]: sum |w| |a|
  std::vector<int32_t> sums;

  Problem(const Scheme& scheme, const Case& c) {
    Random random{0x9e3779b97f4a7c15};
    shape = {c.m, c.n_padded(), c.k_padded(), c.group_or_k()};
    columns = c.k;
    scheme.weight == 16 ? make_half_weights(c, random) : make_packed_weights(scheme.weight, c, random);
    make_activations(scheme, c, random);
    if (scheme.activation_bits == 16) measure(scheme.weight, c);
  }

  static uint32_t code(Fill fill, int weight, Random& random) {
    const uint32_t max = (1u << mm_stored_bits(weight)) - 1;
    return fill == Fill::kLowest ? 0 : fill == Fill::kHighest ? max : random.next() & max;
  }

  void make_packed_weights(int weight, const Case& c, Random& random) {
    plain.resize((size_t)c.n * c.k);
    for (auto& each : plain) each = (uint8_t)code(c.codes, weight, random);
    const size_t row_block = mm_codes_bytes(weight, 8, c.k), codes_stride = row_block + 64;
    std::vector<uint8_t> packed(mm_codes_bytes(weight, c.n, c.k));
    mm_pack(weight, c.n, c.k, plain.data(), packed.data());
    const int blocks = shape.n / 8, groups = (shape.k + shape.group - 1) / shape.group;
    codes.assign(blocks * codes_stride, 0xa5);
    for (int b = 0; b < blocks; ++b) memcpy(&codes[b * codes_stride], &packed[b * row_block], row_block);
    const size_t scales_stride = groups * 8 + 16;
    scales.assign(blocks * scales_stride, kNan);
    for (int n = 0; n < shape.n; ++n)
      for (int g = 0; g < groups; ++g)
        scales[n / 8 * scales_stride + g * 8 + n % 8] = n < c.n ? half_from_float(0.0625f * (1.5f + random.uniform())) : 0;
    weights = {codes.data(), codes_stride, scales.data(), scales_stride};
  }

  void make_half_weights(const Case& c, Random& random) {
    shape.n = c.n, shape.k = c.k;
    half_weights.assign((size_t)c.n * (c.k + 24), kNan);
    for (int n = 0; n < c.n; ++n)
      for (int k = 0; k < c.k; ++k)
        half_weights[(size_t)n * (c.k + 24) + k] = half_from_float(c.codes == Fill::kRandom ? random.uniform() : c.codes == Fill::kLowest ? -1.37f : 1.37f);
    weights = {(const uint8_t*)half_weights.data(), (size_t)(c.k + 24) * 2, nullptr, 0};
  }

  void make_activations(const Scheme& scheme, const Case& c, Random& random) {
    const int k_padded = c.k_padded(), groups = (k_padded + shape.group - 1) / shape.group;
    std::vector<float> x((size_t)c.m * c.k);
    for (auto& each : x) each = c.activations == Fill::kRandom ? random.uniform() * 3 : c.activations == Fill::kLowest ? -0.7f : 0.7f;
    if (scheme.activation_bits < 16) {
      const size_t stride = k_padded + 32, own = scheme.activation_groups ? groups : 1;
      q.assign(c.m * stride, 99);
      token_scales.resize(c.m * own);
      sums.resize((size_t)c.m * (groups + 1));
      mm_pack_a8(scheme.activation_bits, c.m, c.k, k_padded, shape.group, x.data(), c.k, q.data(), stride, token_scales.data(), own, sums.data(),
                 groups + 1);
      activations = {q.data(), stride, token_scales.data(), own, sums.data(), (size_t)groups + 1};
      check_quantization(scheme.activation_bits, x, c);
    } else {
      const size_t stride = (size_t)(k_padded + 16) * 2;
      half_activations.assign(c.m * stride / 2, kNan);
      mm_pack_a16(c.m, c.k, k_padded, x.data(), c.k, half_activations.data(), stride);
      activations = {half_activations.data(), stride, nullptr, 0, nullptr, 0};
    }
  }

  // FORMAT.md section 3, with the C library's rounding.
  void check_quantization(int bits, const std::vector<float>& x, const Case& c) {
    const float most = (float)((1 << (bits - 1)) - 1);
    const int columns = activations.scales_stride > 1 ? shape.group : shape.k;
    bool same = true;
    for (int m = 0; m < c.m; ++m)
      for (int first = 0; first < shape.k; first += columns) {
        float absmax = 0;
        for (int k = first; k < first + columns && k < c.k; ++k) absmax = fmaxf(absmax, fabsf(x[m * c.k + k]));
        for (int k = first; k < first + columns && k < shape.k; ++k) {
          const float want = k < c.k ? fminf(fmaxf(rintf(x[m * c.k + k] * (most / absmax)), -most), most) : 0;
          same &= q[m * activations.stride + k] == (int8_t)want;
        }
        same &= token_scales[m * activations.scales_stride + first / columns] == absmax / most;
      }
    expect(same, "activation codes follow the definition: " + c.text());
  }

  double value(int weight, const Case& c, int n, int k) const {
    if (weight == 16) return half_to_float(half_weights[n * weights.codes_stride / 2 + k]);
    const uint16_t scale = scales[n / 8 * weights.scales_stride + k / shape.group * 8 + n % 8];
    const int code = plain[n * c.k + k];
    const int value = weight == 1 ? 2 * code - 1 : weight == MM_TERNARY ? code - 1 : code - (1 << (weight - 1));
    return value * (double)half_to_float(scale);
  }

  void measure(int weight, const Case& c) {
    magnitude.assign((size_t)shape.m * shape.n, 0);
    for (int m = 0; m < c.m; ++m)
      for (int n = 0; n < c.n; ++n)
        for (int k = 0; k < c.k; ++k)
          magnitude[m * shape.n + n] += (float)fabs(value(weight, c, n, k) * half_to_float(half_activations[m * activations.stride / 2 + k]));
  }

  size_t y_stride() const { return shape.n + 5; }

  template <class Product>
  std::vector<float> product(Product run, const MmWeights& of) const {
    std::vector<float> y(shape.m * y_stride(), kUntouched);
    const MmOutput output = {y.data(), y_stride()};
    run(&shape, &of, &activations, &output);
    return y;
  }

  std::vector<float> product(const MmVariant& variant) const {
    if (variant.family->by_default) return product(variant.kernel, weights);
    return product(variant.kernel, stored(*variant.family, variant.weight).weights);
  }

  struct Stored {
    std::vector<uint8_t> codes;
    MmWeights weights;
  };

  // The same codes as a family stores them, with room between its blocks.
  Stored stored(const MmFamily& family, int weight) const {
    const int n = (int)(plain.size() / columns), blocks = (n + family.rows - 1) / family.rows;
    const size_t block = family.codes_bytes(weight, family.rows, columns), stride = block + 64;
    std::vector<uint8_t> packed(family.codes_bytes(weight, n, columns));
    family.pack(weight, n, columns, plain.data(), packed.data());
    Stored s = {std::vector<uint8_t>(blocks * stride, 0xa5), weights};
    for (int b = 0; b < blocks; ++b) memcpy(&s.codes[b * stride], &packed[b * block], block);
    s.weights.codes = s.codes.data();
    s.weights.codes_stride = stride;
    return s;
  }

  bool agrees(const std::vector<float>& got, const std::vector<float>& want) const {
    if (magnitude.empty()) return memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const size_t m = i / y_stride(), n = i % y_stride();
      const float tolerance = n < (size_t)shape.n ? 1e-5f * magnitude[m * shape.n + n] : 0;
      if (!(fabsf(got[i] - want[i]) <= tolerance)) return false;
    }
    return true;
  }
};

void in_two_calls(MmKernel kernel, const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {
  const int first = s->n / 16 * 8;
  MmShape upper = *s, lower = *s;
  upper.n = first;
  lower.n -= first;
  MmWeights rest = *w;
  rest.codes += first / 8 * w->codes_stride;
  rest.scales += first / 8 * w->scales_stride;
  rest.first_row = first;
  const MmOutput below = {y->data + first, y->stride};
  kernel(&upper, w, a, y);
  kernel(&lower, &rest, a, &below);
}

void check_scheme(const Scheme& scheme, const std::vector<int>& tokens = {1, 2, 3, 4, 5, 17}) {
  for (const Case& c : cases(tokens)) {
    const Problem problem(scheme, c);
    const auto reference = [&](auto... operands) { mm_reference(scheme.weight, scheme.activation_bits, operands...); };
    const auto want = problem.product(reference, problem.weights);
    for (const MmVariant* v = kMmVariants; v->name; ++v) {
      if (!v->family->by_default && c.m != 1 && c.m != 5) continue;  // families take tokens in fours
      if (v->family->needs_extra || !mm_multiplies(v, scheme.weight, scheme.activation_bits) || !mm_runnable(v)) continue;
      expect(problem.agrees(problem.product(*v), want), v->name + (" equals the reference: " + scheme.text()) + " " + c.text());
    }
  }
}

// The widest for which there are kernels that multiply fewer than 8 bits.
constexpr int8_t kNarrowBook[16] = {-16, -13, -11, -9, -7, -5, -3, -1, 0, 2, 3, 5, 8, 10, 12, 15};

// Families whose weights mean something else, against their own reference; as two calls too, as threads share the rows.
void check_family(const MmFamily* family, const Scheme& scheme, const int8_t* codebook = nullptr) {
  const bool tiles = family == &mm_family_codebook || family == &mm_family_twolevel;
  const std::vector<int> tokens = tiles ? std::vector<int>{1, 3, 4, 17} : std::vector<int>{1, family == &mm_family_trip ? 34 : 5};
  for (const Case& c : cases(tokens)) {
    if (family == &mm_family_trip && c.group) continue;
    const Problem problem(scheme, c);
    MmExample example(*family, problem.shape.n, problem.shape.k, problem.shape.group, 42);
    if (codebook) example.extra.codebook = codebook;
    auto weights = problem.weights;
    weights.extra = &example.extra;
    const auto want = problem.product([&](auto... operands) { mm_reference_extra(family, operands...); }, weights);
    for (const MmVariant* v = kMmVariants; v->name; ++v) {
      if (v->family != family || !mm_runnable(v)) continue;
      expect(problem.agrees(problem.product(v->kernel, weights), want), v->name + (" equals its reference: " + scheme.text()) + " " + c.text());
      const auto halves = problem.product([&](auto... operands) { in_two_calls(v->kernel, operands...); }, weights);
      expect(problem.agrees(halves, want), v->name + (" equals its reference in two calls: " + scheme.text()) + " " + c.text());
    }
  }
}

void check_find() {
  for (const MmVariant* v = kMmVariants; v->name; ++v) {
    const std::string name = v->name;
    expect((mm_find(v->weight, v->activation_bits, 1, v->name) == v) == mm_runnable(v), name + " is found by name where it runs");
    expect(mm_find(v->weight % 9 + 1, v->activation_bits, 1, v->name) == nullptr, name + " is not found for other weights");
    const MmVariant* decode = mm_find(v->weight, v->activation_bits, 1, nullptr);
    const MmVariant* prefill = mm_find(v->weight, v->activation_bits, 128, nullptr);
    expect(decode && decode->tile_m == 1 && prefill && prefill->tile_m > 1, name + "'s scheme has a tile for decoding and one for prefill");
  }
  for (const MmVariant* v = kMmVariants; v->name; ++v) {
    if (v->family->by_default || v->tile_m == 1 || !mm_runnable(v)) continue;
    const MmVariant* decode = mm_find_family(v->family, v->weight, v->activation_bits, 1);
    const MmVariant* prefill = mm_find_family(v->family, v->weight, v->activation_bits, 128);
    expect(decode && decode->tile_m == 1 && prefill && prefill->tile_m > 1, std::string(v->name) + "'s family is found for decoding and for prefill");
  }
  expect(mm_find(4, 8, 1, "mm_w4a8_1x8x4_abacus") == nullptr, "an unknown name finds nothing");
  expect(mm_find(10, 8, 1, nullptr) == nullptr, "an unsupported width finds nothing");
}

// All finite halves survive the way to float and back, and every float rounds to the nearer neighbour, ties to even.
void check_halves() {
  bool exact = true, rounds = true;
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const float low = half_to_float((uint16_t)h), high = h + 1 < 0x7c00 ? half_to_float((uint16_t)(h + 1)) : 65536.0f;
    exact &= half_from_float(low) == h && half_from_float(-low) == (h | 0x8000) && low == (h < 1024 ? h * 0x1p-24f : ldexpf(1024 + h % 1024, (int)(h / 1024) - 25));
    const float middle = (low + high) / 2;
    rounds &= half_from_float(middle) == h + h % 2;
    rounds &= half_from_float(nextafterf(middle, 0)) == h && half_from_float(nextafterf(middle, 1e9f)) == h + 1;
  }
  expect(exact, "halves convert to float and back exactly");
  expect(rounds, "floats round to the nearest half, ties to even");
  expect(half_from_float(INFINITY) == 0x7c00 && isnan(half_to_float(half_from_float(NAN))) && isinf(half_to_float(0xfc00)), "infinity and NaN stay");
}

std::set<std::string> runnable_isas() {
  std::set<std::string> found;
  for (const MmVariant* v = kMmVariants; v->name; ++v)
    if (mm_runnable(v)) found.insert(v->isa);
  return found;
}

std::set<std::string> split(const std::string& list) {
  std::set<std::string> words;
  for (size_t at = 0; at <= list.size();) {
    const size_t comma = list.find(',', at) == std::string::npos ? list.size() : list.find(',', at);
    words.insert(list.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

std::string join(const std::set<std::string>& words) {
  std::string list;
  for (const auto& word : words) list += (list.empty() ? "" : ",") + word;
  return list;
}

const MmFamily* family_called(const std::string& name) {
  for (const MmFamily* const* family = kMmFamilies; *family; ++family)
    if ((*family)->pack && name == (*family)->name) return *family;
  return nullptr;
}

int pack_standard_input(const MmFamily* family, int bits, int n, int k) {
  if (!family || bits < 1 || bits > 8 || n < 1 || k < 1) {
    fprintf(stderr, "mm_test --pack: expected bits 1..8, n and k of at least 1, a family with a layout\n");
    return 2;
  }
  std::vector<uint8_t> codes((size_t)n * k), packed(family->codes_bytes(bits, n, k));
  if (fread(codes.data(), 1, codes.size(), stdin) != codes.size()) {
    fprintf(stderr, "mm_test --pack: expected %zu bytes on standard input\n", codes.size());
    return 2;
  }
  family->pack(bits, n, k, codes.data(), packed.data());
  return fwrite(packed.data(), 1, packed.size(), stdout) == packed.size() ? 0 : 1;
}

#if defined(__x86_64__)
const std::set<std::string> kLeast = {"scalar", "avx2"};
#elif defined(__aarch64__)
const std::set<std::string> kLeast = {"scalar", "neon"};
#endif

int run_tests(const std::set<std::string>& expected, bool exactly) {
  const std::set<std::string> run = runnable_isas();
  const bool all = std::includes(run.begin(), run.end(), expected.begin(), expected.end());
  if (!all || (exactly && run != expected)) {
    fprintf(stderr, "mm_test: instruction sets that run here are %s, expected %s\n", join(run).c_str(), join(expected).c_str());
    return 1;
  }
  check_halves();
  check_find();
  for (int weight = 1; weight <= MM_TERNARY; ++weight) {
    for (int activation_bits : {8, 16}) check_scheme({weight, activation_bits, false});
    check_scheme({weight, 8, true}, {1, 5});
  }
  for (int activation_bits = 2; activation_bits < 8; ++activation_bits) {
    check_scheme({4, activation_bits, activation_bits == 4}, {1, 5});
    for (int weight = 1; weight <= MM_TERNARY; ++weight)
      if (weight != 4) check_scheme({weight, activation_bits, false}, {5});
  }
  check_scheme({16, 16, false});
  for (const MmFamily* const* family = kMmFamilies; *family; ++family) {
    if (!(*family)->needs_extra) continue;
    for (int activation_bits : {4, 8}) check_family(*family, {4, activation_bits, false});
    if (*family == &mm_family_codebook) check_family(*family, {4, 8, false}, kNarrowBook);
    if (*family == &mm_family_codebook || *family == &mm_family_rowsplit) check_family(*family, {4, 8, true});
  }
  printf("%s: %d passed, %d failed\n", join(run).c_str(), passed, failed);
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  if ((argc == 5 || argc == 6) && !strcmp(argv[1], "--pack"))
    return pack_standard_input(family_called(argc == 6 ? argv[5] : "packed"), atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
  if (argc == 5 && !strcmp(argv[3], "--every")) every = std::max(atoi(argv[4]), 1);
  if ((argc == 3 || argc == 5) && !strcmp(argv[1], "--expect")) return run_tests(split(argv[2]), true);
  if (argc == 3 && !strcmp(argv[1], "--every")) every = std::max(atoi(argv[2]), 1);
  if (argc == 1 || every > 1) return run_tests(kLeast, false);
  fprintf(stderr, "usage: mm_test [--expect isa,isa] [--every N] | mm_test --pack BITS N K [FAMILY]\n");
  return 2;
}
