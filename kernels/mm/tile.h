// The loops that all instruction sets share: row blocks, tokens, groups, and the float epilogue of FORMAT.md section 3.
//
// An mm_<isa>.cc file includes this and gives a struct of vector operations:
//   Floats, Sums                                   8 floats and 8 int32, one a row of the block
//   dot_a8<Bits, Tokens>(codes, blocks, a, stride, Sums out[Tokens])     exact sums of code * q over `blocks` x 32 columns;
//                                                  of (code - 128) * q when Bits is 8
//   dot_a16<Bits, Tokens>(codes, blocks, a, stride, Floats out[Tokens])  sums of (code - 2^(Bits-1)) * a
//   dot_f16<Rows, Tokens>(w, w_stride, a, a_stride, k, float out[Rows][Tokens])   sums of w * a, nothing read past k
//   zero, halves, to_floats(sums, offset), fma, times, store
//
// All of it has internal linkage: a copy compiled for one instruction set must never serve another file.
#ifndef BENCH_MM_TILE_H_
#define BENCH_MM_TILE_H_

#include "base/check.h"
#include "mm/mm.h"

namespace {

constexpr int kRows = 8;
constexpr int kColumns = 32;
// Columns that one chain of fp32 additions may hold before it is added to the total: keeps the rounding of long sums below 1e-5.
constexpr int kFloatBlocks = 8;
constexpr int kFloatColumns = 1024;

// The widest plane of a code of that many bits: 8, 4, 2 or 1.
constexpr int plane_width(int bits) { return bits >= 8 ? 8 : bits >= 4 ? 4 : bits >= 2 ? 2 : 1; }

constexpr int least(int a, int b) { return a < b ? a : b; }

template <class T>
inline const T* at_byte(const void* base, size_t bytes) {
  return reinterpret_cast<const T*>(static_cast<const char*>(base) + bytes);
}

// Where one tile works: a block of 8 rows, and `Tokens` tokens from m.
struct Tile {
  const MmShape& shape;
  const uint8_t* codes;
  const uint16_t* scales;
  const MmActivations& a;
  float* y;
  size_t y_stride;
  int m;
};

template <class Isa, int Bits, int Tokens>
inline void tile_a8(const Tile& t) {
  constexpr int kOffset = Bits == 8 ? 0 : 1 << (Bits - 1);
  const int8_t* a = at_byte<int8_t>(t.a.data, t.m * t.a.stride);
  const int blocks = t.shape.k / kColumns, per_group = t.shape.group / kColumns;
  typename Isa::Floats f[Tokens];
  for (auto& each : f) each = Isa::zero();
  for (int first = 0, g = 0; first < blocks; first += per_group, ++g) {
    typename Isa::Sums sums[Tokens];
    Isa::template dot_a8<Bits, Tokens>(t.codes + (size_t)first * kColumns * Bits, least(per_group, blocks - first),
                                       a + (size_t)first * kColumns, t.a.stride, sums);
    const auto scale = Isa::halves(t.scales + (size_t)g * kRows);
    for (int i = 0; i < Tokens; ++i) {
      const int32_t offset = kOffset ? kOffset * t.a.sums[(t.m + i) * t.a.sums_stride + g] : 0;
      f[i] = Isa::fma(Isa::to_floats(sums[i], offset), scale, f[i]);
    }
  }
  for (int i = 0; i < Tokens; ++i) Isa::store(t.y + (t.m + i) * t.y_stride, Isa::times(f[i], t.a.scales[t.m + i]));
}

template <class Isa, int Bits, int Tokens>
inline void tile_a16(const Tile& t) {
  const uint16_t* a = at_byte<uint16_t>(t.a.data, t.m * t.a.stride);
  const int blocks = t.shape.k / kColumns, per_group = t.shape.group / kColumns;
  typename Isa::Floats f[Tokens];
  for (auto& each : f) each = Isa::zero();
  for (int group = 0, g = 0; group < blocks; group += per_group, ++g) {
    const auto scale = Isa::halves(t.scales + (size_t)g * kRows);
    const int end = least(group + per_group, blocks);
    for (int first = group; first < end; first += kFloatBlocks) {
      typename Isa::Floats sums[Tokens];
      Isa::template dot_a16<Bits, Tokens>(t.codes + (size_t)first * kColumns * Bits, least(kFloatBlocks, end - first),
                                          a + (size_t)first * kColumns, t.a.stride, sums);
      for (int i = 0; i < Tokens; ++i) f[i] = Isa::fma(sums[i], scale, f[i]);
    }
  }
  for (int i = 0; i < Tokens; ++i) Isa::store(t.y + (t.m + i) * t.y_stride, f[i]);
}

template <class Isa, int Bits, int ActivationBits, int Tokens>
inline void tile(const Tile& t) {
  if constexpr (ActivationBits == 8) {
    tile_a8<Isa, Bits, Tokens>(t);
  } else {
    tile_a16<Isa, Bits, Tokens>(t);
  }
}

// All tokens of one row block: whole tiles, then one smaller tile.
template <class Isa, int Bits, int ActivationBits, int TileM>
inline void row_block(Tile t) {
  const int m = t.shape.m;
  for (; t.m + TileM <= m; t.m += TileM) tile<Isa, Bits, ActivationBits, TileM>(t);
  if constexpr (TileM > 1) {
    if (m - t.m == 3) tile<Isa, Bits, ActivationBits, 3>(t);
    if (m - t.m == 2) tile<Isa, Bits, ActivationBits, 2>(t);
    if (m - t.m == 1) tile<Isa, Bits, ActivationBits, 1>(t);
  }
}

template <class Isa, int Bits, int ActivationBits, int TileM>
inline void run_packed(const MmShape& s, const MmWeights& w, const MmActivations& a, const MmOutput& y) {
  CHECK(s.n % kRows == 0 && s.k % kColumns == 0 && s.group > 0 && s.group % kColumns == 0);
  for (int b = 0; b < s.n / kRows; ++b)
    row_block<Isa, Bits, ActivationBits, TileM>(
        {s, w.codes + b * w.codes_stride, w.scales + b * w.scales_stride, a, y.data + (size_t)b * kRows, y.stride, 0});
}

template <class Isa, int Rows, int Tokens>
inline void tile_f16(const MmShape& s, const MmWeights& w, const MmActivations& a, const MmOutput& y, int n, int m) {
  float total[Rows][Tokens] = {};
  for (int k = 0; k < s.k; k += kFloatColumns) {
    float sums[Rows][Tokens];
    Isa::template dot_f16<Rows, Tokens>(at_byte<uint16_t>(w.codes, n * w.codes_stride) + k, w.codes_stride,
                                        at_byte<uint16_t>(a.data, m * a.stride) + k, a.stride, least(kFloatColumns, s.k - k), sums);
    for (int r = 0; r < Rows; ++r)
      for (int i = 0; i < Tokens; ++i) total[r][i] += sums[r][i];
  }
  for (int r = 0; r < Rows; ++r)
    for (int i = 0; i < Tokens; ++i) y.data[(m + i) * y.stride + n + r] = total[r][i];
}

template <class Isa, int Rows, int TileM>
inline void rows_f16(const MmShape& s, const MmWeights& w, const MmActivations& a, const MmOutput& y, int n) {
  int m = 0;
  for (; m + TileM <= s.m; m += TileM) tile_f16<Isa, Rows, TileM>(s, w, a, y, n, m);
  for (; m < s.m; ++m) tile_f16<Isa, Rows, 1>(s, w, a, y, n, m);
}

template <class Isa, int TileM>
inline void run_f16(const MmShape& s, const MmWeights& w, const MmActivations& a, const MmOutput& y) {
  constexpr int kRowsAtOnce = TileM == 1 ? 4 : 2;  // 4 or 8 sums fill the pipelines and fit 16 registers
  int n = 0;
  for (; n + kRowsAtOnce <= s.n; n += kRowsAtOnce) rows_f16<Isa, kRowsAtOnce, TileM>(s, w, a, y, n);
  for (; n < s.n; ++n) rows_f16<Isa, 1, TileM>(s, w, a, y, n);
}

template <class Isa, int Bits, int ActivationBits, int TileM>
inline void run(const MmShape& s, const MmWeights& w, const MmActivations& a, const MmOutput& y) {
  if constexpr (Bits == 16) {
    run_f16<Isa, TileM>(s, w, a, y);
  } else {
    run_packed<Isa, Bits, ActivationBits, TileM>(s, w, a, y);
  }
}

}  // namespace

// An ISA file defines its rows of variants.inc with this, the other rows with nothing.
#define MM_DEFINE(Isa, name, weight_bits, activation_bits, tile_m)                                                          \
  extern "C" void name(const MmShape* s, const MmWeights* w, const MmActivations* a, const MmOutput* y) {                    \
    run<Isa, weight_bits, activation_bits, tile_m>(*s, *w, *a, *y);                                                          \
  }

#endif  // BENCH_MM_TILE_H_
