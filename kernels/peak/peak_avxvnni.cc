// AVX-VNNI: vpdpbusd on 32 bytes.
#include <immintrin.h>

#define REGISTER "x"
#include "peak/chains.h"

extern "C" int64_t peak_int8_avxvnni(int64_t turns) {
  const __m256i codes = _mm256_set1_epi8(3), activations = _mm256_set1_epi8(-5);
  return run_chains<12, __m256i>(turns, 2 * 32, codes, [=](__m256i sum, __m256i codes) { return _mm256_dpbusd_avx_epi32(sum, codes, activations); });
}
