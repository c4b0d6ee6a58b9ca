// Tests of ops.h against the formulas written out in double. Prints what failed and "N passed, N failed".
#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <vector>

#include "base/half.h"
#include "mm/mm.h"
#include "ops/attention.h"
#include "ops/exp.h"
#include "ops/ops.h"

// As the preset's own instruction set computes them; the ones in use are those of AVX2 where the CPU has it.
#define BASELINE(DO)                                                                                                      \
  DO(rmsnorm) DO(rmsnorm_heads) DO(layernorm) DO(rope) DO(softmax) DO(silu_multiply) DO(relu) DO(gelu) DO(add)              \
  DO(floats_from_halves) DO(quantize_codes) DO(quantize_a16) DO(fixed_codes) DO(group_sums) DO(hadamard) DO(add_side)     \
  DO(sparse_dot) DO(kv_load) DO(log_sum_exp) DO(log2_codes) DO(log2_attend) DO(snap_heads)
#define DECLARE(name) decltype(::name) name;
namespace ops_baseline {
BASELINE(DECLARE)
}

namespace {

int passed = 0, failed = 0;

void check(bool ok, const char* claim) {
  ok ? ++passed : ++failed;
  if (!ok) printf("FAILED: %s\n", claim);
}

bool close(double found, double expected, double tolerance) { return fabs(found - expected) <= tolerance * (fabs(expected) + 1e-6); }

// Numbers in [-2, 2); sizes in the tests are odd so that the rest of every vector loop runs as well.
std::vector<float> numbers(int count, uint32_t seed) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& each : x) {
    seed = seed * 1664525 + 1013904223;
    each = static_cast<float>(seed >> 8) * 0x1p-22f - 2.0f;
  }
  return x;
}

// Room for `count` numbers between marks that nobody may overwrite.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int count) : all_(static_cast<size_t>(count + 2 * kMarks), T(77)) {}
  explicit Guarded(const std::vector<T>& x) : Guarded(static_cast<int>(x.size())) { std::copy(x.begin(), x.end(), data()); }

  T* data() { return all_.data() + kMarks; }
  T& operator[](int i) { return data()[i]; }
  bool is_intact() const {
    for (int i = 0; i < kMarks; ++i) {
      if (all_[static_cast<size_t>(i)] != T(77) || all_[all_.size() - 1 - static_cast<size_t>(i)] != T(77)) return false;
    }
    return true;
  }

 private:
  static constexpr int kMarks = 64;
  std::vector<T> all_;
};

