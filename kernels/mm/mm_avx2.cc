// AVX2, FMA and F16C: x86 since 2013.
//
// vpmaddubsw multiplies unsigned codes by signed activations and adds pairs into 16 bits, saturating: it is exact while
// 2 * largest code * largest activation <= 32767, that is up to 7 bits. Several such sums may be added before they are drained into
// 32 bits. Of 8 bits the upper and the lower half are multiplied: two products, but hardly a drain.
#include "mm/avx2.h"

namespace {

// How many vpmaddubsw results fit 16 bits: 64, 43, 18, 8, 4, 2, 1 for 1..7 bits and a8; of 8 bits: of a half.
constexpr int additions_before_drain(int weight, int activation_bits) {
  return 32767 / (2 * largest_activation(activation_bits) * largest_code(fills_bytes(weight) ? 4 : weight));
}

inline __m256i drained(__m256i sums, __m256i pairs, int times = 1) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16((short)times)));
}

inline __m256i lower_half(__m256i codes) { return _mm256_and_si256(codes, _mm256_set1_epi8(15)); }
inline __m256i upper_half(__m256i codes) { return lower_half(_mm256_srli_epi16(codes, 4)); }

inline __m256i load_codes(const uint8_t* w, int step) { return _mm256_load_si256((const __m256i*)(w + step * 32)); }

// Of expanded codes of 8 bits; of 4-bit codes both are looked up.
struct Halves { __m256i upper, lower; };

template <int W>
inline Halves halves_of(__m256i table, const uint8_t* codes, int step) {
  const __m256i w = codes_of<W>(codes, step);
  if constexpr (W == kCodebook) return {_mm256_shuffle_epi8(upper_half(table), w), _mm256_shuffle_epi8(lower_half(table), w)};
  return {upper_half(w), lower_half(w)};
}

struct Avx2 : Avx2Base {
  static constexpr int kTokens = 4;
  static constexpr bool kNarrowBooks = true;
  template <int W>
  static constexpr int kBlocks = fills_bytes(W) ? 1 : 2;
  template <int W>
  static constexpr int kStepBytes = fills_bytes(W) ? 64 : 32;  // 8 bits: the upper halves, then the lower

  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* out) {
    const __m256i table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W)) {
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step, out += kStepBytes<W>) {
        if constexpr (fills_bytes(W)) {
          const Halves w = halves_of<W>(table, codes, step);
          _mm256_store_si256((__m256i*)out, w.upper);
          _mm256_store_si256((__m256i*)(out + 32), w.lower);
        } else {
          _mm256_store_si256((__m256i*)out, looked_up<W>(table, codes, step));
        }
      }
    }
  }

  template <int W, int A, int Blocks, int Tokens>
  static BENCH_INLINE void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    if constexpr (fills_bytes(W)) return dot_halves<A>(w, blocks, a, stride, sums);
    constexpr int kDrain = additions_before_drain(W, A), kBlocksAtOnce = most(1, kDrain / kSteps);
    for (int b = 0; b < blocks;) {
      __m256i pairs[Blocks][Tokens] = {};
      for (const int end = least(b + kBlocksAtOnce, blocks); b < end; ++b) {
        BENCH_UNROLL
        for (int step = 0; step < kSteps; ++step) {
          __m256i codes[Blocks];
          BENCH_UNROLL
          for (int i = 0; i < Blocks; ++i) codes[i] = load_codes(w[i], b * kSteps + step);
          BENCH_UNROLL
          for (int t = 0; t < Tokens; ++t) {
            const __m256i x = broadcast4(a + t * stride + b * kColumns + 4 * step);
            BENCH_UNROLL
            for (int i = 0; i < Blocks; ++i) {
              const __m256i p = _mm256_maddubs_epi16(codes[i], x);
              pairs[i][t] = kDrain >= kSteps || step % kDrain != 0 ? _mm256_add_epi16(pairs[i][t], p) : p;
              if (kDrain > 1) pin(pairs[i][t]);
              if (kDrain < kSteps && step % kDrain == kDrain - 1) pin(sums[i][t] = drained(sums[i][t], pairs[i][t]));
            }
          }
        }
      }
      if (kDrain < kSteps) continue;
      BENCH_UNROLL
      for (int i = 0; i < Blocks; ++i)
        BENCH_UNROLL
        for (int t = 0; t < Tokens; ++t) sums[i][t] = drained(sums[i][t], pairs[i][t]);
    }
  }

  template <int A, int Blocks, int Tokens>
  static BENCH_INLINE void dot_halves(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    static_assert(Blocks == 1 && additions_before_drain(8, A) >= kSteps);
    for (int b = 0; b < blocks; ++b) {
      __m256i pairs[2][Tokens] = {};
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const __m256i upper = load_codes(w[0], 2 * (b * kSteps + step)), lower = load_codes(w[0], 2 * (b * kSteps + step) + 1);
        BENCH_UNROLL
        for (int t = 0; t < Tokens; ++t) {
          const __m256i x = broadcast4(a + t * stride + b * kColumns + 4 * step);
          pin(pairs[0][t] = _mm256_add_epi16(pairs[0][t], _mm256_maddubs_epi16(upper, x)));
          pin(pairs[1][t] = _mm256_add_epi16(pairs[1][t], _mm256_maddubs_epi16(lower, x)));
        }
      }
      BENCH_UNROLL
      for (int t = 0; t < Tokens; ++t) sums[0][t] = drained(drained(sums[0][t], pairs[0][t], 16), pairs[1][t]);
    }
  }

  template <int W, int A>
  static BENCH_INLINE void dot_packed(const int8_t* book, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    constexpr int kDrain = least(additions_before_drain(W, A), kSteps);
    const __m256i table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      prefetch<W>(codes);
      __m256i pairs = _mm256_setzero_si256(), upper = pairs;
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const __m256i x = broadcast4(a + 4 * step);
        if constexpr (fills_bytes(W)) {
          const Halves w = halves_of<W>(table, codes, step);
          upper = _mm256_add_epi16(upper, _mm256_maddubs_epi16(w.upper, x));
          pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w.lower, x));
        } else {
          const __m256i p = _mm256_maddubs_epi16(looked_up<W>(table, codes, step), x);
          pairs = step % kDrain == 0 ? p : _mm256_add_epi16(pairs, p);
          if (step % kDrain == kDrain - 1) sums = drained(sums, pairs);
        }
      }
      if constexpr (fills_bytes(W)) sums = drained(drained(sums, upper, 16), pairs);
    }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avx2(...) MM_DEFINE(Avx2, __VA_ARGS__)
#define MM_DEFINE_avxvnni(...)
#define MM_DEFINE_avx512vnni(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
