// The families in NEON, as ARMv8.0 has it.
#include <arm_neon.h>

#include "mm/families/meanings.h"

namespace {

inline void add_to(int32_t* sums, int32x4_t v) { vst1q_s32(sums, vaddq_s32(vld1q_s32(sums), v)); }
inline float32x4_t widened4(const uint16_t* halves) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves))); }

inline float widened(uint16_t half) {
  __fp16 x;
  __builtin_memcpy(&x, &half, sizeof x);
  return x;
}

inline void add_scaled(const int32_t* sums, int32_t offset, float own, const uint16_t* scales, float* f) {
  for (int r = 0; r < kRows; r += 4) {
    const float32x4_t exact = vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(vld1q_s32(sums + r), vdupq_n_s32(offset))), own);
    vst1q_f32(f + r, vfmaq_f32(vld1q_f32(f + r), exact, widened4(scales + r)));
  }
}

inline uint8x16_t low_halves(uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }
inline uint8x16_t high_halves(uint8x16_t v) { return vshrq_n_u8(v, 4); }
inline int8x8_t broadcast4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, sizeof four);
  return vreinterpret_s8_s32(vdup_n_s32(four));
}

// Bit planes: 4 rows x 32 columns a vector, and an instruction that counts the bits of bytes.
template <int A>
struct Planes {
  static constexpr int kRows = 8;
  static constexpr int kBlocks = 31;  // counts of 8 that fit a byte
  int weight;

  struct Input {
    uint32_t planes[kStripBlocks][A];

    void convert(const int8_t* q, int blocks) {
      const uint8x16_t bit = vcombine_u8(vcreate_u8(0x8040201008040201), vcreate_u8(0x8040201008040201));
      for (int b = 0; b < blocks; ++b, q += kColumns)
        for (int j = 0; j < A; ++j) {
          const uint8x16_t at = vdupq_n_u8((uint8_t)(1 << j));
          const uint8x16_t low = vandq_u8(vtstq_u8(vreinterpretq_u8_s8(vld1q_s8(q)), at), bit);
          const uint8x16_t high = vandq_u8(vtstq_u8(vreinterpretq_u8_s8(vld1q_s8(q + 16)), at), bit);
          planes[b][j] = gathered(low) | gathered(high) << 16;
        }
    }

    static uint32_t gathered(uint8x16_t v) { return (uint32_t)vaddv_u8(vget_low_u8(v)) | (uint32_t)vaddv_u8(vget_high_u8(v)) << 8; }
  };

  int block_bytes() const { return kColumns * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end; at += kBlocks) {
      const int count = least(kBlocks, end - at);
      for (int i = 0; i < stored_bits(weight); ++i)
        for (int half = 0; half < 2; ++half) {
          const int32x4_t by = vdupq_n_s32(i + lowest_bit(weight));
          add_to(sums + 4 * half, vshlq_s32(plane(codes + i * kColumns + 16 * half, count, input.planes[at]), by));
        }
      codes += (size_t)count * block_bytes();
    }
  }

  // 4 rows of one weight plane times all planes of the activations.
  int32x4_t plane(const uint8_t* codes, int blocks, const uint32_t* x) const {
    uint8x16_t counts[A] = {};
    for (int b = 0; b < blocks; ++b, codes += block_bytes(), x += A) {
      const uint8x16_t w = vld1q_u8(codes);
      for (int j = 0; j < A; ++j) counts[j] = vaddq_u8(counts[j], vcntq_u8(vandq_u8(w, vreinterpretq_u8_u32(vdupq_n_u32(x[j])))));
    }
    int32x4_t total = vdupq_n_s32(0);
    for (int j = 0; j < A; ++j) {
      const int32x4_t rows = vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(counts[j])));
      total = vmlaq_n_s32(total, rows, j == A - 1 ? -(1 << j) : 1 << j);
    }
    return total;
  }
};

// Look-up tables: tbl looks 16 rows up at once, in the low bytes of the sums and in the high bytes.
struct Table {
  static constexpr int kRows = 32;
  static constexpr int kBlocks = 8;  // 64 look-ups of up to 4 * 127 fit 16 bits
  int weight;

  struct Input {
    alignas(16) uint8_t sums[kStripBlocks * 8][32];  // of 16 sums the low bytes, then the high bytes

    void convert(const int8_t* q, int blocks) {
      for (int quad = 0; quad < blocks * 8; ++quad, q += 4) {
        int16x8_t low = vdupq_n_s16(0);  // places 0..7; 8..15 add q[3]
        for (int i = 0; i < 3; ++i) low = vaddq_s16(low, vandq_s16(vdupq_n_s16(q[i]), vld1q_s16(kHas[i])));
        const uint8x16_t a = vreinterpretq_u8_s16(low), b = vreinterpretq_u8_s16(vaddq_s16(low, vdupq_n_s16(q[3])));
        vst1q_u8(sums[quad], vuzp1q_u8(a, b));
        vst1q_u8(sums[quad] + 16, vuzp2q_u8(a, b));
      }
    }

