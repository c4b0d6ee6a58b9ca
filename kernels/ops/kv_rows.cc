// Rows from standard input through the codes of keys and values and back to standard output: for the test against quantizers/kv_codes.py.
//
// In: 10 int32: grid, by channel, bits, group, wide, outliers, ordered, heads, positions, D; then of what the format uses, in this order,
// fp16 scales and offsets [heads][D], fp16 codebook [2^bits], int32 order [heads][D]; then float32 [heads][positions][D].
// Out: int32 row bytes, then float32 [heads][positions][D].
#include <stdio.h>

#include <vector>

#include "base/check.h"
#include "ops/kv_codes.h"

namespace {

template <typename T>
std::vector<T> take(size_t count) {
  std::vector<T> numbers(count);
  CHECK(fread(numbers.data(), sizeof(T), count, stdin) == count);
  return numbers;
}

template <typename T>
void give(const T* numbers, size_t count) {
  CHECK(fwrite(numbers, sizeof(T), count, stdout) == count);
}

}  // namespace

int main() {
  const std::vector<int32_t> n = take<int32_t>(10);
  const KvFormat format = {static_cast<KvGrid>(n[0]), n[1] != 0, n[2], n[3], n[4], n[5], n[6] != 0};
  const int heads = n[7], positions = n[8], size = n[9];
  const size_t channels = static_cast<size_t>(heads) * static_cast<size_t>(size);
  const std::vector<uint16_t> scales = take<uint16_t>(format.by_channel ? channels : 0), offsets = take<uint16_t>(scales.size());
  const std::vector<uint16_t> codebook = take<uint16_t>(format.grid == KvGrid::kCodebook ? size_t{1} << format.bits : 0);
  const std::vector<int32_t> order = take<int32_t>(format.ordered ? channels : 0);
  const KvFit fit = {scales.data(), offsets.data(), codebook.empty() ? nullptr : codebook.data(), order.empty() ? nullptr : order.data()};
  static KvCodes codes;
  kv_codes(format, fit, size, &codes);
  give(&codes.row_bytes, 1);
  std::vector<uint16_t> row(static_cast<size_t>(codes.row_bytes) / 2);
  std::vector<float> y(static_cast<size_t>(size));
  for (int head = 0; head < heads; ++head) {
    for (int position = 0; position < positions; ++position) {
      const std::vector<float> x = take<float>(static_cast<size_t>(size));
      kv_store(codes, head, x.data(), reinterpret_cast<uint8_t*>(row.data()));
      kv_load(codes, head, reinterpret_cast<const uint8_t*>(row.data()), y.data());
      give(y.data(), y.size());
    }
  }
  return 0;
}
