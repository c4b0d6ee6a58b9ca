// Tests of ops.h against the formulas written out in double. Prints what failed and "N passed, N failed".
#include <math.h>
#include <stdio.h>

#include <vector>

#include "base/half.h"
#include "ops/exp.h"
#include "ops/kv_cache.h"
#include "ops/ops.h"

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

void test_attention() {
  constexpr int size = 19, positions = 21;
  const std::vector<float> query = numbers(size, 7), keys = numbers(size * positions, 8), values = numbers(size * positions, 9);
  std::vector<float> scores(positions), out(size);
  attention(query.data(), keys.data(), values.data(), positions, size, scores.data(), out.data());
  double total = 0;
  std::vector<double> expected(size, 0.0);
  for (int t = 0; t < positions; ++t) {
    const double weight = exp(dot(query.data(), &keys[t * size], size) / sqrt(double{size}));
    total += weight;
    for (int i = 0; i < size; ++i) expected[i] += weight * values[t * size + i];
  }
  bool ok = true;
  for (int i = 0; i < size; ++i) ok = ok && fabs(out[i] - expected[i] / total) < 1e-5;
  check(ok, "attention is the average of the values weighted by softmax(qk / sqrt(D))");
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
  constexpr int layers = 2, heads = 3, capacity = 5, size = 4;
  std::vector<float> data(KvCache::floats(layers, heads, capacity, size), -1);
  const KvCache cache = {data.data(), heads, capacity, size};
  const std::vector<float> key = numbers(heads * size, 10), value = numbers(heads * size, 11);
  cache.store(1, 4, key.data(), value.data());
  bool ok = &cache.values(1, 2)[4 * size + size - 1] == &data.back();
  for (int i = 0; i < heads * size; ++i) {
    ok = ok && cache.keys(1, i / size)[4 * size + i % size] == key[i] && cache.values(1, i / size)[4 * size + i % size] == value[i];
  }
  check(ok, "the cache returns the row that was stored, and its last row is its last memory");
}

void test_log2_codes() {
  std::vector<float> p = {1, 0.75f, 0.70710677f, 0.7071068f, 0.5f, 0.0625f, 0x1p-15f, 0x1p-16f, 0x1p-149f, 0};
  for (float each = 1; each > 1e-5f; each *= 0.9973f) p.push_back(each);
  std::vector<uint8_t> codes(p.size());
  log2_codes(p.data(), static_cast<int>(p.size()), codes.data());
  bool ok = true;
  for (size_t i = 0; i < p.size(); ++i) ok = ok && codes[i] == (p[i] > 0 ? fmin(15, rint(-log2(double{p[i]}))) : 15);
  check(ok, "log2_codes rounds the binary logarithm, and stops at 15");
}

void test_log2_attend() {
  constexpr int positions = 37, size = 19;
  std::vector<uint8_t> codes;
  std::vector<int16_t> values;
  for (const float each : numbers(positions, 12)) codes.push_back(static_cast<uint8_t>((each + 2) * 4));
  for (const float each : numbers(positions * size, 13)) values.push_back(static_cast<int16_t>(each * 16384));
  std::vector<int32_t> out(size);
  log2_attend(codes.data(), values.data(), positions, size, out.data());
  bool ok = true;
  for (int d = 0; d < size; ++d) {
    double sum = 0;
    for (int t = 0; t < positions; ++t) sum += floor(ldexp(values[t * size + d], -codes[t]));
    ok = ok && out[d] == sum;
  }
  check(ok, "log2_attend adds shifted values exactly");
}

}  // namespace

int main() {
  test_exp();
  test_rmsnorm();
  test_rope();
  test_softmax();
  test_silu();
  test_attention();
  test_elementwise();
  test_kv_cache();
  test_log2_codes();
  test_log2_attend();
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