    static constexpr int16_t kHas[3][8] = {{0, -1, 0, -1, 0, -1, 0, -1}, {0, 0, -1, -1, 0, 0, -1, -1}, {0, 0, 0, 0, -1, -1, -1, -1}};
  };

  int block_bytes() const { return kRows * 4 * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end; at += kBlocks) {
      const int count = least(kBlocks, end - at);
      for (int i = 0; i < stored_bits(weight); ++i)
        for (int half = 0; half < 2; ++half)
          plane(codes + i * kRows + 16 * half, count, input.sums[at * 8], i + lowest_bit(weight), sums + 16 * half);
      codes += (size_t)count * block_bytes();
    }
  }

  // 16 rows of one weight plane.
  void plane(const uint8_t* codes, int blocks, const uint8_t* tables, int shift, int32_t* sums) const {
    int16x8_t s[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
    for (int octet = 0; octet < blocks * 4; ++octet, codes += kRows * stored_bits(weight), tables += 64) {
      const uint8x16_t v = vld1q_u8(codes);
      look_up(tables, low_halves(v), s);
      look_up(tables + 32, high_halves(v), s);
    }
    const int32x4_t by = vdupq_n_s32(shift);
    for (int i = 0; i < 2; ++i) {
      add_to(sums + 8 * i, vshlq_s32(vmovl_s16(vget_low_s16(s[i])), by));
      add_to(sums + 8 * i + 4, vshlq_s32(vmovl_s16(vget_high_s16(s[i])), by));
    }
  }

  static void look_up(const uint8_t* table, uint8x16_t index, int16x8_t (&s)[2]) {
    const uint8x16_t low = vqtbl1q_u8(vld1q_u8(table), index), high = vqtbl1q_u8(vld1q_u8(table + 16), index);
    s[0] = vaddq_s16(s[0], vreinterpretq_s16_u8(vzip1q_u8(low, high)));
    s[1] = vaddq_s16(s[1], vreinterpretq_s16_u8(vzip2q_u8(low, high)));
  }
};

// Agile-Quant's multiplier: MUL, LSL, ORR, AND, ADD.
struct Agile {
  static constexpr int kRows = 16;
  static constexpr int kBlocks = 9;  // 288 additions of up to 225

  struct Input {
    uint32_t q[kStripBlocks * kColumns];  // activation + 8

    void convert(const int8_t* from, int blocks) {
      for (int c = 0; c < blocks * kColumns; ++c) q[c] = (uint32_t)(from[c] + 8);
    }
  };

  int block_bytes() const { return 256 + 2 * kRows; }

  // sum code * q = sum code * (q + 8) - 8 * sum code.
  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end;) {
      uint32x4_t pairs[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
      uint16x8_t of_codes[2] = {vdupq_n_u16(0), vdupq_n_u16(0)};
      for (const int stop = least(at + kBlocks, end); at < stop; ++at, codes += block_bytes()) {
        for (int half = 0; half < 2; ++half) {
          pairs[half] = add_products(pairs[half], codes + 16 * half, input.q + at * kColumns);
          of_codes[half] = vaddq_u16(of_codes[half], vld1q_u16((const uint16_t*)(codes + 256) + 8 * half));
        }
      }
      for (int half = 0; half < 2; ++half) {
        add_to(sums + 4 * half, vreinterpretq_s32_u32(vandq_u32(pairs[half], vdupq_n_u32(0xffff))));
        add_to(sums + 8 + 4 * half, vreinterpretq_s32_u32(vshrq_n_u32(pairs[half], 16)));
        add_to(sums + 8 * half, minus_eight(vget_low_u16(of_codes[half])));
        add_to(sums + 8 * half + 4, minus_eight(vget_high_u16(of_codes[half])));
      }
    }
  }

  static int32x4_t minus_eight(uint16x4_t v) { return vnegq_s32(vreinterpretq_s32_u32(vshll_n_u16(v, 3))); }

  static uint32x4_t add_products(uint32x4_t sums, const uint8_t* codes, const uint32_t* q) {
    const uint32x4_t two = vdupq_n_u32(0x0f0f);
    for (int c = 0; c < kColumns; c += 4, codes += 32) {
      const uint32x4_t v = vreinterpretq_u32_u8(vld1q_u8(codes));
      sums = vaddq_u32(sums, spread(vandq_u32(v, two), q[c]));
      sums = vaddq_u32(sums, spread(vandq_u32(vshrq_n_u32(v, 4), two), q[c + 1]));
      sums = vaddq_u32(sums, spread(vandq_u32(vshrq_n_u32(v, 16), two), q[c + 2]));
      sums = vaddq_u32(sums, spread(vandq_u32(vshrq_n_u32(v, 20), two), q[c + 3]));
    }
    return sums;
  }

  static uint32x4_t spread(uint32x4_t two, uint32_t q) {
    const uint32x4_t p = vmulq_n_u32(two, q);
    return vandq_u32(vorrq_u32(p, vshlq_n_u32(p, 8)), vdupq_n_u32(0x00ff00ff));
  }
};

