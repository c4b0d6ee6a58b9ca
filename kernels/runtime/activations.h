// Activations: the inputs of one or several linears in the forms that their schemes need, each form packed once.
//
// A row is computed (norm, gate), rotated, ordered and packed in one go while it is in the first cache: what lies between is never
// written to memory, but for the row itself where outliers multiply it (FORMAT.md section 7).
// Linears that share the input (q, k, v; gate, up) share the packed form when what is done to the row, activation bits and group agree:
// the sums over groups depend on the group, and so do the scales of `ag`.
#ifndef BENCH_RUNTIME_ACTIVATIONS_H_
#define BENCH_RUNTIME_ACTIVATIONS_H_

#include <stddef.h>
#include <stdint.h>

#include "mm/mm.h"
#include "runtime/architecture.h"
#include "runtime/general_linear.h"
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
  // How much memory is needed: up to `tokens` rows of up to `columns`, packed by a team of `members`.
  struct Size {
    int tokens, columns, members;
    bool keeps_rows = false;  // what general linears need besides
    int side_inputs = 0;
    bool scatters = false;

    // What the linears of a model need.
    void make_room_for(const GeneralLinears& linears);
  };

  static size_t bytes(const Size& size);
  // Uses `memory`, aligned to 64 bytes.
  void place(uint8_t* memory, const Size& size);

  // The next products read these rows. Forgets what was packed before.
  void set_input(const Rows& rows);

  int tokens() const { return rows_.tokens; }

  // Whether both read one packed form.
  static bool share_form(const Linear& a, const Linear& b);

  // The input as the linear's kernel wants it. Valid until the next call for other integer codes or the next set_input.
  MmActivations packed(Pool* pool, const Linear& linear);

  // Of what was packed last, for general linears: the row before factors, and the side inputs of a token.
  const float* row(int token) const { return kept_ + size_t(token) * row_floats_; }
  const float* side(int token) const { return side_ + size_t(token) * size_t(size_.side_inputs); }

  // Room for the results of kernels of one member: [tokens][kScratchRows].
  static constexpr int kScratchRows = 64;
  float* scratch(int member) const { return scratch_ + size_t(member) * size_t(size_.tokens) * kScratchRows; }

 private:
  // What decides the packed rows, their scales and their sums: a packing, or what a plain linear wants.
  struct Form {
    Form() = default;
    explicit Form(const Linear& linear);
    bool operator==(const Form&) const = default;
    size_t sums(int columns) const;  // of a token of so many padded columns
    size_t scales(int columns) const;

    const Packing* packing = nullptr;
    int bits = 0;
    int group = 0;            // of plain integer codes
    bool own_scales = false;  // of every group
  };

  void pack_codes(Pool* pool, Form form);
  void pack_halves(Pool* pool, Form form);
  void pack_plain(const Form& form, const float* x, int token);
  void pack_spans(const Packing& packing, const float* x, int token);
  const float* computed(int token, int member);
  const float* prepared(const Form& form, int token, int member);
  void add_up_side(const Packing& packing, const float* row, int token);

  Size size_{};
  Rows rows_{};
  Form form_;         // of what is in codes_; without bits: nothing
  Form halves_form_;  // of what is in halves_

  size_t row_floats_ = 0;       // of one member
  float* row_ = nullptr;        // [member][2][columns]
  uint16_t* halves_ = nullptr;  // [tokens][columns] fp16
  int8_t* codes_ = nullptr;     // [tokens][columns]
  float* scales_ = nullptr;     // [tokens] or [tokens][groups]
  int32_t* sums_ = nullptr;     // [tokens][columns / 32]
  float* kept_ = nullptr;       // [tokens][columns]
  float* side_ = nullptr;       // [tokens][side inputs]
  float* scratch_ = nullptr;    // [member][tokens][kScratchRows]
};

#endif  // BENCH_RUNTIME_ACTIVATIONS_H_
