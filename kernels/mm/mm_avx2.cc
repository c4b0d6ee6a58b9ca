// AVX2, FMA and F16C: x86 since 2013.
//
// vpmaddubsw multiplies unsigned codes by signed activations and adds pairs into 16 bits, saturating: it is exact while
// 2 * largest code * largest activation <= 32767, that is up to 7 bits. Several such sums may be added before they are drained into
// 32 bits. 8-bit codes take the sign trick: |w| * (a with the sign of w).
#include "mm/avx2.h"

namespace {

// How many vpmaddubsw results fit 16 bits: 64, 43, 18, 8, 4, 2, 1 for 1..7 bits and a8.
constexpr int additions_before_drain(int weight, int activation_bits) {
  return weight == 8 ? 1 : 32767 / (2 * largest_activation(activation_bits) * largest_code(weight));
}

inline __m256i drained(__m256i sums, __m256i pairs) { return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }

struct Avx2 : Avx2Base {
  static constexpr int kTokens = 4;
  template <int W>
  static constexpr int kSubtracted = W == 8 ? 128 : 0;
  template <int W>
  static constexpr int kStepBytes = W == 8 ? 64 : 32;  // 8 bits: |w|, then w

  template <int W>
  static void unpack(const uint8_t* codes, int blocks, uint8_t* out) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
#pragma unroll
      for (int step = 0; step < kSteps; ++step, out += kStepBytes<W>) {
        if constexpr (W < 8 || W == MM_TERNARY) {
          _mm256_store_si256((__m256i*)out, codes_of<W>(codes, step));
        } else {
          const __m256i w = signed_codes<8>(codes, step);
          _mm256_store_si256((__m256i*)out, _mm256_abs_epi8(w));
          _mm256_store_si256((__m256i*)(out + 32), w);
        }
      }
  }

  template <int W, int A, int Blocks, int Tokens>
  static void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    if constexpr (W == 8) return dot_8(w, blocks, a, stride, sums);
    constexpr int kDrain = additions_before_drain(W, A), kBlocksAtOnce = most(1, kDrain / kSteps);
    for (int b = 0; b < blocks;) {
      __m256i pairs[Blocks][Tokens] = {};
      for (const int end = least(b + kBlocksAtOnce, blocks); b < end; ++b) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          __m256i codes[Blocks];
          for (int i = 0; i < Blocks; ++i) codes[i] = _mm256_load_si256((const __m256i*)(w[i] + (b * kSteps + step) * 32));
          for (int t = 0; t < Tokens; ++t) {
            const __m256i x = broadcast4(a + t * stride + b * kColumns + 4 * step);
            for (int i = 0; i < Blocks; ++i) {
              const __m256i p = _mm256_maddubs_epi16(codes[i], x);
              pairs[i][t] = kDrain >= kSteps || step % kDrain != 0 ? _mm256_add_epi16(pairs[i][t], p) : p;
              if (kDrain < kSteps && step % kDrain == kDrain - 1) sums[i][t] = drained(sums[i][t], pairs[i][t]);
            }
          }
        }
      }
      if (kDrain < kSteps) continue;
      for (int i = 0; i < Blocks; ++i)
        for (int t = 0; t < Tokens; ++t) sums[i][t] = drained(sums[i][t], pairs[i][t]);
    }
  }

  template <int Blocks, int Tokens>
  static void dot_8(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    for (int b = 0; b < blocks; ++b) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
        for (int i = 0; i < Blocks; ++i) {
          const __m256i* codes = (const __m256i*)(w[i] + (b * kSteps + step) * 64);
          const __m256i magnitude = _mm256_load_si256(codes), value = _mm256_load_si256(codes + 1);
          for (int t = 0; t < Tokens; ++t) {
            const __m256i x = broadcast4(a + t * stride + b * kColumns + 4 * step);
            sums[i][t] = drained(sums[i][t], _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, value)));
          }
        }
    }
  }

  template <int W, int A>
  static void dot_packed(const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    constexpr int kDrain = least(additions_before_drain(W, A), kSteps);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      prefetch(codes, kColumns * stored_bits(W));
      __m256i pairs;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const __m256i x = broadcast4(a + 4 * step);
        __m256i p;
        if constexpr (W == 8) {
          const __m256i value = signed_codes<8>(codes, step);
          p = _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(x, value));
        } else {
          p = _mm256_maddubs_epi16(codes_of<W>(codes, step), x);
        }
        pairs = step % kDrain == 0 ? p : _mm256_add_epi16(pairs, p);
        if (step % kDrain == kDrain - 1) sums = drained(sums, pairs);
      }
    }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avx2(...) MM_DEFINE(Avx2, __VA_ARGS__)
#define MM_DEFINE_avxvnni(...)
#define MM_DEFINE_avx512vnni(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
