// Every member of the team multiplies its own rows; what a general linear adds to them follows at once.
#include "runtime/multiply.h"

#include <algorithm>

#include "ops/ops.h"

namespace {

struct Output {
  float* data;
  size_t stride;
  float* row(int token) const { return data + size_t(token) * stride; }
};

// Rows [first, end) of one matrix, `first` at a block, into y[token][0..].
void multiply_rows(const Linear& linear, const MmActivations& input, int tokens, int first, int end, Output y) {
  const bool is_float = linear.scheme.is_float();
  const int k = linear.padded_columns(), rows = is_float ? std::min(end, linear.rows) - first : round_up(end - first, kRowBlock);
  if (rows <= 0) return;
  const MmShape shape = {tokens, rows, is_float ? linear.columns : k, is_float ? linear.columns : linear.group()};
  MmWeights weights = linear.weights;
  weights.codes += weights.codes_stride * size_t(is_float ? first : first / linear.stored_rows());
  if (weights.scales) weights.scales += weights.scales_stride * size_t(first / kRowBlock);
  weights.first_row = first;
  const MmOutput output = {y.data, y.stride};
  (tokens > 1 ? linear.prefill : linear.decode)->kernel(&shape, &weights, &input, &output);
}

// The member's rows of a matrix, whole blocks.
Range own_rows(const Pool& pool, const Linear& linear, int member) {
  const int step = linear.stored_rows(), rows = linear.padded_rows();
  const Range blocks = pool.share((rows + step - 1) / step, member);
  return {std::min(blocks.begin * step, rows), std::min(blocks.end * step, rows)};
}

void multiply_plain(const Linear& linear, const MmActivations& input, int tokens, Range own, Output y) {
  if (own.begin >= own.end) return;
  multiply_rows(linear, input, tokens, own.begin, own.end, {y.data + own.begin, y.stride});
  if (!linear.bias) return;
  for (int t = 0; t < tokens; ++t) add(y.row(t) + own.begin, linear.bias + own.begin, std::min(own.end, linear.rows) - own.begin);
}

// A general linear times the packed rows of the activations.
class General {
 public:
  General(const Linear& linear, const Activations& activations, const MmActivations& input, Output y)
      : linear_(linear), general_(*linear.general), activations_(activations), input_(input), y_(y) {}

  void products(const Pool& pool, int member) const {
    const Linear& first = general_.pieces.front().linear;
    if (general_.rows) {
      for (const Piece& piece : general_.pieces) scatter(piece, own_rows(pool, piece.linear, member), member);
      return;
    }
    const Range own = own_rows(pool, first, member);
    if (own.begin >= own.end) return;
    multiply_rows(first, columns_of(general_.pieces.front()), tokens(), own.begin, own.end, {y_.data + own.begin, y_.stride});
    for (size_t i = 1; i < general_.pieces.size(); ++i) add_piece(general_.pieces[i], own, member);
    add_rest(own);
  }

  // What other members have scattered must be there before more is added to it.
  bool has_second_part() const { return general_.rows && (side_inputs() || general_.outliers || linear_.bias); }

  void second_part(const Pool& pool, int member) const {
    const Range blocks = pool.share(round_up(linear_.rows, kRowBlock) / kRowBlock, member);
    add_rest({blocks.begin * kRowBlock, blocks.end * kRowBlock});
  }

 private:
  static constexpr int kScratch = Activations::kScratchRows;

  int tokens() const { return activations_.tokens(); }
  int side_inputs() const { return general_.side_weights ? general_.packing->side_inputs : 0; }

  // The packed inputs from the columns of a piece on.
  MmActivations columns_of(const Piece& piece) const {
    MmActivations input = input_;
    const bool halves = piece.linear.scheme.activation_bits == 16;
    input.data = static_cast<const uint8_t*>(input.data) + size_t(piece.column) * (halves ? sizeof(uint16_t) : 1);
    if (halves) return input;
    input.sums += piece.sum;
    if (input.scales_stride > 1) input.scales += piece.column / piece.linear.group();
    return input;
  }

  // Calls work(first, count, results [token][kScratch]) for every few rows of a piece.
  template <typename Work>
  void in_parts(const Piece& piece, Range own, int member, const Work& work) const {
    const Output scratch = {activations_.scratch(member), kScratch};
    for (int first = own.begin; first < own.end; first += kScratch) {
      const int end = std::min(first + kScratch, own.end);
      multiply_rows(piece.linear, columns_of(piece), tokens(), first, end, scratch);
      work(first, end - first, scratch);
    }
  }

  void add_piece(const Piece& piece, Range own, int member) const {
    in_parts(piece, own, member, [&](int first, int count, Output results) {
      for (int t = 0; t < tokens(); ++t) add(y_.row(t) + first, results.row(t), count);
    });
  }

  void scatter(const Piece& piece, Range own, int member) const {
    in_parts(piece, own, member, [&](int first, int count, Output results) {
      const int32_t* to = general_.rows + piece.row + first;
      count = std::min(count, piece.linear.rows - first);
      for (int t = 0; t < tokens(); ++t)
        for (int i = 0; i < count; ++i) y_.row(t)[to[i]] = results.row(t)[i];
    });
  }

  // Side inputs, outliers and bias of outputs that are whole blocks, up to the last row.
  void add_rest(Range own) const {
    const int end = std::min(own.end, linear_.rows), side = side_inputs();
    if (own.begin >= end) return;
    const uint16_t* weights = general_.side_weights + size_t(own.begin) * size_t(side);
    for (int t = 0; t < tokens(); ++t) {
      float* y = y_.row(t);
      if (side) add_side(activations_.side(t), side, weights, (end - own.begin + kRowBlock - 1) / kRowBlock, y + own.begin);
      if (general_.outliers) add_outliers(activations_.row(t), own.begin, end, y);
      if (linear_.bias) add(y + own.begin, linear_.bias + own.begin, end - own.begin);
    }
  }

  void add_outliers(const float* row, int first, int end, float* y) const {
    for (int n = first; n < end; ++n) {
      const int32_t begin = general_.outlier_begin[n], count = general_.outlier_begin[n + 1] - begin;
      if (count) y[n] += sparse_dot(row, general_.outlier_columns + begin, general_.outliers + begin, count);
    }
  }

  const Linear& linear_;
  const GeneralLinear& general_;
  const Activations& activations_;
  const MmActivations& input_;
  const Output y_;
};

}  // namespace

void multiply(Pool* pool, Activations* activations, int count, const Linear* const* linears, float* const* y, const size_t* strides) {
  for (int first = 0, next; first < count; first = next) {
    // The run of linears that read one packed form.
    const MmActivations input = activations->packed(pool, *linears[first]);
    for (next = first + 1; next < count && Activations::share_form(*linears[first], *linears[next]);) ++next;
    const auto general = [&](int i) { return General(*linears[i], *activations, input, {y[i], strides[i]}); };
    pool->run([&](int member) {
      for (int i = first; i < next; ++i) {
        if (linears[i]->general) {
          general(i).products(*pool, member);
          continue;
        }
        multiply_plain(*linears[i], input, activations->tokens(), own_rows(*pool, *linears[i], member), {y[i], strides[i]});
      }
    });
    for (int i = first; i < next; ++i) {
      if (!linears[i]->general || !general(i).has_second_part()) continue;
      pool->run([&](int member) { general(i).second_part(*pool, member); });
    }
  }
}