// One step of signed weights: 8 rows x 4 columns, each pair of columns in a 16-bit lane of its own.
struct Wide {
  int16x8_t v[4] = {vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0), vdupq_n_s16(0)};

  void add(int8x16_t low, int8x16_t high, int8x8_t a) {
    v[0] = vmlal_s8(v[0], vget_low_s8(low), a);
    v[1] = vmlal_s8(v[1], vget_high_s8(low), a);
    v[2] = vmlal_s8(v[2], vget_low_s8(high), a);
    v[3] = vmlal_s8(v[3], vget_high_s8(high), a);
  }
};

// Two lanes a row.
struct Pairs {
  int32x4_t v[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};

  void drain(Wide& wide) {
    for (int i = 0; i < 4; ++i) v[i] = vpadalq_s16(v[i], wide.v[i]);
    wide = Wide();
  }

  void add_to_sums(int32_t* sums) const {
    add_to(sums, vpaddq_s32(v[0], v[1]));
    add_to(sums + 4, vpaddq_s32(v[2], v[3]));
  }
};

inline int8x16_t minus(uint8x16_t codes, uint8_t zero) { return vreinterpretq_s8_u8(vsubq_u8(codes, vdupq_n_u8(zero))); }

// Agile-Quant's alternative for processors with a widening multiplication: |code * q| <= 8 * 127 allows 32 additions, 8 * 7 allows 585,
// of which a lane takes 16 a block.
template <int A>
inline void dot_deep(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
  constexpr int kBlocks = 32767 / (8 * largest_activation(A)) / 16;
  Pairs pairs;
  for (int at = 0; at < blocks;) {
    Wide deep;
    for (const int stop = least(at + kBlocks, blocks); at < stop; ++at)
      for (int i = 0; i < 4; ++i, codes += kColumns, a += 8) {
        const uint8x16_t low = vld1q_u8(codes), high = vld1q_u8(codes + 16);
        deep.add(minus(low_halves(low), 8), minus(low_halves(high), 8), broadcast4(a));
        deep.add(minus(high_halves(low), 8), minus(high_halves(high), 8), broadcast4(a + 4));
      }
    pairs.drain(deep);
  }
  pairs.add_to_sums(sums);
}

struct Dots {
  // A lane takes 16 products of up to 15 * 127 a block: 17 fit.
  static void dot_codes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    Pairs pairs;
    for (int b = 0; b < blocks; ++b) {
      Wide wide;
      for (int i = 0; i < 4; ++i, codes += kColumns, a += 8) {
        const uint8x16_t low = vld1q_u8(codes), high = vld1q_u8(codes + 16);
        wide.add(minus(low_halves(low), 0), minus(low_halves(high), 0), broadcast4(a));
        wide.add(minus(high_halves(low), 0), minus(high_halves(high), 0), broadcast4(a + 4));
      }
      pairs.drain(wide);
    }
    pairs.add_to_sums(sums);
  }

  // 128 * 127 fits 16 bits twice.
  static void dot_bytes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    Pairs pairs;
    for (int i = 0; i < blocks * 4; ++i, codes += 2 * kColumns, a += 8) {
      Wide wide;
      wide.add(minus(vld1q_u8(codes), 128), minus(vld1q_u8(codes + 16), 128), broadcast4(a));
      wide.add(minus(vld1q_u8(codes + 32), 128), minus(vld1q_u8(codes + 48), 128), broadcast4(a + 4));
      pairs.drain(wide);
    }
    pairs.add_to_sums(sums);
  }

  static void add_columns(int count, const int32_t* columns, const uint16_t* w, const int8_t* a, float* f) {
    float32x4_t low = vld1q_f32(f), high = vld1q_f32(f + 4);
    for (int i = 0; i < count; ++i, w += kRows) {
      const float32x4_t q = vdupq_n_f32((float)a[columns[i]]);
      low = vfmaq_f32(low, widened4(w), q);
      high = vfmaq_f32(high, widened4(w + 4), q);
    }
    vst1q_f32(f, low);
    vst1q_f32(f + 4, high);
  }
};

#include "mm/families/calls.inc"

}  // namespace

#define MM_FAMILY(isa, ...) MM_FAMILY_##isa(__VA_ARGS__)
#define MM_FAMILY_neon(...) MM_DEFINE_FAMILY(__VA_ARGS__)
#define MM_FAMILY_scalar(...)
#include "mm/families/families.inc"
