// KvCodes: how the rows of keys, or of values, are coded. FORMAT.md, section 8, is the definition; quantizers/kv_codes.py is it as code.
//
// A row is the D numbers of one head at one position: value = offset + scale * level(code). Scale and offset belong to the row (or to a
// part of its channels) or, found on calibration text, to each channel; a few numbers of a row may be fp16 besides. Stored row:
//   for each part of a row's own scales { fp16 scale, and fp16 offset where the grid has one }, not for kPower
//   for each outlier { u16 channel in stored order, fp16 value }
//   for each part, of kPower { u8 biased exponent of the scale }
//   for each part, for each 8 channels, for each bit of a code from the lowest: u8, its bit i that of channel i
#ifndef BENCH_OPS_KV_CODES_H_
#define BENCH_OPS_KV_CODES_H_

#include <stdint.h>

constexpr int kPlane = 8;         // channels whose codes share the bytes of a plane
constexpr int kMaxKvBits = 8;
constexpr int kMaxKvBookBits = 4;
constexpr int kMaxKvOutliers = 32;
constexpr int kMaxKvHead = 4096;  // channels of a head: rows in work lie on the stack
constexpr int kMaxKvParts = kMaxKvHead / kPlane + 1;

enum class KvGrid { kHalves, kAsymmetric, kSymmetric, kPower, kCodebook };  // kHalves: fp16 numbers, no codes

struct KvFormat {
  KvGrid grid = KvGrid::kHalves;
  bool by_channel = false;
  int bits = 0;
  int group = 0;     // channels that share a row's scale, 0: all
  int wide = 0;      // channels, the first in stored order, with one bit more
  int outliers = 0;  // of a row
  bool ordered = false;
};

// What was found on calibration text for one layer; null where the format has no use for it.
struct KvFit {
  const uint16_t* scales = nullptr;    // fp16 [heads][D] in stored order, of by_channel
  const uint16_t* offsets = nullptr;   // the same
  const uint16_t* codebook = nullptr;  // fp16 [2^bits], ascending, of kCodebook
  const int32_t* order = nullptr;      // [heads][D], stored channel i is channel order[i]
};

// The codes of some bits: the level of code i is first + step * i, or levels[i] of a codebook.
struct KvLevels {
  int count;
  float first, step;
  float levels[1 << kMaxKvBookBits], middles[1 << kMaxKvBookBits];  // between neighbours
};

// Channels that have equally many bits and share a row's scale.
struct KvPart {
  int begin, end, bits;  // of channels in stored order
};

// A format that is ready for work: where everything lies in a row, and what codes stand for. Filled by kv_codes.
struct KvCodes {
  KvFormat format;
  KvFit fit;
  int size;                 // D
  int parts;
  KvPart part[kMaxKvParts];
  int scale_bytes;          // of a part, in the row
  int outliers_at, exponents_at, planes_at, row_bytes;  // row_bytes is even
  KvLevels levels[2];       // of `bits`, and of one more
};

void kv_codes(const KvFormat& format, const KvFit& fit, int head_size, KvCodes* out);

// Stores x [D] of a head. `row` is aligned to 2 bytes.
void kv_store(const KvCodes& codes, int head, const float* x, uint8_t* row);

// The inverse: y [D].
void kv_load(const KvCodes& codes, int head, const uint8_t* row, float* y);

#endif  // BENCH_OPS_KV_CODES_H_
