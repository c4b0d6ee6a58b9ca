// Linear: one weight matrix of a model file, in place, with the kernels that will multiply it.
#ifndef BENCH_RUNTIME_LINEAR_H_
#define BENCH_RUNTIME_LINEAR_H_

#include "mm/mm.h"
#include "runtime/error.h"
#include "runtime/scheme.h"

// Wider rows could overflow the int32 sum of an a8 group: 128 * 127 * 65536 is just below 2^30.
inline constexpr int kMaxColumns = 65536;
inline constexpr int kMaxRows = 1 << 20;

inline constexpr int kRowBlock = 8;      // rows of a packed block
inline constexpr int kColumnBlock = 32;  // columns of a packed block; activations are padded to it

inline int round_up(int value, int step) { return (value + step - 1) / step * step; }

struct GeneralLinear;

struct Linear {
  Scheme scheme;
  int rows = 0;     // N, outputs
  int columns = 0;  // K, inputs
  const float* bias = nullptr;  // [N], added to every product; null for none
  MmWeights weights{};
  const MmVariant* decode = nullptr;   // for one token
  const MmVariant* prefill = nullptr;  // for more, of the same family
  const MmFamily* family = nullptr;    // whose kernels multiply it; null: the default of its scheme
  GeneralLinear* general = nullptr;    // all of it, where it is more than one matrix: then only rows and columns above count

  // Rows that are stored together: where one thread may take over from another.
  int stored_rows() const { return decode ? decode->family->rows : kRowBlock; }

  // What a product writes per token: packed rows are padded to whole blocks.
  int padded_rows() const { return scheme.is_float() ? rows : round_up(rows, kRowBlock); }
  int padded_columns() const { return round_up(columns, kColumnBlock); }
  int group() const { return scheme.group ? scheme.group : padded_columns(); }
  size_t codes_bytes() const;
  size_t weight_bytes() const;

  // Points `weights` at codes and scales in the layout of FORMAT.md section 2, or of the family of a kernel found before; `scales` is
  // null for fp16.
  void set_weights(const uint8_t* codes, const uint16_t* scales);

  // Chooses the best variants that this CPU runs, or the one called `name`; `unsupported` when there is none.
  Error find_kernels(const char* name = nullptr);
};

#endif  // BENCH_RUNTIME_LINEAR_H_