double dot(const float* a, const float* b, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

void test_exp() {
  bool ok = true;
  for (float x = -86; x < 88; x += 0.0137f) ok = ok && close(fast_exp(x), exp(double{x}), 3e-7);
  check(ok, "fast_exp is exp to 3e-7");
  check(isnan(fast_exp(float_from_bits(0x7ff6d768))) && isnan(fast_exp(-NAN)), "fast_exp of NaN is NaN");
  check(fast_exp(-1e9f) >= 0 && fast_exp(-1e9f) < 1e-37f && isfinite(fast_exp(1e9f)), "fast_exp stays finite far outside its range");
}

void test_rmsnorm() {
  constexpr int n = 77;
  const std::vector<float> x = numbers(n, 1), w = numbers(n, 2);
  std::vector<float> y(n);
  rmsnorm(x.data(), w.data(), n, 1e-5f, y.data());
  const double scale = 1 / sqrt(dot(x.data(), x.data(), n) / n + 1e-5);
  bool ok = true;
  for (int i = 0; i < n; ++i) ok = ok && close(y[i], x[i] * scale * w[i], 1e-6);
  check(ok, "rmsnorm divides by the root of the mean square");
}

void test_rmsnorm_heads() {
  constexpr int heads = 3, size = 18;
  const std::vector<float> x = numbers(heads * size, 1), w = numbers(size, 2);
  std::vector<float> y = x, expected(heads * size);
  rmsnorm_heads(y.data(), w.data(), heads, size, 1e-5f);
  for (int head = 0; head < heads; ++head) rmsnorm(&x[head * size], w.data(), size, 1e-5f, &expected[head * size]);
  check(y == expected, "rmsnorm_heads is rmsnorm of each head");
}

void test_layernorm() {
  bool ok = true;
  for (const auto op : {layernorm, ops_baseline::layernorm}) {
    for (const int n : {1, 15, 16, 77}) {
      const std::vector<float> x = numbers(n, 1), w = numbers(n, 2), b = numbers(n, 3);
      Guarded<float> y(n);
      op(x.data(), w.data(), b.data(), n, 1e-5f, y.data());
      double mean = 0, variance = 0;
      for (const float each : x) mean += each / double{static_cast<double>(n)};
      for (const float each : x) variance += (each - mean) * (each - mean) / n;
      for (int i = 0; i < n; ++i) ok = ok && fabs(y[i] - ((x[i] - mean) / sqrt(variance + 1e-5) * w[i] + b[i])) < 4e-6;
      ok = ok && y.is_intact();
    }
  }
  check(ok, "layernorm takes the mean away and divides by the standard deviation");
}

void test_alibi_slopes() {
  std::vector<float> slopes(12);
  alibi_slopes(8, slopes.data());
  bool ok = true;
  for (int i = 0; i < 8; ++i) ok = ok && slopes[i] == ldexpf(1, -(i + 1));
  alibi_slopes(12, slopes.data());
  for (int i = 0; i < 4; ++i) ok = ok && close(slopes[8 + i], exp2(-0.5 * (2 * i + 1)), 1e-7);
  check(ok, "8 heads have slopes 1/2 to 1/256, and more heads take every second one of 16");
}

void test_rope() {
  constexpr int heads = 3, size = 6, positions = 50, at = 49;
  const std::vector<float> x = numbers(heads * size, 3);
  std::vector<float> y = x, cosine(positions * size / 2), sine(positions * size / 2);
  rope_table(positions, size, 10000, cosine.data(), sine.data());
  rope(y.data(), heads, size, &cosine[at * size / 2], &sine[at * size / 2]);
  bool ok = true;
  for (int i = 0; i < heads * size; i += 2) {
    const double angle = at * pow(10000, -(i % size) / double{size});
    ok = ok && close(y[i], x[i] * cos(angle) - x[i + 1] * sin(angle), 1e-5) && close(y[i + 1], x[i] * sin(angle) + x[i + 1] * cos(angle), 1e-5);
  }
  check(ok, "rope turns neighbours by position * base^(-2i/D)");
}

void test_softmax() {
  for (const int n : {1, 15, 16, 33}) {
    std::vector<float> x = numbers(n, 4), y = x;
    y[0] = x[0] = 80;  // would overflow without the shift by the maximum
    softmax(y.data(), n);
    double sum = 0;
    for (const float each : x) sum += exp(double{each} - 80);
    bool ok = true;
    for (int i = 0; i < n; ++i) ok = ok && fabs(y[i] - exp(double{x[i]} - 80) / sum) < 1e-6;
    check(ok, "softmax sums to one and keeps the proportions of exp");
    check(close(log_sum_exp(x.data(), n), 80 + log(sum), 1e-7), "log_sum_exp is the logarithm of the sum");
  }
}

void test_silu() {
  constexpr int n = 37;
  const std::vector<float> gate = numbers(n, 5), up = numbers(n, 6);
  std::vector<float> y(n);
  silu_multiply(gate.data(), up.data(), n, y.data());
  bool ok = true;
  for (int i = 0; i < n; ++i) ok = ok && close(y[i], gate[i] / (1 + exp(-double{gate[i]})) * up[i], 1e-6);
  check(ok, "silu_multiply is gate * sigmoid(gate) * up");
}

void test_relu() {
  bool ok = true;
  for (const auto op : {relu, ops_baseline::relu}) {
    for (const int n : {1, 7, 8, 37}) {
      const std::vector<float> x = numbers(n, 5);
      Guarded<float> y(n);
      op(x.data(), n, y.data());
      for (int i = 0; i < n; ++i) ok = ok && y[i] == (x[i] > 0 ? x[i] : 0);
      const float broken = NAN;
      op(&broken, 1, y.data());
      ok = ok && isnan(y[0]) && y.is_intact();
    }
  }
  check(ok, "relu is the larger of x and 0, and of NaN it is NaN");
}

void test_gelu() {
  bool ok = true;
  for (const auto op : {gelu, ops_baseline::gelu}) {
    for (const int n : {1, 7, 8, 37}) {
      std::vector<float> x = numbers(n, 5);
      x.insert(x.end(), {-1e9f, -30, -8, 8, 30, 1e9f});
      const int count = static_cast<int>(x.size());
      Guarded<float> y(count);
      op(x.data(), count, y.data());
      for (int i = 0; i < count; ++i) {
        const double v = x[static_cast<size_t>(i)], expected = 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
        ok = ok && fabs(y[i] - expected) <= 1e-6 * fmax(1, fabs(expected));
      }
      const float broken = NAN;
      op(&broken, 1, y.data());
      ok = ok && isnan(y[0]) && y.is_intact();
    }
  }
  check(ok, "gelu is the tanh formula, and of NaN it is NaN");
}

void test_hadamard() {
  bool ok = true;
  for (const auto op : {hadamard, ops_baseline::hadamard}) {
    for (const int size : {1, 2, 4, 8, 64, 128}) {
      const std::vector<float> x = numbers(3 * size, 14);
      Guarded<float> y(x);
      op(y.data(), 3 * size, size);
      for (int i = 0; i < 3 * size; ++i) {
        double sum = 0;
        for (int j = 0; j < size; ++j) sum += __builtin_parity(static_cast<unsigned>(i % size & j)) ? -x[i / size * size + j] : x[i / size * size + j];
        ok = ok && fabs(y[i] - sum / sqrt(static_cast<double>(size))) < 1e-5;
      }
      ok = ok && y.is_intact();
    }
  }
  check(ok, "hadamard multiplies each neighbours by a Sylvester matrix over the root of its size");
}

std::vector<uint16_t> halves(int count, uint32_t seed) {
  std::vector<uint16_t> y;
  for (const float each : numbers(count, seed)) y.push_back(half_from_float(each));
  return y;
}

void test_add_side() {
  bool ok = true;
  for (const auto op : {add_side, ops_baseline::add_side}) {
    for (const int inputs : {0, 1, 5, 33}) {
      for (const int blocks : {1, 3}) {
        const std::vector<float> x = numbers(inputs, 15), before = numbers(8 * blocks, 16);
        const std::vector<uint16_t> weights = halves(8 * blocks * inputs, 17);
        Guarded<float> y(before);
        op(x.data(), inputs, weights.data(), blocks, y.data());
        for (int n = 0; n < 8 * blocks; ++n) {
          double sum = before[n], largest = fabs(sum);
          for (int j = 0; j < inputs; ++j) {
            const double product = double{half_to_float(weights[n / 8 * 8 * inputs + 8 * j + n % 8])} * double{x[j]};
            sum += product;
            largest += fabs(product);
          }
          ok = ok && fabs(y[n] - sum) <= 1e-6 * largest;
        }
        ok = ok && y.is_intact();
      }
    }
  }
  check(ok, "add_side adds the products of side inputs with the fp16 weights of eight rows a block");
}

void test_sparse_dot() {
  bool ok = true;
  const std::vector<float> row = numbers(53, 18);
  for (const auto op : {sparse_dot, ops_baseline::sparse_dot}) {
    for (const int count : {0, 1, 7, 8, 9, 37}) {
      const std::vector<uint16_t> values = halves(count, 19);
      std::vector<int32_t> columns;
      double sum = 0, largest = 0;
      for (int i = 0; i < count; ++i) {
        columns.push_back((52 + 11 * i) % 53);  // both ends, in no order
        const double product = double{row[static_cast<size_t>(columns.back())]} * double{half_to_float(values[i])};
        sum += product;
        largest += fabs(product);
      }
      ok = ok && fabs(op(row.data(), columns.data(), values.data(), count) - sum) <= 1e-6 * largest;
    }
  }
  check(ok, "sparse_dot adds the products of single columns with their fp16 values");
}

// A cache of one layer whose rows are the numbers of keys and values, [position][head][D].
struct History {
  History(KvType type, int heads, int positions, int size, const std::vector<float>& keys, const std::vector<float>& values)
      : data(KvCache(nullptr, type, 1, heads, positions, size).bytes() + 64), cache(aligned(data.data()), type, 1, heads, positions, size) {
    const int row = heads * size;
    for (int t = 0; t < positions; ++t) cache.store(0, t, &keys[static_cast<size_t>(t * row)], &values[static_cast<size_t>(t * row)]);
  }

  static uint8_t* aligned(uint8_t* data) { return data + (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64; }

  std::vector<uint8_t> data;
  KvCache cache;
};

std::vector<double> expected_attention(const float* query, const float* keys, const float* values, int positions, int stride, int size) {
  double total = 0;
  std::vector<double> sums(static_cast<size_t>(size), 0.0);
  for (int t = 0; t < positions; ++t) {
    const double weight = exp(dot(query, &keys[t * stride], size) / sqrt(double{static_cast<double>(size)}));
    total += weight;
    for (int i = 0; i < size; ++i) sums[static_cast<size_t>(i)] += weight * double{values[t * stride + i]};
  }
  for (double& sum : sums) sum /= total;
  return sums;
}

// The largest error of `tokens` tokens, `heads` heads of queries over the second of two heads of `positions` positions.
double attention_error(KvType type, int tokens, int heads, int positions, int size) {
  const int row = 2 * size, stride = heads * size + 3;
  const std::vector<float> keys = numbers(row * positions, 8), values = numbers(row * positions, 9), queries = numbers(stride * tokens, 7);
  const History history(type, 2, positions, size, keys, values);
  std::vector<float> out(queries.size()), scratch(attention_scratch(size));
  attention({queries.data(), out.data(), static_cast<size_t>(stride), tokens, heads, positions - tokens + 1}, history.cache.head(0, 1), scratch.data());
  double largest = 0;
  for (int token = 0; token < tokens; ++token) {
    for (int head = 0; head < heads; ++head) {
      const int at = token * stride + head * size;
      const std::vector<double> expected = expected_attention(&queries[static_cast<size_t>(at)], &keys[static_cast<size_t>(size)],
                                                              &values[static_cast<size_t>(size)], positions - tokens + 1 + token, row, size);
      for (int i = 0; i < size; ++i) largest = fmax(largest, fabs(double{out[static_cast<size_t>(at + i)]} - expected[static_cast<size_t>(i)]));
    }
  }
  return largest;
}

void test_attention() {
  bool exact = true, halves = true, codes = true;
  for (const int size : {2, 10, 64, 128}) {
    for (const int positions : {1, 16, 21, 64, 65, 200}) {
      for (const int heads : {1, 3, 8}) {
        const int tokens = positions < 4 ? 1 : 4;
        exact = exact && attention_error(KvType::kFp32, tokens, heads, positions, size) < 1e-5;
        halves = halves && attention_error(KvType::kFp16, tokens, heads, positions, size) < 3e-3;
        codes = codes && attention_error(KvType::kInt8, tokens, heads, positions, size) < 6e-2;
      }
    }
  }
  check(exact, "attention is the average of the values weighted by softmax(qk / sqrt(D))");
  check(halves, "with fp16 keys and values to 3e-3 (of values up to 2)");
  check(codes, "with int8 keys and values to 6e-2");
}

void test_attention_together() {
  constexpr int size = 18, heads = 4, tokens = 5, positions = 150, stride = heads * size;
  const std::vector<float> keys = numbers(size * positions, 8), values = numbers(size * positions, 9), queries = numbers(stride * tokens, 7);
  bool ok = true;
  for (const KvType type : {KvType::kFp32, KvType::kFp16, KvType::kInt8}) {
    const History history(type, 1, positions, size, keys, values);
    std::vector<float> together(queries.size()), alone(queries.size()), scratch(attention_scratch(size));
    attention({queries.data(), together.data(), stride, tokens, heads, positions - tokens + 1}, history.cache.head(0, 0), scratch.data());
    for (int i = 0; i < tokens * heads; ++i) {
      attention({&queries[static_cast<size_t>(i * size)], &alone[static_cast<size_t>(i * size)], stride, 1, 1, positions - tokens + 1 + i / heads},
                history.cache.head(0, 0), scratch.data());
    }
    ok = ok && together == alone;
  }
  check(ok, "a query's result is the same bit for bit alone and among others");
}

// What calibration might have found for a head of up to 18 channels.
KvFit some_fit(const KvFormat& format) {
  static uint16_t scales[18], offsets[18], codebook[16];
  static int32_t order[18];
  for (int i = 0; i < 18; ++i) scales[i] = half_from_float(0.01f * float(i + 1)), offsets[i] = half_from_float(0.3f - 0.1f * float(i)), order[i] = i * 7 % 18;
  for (int i = 0; i < 16; ++i) codebook[i] = half_from_float(float(i * i) / 128 - 1);
  return {scales, offsets, codebook, format.ordered ? order : nullptr};
}

// A cache of codes of some rows, and one of fp32 with those rows as they are read back.
struct CodedHistory {
  CodedHistory(const KvFormat& format, int first, int positions, int size, const std::vector<float>& keys, const std::vector<float>& values) {
    static KvCodes codes;
    kv_codes(format, some_fit(format), size, &codes);
    coding = {&codes, &codes, first, nullptr, nullptr};
    data.resize(KvCache(nullptr, KvType::kCodes, 1, 1, positions, size, coding).bytes() + 64);
    coded = KvCache(History::aligned(data.data()), KvType::kCodes, 1, 1, positions, size, coding);
    read_keys = keys;
    read_values = values;
    for (int t = 0; t < positions; ++t) {
      const size_t at = static_cast<size_t>(t * size);
      coded.store(0, t, &keys[at], &values[at]);
      const KvHead head = coded.head(0, 0);
      for (int i = 0; i < size && t < first; ++i) {
        read_keys[at + static_cast<size_t>(i)] = half_to_float(half_from_float(keys[at + static_cast<size_t>(i)]));
        read_values[at + static_cast<size_t>(i)] = half_to_float(half_from_float(values[at + static_cast<size_t>(i)]));
      }
      if (t < first) continue;
      kv_load(codes, 0, head.keys + (t - first) * codes.row_bytes, &read_keys[at]);
      kv_load(codes, 0, head.values + (t - first) * codes.row_bytes, &read_values[at]);
    }
  }

  KvCoding coding;
  std::vector<uint8_t> data;
  KvCache coded;
  std::vector<float> read_keys, read_values;
};

constexpr KvFormat kCoded[] = {
    {KvGrid::kAsymmetric, false, 4, 0, 0, 0, false},  {KvGrid::kSymmetric, false, 3, 8, 0, 2, false}, {KvGrid::kPower, false, 5, 16, 0, 1, false},
    {KvGrid::kSymmetric, false, 1, 0, 8, 0, false},   {KvGrid::kAsymmetric, false, 2, 8, 0, 0, false}, {KvGrid::kSymmetric, false, 8, 0, 0, 0, false},
    {KvGrid::kAsymmetric, false, 6, 0, 16, 0, false}, {KvGrid::kSymmetric, true, 7, 0, 0, 1, true},    {KvGrid::kCodebook, false, 3, 8, 0, 1, true},
    {KvGrid::kCodebook, true, 4, 0, 0, 0, false},     {}};

void test_attention_over_codes() {
  constexpr int size = 18, heads = 4, tokens = 5, positions = 150, stride = heads * size;
  const std::vector<float> keys = numbers(size * positions, 8), values = numbers(size * positions, 9), queries = numbers(stride * tokens, 7);
  bool ok = true;
  for (const KvFormat& format : kCoded) {
    const CodedHistory codes(format, 3, positions, size, keys, values);
    const History whole(KvType::kFp32, 1, positions, size, codes.read_keys, codes.read_values);
    std::vector<float> found(queries.size()), expected(queries.size()), scratch(attention_scratch(size));
    attention({queries.data(), found.data(), stride, tokens, heads, positions - tokens + 1}, codes.coded.head(0, 0), scratch.data());
    attention({queries.data(), expected.data(), stride, tokens, heads, positions - tokens + 1}, whole.cache.head(0, 0), scratch.data());
    ok = ok && found == expected;
  }
  check(ok, "attention over codes is that over the rows as they are read back, bit for bit");
}

void test_attention_with_its_own() {
  constexpr int size = 18, tokens = 4;
  bool ok = true;
  for (const int positions : {4, 64, 65, 67, 150}) {
    const std::vector<float> keys = numbers(size * positions, 8), values = numbers(size * positions, 9), queries = numbers(size * tokens, 7);
    const CodedHistory codes(kCoded[0], 0, positions, size, keys, values);
    std::vector<float> found(queries.size()), scratch(attention_scratch(size));
    const int seen = positions - tokens + 1, own = (seen - 1) * size;
    Queries asked = {queries.data(), found.data(), size, tokens, 1, seen};
    asked.own_keys = &keys[static_cast<size_t>(own)];
    asked.own_values = &values[static_cast<size_t>(own)];
    asked.own_stride = size;
    std::vector<float> start(tokens);
    asked.start = start.data();
    asked.start_stride = 1;
    attention(asked, codes.coded.head(0, 0), scratch.data());
    std::vector<float> is_first(static_cast<size_t>(size * positions));
    is_first[0] = 1;
    for (int token = 0; token < tokens; ++token) {
      std::vector<float> past_keys = codes.read_keys, past_values = codes.read_values;
      for (int i = own + token * size; i < own + token * size + size; ++i) {
        past_keys[static_cast<size_t>(i)] = keys[static_cast<size_t>(i)];
        past_values[static_cast<size_t>(i)] = values[static_cast<size_t>(i)];
      }
      const float* query = &queries[static_cast<size_t>(token * size)];
      const std::vector<double> expected = expected_attention(query, past_keys.data(), past_values.data(), seen + token, size, size);
      const double to_first = expected_attention(query, past_keys.data(), is_first.data(), seen + token, size, size)[0];
      ok = ok && fabs(double{start[static_cast<size_t>(token)]} - to_first) < 1e-5;
      for (int i = 0; i < size; ++i) ok = ok && fabs(double{found[static_cast<size_t>(token * size + i)]} - expected[static_cast<size_t>(i)]) < 1e-5;
    }
  }
  check(ok, "a token that brings its own key and value sees these and the codes of those before it, and says what it pays to the first");
}

void test_quantize() {
  bool ok = true;
  for (const int columns : {1, 31, 32, 77, 256}) {
    for (const int group : {32, 64, 256}) {
      const int padded = (columns + 31) / 32 * 32, groups = (padded + group - 1) / group;
      std::vector<float> x = numbers(columns, 12);
      x[0] = columns == 1 ? 0.0f : x[0];
      for (const int bits : {2, 4, 8}) {
        for (const bool own : {false, true}) {
          const size_t count = own ? static_cast<size_t>(groups) : 1;
          std::vector<int8_t> codes(static_cast<size_t>(padded), 1), expected_codes = codes;
          std::vector<int32_t> sums(static_cast<size_t>(groups)), expected_sums = sums;
          std::vector<float> scales(count), expected_scales = scales;
          mm_pack_a8(bits, 1, columns, padded, group, x.data(), 0, expected_codes.data(), 0, expected_scales.data(), count, expected_sums.data(), 0);
          quantize_codes(x.data(), columns, padded, bits, group, own, codes.data(), scales.data(), sums.data());
          ok = ok && codes == expected_codes && sums == expected_sums && scales == expected_scales;
        }
      }
      std::vector<uint16_t> halves(static_cast<size_t>(padded), 1), expected_halves = halves;
      mm_pack_a16(1, columns, padded, x.data(), 0, expected_halves.data(), 0);
      quantize_a16(x.data(), columns, padded, halves.data());
      ok = ok && halves == expected_halves;
    }
  }
  check(ok, "quantize_codes and quantize_a16 are mm_pack_a8 and mm_pack_a16 of one row, bit for bit");
}

void test_fixed_codes() {
  bool ok = true;
  for (const auto op : {fixed_codes, ops_baseline::fixed_codes}) {
    for (const int columns : {1, 31, 33, 77}) {
      for (const int bits : {2, 4, 8}) {
        const int most = (1 << (bits - 1)) - 1, padded = (columns + 31) / 32 * 32;
        for (const int zero : {-most, -1, 0, 1, most}) {
          for (const float scale : {0.5f, 0.031f}) {
            std::vector<float> x = numbers(columns, 12);
            for (int i = 0; i < columns; i += 5) x[i] = rintf(x[i] * 4) / 4;  // ties of 0.5
            x[columns / 2] = zero < 0 ? -1e9f : 1e9f;
            Guarded<int8_t> codes(padded);
            op(x.data(), columns, padded, bits, scale, zero, codes.data());
            for (int i = 0; i < padded; ++i) {
              const double code = i < columns ? fmin(fmax(rint(double{x[i] * (1.0f / scale)}) + zero, -most), most) : 0;
              ok = ok && codes[i] == code;
            }
            const float broken = NAN;
            op(&broken, 1, 1, bits, scale, zero, codes.data());
            ok = ok && codes[0] == -most && codes.is_intact();
          }
        }
      }
    }
  }
  check(ok, "fixed_codes rounds half to even, adds the zero and stays within the codes; padding is 0");
}

void test_group_sums() {
  bool ok = true;
  for (const auto op : {group_sums, ops_baseline::group_sums}) {
    for (const int count : {1, 31, 64, 77, 300}) {
      for (const int group : {5, 32, 64, 300}) {
        std::vector<int8_t> codes;
        for (const float each : numbers(count, 13)) codes.push_back(static_cast<int8_t>(each * 63.5f));
        Guarded<int32_t> sums((count + group - 1) / group);
        op(codes.data(), count, group, sums.data());
        for (int first = 0; first < count; first += group) {
          int sum = 0;
          for (int i = first; i < std::min(first + group, count); ++i) sum += codes[i];
          ok = ok && sums[first / group] == sum;
        }
        ok = ok && sums.is_intact();
      }
    }
  }
  check(ok, "group_sums adds up each group, the smaller one at the end as well");
}

// What ops.h promises of all but attention and the products with fp16 weights.
void test_both_builds_agree() {
  constexpr int n = 77, heads = 3, size = 18;
  const std::vector<float> x = numbers(n, 1), w = numbers(n, 2), b = numbers(n, 3);
  std::vector<float> y(n), other(n);
  bool ok = true;
  const auto same = [&](const auto& op, const auto& baseline, const auto&... rest) {
    y = other = x;
    op(y.data(), rest...);
    baseline(other.data(), rest...);
    ok = ok && y == other;
  };
  const auto same_apart = [&](const auto& op, const auto& baseline, const auto&... before) {
    y = other = b;
    op(before..., y.data());
    baseline(before..., other.data());
    ok = ok && y == other;
  };
  same(rmsnorm_heads, ops_baseline::rmsnorm_heads, w.data(), heads, size, 1e-5f);
  same(rope, ops_baseline::rope, heads, size, w.data(), b.data());
  same(softmax, ops_baseline::softmax, n);
  same(add, ops_baseline::add, w.data(), n);
  same(snap_heads, ops_baseline::snap_heads, heads, size, std::vector<float>{0.1f, 0.05f, 0.01f}.data());
  same_apart(rmsnorm, ops_baseline::rmsnorm, x.data(), w.data(), n, 1e-5f);
  same_apart(layernorm, ops_baseline::layernorm, x.data(), w.data(), b.data(), n, 1e-5f);
  same_apart(silu_multiply, ops_baseline::silu_multiply, x.data(), w.data(), n);
  same_apart(gelu, ops_baseline::gelu, x.data(), n);
  same(hadamard, ops_baseline::hadamard, 64, 64);
  ok = ok && log_sum_exp(x.data(), n) == ops_baseline::log_sum_exp(x.data(), n);
  std::vector<uint16_t> packed(96), packed_other(96);
  quantize_a16(x.data(), n, 96, packed.data());
  ops_baseline::quantize_a16(x.data(), n, 96, packed_other.data());
  floats_from_halves(packed.data(), n, y.data());
  ops_baseline::floats_from_halves(packed.data(), n, other.data());
  ok = ok && packed == packed_other && y == other;
  std::vector<int8_t> codes(96), codes_other(96);
  std::vector<float> scales(3), scales_other(3);
  std::vector<int32_t> sums(3), sums_other(3);
  quantize_codes(x.data(), n, 96, 8, 32, true, codes.data(), scales.data(), sums.data());
  ops_baseline::quantize_codes(x.data(), n, 96, 8, 32, true, codes_other.data(), scales_other.data(), sums_other.data());
  ok = ok && codes == codes_other && scales == scales_other && sums == sums_other;
  std::vector<uint8_t> powers(n), powers_other(n);
  for (int i = 0; i < n; ++i) y[i] = fabsf(x[i]) / 2;
  log2_codes(y.data(), n, powers.data());
  ops_baseline::log2_codes(y.data(), n, powers_other.data());
  std::vector<int32_t> out(11), out_other(11);
  log2_attend(powers.data(), codes.data(), 7, 11, out.data());
  ops_baseline::log2_attend(powers.data(), codes.data(), 7, 11, out_other.data());
  ok = ok && powers == powers_other && out == out_other;
  check(ok, "the AVX2 and the baseline build of an op give the same bits");
}

void test_elementwise() {
  std::vector<float> x = {1, 2, 3}, y(65536);
  const std::vector<float> more = {10, 20, 30};
  add(x.data(), more.data(), 3);
  check(x == std::vector<float>({11, 22, 33}), "add adds in place");
  std::vector<uint16_t> halves(65536);
  for (int i = 0; i < 65536; ++i) halves[i] = static_cast<uint16_t>(i);
  floats_from_halves(halves.data(), 65536, y.data());
  bool ok = true;
  for (int i = 0; i < 65536; ++i) ok = ok && (isnan(y[i]) || half_from_float(y[i]) == i);
  check(ok, "every fp16 number survives the way to float and back");
}

void test_kv_cache() {
  constexpr int layers = 2, heads = 3, positions = 37, size = 6;
  const std::vector<float> key = numbers(heads * size, 10), value = numbers(heads * size, 11);
  for (const KvType type : {KvType::kFp32, KvType::kFp16, KvType::kInt8}) {
    std::vector<uint8_t> data(KvCache(nullptr, type, layers, heads, positions, size).bytes() + 64);
    uint8_t* begin = History::aligned(data.data());
    const KvCache cache(begin, type, layers, heads, positions, size);
    cache.store(1, 36, key.data(), value.data());
    const KvHead last = cache.head(1, 2);
    bool ok = cache.head(0, 0).keys == begin;
    for (int d = 0; d < size; ++d) {
      const int at = 2 * kKeyBlock * size + d * kKeyBlock + 36 % kKeyBlock;  // of keys: the third block
      float found_key, found_value;
      if (type == KvType::kInt8) {
        found_key = static_cast<float>(reinterpret_cast<int8_t*>(last.keys)[at]) * last.key_scales[36];
        found_value = static_cast<float>(reinterpret_cast<int8_t*>(last.values)[36 * size + d]) * last.value_scales[36];
      } else if (type == KvType::kFp16) {
        found_key = half_to_float(reinterpret_cast<uint16_t*>(last.keys)[at]);
        found_value = half_to_float(reinterpret_cast<uint16_t*>(last.values)[36 * size + d]);
      } else {
        found_key = reinterpret_cast<float*>(last.keys)[at];
        found_value = reinterpret_cast<float*>(last.values)[36 * size + d];
      }
      const double bound = type == KvType::kInt8 ? 0.5001 * 2 / 127 : type == KvType::kFp16 ? 2 * 0x1p-11 : 0;
      ok = ok && fabs(double{found_key - key[2 * size + d]}) <= bound && fabs(double{found_value - value[2 * size + d]}) <= bound;
    }
    check(ok, "the cache returns the row that was stored: exactly, to half a place of fp16, to half a step of int8");
  }
}

constexpr uint16_t kHalf[] = {0x3c00, 0x3800, 0x3400, 0x2e66};  // 1, 0.5, 0.25, 0.1
constexpr int kKvHeads = 2, kMostChannels = 64;

struct KvCase {
  KvFormat format;
  std::vector<uint16_t> scales, offsets, codebook = {0xbc00, 0xb800, 0, 0x3400, 0x3800, 0x3a00, 0x3b00, 0x3c00};
  std::vector<int32_t> order;

  KvCase(const KvFormat& wanted, int size) : format(wanted) {
    for (int i = 0; i < kKvHeads * size; ++i) {
      scales.push_back(kHalf[i % 4]);
      offsets.push_back(kHalf[i % 3] | 0x8000);
      order.push_back((size - 1 - i % size + i / size) % size);
    }
  }

  void prepare(int size, KvCodes* out) const {
    const KvFit fit = {format.by_channel ? scales.data() : nullptr, format.by_channel ? offsets.data() : nullptr,
                       format.grid == KvGrid::kCodebook ? codebook.data() : nullptr, format.ordered ? order.data() : nullptr};
    kv_codes(format, fit, size, out);
  }
};

constexpr KvFormat kKvFormats[] = {{},
                                   {KvGrid::kAsymmetric, false, 1, 0, 0, 0, false},
                                   {KvGrid::kAsymmetric, false, 4, 8, 0, 1, true},
                                   {KvGrid::kAsymmetric, false, 7, 16, 8, 0, false},
                                   {KvGrid::kAsymmetric, true, 4, 0, 0, 2, true},
                                   {KvGrid::kSymmetric, false, 1, 0, 0, 0, false},
                                   {KvGrid::kSymmetric, true, 5, 0, 8, 0, false},
                                   {KvGrid::kSymmetric, false, 8, 24, 0, 3, true},
                                   {KvGrid::kPower, false, 2, 8, 0, 0, true},
                                   {KvGrid::kPower, false, 6, 0, 8, 0, false},
                                   {KvGrid::kCodebook, false, 3, 0, 0, 1, false},
                                   {KvGrid::kCodebook, true, 3, 0, 0, 0, true}};

double half_in(const uint8_t* at) { return half_to_float(static_cast<uint16_t>(at[0] | at[1] << 8)); }

// One number of a row in stored order, by the layout in kv_codes.h: what it may be, and which of these it is.
struct StoredNumber {
  std::vector<double> choices;
  size_t code;
};

StoredNumber stored_number(const KvCodes& codes, int head, const uint8_t* row, int channel) {
  int part = 0, plane = codes.planes_at;
  for (; codes.part[part].end <= channel; ++part) plane += (codes.part[part].end - codes.part[part].begin + 7) / 8 * codes.part[part].bits;
  const KvPart& own = codes.part[part];
  const KvGrid grid = codes.format.grid;
  double scale, offset = 0;
  if (codes.format.by_channel) {
    scale = half_to_float(codes.fit.scales[head * codes.size + channel]);
    offset = half_to_float(codes.fit.offsets[head * codes.size + channel]);
  } else if (grid == KvGrid::kPower) {
    scale = row[codes.exponents_at + part] ? ldexp(1, row[codes.exponents_at + part] - 127) : 0;
  } else {
    const bool has_offset = grid != KvGrid::kSymmetric;
    scale = half_in(row + part * (has_offset ? 4 : 2));
    if (has_offset) offset = half_in(row + part * 4 + 2);
  }
  StoredNumber found = {{}, 0};
  const int most = (1 << (own.bits - 1)) - 1;
  for (int i = 0; i < 1 << own.bits; ++i) {
    double level = i;
    if (grid == KvGrid::kCodebook) level = half_to_float(codes.fit.codebook[i]);
    if (grid == KvGrid::kSymmetric || grid == KvGrid::kPower) level = own.bits == 1 ? 2 * i - 1 : std::min(i - most, most);
    found.choices.push_back(offset + scale * level);
  }
  const int at = channel - own.begin;
  for (int bit = 0; bit < own.bits; ++bit) found.code |= static_cast<size_t>(row[plane + at / 8 * own.bits + bit] >> at % 8 & 1) << bit;
  return found;
}

// Whether a row says the numbers `x`, and `y` is what it says.
bool row_is(const KvCodes& codes, int head, const uint8_t* row, const float* x, const float* y) {
  bool ok = true;
  for (int i = 0; i < codes.size; ++i) {
    const int channel = codes.fit.order ? codes.fit.order[head * codes.size + i] : i;
    const double wanted = x[channel], found = y[channel];
    bool is_outlier = codes.format.grid == KvGrid::kHalves;
    for (int n = 0; n < std::min(codes.format.outliers, codes.size); ++n) {
      const uint8_t* outlier = row + codes.outliers_at + 4 * n;
      is_outlier = is_outlier || (outlier[0] | outlier[1] << 8) == i;
    }
    if (is_outlier) {
      ok = ok && found == double{half_to_float(half_from_float(x[channel]))};
      continue;
    }
    const StoredNumber number = stored_number(codes, head, row, i);
    ok = ok && fabs(found - number.choices[number.code]) <= 1e-6 * fabs(found);
    for (const double choice : number.choices) ok = ok && fabs(found - wanted) <= fabs(choice - wanted) + 1e-5;
  }
  return ok;
}

void test_kv_rows() {
  static KvCodes codes;
  bool ok = true;
  for (const KvFormat& format : kKvFormats) {
    for (const int size : {2, 10, 18, kMostChannels}) {
      if (format.wide > size) continue;
      const KvCase each(format, size);
      each.prepare(size, &codes);
      for (int head = 0; head < kKvHeads; ++head) {
        const std::vector<float> x = numbers(size, 20);
        Guarded<uint8_t> row(codes.row_bytes);
        kv_store(codes, head, x.data(), row.data());
        for (const auto op : {kv_load, ops_baseline::kv_load}) {
          Guarded<float> y(size);
          op(codes, head, row.data(), y.data());
          ok = ok && row_is(codes, head, row.data(), x.data(), y.data()) && y.is_intact() && row.is_intact();
        }
      }
    }
  }
  check(ok, "kv_store keeps the nearest of what a row's codes can say, and kv_load says it");
}

void test_snap_heads() {
  for (const auto op : {snap_heads, ops_baseline::snap_heads}) {
    const std::vector<float> steps = {0.1f, 0.05f};
    Guarded<float> x(std::vector<float>{0.26f, -0.24f, 9.0f, 0.26f, -9.0f, NAN});
    op(x.data(), 2, 3, steps.data());
    const std::vector<float> found(x.data(), x.data() + 6);
    check(found == std::vector<float>({3 * 0.1f, -2 * 0.1f, 90 * 0.1f, 5 * 0.05f, -127 * 0.05f, -127 * 0.05f}) && x.is_intact(),
          "heads are multiples of their steps, and NaN is the least");
    std::vector<float> beyond = {1e9f, -1e9f};
    op(beyond.data(), 1, 2, steps.data());
    check(beyond == std::vector<float>({127 * 0.1f, -127 * 0.1f}), "and of 127 steps at most");
    std::vector<float> ties = {0.25f, 0.75f, -0.25f, -1.25f, 63.5f};
    const float half = 0.5f;
    op(ties.data(), 1, 5, &half);
    check(ties == std::vector<float>({0, 1, 0, -1, 63.5f}), "a tie goes to the even multiple");
  }
}

void test_log2_codes() {
  std::vector<float> p = {1, 0.75f, 0.70710677f, 0.7071068f, 0.5f, 0.0625f, 0x1p-15f, 0x1p-16f, 0x1p-149f, 0};
  for (float each = 1; each > 1e-5f; each *= 0.9973f) p.push_back(each);
  std::vector<uint8_t> codes(p.size());
  log2_codes(p.data(), static_cast<int>(p.size()), codes.data());
  bool ok = true;
  for (size_t i = 0; i < p.size(); ++i) ok = ok && codes[i] == (p[i] > 0 ? fmin(kNoWeight, rint(-log2(double{p[i]}))) : kNoWeight);
  check(ok, "log2_codes rounds the binary logarithm, and below 2^-15 is nothing");
}

void test_log2_attend() {
  constexpr int positions = 37, size = 19;
  std::vector<uint8_t> codes;
  std::vector<int8_t> values;
  for (const float each : numbers(positions, 12)) codes.push_back(static_cast<uint8_t>((each + 2) * 4.2f));
  for (const float each : numbers(positions * size, 13)) values.push_back(static_cast<int8_t>(each * 63));
  std::vector<int32_t> out(size, 5);
  log2_attend(codes.data(), values.data(), positions, size, out.data());
  bool ok = true;
  for (int d = 0; d < size; ++d) {
    double sum = 5 * 0x1p-15;
    for (int t = 0; t < positions; ++t) sum += codes[t] == kNoWeight ? 0 : ldexp(values[t * size + d], -codes[t]);
    ok = ok && out[d] * 0x1p-15 == sum;
  }
  check(ok, "log2_attend adds shifted values exactly");
}

// Probabilities from double, which the op has in float: a row whose probability lies near the middle between two powers may differ.
void test_log2_attention() {
  constexpr float step = 0.0157f;
  int wrong = 0, all = 0;
  for (const KvType type : {KvType::kFp32, KvType::kFp16}) {
    for (const int size : {2, 10, 64}) {
      for (const int positions : {1, 21, 64, 65, 200}) {
        const std::vector<float> keys = numbers(size * positions, 8), queries = numbers(3 * size, 7);
        std::vector<float> values = numbers(size * positions, 9);
        for (float& value : values) value = rintf(value / step) > 127 ? 127 * step : rintf(value / step) < -127 ? -127 * step : rintf(value / step) * step;
        const History history(type, 1, positions, size, keys, values);
        std::vector<float> out(queries.size()), scratch(log2_attention_scratch(size)), start(3);
        const Queries asked = {queries.data(), out.data(), static_cast<size_t>(size), 1, 3, positions, start.data(), 3};
        log2_attention(asked, history.cache.head(0, 0), step, scratch.data());
        for (int head = 0; head < 3; ++head) {
          std::vector<double> weights;
          double total = 0;
          for (int t = 0; t < positions; ++t) {
            double product = 0;
            for (int d = 0; d < size; ++d) {
              const float key = keys[static_cast<size_t>(t * size + d)];
              product += double{queries[static_cast<size_t>(head * size + d)]} *
                         double{type == KvType::kFp16 ? half_to_float(half_from_float(key)) : key};
            }
            weights.push_back(exp(product / sqrt(double{static_cast<double>(size)})));
            total += weights.back();
          }
          if (fabs(double{start[static_cast<size_t>(head)]} - weights[0] / total) > 1e-5) wrong += 1000;
          bool same = true;
          for (int d = 0; d < size; ++d) {
            double sum = 0;
            for (int t = 0; t < positions; ++t) {
              const double code = rint(-log2(weights[static_cast<size_t>(t)] / total));
              if (code < kNoWeight) sum += ldexp(rint(double{values[static_cast<size_t>(t * size + d)] / step}), -static_cast<int>(code));
            }
            same = same && fabs(double{out[static_cast<size_t>(head * size + d)]} - sum * double{step}) < 1e-6;
          }
          wrong += !same;
          ++all;
        }
      }
    }
  }
  check(wrong * 20 < all, "log2_attention is the sum of values over powers of two, and says what is paid to the first position");
}

void test_log2_attention_over_codes() {
  constexpr int size = 18, heads = 4, tokens = 5, positions = 150, stride = heads * size;
  const std::vector<float> keys = numbers(size * positions, 8), values = numbers(size * positions, 9), queries = numbers(stride * tokens, 7);
  bool ok = true;
  for (const KvFormat& format : kCoded) {
    const CodedHistory codes(format, 3, positions, size, keys, values);
    const History whole(KvType::kFp32, 1, positions, size, codes.read_keys, codes.read_values);
    std::vector<float> found(queries.size()), expected(queries.size()), scratch(log2_attention_scratch(size));
    log2_attention({queries.data(), found.data(), stride, tokens, heads, positions - tokens + 1}, codes.coded.head(0, 0), 0.0157f, scratch.data());
    log2_attention({queries.data(), expected.data(), stride, tokens, heads, positions - tokens + 1}, whole.cache.head(0, 0), 0.0157f, scratch.data());
    ok = ok && found == expected;
  }
  check(ok, "log2_attention over codes is that over the rows as they are read back, bit for bit");
}

}  // namespace

int main() {
  test_exp();
  test_rmsnorm();
  test_rmsnorm_heads();
  test_layernorm();
  test_alibi_slopes();
  test_rope();
  test_softmax();
  test_silu();
  test_relu();
  test_gelu();
  test_hadamard();
  test_add_side();
  test_sparse_dot();
  test_attention();
  test_attention_together();
  test_attention_over_codes();
  test_attention_with_its_own();
  test_quantize();
  test_fixed_codes();
  test_group_sums();
  test_both_builds_agree();
  test_elementwise();
  test_kv_cache();
  test_kv_rows();
  test_log2_codes();
  test_log2_attend();
  test_log2_attention();
  test_log2_attention_over_codes();
  test_snap_heads();
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
