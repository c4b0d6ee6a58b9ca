// Multiply: linears times the rows of Activations.
#ifndef BENCH_RUNTIME_MULTIPLY_H_
#define BENCH_RUNTIME_MULTIPLY_H_

#include "runtime/activations.h"

// y[token][row] = linear * input + bias for every token of the input, rows split over the team by blocks. `linears` are multiplied
// in one go: their inputs are the same, `y[i]` has padded_rows() of linear i per token and `strides[i]` elements between tokens.
void multiply(Pool* pool, Activations* activations, int count, const Linear* const* linears, float* const* y, const size_t* strides);

#endif  // BENCH_RUNTIME_MULTIPLY_H_
