// Plain C++: runs everywhere, and what the compiler makes of it is the floor that the other files must beat.
#include "base/half.h"
#include "mm/tile.h"

namespace {

struct Scalar {
  struct Floats { float v[kRows]; };
  struct Sums { int32_t v[kRows]; };
  static constexpr int kTokens = 4, kFloatTokens = 4;
  template <int W>
  static constexpr int kBlocks = 2;
  template <int W>
  static constexpr int kStepBytes = kColumns;

  static Floats zero() { return {}; }

  static Sums same(int32_t x) {
    Sums sums;
    for (int& each : sums.v) each = x;
    return sums;
  }

  template <class Each>
  static Floats each_row(const Each& each) {
    Floats f;
    for (int r = 0; r < kRows; ++r) f.v[r] = each(r);
    return f;
  }

  template <class Each>
  static Sums each_sum(const Each& each) {
    Sums sums;
    for (int r = 0; r < kRows; ++r) sums.v[r] = (int32_t)each(r);
    return sums;
  }

  static Sums plus(const Sums& a, const Sums& b) { return each_sum([&](int r) { return (uint32_t)a.v[r] + (uint32_t)b.v[r]; }); }
  static Sums times(const Sums& a, const Sums& b) { return each_sum([&](int r) { return (uint32_t)a.v[r] * (uint32_t)b.v[r]; }); }
  template <class Byte>
  static Sums bytes(const Byte* p) { return each_sum([p](int r) { return p[r]; }); }
  static Floats halves(const uint16_t* h) { return each_row([h](int r) { return half_to_float(h[r]); }); }
  static Floats to_floats(const Sums& sums) { return each_row([&](int r) { return (float)sums.v[r]; }); }
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) { return each_row([&](int r) { return __builtin_fmaf(a.v[r], b.v[r], c.v[r]); }); }
  static Floats plus(const Floats& a, const Floats& b) { return each_row([&](int r) { return a.v[r] + b.v[r]; }); }
  static Floats times(const Floats& a, float b) { return each_row([&](int r) { return a.v[r] * b; }); }
  static Floats times(const Floats& a, const Floats& b) { return each_row([&](int r) { return a.v[r] * b.v[r]; }); }
  static Floats load(const float* y) { return each_row([y](int r) { return y[r]; }); }
  static void store(float* y, const Floats& f) { __builtin_memcpy(y, f.v, sizeof f.v); }
  static void store(int32_t* s, const Sums& sums) { __builtin_memcpy(s, sums.v, sizeof sums.v); }

  static Sums load(const int32_t* s) {
    Sums sums;
    __builtin_memcpy(sums.v, s, sizeof sums.v);
    return sums;
  }

  static void widen(const uint16_t* h, int count, float* out) {
    for (int i = 0; i < count; ++i) out[i] = half_to_float(h[i]);
  }

  // Adds codes of `Bits` bits from bit `Low` up of one 4-column step: byte i is row i/4, column i%4.
  template <int Bits, int Low>
  static void add_planes(const uint8_t* planes, int step, uint8_t* codes) {
    constexpr int kWidth = plane_width(Bits);
    const uint8_t* vector = planes + kColumns * (step * kWidth / 8);
    const int shift = kWidth * (step % (8 / kWidth));
    for (int i = 0; i < kColumns; ++i) codes[i] |= (vector[i] >> shift & ((1 << kWidth) - 1)) << (Bits - kWidth + Low);
    if constexpr (Bits > kWidth) add_planes<Bits - kWidth, Low>(planes + kColumns * kWidth, step, codes);
  }

