// exp for loops that the compiler is to vectorize: no table, no branch, no library call.
#ifndef BENCH_OPS_EXP_H_
#define BENCH_OPS_EXP_H_

#include <stdint.h>
#include <string.h>

// exp(x) to 3e-7 relative for x in [-87, 88]; outside it stays at the value of the nearer end; NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) is its Taylor sum to r^7 (the rest is below 6e-9); 2^n goes into the exponent.
static inline float fast_exp(float x) {
  const float lowest = -87.0f, highest = 88.0f;
  x = x < lowest ? lowest : x > highest ? highest : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits
  const float shifted = x * 1.44269504f + magic;
  const float n = shifted - magic;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact in 9 bits
  float sum = 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  uint32_t bits, power;
  memcpy(&bits, &sum, sizeof bits);
  memcpy(&power, &shifted, sizeof power);
  bits += power << 23;
  memcpy(&sum, &bits, sizeof sum);
  return x == x ? sum : x;  // the bits of a NaN plus an exponent can be a number
}

#endif  // BENCH_OPS_EXP_H_
