// Activations: the inputs of one or several linears in the forms that their schemes need, each form packed once.
//
// A row is computed (norm, gate) and packed in one go while it is in the first cache: what lies between is never written to memory.
// Linears that share the input (q, k, v; gate, up) share the packed form when activation bits and group agree: the sums over groups
// depend on the group, and so do the scales of `ag`.
#ifndef BENCH_RUNTIME_ACTIVATIONS_H_
#define BENCH_RUNTIME_ACTIVATIONS_H_

#include <stddef.h>
#include <stdint.h>

#include "mm/mm.h"
#include "runtime/architecture.h"
#include "runtime/linear.h"
#include "runtime/norm.h"
#include "runtime/pool.h"

// What the rows are: x itself, norm(x), or the activation of x.
struct Rows {
  const float* x;
  size_t stride;  // floats between tokens, also of `gate`
  int tokens, columns;
  Activation activation = Activation::kNone;
  const float* gate = nullptr;  // of kSiluGate
  Norm norm{};                  // without weight: none
  float epsilon = 0;
};

class Activations {
 public:
  // Bytes of memory that `place` needs for up to `tokens` rows of up to `columns`, packed by a team of `members`.
  static size_t bytes(int tokens, int columns, int members);
  // Uses `memory`, aligned to 64 bytes.
  void place(uint8_t* memory, int tokens, int columns, int members);

  // The next products read these rows. Forgets what was packed before.
  void set_input(const Rows& rows);

  int tokens() const { return rows_.tokens; }

  // Whether both read one packed form.
  static bool share_form(const Linear& a, const Linear& b);

  // The input as the linear's kernel wants it. Valid until the next call for other integer codes or the next set_input.
  MmActivations packed(Pool* pool, const Linear& linear);

 private:
  // What decides the integer codes, their scales and their sums.
  struct Form {
    Form() = default;
    explicit Form(const Linear& linear);
    bool operator==(const Form&) const = default;

    int bits = 0;
    int group = 0;
    bool own_scales = false;  // of every group
  };

  void pack_codes(Pool* pool, Form form);
  void pack_halves(Pool* pool);
  const float* computed(int token, int member);

  Rows rows_{};
  Form form_;  // of what is in codes_; without bits: nothing
  bool halves_packed_ = false;

  size_t row_floats_ = 0;       // of one member
  float* row_ = nullptr;        // [member][columns]
  uint16_t* halves_ = nullptr;  // [tokens][columns] fp16
  int8_t* codes_ = nullptr;     // [tokens][columns]
  float* scales_ = nullptr;     // [tokens] or [tokens][groups]
  int32_t* sums_ = nullptr;     // [tokens][columns / 32]
};

// y[token][row] = linear * input + bias for every token of the input, rows split over the team by blocks of 8. `linears` are multiplied
// in one go: their inputs are the same, `y[i]` has padded_rows() of linear i per token and `strides[i]` elements between tokens.
void multiply(Pool* pool, Activations* activations, int count, const Linear* const* linears, float* const* y, const size_t* strides);

#endif  // BENCH_RUNTIME_ACTIVATIONS_H_
