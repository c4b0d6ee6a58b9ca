// AVX-512 VNNI: vpdpbusd and fused multiply-adds on 64 bytes.
#include <immintrin.h>

#define REGISTER "v"
#include "peak/chains.h"

extern "C" int64_t peak_int8_avx512vnni(int64_t turns) {
  const __m512i codes = _mm512_set1_epi8(3), activations = _mm512_set1_epi8(-5);
  return run_chains<16, __m512i>(turns, 2 * 64, codes, [=](__m512i sum, __m512i codes) { return _mm512_dpbusd_epi32(sum, codes, activations); });
}

extern "C" int64_t peak_fp32_avx512vnni(int64_t turns) {
  const __m512 weight = _mm512_set1_ps(0.5f), activation = _mm512_set1_ps(0.25f);
  return run_chains<16, __m512>(turns, 2 * 16, weight, [=](__m512 sum, __m512 weight) { return _mm512_fmadd_ps(weight, activation, sum); });
}
