// Fills the operands of one family.
#include "mm/families/example.h"

#include <utility>

#include "base/random.h"
#include "mm/families/families.h"

namespace {

constexpr int kSegments = 4;

int least(int a, int b) { return a < b ? a : b; }

}  // namespace

MmExample::MmExample(const MmFamily& family, int n, int k, int group, uint64_t seed) : state_(seed) {
  if (&family == &mm_family_codebook) add_codebook();
  if (&family == &mm_family_twolevel) add_levels(n, (k + group - 1) / group);
  if (&family == &mm_family_trip) add_segments(k);
  if (&family == &mm_family_rowsplit) add_wide_rows(n, k);
  if (&family == &mm_family_sidecar) add_columns(n, k);
  if (&family == &mm_family_sparse) add_outliers(n, k);
  bytes = signed_.size() + bytes_.size() + halves_.size() * 2 + (places_.size() + begins_.size()) * 4;
}

int MmExample::below(int limit) { return (int)(next_random(&state_) % (uint64_t)limit); }

uint16_t MmExample::half() { return (uint16_t)(next_random(&state_) & 0xbbff); }  // finite, below 1 in magnitude

void MmExample::add_codebook() {
  for (int i = 0; i < 16; ++i) signed_.push_back((int8_t)(i == 0 ? -127 : i == 15 ? 127 : below(255) - 127));
  extra.codebook = signed_.data();
}

// (code - zero) * scale stays within 15 * 8.
void MmExample::add_levels(int n, int groups) {
  for (int i = 0; i < n * groups; ++i) {
    signed_.push_back((int8_t)(1 + below(8)));
    bytes_.push_back((uint8_t)below(16));
  }
  extra.level_scales = signed_.data();
  extra.level_zeros = bytes_.data();
}

void MmExample::add_segments(int k) {
  for (int i = 1; i <= kSegments; ++i) places_.push_back(k / 32 * i / kSegments * 32);
  extra.segment_ends = places_.data();
  extra.segments = kSegments;
}

void MmExample::add_wide_rows(int n, int k) {
  const int wide = (n + 39) / 40 * 8;
  extra.narrow_rows = n - wide;
  extra.wide_stride = mm_codes_bytes(8, 8, k);
  bytes_.resize(mm_codes_bytes(8, wide, k));
  for (auto& each : bytes_) each = (uint8_t)below(256);
  for (int i = 0; i < n; ++i) places_.push_back(i);
  for (int i = n - 1; i > 0; --i) std::swap(places_[i], places_[below(i + 1)]);
  extra.wide_codes = bytes_.data();
  extra.row_order = places_.data();
  unread = mm_codes_bytes(4, wide, k);
}

void MmExample::add_columns(int n, int k) {
  extra.column_count = least(256, k / 16);
  const int apart = k / extra.column_count;
  for (int i = 0; i < extra.column_count; ++i) places_.push_back(i * apart + below(apart));
  for (int i = 0; i < n * extra.column_count; ++i) halves_.push_back(half());
  extra.columns = places_.data();
  extra.column_weights = halves_.data();
}

void MmExample::add_outliers(int n, int k) {
  begins_.push_back(0);
  for (int row = 0; row < n; ++row) {
    for (int column = below(200); column < k; column += 1 + below(199)) {
      places_.push_back(column);
      halves_.push_back(half());
    }
    begins_.push_back((int32_t)places_.size());
  }
  extra.row_begin = begins_.data();
  extra.outlier_columns = places_.data();
  extra.outliers = halves_.data();
}
