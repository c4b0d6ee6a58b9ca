// Packs activations and multiplies them.
#include "runtime/activations.h"

#include <algorithm>

namespace {

constexpr size_t kLine = 64;

size_t round_to_line(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Bytes from one token to the next of what takes `bytes` a token: one line more, as a power of two would bring all tokens of a tile
// into the same few sets of the first cache.
size_t token_stride(size_t bytes) { return round_to_line(bytes) + kLine; }

struct Layout {
  Layout(int tokens, int columns) {
    const size_t m = size_t(tokens), k = size_t(round_up(columns, kColumnBlock));
    codes = m * token_stride(k * sizeof(uint16_t));
    scales = codes + m * token_stride(k);
    sums = scales + round_to_line(m * (k / kColumnBlock) * sizeof(float));
    end = sums + round_to_line(m * (k / kColumnBlock) * sizeof(int32_t));
  }
  size_t codes, scales, sums, end;  // offsets; the halves are at 0
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
}

}  // namespace

size_t Activations::bytes(int tokens, int columns) { return Layout(tokens, columns).end; }

void Activations::place(uint8_t* memory, int tokens, int columns) {
  const Layout layout(tokens, columns);
  halves_ = reinterpret_cast<uint16_t*>(memory);
  codes_ = reinterpret_cast<int8_t*>(memory + layout.codes);
  scales_ = reinterpret_cast<float*>(memory + layout.scales);
  sums_ = reinterpret_cast<int32_t*>(memory + layout.sums);
}

void Activations::set_input(const float* x, size_t stride, int tokens, int columns) {
  x_ = x;
  x_stride_ = stride;
  tokens_ = tokens;
  columns_ = columns;
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
    if (!halves_packed_) pack_a16(pool);
    return {halves_, token_stride(k * sizeof(uint16_t)), nullptr, 0, nullptr, 0};
  }
  if (form_ != Form(linear)) pack_codes(pool, Form(linear));
  const size_t groups = (k + linear.group() - 1) / linear.group();
  return {codes_, token_stride(k), scales_, form_.own_scales ? groups : 1, sums_, groups};
}

Activations::Form::Form(const Linear& linear)
    : bits(linear.scheme.activation_bits), group(linear.group()), own_scales(linear.scheme.activation_groups) {}

void Activations::pack_codes(Pool* pool, Form form) {
  const int k = round_up(columns_, kColumnBlock);
  const size_t stride = token_stride(size_t(k)), groups = size_t((k + form.group - 1) / form.group), scales = form.own_scales ? groups : 1;
  const auto work = [&](int member) {
    const Range rows = share(tokens_, member, tokens_ > 1 ? pool->size() : 1);
    mm_pack_a8(form.bits, rows.end - rows.begin, columns_, k, form.group, x_ + rows.begin * x_stride_, x_stride_, codes_ + rows.begin * stride, stride,
               scales_ + rows.begin * scales, scales, sums_ + rows.begin * groups, groups);
  };
  tokens_ > 1 ? pool->run(work) : work(0);
  form_ = form;
}

void Activations::pack_a16(Pool* pool) {
  const int k = round_up(columns_, kColumnBlock);
  const size_t stride = token_stride(size_t(k) * sizeof(uint16_t));
  const auto work = [&](int member) {
    const Range rows = share(tokens_, member, tokens_ > 1 ? pool->size() : 1);
    mm_pack_a16(rows.end - rows.begin, columns_, k, x_ + rows.begin * x_stride_, x_stride_, halves_ + rows.begin * stride / sizeof(uint16_t), stride);
  };
  tokens_ > 1 ? pool->run(work) : work(0);
  halves_packed_ = true;
}

void multiply(Pool* pool, Activations* activations, int tokens, int count, const Linear* const* linears, float* const* y, const size_t* strides) {
  for (int first = 0, next; first < count; first = next) {
    // The run of linears that read one packed form.
    const MmActivations input = activations->packed(pool, *linears[first]);
    for (next = first + 1; next < count && Activations::share_form(*linears[first], *linears[next]);) ++next;
    pool->run([&](int member) {
      for (int i = first; i < next; ++i) {
        const int blocks = (linears[i]->padded_rows() + linears[i]->stored_rows() - 1) / linears[i]->stored_rows();
        multiply_share(*linears[i], input, tokens, y[i], strides[i], share(blocks, member, pool->size()));
      }
    });
  }
}
