// Plain C++: runs everywhere, and what the compiler makes of it is the floor that the other files must beat.
#include "base/half.h"
#include "mm/tile.h"

namespace {

struct Scalar {
  struct Floats { float v[kRows]; };
  struct Sums { int32_t v[kRows]; };

  static Floats zero() { return {}; }

  static Floats halves(const uint16_t* h) {
    Floats f;
    for (int r = 0; r < kRows; ++r) f.v[r] = half_to_float(h[r]);
    return f;
  }

  static Floats to_floats(const Sums& sums, int32_t offset) {
    Floats f;
    for (int r = 0; r < kRows; ++r) f.v[r] = (float)(sums.v[r] - offset);
    return f;
  }

  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    Floats f;
    for (int r = 0; r < kRows; ++r) f.v[r] = __builtin_fmaf(a.v[r], b.v[r], c.v[r]);
    return f;
  }

  static Floats times(const Floats& a, float b) {
    Floats f;
    for (int r = 0; r < kRows; ++r) f.v[r] = a.v[r] * b;
    return f;
  }

  static void store(float* y, const Floats& f) {
    for (int r = 0; r < kRows; ++r) y[r] = f.v[r];
  }

  // The 32 codes of one 4-column step: byte i is row i/4, column i%4.
  template <int Bits>
  static void add_planes(const uint8_t* planes, int step, uint8_t (&codes)[kColumns]) {
    constexpr int kWidth = plane_width(Bits);
    const uint8_t* vector = planes + kColumns * (step * kWidth / 8);
    const int shift = kWidth * (step % (8 / kWidth));
    for (int i = 0; i < kColumns; ++i)
      codes[i] |= (vector[i] >> shift & ((1 << kWidth) - 1)) << (Bits - kWidth);
    if constexpr (Bits > kWidth) add_planes<Bits - kWidth>(planes + kColumns * kWidth, step, codes);
  }

  template <int Bits, int Tokens>
  static void dot_a8(const uint8_t* codes, int blocks, const int8_t* a, size_t stride, Sums (&out)[Tokens]) {
    constexpr int kSubtract = Bits == 8 ? 128 : 0;
    for (auto& each : out) each = {};
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns)
      for (int step = 0; step < 8; ++step) {
        uint8_t w[kColumns] = {};
        add_planes<Bits>(codes, step, w);
        for (int t = 0; t < Tokens; ++t)
          for (int i = 0; i < kColumns; ++i) out[t].v[i / 4] += (w[i] - kSubtract) * a[t * stride + 4 * step + i % 4];
      }
  }

  template <int Bits, int Tokens>
  static void dot_a16(const uint8_t* codes, int blocks, const uint16_t* a, size_t stride, Floats (&out)[Tokens]) {
    float sums[Tokens][kColumns] = {};
    for (int b = 0; b < blocks; ++b, codes += kColumns * Bits, a += kColumns)
      for (int step = 0; step < 8; ++step) {
        uint8_t w[kColumns] = {};
        add_planes<Bits>(codes, step, w);
        for (int t = 0; t < Tokens; ++t) {
          float x[4];
          for (int j = 0; j < 4; ++j) x[j] = half_to_float(at_byte<uint16_t>(a, t * stride)[4 * step + j]);
          for (int i = 0; i < kColumns; ++i) sums[t][i] += (float)(w[i] - (1 << (Bits - 1))) * x[i % 4];
        }
      }
    for (int t = 0; t < Tokens; ++t)
      for (int r = 0; r < kRows; ++r)
        out[t].v[r] = (sums[t][4 * r] + sums[t][4 * r + 1]) + (sums[t][4 * r + 2] + sums[t][4 * r + 3]);
  }

  template <int Rows, int Tokens>
  static void dot_f16(const uint16_t* w, size_t w_stride, const uint16_t* a, size_t a_stride, int k, float (&out)[Rows][Tokens]) {
    for (int r = 0; r < Rows; ++r)
      for (int t = 0; t < Tokens; ++t) {
        float lanes[8] = {};
        for (int i = 0; i < k; ++i)
          lanes[i % 8] += half_to_float(at_byte<uint16_t>(w, r * w_stride)[i]) * half_to_float(at_byte<uint16_t>(a, t * a_stride)[i]);
        out[r][t] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
      }
  }
};

}  // namespace

#define MM_VARIANT(isa, ...) MM_DEFINE_##isa(__VA_ARGS__)
#define MM_DEFINE_scalar(...) MM_DEFINE(Scalar, __VA_ARGS__)
#define MM_DEFINE_avx2(...)
#define MM_DEFINE_neon(...)
#define MM_DEFINE_dotprod(...)
#include "mm/variants.inc"
