// Bit planes to bytes and back: the codes of eight channels are a matrix of 8x8 bits.
#ifndef BENCH_OPS_PLANES_H_
#define BENCH_OPS_PLANES_H_

#include <stdint.h>

// Bit j of byte i becomes bit i of byte j (Warren, "Hacker's Delight", section 7-3): squares of 1, 2 and 4 bits change places. Word:
// uint64_t, or several of them.
template <typename Word>
static inline void transpose_bits(Word* word) {
  Word x = *word, moved = (x ^ x >> 7) & UINT64_C(0x00aa00aa00aa00aa);
  x ^= moved ^ moved << 7;
  moved = (x ^ x >> 14) & UINT64_C(0x0000cccc0000cccc);
  x ^= moved ^ moved << 14;
  moved = (x ^ x >> 28) & UINT64_C(0x00000000f0f0f0f0);
  *word = x ^ moved ^ moved << 28;
}

#endif  // BENCH_OPS_PLANES_H_
