// AVX2: int8 by vpmaddubsw, fp32 by fused multiply-adds; reads of 32 bytes.
#include <immintrin.h>

#define REGISTER "x"
typedef __m256i Vector;
#include "peak/chains.h"
#include "peak/read.h"

PEAK_READS(avx2)

extern "C" int64_t peak_int8_avx2(int64_t turns) {
  const __m256i codes = _mm256_set1_epi8(3), activations = _mm256_set1_epi8(-5), ones = _mm256_set1_epi16(1);
  return run_chains<10, __m256i>(turns, 2 * 32, codes, [=](__m256i sum, __m256i codes) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, activations), ones));
  });
}

extern "C" int64_t peak_short_avx2(int64_t turns) {
  const __m256i codes = _mm256_set1_epi8(3), activations = _mm256_set1_epi8(-5);
  return run_chains<10, __m256i>(turns, 2 * 32, codes, [=](__m256i sum, __m256i codes) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, activations));
  });
}

extern "C" int64_t peak_fp32_avx2(int64_t turns) {
  const __m256 weight = _mm256_set1_ps(0.5f), activation = _mm256_set1_ps(0.25f);
  return run_chains<12, __m256>(turns, 2 * 8, weight, [=](__m256 sum, __m256 weight) { return _mm256_fmadd_ps(weight, activation, sum); });
}
