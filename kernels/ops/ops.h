// The steps of a transformer block between its linears, in fp32, one function each. Shapes: C channels, D head size, T positions.
// Loops are written so that the compiler vectorizes them: sums run in kLanes independent lanes. Each op is one .inc file, compiled for the
// preset's baseline and on x86-64 for AVX2 (the CPU decides, ops.cc); results are the same bit for bit, except those of attention
// (attention.h) and of products with fp16 weights, whose sums are fused where the instruction set has that.
#ifndef BENCH_OPS_OPS_H_
#define BENCH_OPS_OPS_H_

#include <stdint.h>

// y[i] = x[i] * weight[i] / sqrt(mean(x^2) + epsilon). `y` is apart from `x`, here and below: overlapping rows would not vectorize.
void rmsnorm(const float* x, const float* weight, int channels, float epsilon, float* y);

// rmsnorm of each of `heads` heads by itself, in place, with one `weight` [head_size] for all.
void rmsnorm_heads(float* x, const float* weight, int heads, int head_size, float epsilon);

// y[i] = (x[i] - mean) * weight[i] / sqrt(variance + epsilon) + bias[i].
void layernorm(const float* x, const float* weight, const float* bias, int channels, float epsilon, float* y);

// Fills cosine and sine of [position][pair] angles: position * base^(-2 * pair / head_size), pairs = head_size / 2.
void rope_table(int positions, int head_size, float base, float* cosine, float* sine);

// Rotates the neighbours (x[2i], x[2i+1]) of each of `heads` heads by the angles of one position.
void rope(float* x, int heads, int head_size, const float* cosine, const float* sine);

// How much the score of a key falls with each position that it is farther back, for each head (ALiBi: Press et al. 2022, arXiv:2108.12409):
// 2^(-8 (i + 1) / n) for the first n heads, n the largest power of two; any others take every second slope of 2n heads.
void alibi_slopes(int heads, float* slopes);

// x[i] = exp(x[i] - max) / sum.
void softmax(float* x, int count);

// y[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)).
void silu_multiply(const float* gate, const float* up, int count, float* y);

// y[i] = max(x[i], 0).
void relu(const float* x, int count, float* y);

// y[i] = x[i] (1 + tanh(sqrt(2 / pi) (x[i] + 0.044715 x[i]^3))) / 2.
void gelu(const float* x, int count, float* y);

// x[i] += y[i].
void add(float* x, const float* y, int count);

// Converts `count` fp16 numbers.
void floats_from_halves(const uint16_t* halves, int count, float* y);

// One row of mm_pack_a8, bit for bit: writes `padded` codes, a scale (or one for each group) and a sum for each group.
void quantize_codes(const float* x, int columns, int padded, int bits, int group, bool own_scales, int8_t* codes, float* scales, int32_t* sums);

// The same with one given scale: rint(x / scale) + zero, within the codes of `bits`; zero is an integer that is one of them.
void fixed_codes(const float* x, int columns, int padded, int bits, float scale, int zero, int8_t* codes);

// The sum of each `group` of codes, the last of which may be smaller.
void group_sums(const int8_t* codes, int count, int group, int32_t* sums);

// Rotates each `size` neighbours by a Sylvester Hadamard matrix over sqrt(size), a power of two that divides `columns`.
void hadamard(float* x, int columns, int size);

// y[blocks][8] += sum_j inputs[j] * weights[block][j][8], weights fp16.
void add_side(const float* inputs, int count, const uint16_t* weights, int blocks, float* y);

// sum_i row[columns[i]] * values[i], values fp16.
float sparse_dot(const float* row, const int32_t* columns, const uint16_t* values, int count);

// One row of mm_pack_a16.
void quantize_a16(const float* x, int columns, int padded, uint16_t* halves);

// codes[i] = rint(-log2(probability)) up to 15, and kNoWeight (attention.h) for what is smaller than that. Probabilities are in 0..1.
void log2_codes(const float* probabilities, int count, uint8_t* codes);

// out[D] += sum_t values[t] << (15 - codes[t]): A V in units of 2^-15 without multiplications, exact. Values are [positions][D].
void log2_attend(const uint8_t* codes, const int8_t* values, int positions, int head_size, int32_t* out);

// Rounds heads x [heads][D] to multiples of their steps, at most 127 of them; NaN becomes -127 steps.
void snap_heads(float* x, int heads, int head_size, const float* steps);

// log(sum exp(x)), with the sum in double; x is finite.
double log_sum_exp(const float* x, int count);

#endif  // BENCH_OPS_OPS_H_
