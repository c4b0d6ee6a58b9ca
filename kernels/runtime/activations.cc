// Packs activations.
#include "runtime/activations.h"

#include <string.h>

#include <algorithm>

#include "ops/ops.h"

namespace {

constexpr size_t kLine = 64;

size_t round_to_line(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Bytes from one token to the next of what takes `bytes` a token: one line more, as a power of two would bring all tokens of a tile
// into the same few sets of the first cache.
size_t token_stride(size_t bytes) { return round_to_line(bytes) + kLine; }

struct Layout {
  explicit Layout(const Activations::Size& size) {
    const size_t m = size_t(size.tokens), k = size_t(round_up(size.columns, kColumnBlock)), members = size_t(size.members);
    row_floats = round_to_line(k * sizeof(float)) / sizeof(float);
    const size_t row = row_floats * sizeof(float);
    halves = members * 2 * row;
    codes = halves + m * token_stride(k * sizeof(uint16_t));
    scales = codes + m * token_stride(k);
    sums = scales + round_to_line(m * (k / kColumnBlock) * sizeof(float));
    kept = sums + round_to_line(m * (k / kColumnBlock) * sizeof(int32_t));
    side = kept + (size.keeps_rows ? m * row : 0);
    scratch = side + round_to_line(m * size_t(size.side_inputs) * sizeof(float));
    end = scratch + (size.scatters ? members * m * Activations::kScratchRows * sizeof(float) : 0);
  }
  size_t row_floats;
  size_t halves, codes, scales, sums, kept, side, scratch, end;  // offsets; the rows are at 0
};

}  // namespace

void Activations::Size::make_room_for(const GeneralLinears& linears) {
  for (const Packing& packing : linears.packings) {
    keeps_rows |= packing.keeps_row;
    side_inputs = std::max(side_inputs, packing.side_inputs);
  }
  for (const GeneralLinear& linear : linears.linears) scatters |= linear.scatters();
}

size_t Activations::bytes(const Size& size) { return Layout(size).end; }

void Activations::place(uint8_t* memory, const Size& size) {
  const Layout layout(size);
  size_ = size;
  row_floats_ = layout.row_floats;
  row_ = reinterpret_cast<float*>(memory);
  halves_ = reinterpret_cast<uint16_t*>(memory + layout.halves);
  codes_ = reinterpret_cast<int8_t*>(memory + layout.codes);
  scales_ = reinterpret_cast<float*>(memory + layout.scales);
  sums_ = reinterpret_cast<int32_t*>(memory + layout.sums);
  kept_ = reinterpret_cast<float*>(memory + layout.kept);
  side_ = reinterpret_cast<float*>(memory + layout.side);
  scratch_ = reinterpret_cast<float*>(memory + layout.scratch);
}

void Activations::set_input(const Rows& rows) {
  rows_ = rows;
  form_ = {};
  halves_form_ = {};
}

bool Activations::share_form(const Linear& a, const Linear& b) { return Form(a) == Form(b); }

MmActivations Activations::packed(Pool* pool, const Linear& linear) {
  const Form form(linear);
  const size_t k = size_t(linear.padded_columns());
  if (form.bits == 16) {
    if (halves_form_ != form) pack_halves(pool, form);
    return {halves_, token_stride(k * sizeof(uint16_t)), nullptr, 0, nullptr, 0};
  }
  if (form_ != form) pack_codes(pool, form);
  const size_t sums = form.sums(int(k)), scales = form.scales(int(k));
  return {codes_, token_stride(k), scales_, scales, sums_, sums};
}

// The row of a token; what is no row of memory yet is computed into the member's own.
const float* Activations::computed(int token, int member) {
  const float* x = rows_.x + size_t(token) * rows_.stride;
  float* row = row_ + size_t(member) * 2 * row_floats_;
  if (rows_.norm.weight) {
    rows_.norm.apply(x, rows_.columns, rows_.epsilon, row);
    return row;
  }
  switch (rows_.activation) {
    case Activation::kNone: return x;
    case Activation::kSiluGate: silu_multiply(rows_.gate + size_t(token) * rows_.stride, x, rows_.columns, row); break;
    case Activation::kRelu: relu(x, rows_.columns, row); break;
    case Activation::kGelu: gelu(x, rows_.columns, row); break;
  }
  return row;
}

// The row as it is rounded: rotated, ordered, scaled. What side inputs and outliers need of it is kept.
const float* Activations::prepared(const Form& form, int token, int member) {
  const float* x = computed(token, member);
  if (!form.packing) return x;
  const Packing& packing = *form.packing;
  const int k = rows_.columns;
  float* own = row_ + size_t(member) * 2 * row_floats_;
  if (packing.hadamard > 1) {
    if (x != own) memcpy(own, x, size_t(k) * sizeof(float));
    hadamard(own, k, packing.hadamard);
    x = own;
  }
  float* row = packing.keeps_row ? kept_ + size_t(token) * row_floats_ : own + row_floats_;
  for (int i = 0; i < k; ++i) row[i] = x[packing.order ? packing.order[i] : i];
  add_up_side(packing, row, token);
  if (!packing.factors) return row;
  for (int i = 0; i < k; ++i) own[i] = row[i] * packing.factors[i];
  return own;
}

void Activations::add_up_side(const Packing& packing, const float* row, int token) {
  float* side = side_ + size_t(token) * size_t(size_.side_inputs);
  for (int j = 0; j < packing.side_inputs; ++j) {
    float sum = 0;
    for (int i = packing.side_begin[j]; i < packing.side_end[j]; ++i) sum += row[i];
    side[j] = sum;
  }
}

Activations::Form::Form(const Linear& linear) {
  if (linear.general && linear.general->packing) {
    packing = linear.general->packing;
    bits = packing->bits;
    own_scales = packing->own_scales;
    return;
  }
  const Linear& plain = linear.general ? linear.general->pieces.front().linear : linear;
  bits = plain.scheme.activation_bits;
  if (bits == 16) return;
  group = plain.group();
  own_scales = plain.scheme.activation_groups;
}

size_t Activations::Form::sums(int columns) const { return packing ? size_t(packing->sums()) : size_t((columns + group - 1) / group); }

size_t Activations::Form::scales(int columns) const {
  if (!own_scales) return 1;
  const int width = packing ? packing->spans.front().group : group;
  return size_t((columns + width - 1) / width);
}

void Activations::pack_codes(Pool* pool, Form form) {
  for_each(pool, rows_.tokens, [&](int token, int member) {
    const float* x = prepared(form, token, member);
    form.packing ? pack_spans(*form.packing, x, token) : pack_plain(form, x, token);
  });
  form_ = form;
  if (form.packing) halves_form_ = {};  // what it kept of the rows is gone
}

void Activations::pack_plain(const Form& form, const float* x, int token) {
  const int k = round_up(rows_.columns, kColumnBlock);
  const size_t at = size_t(token), groups = form.sums(k), scales = form.scales(k);
  quantize_codes(x, rows_.columns, k, form.bits, form.group, form.own_scales, codes_ + at * token_stride(size_t(k)), scales_ + at * scales,
                 sums_ + at * groups);
}

void Activations::pack_spans(const Packing& packing, const float* x, int token) {
  const int k = round_up(rows_.columns, kColumnBlock);
  const int width = packing.own_scales ? packing.spans.front().group : k;
  const size_t at = size_t(token), groups = size_t((k + width - 1) / width);
  int8_t* codes = codes_ + at * token_stride(size_t(k));
  float* scales = scales_ + at * (packing.own_scales ? groups : 1);
  int32_t* sums = sums_ + at * size_t(packing.sums());
  if (packing.scale > 0) {
    fixed_codes(x, rows_.columns, k, packing.bits, packing.scale, packing.zero, codes);
    *scales = packing.scale;
  } else {
    quantize_codes(x, rows_.columns, k, packing.bits, width, packing.own_scales, codes, scales, sums);
  }
  for (const GroupedColumns& span : packing.spans) {
    group_sums(codes + span.begin, span.end - span.begin, span.group, sums);
    sums += span.groups();
  }
}

void Activations::pack_halves(Pool* pool, Form form) {
  const int k = round_up(rows_.columns, kColumnBlock);
  const size_t stride = token_stride(size_t(k) * sizeof(uint16_t)) / sizeof(uint16_t);
  for_each(pool, rows_.tokens, [&](int token, int member) {
    quantize_a16(prepared(form, token, member), rows_.columns, k, halves_ + size_t(token) * stride);
  });
  halves_form_ = form;
  if (form.packing) form_ = {};
}
