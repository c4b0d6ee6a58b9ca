// Packs activations and multiplies them.
#include "runtime/activations.h"

#include "ops/ops.h"

namespace {

constexpr size_t kLine = 64;

size_t round_to_line(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

struct Layout {
  Layout(int tokens, int columns, int members) {
    const size_t m = size_t(tokens), k = size_t(round_up(columns, kColumnBlock));
    row_floats = round_to_line(k * sizeof(float)) / sizeof(float);
    halves = size_t(members) * row_floats * sizeof(float);
    codes = halves + round_to_line(m * k * sizeof(uint16_t));
    scales = codes + round_to_line(m * k);
    sums = scales + round_to_line(m * sizeof(float));
    end = sums + round_to_line(m * (k / kColumnBlock) * sizeof(int32_t));
  }
  size_t row_floats;
  size_t halves, codes, scales, sums, end;  // offsets; the rows are at 0
};

// One linear, the row blocks of one member of the team.
void multiply_share(const Linear& linear, const MmActivations& input, int tokens, float* y, size_t stride, Range blocks) {
  const int first = blocks.begin * kRowBlock;
  const int end = blocks.end * kRowBlock < linear.padded_rows() ? blocks.end * kRowBlock : linear.padded_rows();
  if (first >= end) return;
  const bool is_float = linear.scheme.is_float();
  const int k = linear.padded_columns();
  const MmShape shape = {tokens, end - first, is_float ? linear.columns : k, is_float ? linear.columns : linear.group()};
  MmWeights weights = linear.weights;
  weights.codes += weights.codes_stride * size_t(is_float ? first : blocks.begin);
  if (weights.scales) weights.scales += weights.scales_stride * size_t(blocks.begin);
  const MmOutput output = {y + first, stride};
  (tokens > 1 ? linear.prefill : linear.decode)->kernel(&shape, &weights, &input, &output);
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
  group_packed_ = 0;
  halves_packed_ = false;
}

MmActivations Activations::packed(Pool* pool, const Linear& linear) {
  const size_t k = size_t(linear.padded_columns());
  if (linear.scheme.activation_bits == 16) {
    if (!halves_packed_) pack(pool, linear);
    halves_packed_ = true;
    return {halves_, k * sizeof(uint16_t), nullptr, nullptr, 0};
  }
  if (group_packed_ != linear.group()) pack(pool, linear);
  group_packed_ = linear.group();
  return {codes_, k, scales_, sums_, (k + linear.group() - 1) / linear.group()};
}

// The row of a token; what is no row of memory yet is computed into the member's own.
const float* Activations::computed(int token, int member) {
  const float* x = rows_.x + size_t(token) * rows_.stride;
  float* row = row_ + size_t(member) * row_floats_;
  if (rows_.norm) {
    rmsnorm(x, rows_.norm, rows_.columns, rows_.epsilon, row);
  } else if (rows_.gate) {
    silu_multiply(rows_.gate + size_t(token) * rows_.stride, x, rows_.columns, row);
  } else {
    return x;
  }
  return row;
}

void Activations::pack(Pool* pool, const Linear& linear) {
  const int k = linear.padded_columns(), group = linear.group();
  const size_t groups = size_t((k + group - 1) / group);
  const bool as_halves = linear.scheme.activation_bits == 16;
  for_each(pool, rows_.tokens, [&](int token, int member) {
    const float* row = computed(token, member);
    const size_t at = size_t(token);
    if (as_halves) {
      quantize_a16(row, rows_.columns, k, halves_ + at * size_t(k));
    } else {
      scales_[at] = quantize_a8(row, rows_.columns, k, group, codes_ + at * size_t(k), sums_ + at * groups);
    }
  });
}

void multiply(Pool* pool, Activations* activations, int count, const Linear* const* linears, float* const* y, const size_t* strides) {
  for (int first = 0, next; first < count; first = next) {
    // The run of linears that read one packed form.
    const MmActivations input = activations->packed(pool, *linears[first]);
    for (next = first + 1; next < count && linears[next]->scheme.activation_bits == linears[first]->scheme.activation_bits; ++next) {
      if (linears[next]->scheme.activation_bits == 8 && linears[next]->group() != linears[first]->group()) break;
    }
    pool->run([&](int member) {
      for (int i = first; i < next; ++i) {
        const int blocks = (linears[i]->padded_rows() + kRowBlock - 1) / kRowBlock;
        multiply_share(*linears[i], input, activations->tokens(), y[i], strides[i], pool->share(blocks, member));
      }
    });
  }
}
