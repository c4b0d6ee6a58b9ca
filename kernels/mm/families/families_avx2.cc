// The families in AVX2.
#include <immintrin.h>

#include "mm/families/meanings.h"

namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void add_to(int32_t* sums, __m256i v) { _mm256_storeu_si256((__m256i*)sums, _mm256_add_epi32(load(sums), v)); }
inline __m256i twice(const void* p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p)); }

inline float widened(uint16_t half) { return _cvtsh_ss(half); }

inline void add_scaled(const int32_t* sums, int32_t offset, float own, const uint16_t* scales, float* f) {
  const __m256 exact = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(load(sums), _mm256_set1_epi32(offset))), _mm256_set1_ps(own));
  const __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)scales));
  _mm256_storeu_ps(f, _mm256_fmadd_ps(exact, scale, _mm256_loadu_ps(f)));
}

inline __m256i low_halves(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline __m256i high_halves(__m256i v) { return low_halves(_mm256_srli_epi16(v, 4)); }

inline __m256i broadcast4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, sizeof four);
  return _mm256_set1_epi32(four);
}

// Bit planes: a vector is 8 rows x 32 columns. AVX2 counts bits by looking up both halves of a byte.
template <int A>
struct Planes {
  static constexpr int kRows = 8;
  // A byte takes counts of 8 from each block, and vpmaddubsw with -2^(A-1) pairs of them into 16 bits: 2 * 8 * 8 * 128 = 2 * 16 * 8 * 64.
  static constexpr int kBlocks = A < 8 ? 16 : 8;
  int weight;

  struct Input {
    uint32_t planes[kStripBlocks][A];

    void convert(const int8_t* q, int blocks) {
      for (int b = 0; b < blocks; ++b)
        for (int j = 0; j < A; ++j) planes[b][j] = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(load(q + b * kColumns), 7 - j));
    }
  };

  int block_bytes() const { return kColumns * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end; at += kBlocks) {
      const int count = least(kBlocks, end - at);
      for (int i = 0; i < stored_bits(weight); ++i)
        add_to(sums, _mm256_sll_epi32(plane(codes + i * kColumns, count, input.planes[at]), _mm_cvtsi32_si128(i + lowest_bit(weight))));
      codes += (size_t)count * block_bytes();
    }
  }

  // Rows of one weight plane times all planes of the activations.
  __m256i plane(const uint8_t* codes, int blocks, const uint32_t* x) const {
    __m256i counts[A] = {};
    for (int b = 0; b < blocks; ++b, codes += block_bytes(), x += A) {
      const __m256i w = load(codes);
      for (int j = 0; j < A; ++j)
        counts[j] = _mm256_add_epi8(counts[j], ones(_mm256_and_si256(w, _mm256_set1_epi32((int)x[j]))));
    }
    __m256i pairs = _mm256_setzero_si256();
    for (int j = 0; j < A; ++j)
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(counts[j], _mm256_set1_epi8((char)(j == A - 1 ? -(1 << j) : 1 << j))));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }

  static __m256i ones(__m256i v) {
    const __m256i counts = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    return _mm256_add_epi8(_mm256_shuffle_epi8(counts, low_halves(v)), _mm256_shuffle_epi8(counts, high_halves(v)));
  }
};

// Look-up tables: vpshufb looks 32 rows up at once, in the low bytes of the sums and in the high bytes.
struct Table {
  static constexpr int kRows = 32;
  static constexpr int kBlocks = 8;  // 64 look-ups of up to 4 * 127 fit 16 bits
  int weight;

  struct Input {
    alignas(32) uint8_t sums[kStripBlocks * 8][32];  // of 16 sums the low bytes, then the high bytes

    void convert(const int8_t* q, int blocks) {
      for (int quad = 0; quad < blocks * 8; ++quad, q += 4) {
        const __m256i s = _mm256_add_epi16(_mm256_add_epi16(chosen(q[0], 1), chosen(q[1], 2)), _mm256_add_epi16(chosen(q[2], 4), chosen(q[3], 8)));
        const __m256i low = _mm256_and_si256(s, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(s, 8);
        _mm256_store_si256((__m256i*)sums[quad], _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8));
      }
    }

