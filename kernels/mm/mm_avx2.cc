// AVX2, FMA and F16C: x86 since 2013.
//
// vpmaddubsw multiplies unsigned codes by signed activations and adds pairs into 16 bits, saturating: it is exact while
// 2 * max code * 127 <= 32767, that is up to 7 bits. Several such sums may be added before they are drained into 32 bits.
#include <immintrin.h>

#include "mm/tile.h"

namespace {

// The byte field of `Width` bits of one 4-column step, moved to bit `At`. Shifts are 16 bits wide: the mask removes strangers.
template <int Width, int At>
inline __m256i field(const uint8_t* plane, int step) {
  const __m256i v = _mm256_loadu_si256((const __m256i*)(plane + kColumns * (step * Width / 8)));
  if constexpr (Width == 8) return v;
  const int right = Width * (step % (8 / Width)) - At;
  const __m256i moved = right >= 0 ? _mm256_srli_epi16(v, right) : _mm256_slli_epi16(v, -right);
  return _mm256_and_si256(moved, _mm256_set1_epi8((char)(((1 << Width) - 1) << At)));
}

// The 32 codes of one step: byte i is row i/4, column i%4.
template <int Bits>
inline __m256i codes_of(const uint8_t* planes, int step) {
  constexpr int kWidth = plane_width(Bits);
  __m256i v = field<kWidth, Bits - kWidth>(planes, step);
  if constexpr (Bits > kWidth) v = _mm256_or_si256(v, codes_of<Bits - kWidth>(planes + kColumns * kWidth, step));
  return v;
}

// How many vpmaddubsw results fit 16 bits: 43, 18, 8, 4, 2, 1 for 2..7 bits.
constexpr int additions_before_drain(int bits) { return bits == 8 ? 1 : 32767 / (2 * 127 * ((1 << bits) - 1)); }

// 4 activations of one token for every row.
inline __m256i broadcast4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, sizeof four);
  return _mm256_set1_epi32(four);
}

// 8-bit codes do not fit: |w| * (a with the sign of w), at most 2 * 128 * 127.
template <int Bits>
inline __m256i pair_sums(__m256i w, __m256i a) {
  if constexpr (Bits < 8) return _mm256_maddubs_epi16(w, a);
  const __m256i value = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
  return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(a, value));
}

// Column j of a step, that is byte j of every 32-bit lane, as a signed number times 2^24: at the top of the lane it needs no
// sign extension.
inline __m256 column(__m256i w, int j) {
  if (j == 0) return _mm256_cvtepi32_ps(_mm256_slli_epi32(w, 24));
  if (j == 3) return _mm256_cvtepi32_ps(_mm256_and_si256(w, _mm256_set1_epi32((int)0xff000000)));
  const __m256i from = j == 1 ? _mm256_set1_epi64x(0x05808080'01808080) : _mm256_set1_epi64x(0x06808080'02808080);
  const __m256i upper = _mm256_set_epi64x(0x08000000'08000000, 0, 0x08000000'08000000, 0);  // the second 8 bytes of each half
  return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(w, _mm256_or_si256(from, upper)));
}

inline float horizontal_sum(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

inline __m256 load_halves(const uint16_t* h) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)h)); }

struct Avx2 {
  using Floats = __m256;
  using Sums = __m256i;

  static Floats zero() { return _mm256_setzero_ps(); }
  static Floats halves(const uint16_t* h) { return load_halves(h); }
  static Floats to_floats(Sums s, int32_t offset) { return _mm256_cvtepi32_ps(_mm256_sub_epi32(s, _mm256_set1_epi32(offset))); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats times(Floats a, float b) { return _mm256_mul_ps(a, _mm256_set1_ps(b)); }
  static void store(float* y, Floats f) { _mm256_storeu_ps(y, f); }

  template <int Bits, int Tokens>
  static void dot_a8(const uint8_t* codes, int blocks, const int8_t* a, size_t stride, Sums (&out)[Tokens]) {
    constexpr int kDrain = additions_before_drain(Bits) < 8 ? additions_before_drain(Bits) : 8;
    for (auto& each : out) each = _mm256_setzero_si256();
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns) {
      __m256i pairs[Tokens];
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        const __m256i w = codes_of<Bits>(codes, step);
#pragma unroll
        for (int t = 0; t < Tokens; ++t) {
          const __m256i p = pair_sums<Bits>(w, broadcast4(a + t * stride + 4 * step));
          pairs[t] = step % kDrain == 0 ? p : _mm256_add_epi16(pairs[t], p);
          if (step % kDrain == kDrain - 1)
            out[t] = _mm256_add_epi32(out[t], _mm256_madd_epi16(pairs[t], _mm256_set1_epi16(1)));
        }
      }
    }
  }

  template <int Bits, int Tokens>
  static void dot_a16(const uint8_t* codes, int blocks, const uint16_t* a, size_t stride, Floats (&out)[Tokens]) {
    constexpr int kChains = Tokens == 1 ? 4 : 2;
    Floats sums[Tokens][kChains];
    for (auto& token : sums)
      for (auto& each : token) each = zero();
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns) {
      float x[Tokens][kColumns];
      for (int t = 0; t < Tokens; ++t)
        for (int i = 0; i < kColumns; i += 8) store(x[t] + i, load_halves(at_byte<uint16_t>(a, t * stride) + i));
#pragma unroll
      for (int step = 0; step < 8; ++step) {
        const __m256i w = _mm256_sub_epi8(codes_of<Bits>(codes, step), _mm256_set1_epi8((char)(1 << (Bits - 1))));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const Floats c = column(w, j);
#pragma unroll
          for (int t = 0; t < Tokens; ++t)
            sums[t][j % kChains] = fma(c, _mm256_set1_ps(x[t][4 * step + j]), sums[t][j % kChains]);
        }
      }
    }
    for (int t = 0; t < Tokens; ++t) {
      Floats sum = _mm256_add_ps(sums[t][0], sums[t][1]);
      if constexpr (kChains == 4) sum = _mm256_add_ps(sum, _mm256_add_ps(sums[t][2], sums[t][3]));
      out[t] = times(sum, 0x1p-24f);
    }
  }

  template <int Rows, int Tokens>
  static void dot_f16(const uint16_t* w, size_t w_stride, const uint16_t* a, size_t a_stride, int k, float (&out)[Rows][Tokens]) {
    Floats sums[Rows][Tokens];
    for (auto& row : sums)
      for (auto& each : row) each = zero();
    int i = 0;
    for (; i + 8 <= k; i += 8) {
      Floats x[Tokens];
      for (int t = 0; t < Tokens; ++t) x[t] = load_halves(at_byte<uint16_t>(a, t * a_stride) + i);
      for (int r = 0; r < Rows; ++r) {
        const Floats row = load_halves(at_byte<uint16_t>(w, r * w_stride) + i);
        for (int t = 0; t < Tokens; ++t) sums[r][t] = fma(row, x[t], sums[r][t]);
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int t = 0; t < Tokens; ++t) {
        out[r][t] = horizontal_sum(sums[r][t]);
        for (int j = i; j < k; ++j)
          out[r][t] += _cvtsh_ss(at_byte<uint16_t>(w, r * w_stride)[j]) * _cvtsh_ss(at_byte<uint16_t>(a, t * a_stride)[j]);
      }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avx2(...) MM_DEFINE(Avx2, __VA_ARGS__)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
