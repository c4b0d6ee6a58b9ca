// AVX-512-VNNI: x86 servers since 2019. Prefill takes two row blocks in one vector of 64 bytes; the tile of one row block that may be
// left, and decoding, which waits for memory, have 32.
#include "mm/vnni.h"

namespace {

struct Avx512Dot {
  static constexpr int kBlocks = 1;
  static __m256i add(__m256i sums, __m256i codes, __m256i a) { return _mm256_dpbusd_epi32(sums, codes, a); }
};

struct Zmm {
  using Floats = __m512;
  using Sums = __m512i;
  static constexpr int kWidth = 2;
  static constexpr int kTokens = 8;
  template <int W>
  static constexpr int kStepBytes = 64;  // a step of one row block, then of the other

  static Floats zero() { return _mm512_setzero_ps(); }
  static Sums same(int32_t x) { return _mm512_set1_epi32(x); }
  static Floats halves(const uint16_t* low, const uint16_t* high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(load_halves(low)), load_halves(high), 1);
  }
  template <class Byte>
  static Sums bytes(const Byte* low, const Byte* high) {
    return _mm512_inserti32x8(_mm512_castsi256_si512(Avx2Base::bytes(low)), Avx2Base::bytes(high), 1);
  }
  static Floats to_floats(Sums s) { return _mm512_cvtepi32_ps(s); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats times(Floats a, float b) { return times(a, _mm512_set1_ps(b)); }
  static Sums times(Sums a, Sums b) { return _mm512_mullo_epi32(a, b); }
  static Sums plus(Sums a, Sums b) { return _mm512_add_epi32(a, b); }
  static Floats load(const float* y) { return _mm512_loadu_ps(y); }
  static void store(float* y, Floats f) { _mm512_storeu_ps(y, f); }
  static Sums load(const int32_t* s) { return _mm512_loadu_si512(s); }
  static void store(int32_t* s, Sums v) { _mm512_storeu_si512(s, v); }

  template <int W>
  static void unpack(const int8_t* book, const uint8_t* low, const uint8_t* high, int blocks, uint8_t* out) {
    const __m256i table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, low += kColumns * stored_bits(W), high += kColumns * stored_bits(W)) {
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step, out += 64) {
        _mm256_store_si256((__m256i*)out, looked_up<W>(table, low, step));
        _mm256_store_si256((__m256i*)(out + 32), looked_up<W>(table, high, step));
      }
    }
  }

  template <int W, int A, int Blocks, int Tokens>
  static BENCH_INLINE void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    static_assert(Blocks == 1);
    for (int b = 0; b < blocks; ++b) {
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const __m512i codes = _mm512_load_si512(w[0] + (b * kSteps + step) * 64);
        BENCH_UNROLL
        for (int t = 0; t < Tokens; ++t) {
          int32_t four;
          __builtin_memcpy(&four, a + t * stride + b * kColumns + 4 * step, sizeof four);
          sums[0][t] = _mm512_dpbusd_epi32(sums[0][t], codes, _mm512_set1_epi32(four));
        }
      }
    }
  }
};

struct Avx512Vnni : Vnni<Avx512Dot> {
  using Wide = Zmm;
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_avx512vnni(...) MM_DEFINE(Avx512Vnni, __VA_ARGS__)
#define MM_DEFINE_avx2(...)
#define MM_DEFINE_avxvnni(...)
#define MM_DEFINE_scalar(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
