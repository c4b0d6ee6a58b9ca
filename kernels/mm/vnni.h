// The products of AVX-VNNI and AVX-512-VNNI: vpdpbusd multiplies unsigned codes by signed activations and adds four of them to a 32-bit
// lane, without saturation. Internal linkage, as tile.h.
#ifndef BENCH_MM_VNNI_H_
#define BENCH_MM_VNNI_H_

#include "mm/avx2.h"

namespace {

// `Dot` has add(sums, codes, activations).
template <class Dot>
struct Vnni : Avx2Base {
  static constexpr int kTokens = 4;
  template <int W>
  static constexpr int kBlocks = Dot::kBlocks;
  template <int W>
  static constexpr int kStepBytes = 32;

  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* out) {
    const __m256i table = table_of<W>(book);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step, out += 32) _mm256_store_si256((__m256i*)out, looked_up<W>(table, codes, step));
  }

  template <int W, int A, int Blocks, int Tokens>
  static BENCH_INLINE void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    for (int b = 0; b < blocks; ++b) {
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        __m256i codes[Blocks];
        BENCH_UNROLL
        for (int i = 0; i < Blocks; ++i) codes[i] = _mm256_load_si256((const __m256i*)(w[i] + (b * kSteps + step) * 32));
        BENCH_UNROLL
        for (int t = 0; t < Tokens; ++t) {
          const __m256i x = broadcast4(a + t * stride + b * kColumns + 4 * step);
          BENCH_UNROLL
          for (int i = 0; i < Blocks; ++i) sums[i][t] = Dot::add(sums[i][t], codes[i], x);
        }
      }
    }
  }

  template <int W, int A>
  static BENCH_INLINE void dot_packed(const int8_t* book, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    const __m256i table = table_of<W>(book);
    __m256i chains[4] = {sums};  // one alone would wait for its own last sum
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      prefetch<W>(codes);
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step)
        chains[step % 4] = Dot::add(chains[step % 4], looked_up<W>(table, codes, step), broadcast4(a + 4 * step));
    }
    sums = _mm256_add_epi32(_mm256_add_epi32(chains[0], chains[1]), _mm256_add_epi32(chains[2], chains[3]));
  }
};

}  // namespace

#endif  // BENCH_MM_VNNI_H_