  template <int W>
  static void unpack(const int8_t* book, const uint8_t* codes, int blocks, uint8_t* out) {
    __builtin_memset(out, 0, (size_t)blocks * kSteps * kColumns);
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W))
      for (int step = 0; step < kSteps; ++step, out += kColumns) {
        add_planes<stored_bits(W), lowest_bit(W)>(codes, step, out);
        if (W == kCodebook)
          for (int i = 0; i < kColumns; ++i) out[i] = (uint8_t)(book[out[i]] + offset(W));
      }
  }

  template <int W, int A, int Blocks, int Tokens>
  static void dot(const uint8_t* const (&w)[Blocks], int blocks, const int8_t* a, size_t stride, Sums (&sums)[Blocks][Tokens]) {
    for (int i = 0; i < Blocks; ++i)
      for (int t = 0; t < Tokens; ++t)
        for (int k = 0; k < blocks * kColumns; ++k)
          for (int r = 0; r < kRows; ++r) sums[i][t].v[r] += w[i][k / 4 * kColumns + 4 * r + k % 4] * a[t * stride + k];
  }

  template <int W, int A>
  static void dot_packed(const int8_t* book, const uint8_t* codes, int blocks, const int8_t* a, Sums& sums) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      uint8_t w[kSteps * kColumns];
      unpack<W>(book, codes, 1, w);
      Sums one[1][1] = {{sums}};
      const uint8_t* const from[1] = {w};
      dot<W, A>(from, 1, a, 0, one);
      sums = one[0][0];
    }
  }

  template <int W>
  static void unpack_floats(const uint8_t* codes, int blocks, const Floats& scale, float* out) {
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W)) {
      uint8_t w[kSteps * kColumns];
      unpack<W>(nullptr, codes, 1, w);
      for (int k = 0; k < kColumns; ++k, out += kRows)
        for (int r = 0; r < kRows; ++r) out[r] = (float)(w[k / 4 * kColumns + 4 * r + k % 4] - offset(W)) * scale.v[r];
    }
  }

  static void transpose_halves(const uint16_t* w, size_t stride, int rows, int columns, float* out) {
    for (int k = 0; k < columns; ++k)
      for (int r = 0; r < kRows; ++r) out[k * kRows + r] = r < rows ? half_to_float(at_byte<uint16_t>(w, r * stride)[k]) : 0;
  }

  template <int Blocks, int Tokens>
  static void dot_floats(const float* const (&w)[Blocks], int columns, const float* a, int stride, Floats (&sums)[Blocks][Tokens]) {
    for (int k = 0; k < columns; ++k)
      for (int i = 0; i < Blocks; ++i)
        for (int t = 0; t < Tokens; ++t)
          for (int r = 0; r < kRows; ++r) sums[i][t].v[r] += w[i][k * kRows + r] * a[t * stride + k];
  }

  template <int W>
  static Floats dot_a16(const uint8_t* codes, int blocks, const uint16_t* a) {
    Floats sums[4] = {};
    for (int b = 0; b < blocks; ++b, codes += kColumns * stored_bits(W), a += kColumns) {
      uint8_t w[kSteps * kColumns];
      unpack<W>(nullptr, codes, 1, w);
      for (int k = 0; k < kColumns; ++k)
        for (int r = 0; r < kRows; ++r) sums[k % 4].v[r] += (float)(w[k / 4 * kColumns + 4 * r + k % 4] - offset(W)) * half_to_float(a[k]);
    }
    return plus(plus(sums[0], sums[1]), plus(sums[2], sums[3]));
  }

  template <int Rows>
  static void dot_f16(const uint16_t* w, size_t stride, const uint16_t* a, int k, float (&out)[Rows]) {
    for (int r = 0; r < Rows; ++r) {
      float lanes[8] = {};
      for (int i = 0; i < k; ++i) lanes[i % 8] += half_to_float(at_byte<uint16_t>(w, r * stride)[i]) * half_to_float(a[i]);
      out[r] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_TILE(isa, family, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_scalar(...) MM_DEFINE(Scalar, __VA_ARGS__)
#define MM_DEFINE_avx2(...)
#define MM_DEFINE_avxvnni(...)
#define MM_DEFINE_avx512vnni(...)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_dotprod(...)
#define MM_DEFINE_i8mm(...)
#include "mm/variants.inc"
#include "mm/families/tiles.inc"