    // x in those of 16 places whose number has the bit.
    static __m256i chosen(int8_t x, int bit) {
      const __m256i place = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), b = _mm256_set1_epi16((short)bit);
      return _mm256_and_si256(_mm256_set1_epi16(x), _mm256_cmpeq_epi16(_mm256_and_si256(place, b), b));
    }
  };

  int block_bytes() const { return kRows * 4 * stored_bits(weight); }

  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    for (int end = at + blocks; at < end; at += kBlocks) {
      const int count = least(kBlocks, end - at);
      for (int i = 0; i < stored_bits(weight); ++i) plane(codes + i * kRows, count, input.sums[at * 8], i + lowest_bit(weight), sums);
      codes += (size_t)count * block_bytes();
    }
  }

  void plane(const uint8_t* codes, int blocks, const uint8_t* tables, int shift, int32_t* sums) const {
    __m256i s[2] = {};  // rows 0..7 and 16..23, rows 8..15 and 24..31
    for (int octet = 0; octet < blocks * 4; ++octet, codes += kRows * stored_bits(weight), tables += 64) {
      const __m256i v = load(codes);
      look_up(tables, low_halves(v), s);
      look_up(tables + 32, high_halves(v), s);
    }
    const __m128i by = _mm_cvtsi32_si128(shift);
    for (int i = 0; i < 4; ++i) {
      const __m128i rows = i < 2 ? _mm256_castsi256_si128(s[i]) : _mm256_extracti128_si256(s[i - 2], 1);
      add_to(sums + 8 * i, _mm256_sll_epi32(_mm256_cvtepi16_epi32(rows), by));
    }
  }

  static void look_up(const uint8_t* table, __m256i index, __m256i (&s)[2]) {
    const __m256i low = _mm256_shuffle_epi8(twice(table), index), high = _mm256_shuffle_epi8(twice(table + 16), index);
    s[0] = _mm256_add_epi16(s[0], _mm256_unpacklo_epi8(low, high));
    s[1] = _mm256_add_epi16(s[1], _mm256_unpackhi_epi8(low, high));
  }
};

// Agile-Quant's multiplier: MUL, LSL, ORR, AND, ADD. The product is 16 bits wide, so that a 16-bit multiplication makes it.
struct Agile {
  static constexpr int kRows = 16;
  static constexpr int kBlocks = 9;  // 288 additions of up to 225
  struct Input {
    alignas(32) uint32_t q[kStripBlocks * kColumns];  // activation + 8, ready to be broadcast

    void convert(const int8_t* from, int blocks) {
      for (int c = 0; c < blocks * kColumns; ++c) q[c] = (uint32_t)(from[c] + 8);
    }
  };

  int block_bytes() const { return 256 + 2 * kRows; }

  // sum code * q = sum code * (q + 8) - 8 * sum code.
  void dot(const uint8_t* codes, int blocks, const Input& input, int at, int32_t* sums) const {
    const __m256i mask = _mm256_set1_epi32(0xffff);
    for (int end = at + blocks; at < end;) {
      __m256i pairs = _mm256_setzero_si256(), of_codes = _mm256_setzero_si256();
      for (const int stop = least(at + kBlocks, end); at < stop; ++at, codes += block_bytes()) {
        pairs = _mm256_add_epi32(pairs, products(codes, input.q + at * kColumns));
        of_codes = _mm256_add_epi16(of_codes, load(codes + 256));
      }
      of_codes = _mm256_slli_epi16(of_codes, 3);  // 8 * 9 * 480 is 34560: unsigned
      add_to(sums, _mm256_sub_epi32(_mm256_and_si256(pairs, mask), _mm256_cvtepu16_epi32(_mm256_castsi256_si128(of_codes))));
      add_to(sums + 8, _mm256_sub_epi32(_mm256_srli_epi32(pairs, 16), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(of_codes, 1))));
    }
  }

  static __m256i products(const uint8_t* codes, const uint32_t* q) {
    const __m256i two = _mm256_set1_epi32(0x0f0f);
    __m256i sums = _mm256_setzero_si256();
#pragma unroll
    for (int c = 0; c < kColumns; c += 4) {
      const __m256i v = load(codes + c * 8);
      sums = _mm256_add_epi32(sums, spread(_mm256_and_si256(v, two), q[c]));
      sums = _mm256_add_epi32(sums, spread(_mm256_and_si256(_mm256_srli_epi32(v, 4), two), q[c + 1]));
      sums = _mm256_add_epi32(sums, spread(_mm256_and_si256(_mm256_srli_epi32(v, 16), two), q[c + 2]));
      sums = _mm256_add_epi32(sums, spread(_mm256_and_si256(_mm256_srli_epi32(v, 20), two), q[c + 3]));
    }
    return sums;
  }

  static __m256i spread(__m256i two, uint32_t q) {
    const __m256i p = _mm256_mullo_epi16(two, _mm256_set1_epi32((int)q));
    return _mm256_and_si256(_mm256_or_si256(p, _mm256_slli_epi32(p, 8)), _mm256_set1_epi32(0x00ff00ff));
  }
};

