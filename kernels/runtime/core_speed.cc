// Times products and sorts cores into kinds.
#include "runtime/core_speed.h"

#include <math.h>

#include <algorithm>

#include "base/clock.h"
#include "runtime/linear.h"

namespace {

constexpr int kTokens = 4, kRows = 64, kColumns = 512;
constexpr int64_t kLookNs = 3000000;
constexpr int kMost = 8;  // of the fastest kind: eighths are near enough, and do not change with every measurement

}  // namespace

int64_t product_ns() {
  Linear linear;
  linear.scheme = {.weight_bits = 4, .activation_bits = 8};
  linear.rows = kRows;
  linear.columns = kColumns;
  if (linear.find_kernels()) return 1;
  const std::vector<uint8_t> codes(mm_codes_bytes(4, kRows, kColumns) + 64, 0x77);
  const std::vector<uint16_t> scales(mm_scales_count(kRows, kColumns, kColumns), 0x3c00);
  linear.set_weights(codes.data(), scales.data());
  alignas(64) static const int8_t inputs[kTokens * kColumns] = {};
  const float input_scales[kTokens] = {1, 1, 1, 1};
  const int32_t sums[kTokens] = {};
  float outputs[kTokens * kRows];
  const MmShape shape = {kTokens, kRows, kColumns, kColumns};
  const MmActivations input = {inputs, kColumns, input_scales, 1, sums, 1};
  const MmOutput output = {outputs, kRows};
  int64_t fastest = INT64_MAX;
  for (int64_t begin = now_ns(), start = begin, end; start < begin + kLookNs; start = end) {
    linear.prefill->kernel(&shape, &linear.weights, &input, &output);
    end = now_ns();
    fastest = std::min(fastest, end - start);
  }
  return std::max<int64_t>(fastest, 1);
}

std::vector<int> speeds(const std::vector<int64_t>& ns) {
  std::vector<int64_t> sorted = ns;
  std::sort(sorted.begin(), sorted.end());
  const double limit = kOneKind * static_cast<double>(sorted.front());
  if (static_cast<double>(sorted.back()) <= limit) return std::vector<int>(ns.size(), 1);
  std::vector<int> found;
  for (const int64_t own : ns) {
    int64_t kind = sorted.front();  // the fastest core of this one's kind
    for (const int64_t each : sorted) {
      if (each <= own && static_cast<double>(each) > kOneKind * static_cast<double>(kind)) kind = each;
    }
    found.push_back(std::max(1, static_cast<int>(lround(kMost * static_cast<double>(sorted.front()) / static_cast<double>(kind)))));
  }
  return found;
}
