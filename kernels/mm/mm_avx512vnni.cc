// AVX-512-VNNI in 256-bit vectors: x86 servers since 2019. Wider ones double nothing on Zen 4 and lower the clock of older Intel cores.
#include "mm/vnni.h"

namespace {

struct Avx512Dot {
  static constexpr int kTokens = 8;
  static __m256i add(__m256i sums, __m256i codes, __m256i a) { return _mm256_dpbusd_epi32(sums, codes, a); }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avx512vnni(...) MM_DEFINE(Vnni<Avx512Dot>, __VA_ARGS__)
#define MM_DEFINE_avx2(...)
#define MM_DEFINE_avxvnni(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