// Signed codes: |code| <= 8 leaves room for twice the additions that unsigned ones have.
template <int A>
inline void dot_deep(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
  constexpr int kBlocks = 32767 / (2 * 8 * largest_activation(A)) / kSteps;
  for (int at = 0; at < blocks;) {
    __m256i deep = _mm256_setzero_si256();
    const auto add = [&](__m256i code, const int8_t* q) {
      const __m256i value = _mm256_sub_epi8(code, _mm256_set1_epi8(8));
      deep = _mm256_add_epi16(deep, _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(broadcast4(q), value)));
    };
    for (const int stop = least(at + kBlocks, blocks); at < stop; ++at)
      for (int i = 0; i < 4; ++i, codes += kColumns, a += 8) {
        const __m256i v = load(codes);
        add(low_halves(v), a);
        add(high_halves(v), a + 4);
      }
    add_to(sums, _mm256_madd_epi16(deep, _mm256_set1_epi16(1)));
  }
}

struct Dots {
  // 8 additions of up to 2 * 15 * 127 fit 16 bits: those of one block.
  static void dot_codes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    __m256i total = load(sums);
    for (int b = 0; b < blocks; ++b) {
      __m256i pairs = _mm256_setzero_si256();
      for (int i = 0; i < 4; ++i, codes += kColumns, a += 8) {
        const __m256i v = load(codes);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(low_halves(v), broadcast4(a)));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high_halves(v), broadcast4(a + 4)));
      }
      total = drained(total, pairs);
    }
    _mm256_storeu_si256((__m256i*)sums, total);
  }

  static void dot_bytes(const uint8_t* codes, int blocks, const int8_t* a, int32_t* sums) {
    __m256i total = load(sums);
    for (int i = 0; i < blocks * kSteps; ++i, codes += kColumns, a += 4)
      total = drained(total, products(_mm256_sub_epi8(load(codes), _mm256_set1_epi8((char)128)), a));
    _mm256_storeu_si256((__m256i*)sums, total);
  }

  static void add_columns(int count, const int32_t* columns, const uint16_t* w, const int8_t* a, float* f) {
    __m256 sums = _mm256_loadu_ps(f);
    for (int i = 0; i < count; ++i, w += kRows)
      sums = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)w)), _mm256_set1_ps((float)a[columns[i]]), sums);
    _mm256_storeu_ps(f, sums);
  }

 private:
  static __m256i drained(__m256i sums, __m256i pairs) { return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }

  // Signed values, by the sign trick. -128 is |-128| = 128 unsigned: right as well.
  static __m256i products(__m256i value, const int8_t* a) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(broadcast4(a), value));
  }
};

#include "mm/families/calls.inc"

}  // namespace

#define MM_FAMILY(isa, ...) MM_FAMILY_##isa(__VA_ARGS__)
#define MM_FAMILY_avx2(...) MM_DEFINE_FAMILY(__VA_ARGS__)
#define MM_FAMILY_scalar(...)
#include "mm/families/families.inc"
