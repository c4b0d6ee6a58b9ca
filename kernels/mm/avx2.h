// What the files for x86 share: unpacking, everything that works in floats, and the products without VNNI. Internal linkage, as tile.h.
#ifndef BENCH_MM_AVX2_H_
#define BENCH_MM_AVX2_H_

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

// Codes of `Bits` bits from bit `Low` up.
template <int Bits, int Low>
inline __m256i planes_of(const uint8_t* planes, int step) {
  constexpr int kWidth = plane_width(Bits);
  __m256i v = field<kWidth, Bits - kWidth + Low>(planes, step);
  if constexpr (Bits > kWidth) v = _mm256_or_si256(v, planes_of<Bits - kWidth, Low>(planes + kColumns * kWidth, step));
  return v;
}

// The 32 expanded codes of one step: byte i is row i/4, column i%4.
template <int W>
inline __m256i codes_of(const uint8_t* planes, int step) {
  return planes_of<stored_bits(W), lowest_bit(W)>(planes, step);
}

// What 4-bit codes look up, as an expanded code.
template <int W>
inline __m256i table_of(const int8_t* book) {
  if constexpr (!looks_up(W)) return _mm256_setzero_si256();
  else return _mm256_add_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)book)), _mm256_set1_epi8((char)offset(W)));
}

template <int W>
inline __m256i looked_up(__m256i table, const uint8_t* codes, int step) {
  const __m256i w = codes_of<W>(codes, step);
  return looks_up(W) ? _mm256_shuffle_epi8(table, w) : w;
}

// Keeps a sum in its register and additions in their order: the compiler would make trees of them, for which there are too few registers.
inline void pin(__m256i& sum) { asm("" : "+x"(sum)); }

// 4 activations of one token for every row.
inline __m256i broadcast4(const int8_t* a) {
  int32_t four;
  __builtin_memcpy(&four, a, sizeof four);
  return _mm256_set1_epi32(four);
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

template <int W>
inline __m256i signed_codes(const uint8_t* codes, int step) {
  return _mm256_sub_epi8(codes_of<W>(codes, step), _mm256_set1_epi8((char)offset(W)));
}

inline float horizontal_sum(__m256 v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

inline __m256 load_halves(const uint16_t* h) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)h)); }

// Rows of 8 floats become columns.
inline void transpose8(__m256 (&r)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// Asks for weights ahead of their use, since the hardware stops at every page. Of 4 bits and more it brings them fast enough by itself,
// and asking too would slow down what comes from a cache.
template <int W>
inline void prefetch(const uint8_t* codes) {
  constexpr int kAhead = 4096;
  if constexpr (stored_bits(W) < 4)
    for (int i = 0; i < kColumns * stored_bits(W); i += 64) _mm_prefetch((const char*)codes + kAhead + i, _MM_HINT_T0);
}

struct Avx2Base {
  using Floats = __m256;
  using Sums = __m256i;
  static constexpr int kFloatTokens = 4;

  static Floats zero() { return _mm256_setzero_ps(); }
  static Sums same(int32_t x) { return _mm256_set1_epi32(x); }
  static Floats halves(const uint16_t* h) { return load_halves(h); }
  static Floats to_floats(Sums s) { return _mm256_cvtepi32_ps(s); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static Floats plus(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Sums plus(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
  static Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats times(Floats a, float b) { return times(a, _mm256_set1_ps(b)); }
  static Sums times(Sums a, Sums b) { return _mm256_mullo_epi32(a, b); }
  static Sums bytes(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
  static Sums bytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
  static Floats load(const float* y) { return _mm256_loadu_ps(y); }
  static void store(float* y, Floats f) { _mm256_storeu_ps(y, f); }
  static Sums load(const int32_t* s) { return _mm256_load_si256((const __m256i*)s); }
  static void store(int32_t* s, Sums v) { _mm256_store_si256((__m256i*)s, v); }

  static void widen(const uint16_t* h, int count, float* out) {
    int i = 0;
    for (; i + 8 <= count; i += 8) store(out + i, load_halves(h + i));
    for (; i < count; ++i) out[i] = _cvtsh_ss(h[i]);
  }

  template <int W>
  static void unpack_floats(const uint8_t* codes, int blocks, Floats scale, float* out) {
    const Floats s = times(scale, 0x1p-24f);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const __m256i w = signed_codes<W>(codes, step);
      BENCH_UNROLL
      for (int j = 0; j < 4; ++j, out += kRows) store(out, _mm256_mul_ps(column(w, j), s));
      }
  }

  static void transpose_halves(const uint16_t* w, size_t stride, int rows, int columns, float* out) {
    int k = 0;
    for (; k + 8 <= columns; k += 8) {
      __m256 r[8];
      for (int i = 0; i < 8; ++i) r[i] = i < rows ? load_halves(at_byte<uint16_t>(w, i * stride) + k) : zero();
      transpose8(r);
      for (int i = 0; i < 8; ++i) store(out + (k + i) * kRows, r[i]);
    }
    for (; k < columns; ++k)
      for (int i = 0; i < kRows; ++i) out[k * kRows + i] = i < rows ? _cvtsh_ss(at_byte<uint16_t>(w, i * stride)[k]) : 0;
  }

  template <int Blocks, int Tokens>
  static void dot_floats(const float* const (&w)[Blocks], int columns, const float* a, int stride, Floats (&sums)[Blocks][Tokens]) {
    for (int k = 0; k < columns; ++k) {
      Floats row[Blocks];
      BENCH_UNROLL
      for (int i = 0; i < Blocks; ++i) row[i] = _mm256_load_ps(w[i] + k * kRows);
      BENCH_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        const Floats x = _mm256_broadcast_ss(a + t * stride + k);
        BENCH_UNROLL
        for (int i = 0; i < Blocks; ++i) sums[i][t] = fma(row[i], x, sums[i][t]);
      }
    }
  }

  template <int W>
  static Floats dot_a16(const uint8_t* codes, int blocks, const uint16_t* a) {
    Floats sums[4] = {zero(), zero(), zero(), zero()};
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      alignas(32) float x[kColumns];
      widen(a, kColumns, x);
      BENCH_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        const __m256i w = signed_codes<W>(codes, step);
        BENCH_UNROLL
        for (int j = 0; j < 4; ++j) sums[j] = fma(column(w, j), _mm256_set1_ps(x[4 * step + j]), sums[j]);
      }
    }
    return times(plus(plus(sums[0], sums[1]), plus(sums[2], sums[3])), 0x1p-24f);
  }

  template <int Rows>
  static void dot_f16(const uint16_t* w, size_t stride, const uint16_t* a, int k, float (&out)[Rows]) {
    Floats sums[Rows];
    for (auto& each : sums) each = zero();
    int i = 0;
    for (; i + 8 <= k; i += 8) {
      const Floats x = load_halves(a + i);
      BENCH_UNROLL
      for (int r = 0; r < Rows; ++r) sums[r] = fma(load_halves(at_byte<uint16_t>(w, r * stride) + i), x, sums[r]);
    }
    BENCH_UNROLL
    for (int r = 0; r < Rows; ++r) {
      out[r] = horizontal_sum(sums[r]);
      for (int j = i; j < k; ++j) out[r] += _cvtsh_ss(at_byte<uint16_t>(w, r * stride)[j]) * _cvtsh_ss(a[j]);
    }
  }
};

}  // namespace

#endif  // BENCH_MM_AVX2_H_
