// The families in plain C++: what each does, step by step.
#include "base/half.h"
#include "mm/families/meanings.h"

namespace {

inline float widened(uint16_t half) { return half_to_float(half); }

inline void add_scaled(const int32_t* sums, int32_t offset, float own, const uint16_t* scales, float* f) {
  for (int r = 0; r < kRows; ++r) f[r] = __builtin_fmaf((float)(sums[r] - offset) * own, half_to_float(scales[r]), f[r]);
}

template <class T>
inline T load(const uint8_t* bytes) {
  T value;
  __builtin_memcpy(&value, bytes, sizeof value);
  return value;
}

// ABQ-LLM, FlexQ: a product of bit planes is a population count. sum of 2^(i+j) popcount(W_i & X_j), the top plane of the signed
// activations counting negative.
template <int A>
struct Planes {
  static constexpr int kRows = 8;
  int weight;

  struct Input {
    uint32_t planes[kStripBlocks][A];

    void convert(const int8_t* q, int blocks) {
      for (int b = 0; b < blocks; ++b, q += kColumns)
        for (int j = 0; j < A; ++j) {
          planes[b][j] = 0;
          for (int c = 0; c < kColumns; ++c) planes[b][j] |= (uint32_t)(q[c] >> j & 1) << c;
        }
    }
  };

  int block_bytes() const { return kColumns * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int b = at; b < at + blocks; ++b)
      for (int i = 0; i < stored_bits(weight); ++i, codes += kColumns)
        for (int j = 0; j < A; ++j)
          for (int r = 0; r < kRows; ++r) {
            const int32_t count = __builtin_popcount(load<uint32_t>(codes + 4 * r) & input.planes[b][j]) << (i + j + lowest_bit(weight));
            sums[r] += j == A - 1 ? -count : count;
          }
  }
};

// T-MAC, DeepGEMM: four bits of a weight plane choose one of the 16 sums that four activations can make.
struct Table {
  static constexpr int kRows = 32;
  int weight;

  struct Input {
    int16_t sums[kStripBlocks * 8][16];

    void convert(const int8_t* q, int blocks) {
      for (int quad = 0; quad < blocks * 8; ++quad, q += 4)
        for (int bits = 0; bits < 16; ++bits)
          sums[quad][bits] = (int16_t)((bits & 1) * q[0] + (bits >> 1 & 1) * q[1] + (bits >> 2 & 1) * q[2] + (bits >> 3) * q[3]);
    }
  };

  int block_bytes() const { return kRows * 4 * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int octet = at * 4; octet < (at + blocks) * 4; ++octet)
      for (int i = 0; i < stored_bits(weight); ++i, codes += kRows)
        for (int r = 0; r < kRows; ++r)
          sums[r] += (input.sums[2 * octet][codes[r] & 15] + input.sums[2 * octet + 1][codes[r] >> 4]) * (1 << (i + lowest_bit(weight)));
  }
};

// Agile-Quant: one multiplication of unsigned numbers makes two products 8 bits apart, which are spread to 16 bits and added. 291
// additions of up to 225 fit; 9 blocks are 288.
constexpr int kAgileBlocks = 9;

struct Agile {
  static constexpr int kRows = 16, kWords = 8;

  struct Input {
    uint8_t q[kStripBlocks * kColumns];  // activation + 8

    void convert(const int8_t* from, int blocks) {
      for (int c = 0; c < blocks * kColumns; ++c) q[c] = (uint8_t)(from[c] + 8);
    }
  };

  int block_bytes() const { return 256 + 2 * kRows; }

  // sum code * q = sum code * (q + 8) - 8 * sum code.
  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end;) {
      uint32_t pairs[kWords] = {};
      for (const int stop = least(at + kAgileBlocks, end); at < stop; ++at, codes += block_bytes()) {
        add_block(codes, input.q + at * kColumns, pairs);
        for (int r = 0; r < kRows; ++r) sums[r] -= 8 * load<uint16_t>(codes + 256 + 2 * r);
      }
      for (int l = 0; l < kWords; ++l) {
        sums[l] += pairs[l] & 0xffff;
        sums[l + kWords] += pairs[l] >> 16;
      }
    }
  }

  static void add_block(const uint8_t* codes, const uint8_t* q, uint32_t* pairs) {
    for (int c = 0; c < kColumns; ++c)
      for (int l = 0; l < kWords; ++l) {
        const uint32_t two = load<uint32_t>(codes + c / 4 * 32 + 4 * l) >> (16 * (c % 4 / 2) + 4 * (c % 2)) & 0x0f0f;
        const uint32_t p = q[c] * two;
        pairs[l] += (p | p << 8) & 0x00ff00ff;
      }
  }
};

// Packed codes of 4 bits: byte i of a step is row i/4, column i%4.
inline int nibble(const uint8_t* block, int r, int c) { return block[c / 8 * 32 + 4 * r + c % 4] >> c % 8 / 4 * 4 & 15; }

// Agile-Quant's alternative: signed codes, and 16-bit sums that are drained as late as they can be: |code * q| <= 8 * 127 allows 32.
template <int A>
inline void dot_deep(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
  constexpr int kBlocks = 32767 / (8 * largest_activation(A)) / kColumns;
  for (int at = 0; at < blocks;) {
    int16_t deep[kRows] = {};
    for (const int stop = least(at + kBlocks, blocks); at < stop; ++at, codes += kColumns * 4, a += kColumns)
      for (int c = 0; c < kColumns; ++c)
        for (int r = 0; r < kRows; ++r) deep[r] = (int16_t)(deep[r] + (nibble(codes, r, c) - 8) * a[c]);
    for (int r = 0; r < kRows; ++r) sums[r] += deep[r];
  }
}

struct Dots {
  static void dot_codes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    for (int b = 0; b < blocks; ++b, codes += kBlockBytes, a += kColumns)
      for (int c = 0; c < kColumns; ++c)
        for (int r = 0; r < kRows; ++r) sums[r] += nibble(codes, r, c) * a[c];
  }

  static void dot_bytes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    for (int k = 0; k < blocks * kColumns; ++k)
      for (int r = 0; r < kRows; ++r) sums[r] += (codes[k / 4 * kColumns + 4 * r + k % 4] - 128) * a[k];
  }

  static void add_columns(int count, const int32_t* columns, const uint16_t* w, const int8_t* a, float* f) {
    for (int i = 0; i < count; ++i, w += kRows)
      for (int r = 0; r < kRows; ++r) f[r] = __builtin_fmaf((float)a[columns[i]], half_to_float(w[r]), f[r]);
  }
};

#include "mm/families/calls.inc"

}  // namespace

#define MM_FAMILY(isa, ...) MM_FAMILY_##isa(__VA_ARGS__)
#define MM_FAMILY_scalar(...) MM_DEFINE_FAMILY(__VA_ARGS__)
#define MM_FAMILY_avx2(...)
#define MM_FAMILY_neon(...)
#include "mm/families/families.inc"
