// AVX-VNNI: x86 without AVX-512 since 2021.
#include "mm/vnni.h"

namespace {

struct AvxDot {
  static constexpr int kBlocks = 2;
  static __m256i add(__m256i sums, __m256i codes, __m256i a) { return _mm256_dpbusd_avx_epi32(sums, codes, a); }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avxvnni(...) MM_DEFINE(Vnni<AvxDot>, __VA_ARGS__)
#define MM_DEFINE_avx2(...)
#define MM_DEFINE_avx512vnni(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
