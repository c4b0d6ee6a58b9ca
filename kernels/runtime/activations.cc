// Packs activations and multiplies them.
#include "runtime/activations.h"

#include <algorithm>

#include "ops/ops.h"

namespace {

constexpr size_t kLine = 64;

size_t round_to_line(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Bytes from one token to the next of what takes `bytes` a token: one line more, as a power of two would bring all tokens of a tile
// into the same few sets of the first cache.
size_t token_stride(size_t bytes) { return round_to_line(bytes) + kLine; }

struct Layout {
  Layout(int tokens, int columns, int members) {
    const size_t m = size_t(tokens), k = size_t(round_up(columns, kColumnBlock));
    row_floats = round_to_line(k * sizeof(float)) / sizeof(float);
    halves = size_t(members) * row_floats * sizeof(float);
    codes = halves + m * token_stride(k * sizeof(uint16_t));
    scales = codes + m * token_stride(k);
    sums = scales + round_to_line(m * (k / kColumnBlock) * sizeof(float));
    end = sums + round_to_line(m * (k / kColumnBlock) * sizeof(int32_t));
  }
  size_t row_floats;
  size_t halves, codes, scales, sums, end;  // offsets; the rows are at 0
};

// One linear, the stored blocks of rows of one member of the team.
void multiply_share(const Linear& linear, const MmActivations& input, int tokens, float* y, size_t stride, Range blocks) {
  const int first = blocks.begin * linear.stored_rows();
  const int end = std::min(blocks.end * linear.stored_rows(), linear.padded_rows());
  if (first >= end) return;
  const bool is_float = linear.scheme.is_float();
  const int k = linear.padded_columns();
  const MmShape shape = {tokens, end - first, is_float ? linear.columns : k, is_float ? linear.columns : linear.group()};
  MmWeights weights = linear.weights;
  weights.codes += weights.codes_stride * size_t(is_float ? first : blocks.begin);
  if (weights.scales) weights.scales += weights.scales_stride * size_t(first / kRowBlock);
  weights.first_row = first;
  const MmOutput output = {y + first, stride};
  (tokens > 1 ? linear.prefill : linear.decode)->kernel(&shape, &weights, &input, &output);
  if (!linear.bias) return;
  for (int i = 0; i < tokens; ++i) add(y + size_t(i) * stride + first, linear.bias + first, std::min(end, linear.rows) - first);
}

}  // namespace

size_t Activations::bytes(int tokens, int columns, int members) { return Layout(tokens, columns, members).end; }

void Activations::place(uint8_t* memory, int tokens, int columns, int members) {
  const Layout layout(tokens, columns, members);
  row_floats_ = layout.row_floats;
  row_ = reinterpret_cast<float*>(memory);
  halves_ = reinterpret_cast<uint16_t*>(memory + layout.halves);
  codes_ = reinterpret_cast<int8_t*>(memory + layout.codes);
  scales_ = reinterpret_cast<float*>(memory + layout.scales);
  sums_ = reinterpret_cast<int32_t*>(memory + layout.sums);
}

void Activations::set_input(const Rows& rows) {
  rows_ = rows;
  form_ = {};
  halves_packed_ = false;
}

bool Activations::share_form(const Linear& a, const Linear& b) {
  const bool halves = a.scheme.activation_bits == 16;
  return halves ? b.scheme.activation_bits == 16 : Form(a) == Form(b);
}

MmActivations Activations::packed(Pool* pool, const Linear& linear) {
  const size_t k = size_t(linear.padded_columns());
  if (linear.scheme.activation_bits == 16) {
    if (!halves_packed_) pack_halves(pool);
    return {halves_, token_stride(k * sizeof(uint16_t)), nullptr, 0, nullptr, 0};
  }
  if (form_ != Form(linear)) pack_codes(pool, Form(linear));
  const size_t groups = (k + linear.group() - 1) / linear.group();
  return {codes_, token_stride(k), scales_, form_.own_scales ? groups : 1, sums_, groups};
}

// The row of a token; what is no row of memory yet is computed into the member's own.
const float* Activations::computed(int token, int member) {
  const float* x = rows_.x + size_t(token) * rows_.stride;
  float* row = row_ + size_t(member) * row_floats_;
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

Activations::Form::Form(const Linear& linear)
    : bits(linear.scheme.activation_bits), group(linear.group()), own_scales(linear.scheme.activation_groups) {}

void Activations::pack_codes(Pool* pool, Form form) {
  const int k = round_up(rows_.columns, kColumnBlock);
  const size_t stride = token_stride(size_t(k)), groups = size_t((k + form.group - 1) / form.group), scales = form.own_scales ? groups : 1;
  for_each(pool, rows_.tokens, [&](int token, int member) {
    const size_t at = size_t(token);
    quantize_codes(computed(token, member), rows_.columns, k, form.bits, form.group, form.own_scales, codes_ + at * stride, scales_ + at * scales,
                   sums_ + at * groups);
  });
  form_ = form;
}

void Activations::pack_halves(Pool* pool) {
  const int k = round_up(rows_.columns, kColumnBlock);
  const size_t stride = token_stride(size_t(k) * sizeof(uint16_t)) / sizeof(uint16_t);
  for_each(pool, rows_.tokens, [&](int token, int member) {
    quantize_a16(computed(token, member), rows_.columns, k, halves_ + size_t(token) * stride);
  });
  halves_packed_ = true;
}

void multiply(Pool* pool, Activations* activations, int count, const Linear* const* linears, float* const* y, const size_t* strides) {
  for (int first = 0, next; first < count; first = next) {
    // The run of linears that read one packed form.
    const MmActivations input = activations->packed(pool, *linears[first]);
    for (next = first + 1; next < count && Activations::share_form(*linears[first], *linears[next]);) ++next;
    pool->run([&](int member) {
      for (int i = first; i < next; ++i) {
        const int blocks = (linears[i]->padded_rows() + linears[i]->stored_rows() - 1) / linears[i]->stored_rows();
        multiply_share(*linears[i], input, activations->tokens(), y[i], strides[i], pool->share(blocks, member));
      }
    });
  }
}
