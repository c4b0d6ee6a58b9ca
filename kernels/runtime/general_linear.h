// General linear: what a linear has besides one matrix, and what happens to its inputs (FORMAT.md section 7).
#ifndef BENCH_RUNTIME_GENERAL_LINEAR_H_
#define BENCH_RUNTIME_GENERAL_LINEAR_H_

#include <stdint.h>

#include <deque>
#include <vector>

#include "runtime/linear.h"

// Columns whose integer codes are added up group by group, for one piece or several that lie alike.
struct GroupedColumns {
  int begin, end, group;
  int groups() const { return (end - begin + group - 1) / group; }
  bool operator==(const GroupedColumns&) const = default;
};

// What a token's row becomes before it is multiplied. Pointers are null where nothing happens.
struct Packing {
  int columns = 0;
  int bits = 0;             // of activations
  bool own_scales = false;  // of every group
  int hadamard = 1;
  const int32_t* order = nullptr;   // [columns]
  const float* factors = nullptr;   // [columns]
  float scale = 0;                  // of fixed codes; 0: found for each token
  int zero = 0;
  const int32_t* side_begin = nullptr;  // [side_inputs]
  const int32_t* side_end = nullptr;
  int side_inputs = 0;
  bool keeps_row = false;  // outliers multiply the row itself
  std::vector<GroupedColumns> spans;

  int sums() const;  // of a token
  // Equal in content: what is packed for one may be multiplied by the other.
  bool operator==(const Packing& other) const;
};

struct Piece {
  Linear linear;
  MmExtra extra{};
  int column = 0;  // where its columns begin
  int row = 0;     // where its stored rows begin
  int sum = 0;     // where the sums of its groups begin, in those of a token
};

struct GeneralLinear {
  std::vector<Piece> pieces;
  const Packing* packing = nullptr;      // null: the row as it is, in the form that the only piece wants
  const int32_t* rows = nullptr;         // [N], stored row i is output rows[i]; null: it is output i
  const uint16_t* side_weights = nullptr;     // [row blocks][side_inputs][8]
  const int32_t* outlier_begin = nullptr;     // [N + 1]
  const int32_t* outlier_columns = nullptr;
  const uint16_t* outliers = nullptr;

  // Whether kernels cannot write their results where they belong.
  bool scatters() const { return pieces.size() > 1 || rows; }
};

// All general linears of a model, at addresses that stay.
struct GeneralLinears {
  std::deque<GeneralLinear> linears;
  std::deque<Packing> packings;

  const Packing* intern(Packing packing);
};

#endif  // BENCH_RUNTIME_GENERAL_LINEAR_H_
