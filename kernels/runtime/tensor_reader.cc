// Reads linears in all their forms.
#include "runtime/tensor_reader.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <utility>

#include "base/half.h"
#include "mm/families/families.h"

namespace {

constexpr int kBookValues = 16;

// What follows the name of a linear that is more than one matrix of section 2.
constexpr const char* kParts[] = {".hadamard", ".order", ".factors", ".static", ".rows", ".side.begin", ".outliers.begin", ".codebook", ".levels"};

Error bad(const std::string& name, const char* what) { return error(ErrorCode::kModel, "tensor '%.64s' %s", name.c_str(), what); }

bool in_range(const int32_t* values, int count, int32_t begin, int32_t end) {
  return std::all_of(values, values + count, [=](int32_t value) { return value >= begin && value < end; });
}

// Whether pieces with these schemes can be multiplied by one packed row.
bool share_inputs(const Scheme& a, const Scheme& b, bool by_rows) {
  if (a.activation_bits != b.activation_bits || a.activation_groups != b.activation_groups) return false;
  return a.activation_bits == 16 || a.group == b.group || (!by_rows && !a.activation_groups);
}

}  // namespace

Error TensorReader::open(const uint8_t* data, size_t size) {
  if (Error failed = file.parse(data, size)) return failed;
  return read_declared();
}

Error TensorReader::floats(const std::string& name, int count, const float** out) {
  const uint8_t* bytes = nullptr;
  if (Error failed = file.tensor(name, TensorType::kF32, std::vector<uint64_t>{uint64_t(count)}, &bytes)) return failed;
  *out = reinterpret_cast<const float*>(bytes);
  ++taken_;
  return std::all_of(*out, *out + count, [](float each) { return isfinite(each); }) ? Error{} : bad(name, "is not finite");
}

Error TensorReader::norm(const std::string& name, int count, bool has_bias, Norm* out) {
  if (Error failed = floats(name + ".weight", count, &out->weight)) return failed;
  return has_bias ? floats(name + ".bias", count, &out->bias) : Error{};
}

Error TensorReader::halves(const std::string& name, int rows, int columns, const uint8_t** out) {
  ++taken_;
  return file.tensor(name, TensorType::kF16, std::vector<uint64_t>{uint64_t(columns), uint64_t(rows)}, out);
}

Error TensorReader::finite_halves(const std::string& name, uint64_t count, const uint16_t** out) {
  const uint8_t* bytes = nullptr;
  if (Error failed = file.tensor(name, TensorType::kF16, count, &bytes)) return failed;
  *out = reinterpret_cast<const uint16_t*>(bytes);
  ++taken_;
  return all_finite(*out, count) ? Error{} : bad(name, "is not finite");
}

Error TensorReader::integers(const std::string& name, int count, const int32_t** out) {
  const uint8_t* bytes = nullptr;
  Error failed = file.tensor(name, TensorType::kI32, uint64_t(count), &bytes);
  *out = reinterpret_cast<const int32_t*>(bytes);
  ++taken_;
  return failed;
}

Error TensorReader::permutation(const std::string& name, int count, const int32_t** out) {
  if (Error failed = integers(name, count, out)) return failed;
  std::vector<bool> seen(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    const int32_t value = (*out)[i];
    if (value < 0 || value >= count || seen[static_cast<size_t>(value)]) return bad(name, "is no permutation");
    seen[static_cast<size_t>(value)] = true;
  }
  return {};
}

Error TensorReader::all_taken() const {
  if (declared_taken_ != declared_.size()) {
    return error(ErrorCode::kModel, "bench.linear.names has %zu names, of which this architecture has %zu", declared_.size(), declared_taken_);
  }
  if (taken_ == file.tensors().size()) return {};
  return error(ErrorCode::kModel, "the file has %zu tensors, this architecture %zu: the others would be ignored", file.tensors().size(), taken_);
}

Error TensorReader::read_declared() {
  if (!file.has("bench.linear.names")) return {};
  std::vector<std::string_view> names, words;
  std::vector<uint32_t> rows, columns;
  if (Error failed = file.string_array("bench.linear.names", &names)) return failed;
  if (Error failed = file.string_array("bench.linear.schemes", &words)) return failed;
  if (Error failed = file.u32_array("bench.linear.rows", &rows)) return failed;
  if (Error failed = file.u32_array("bench.linear.columns", &columns)) return failed;
  if (words.size() != names.size() || rows.size() != names.size() || columns.size() != names.size()) {
    return error(ErrorCode::kModel, "the bench.linear arrays have %zu names, %zu schemes, %zu rows and %zu columns, expected one length",
                 names.size(), words.size(), rows.size(), columns.size());
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const std::optional<Scheme> scheme = Scheme::parse(words[i]);
    const std::string name(names[i].substr(0, 64));
    if (!scheme || scheme->is_float()) {
      return error(ErrorCode::kModel, "linear '%s' has scheme '%.32s', expected a word such as w4a8g128", name.c_str(), std::string(words[i]).c_str());
    }
    if (!declared_.emplace(names[i], Declared{*scheme, rows[i], columns[i]}).second) {
      return error(ErrorCode::kModel, "linear '%s' occurs twice in bench.linear.names", name.c_str());
    }
  }
  return {};
}

bool TensorReader::is_plain(const std::string& name) const {
  if (has_piece(name + ".0") && !has_piece(name)) return false;
  return std::none_of(std::begin(kParts), std::end(kParts), [&](const char* part) { return has(name + part); });
}

Error TensorReader::linear(const std::string& name, int rows, int columns, Linear* out) {
  out->rows = rows;
  out->columns = columns;
  if (has(name + ".bias")) {
    if (Error failed = floats(name + ".bias", rows, &out->bias)) return failed;
  }
  if (is_plain(name)) return matrix(name, rows, columns, out);
  GeneralLinear& own = general_->linears.emplace_back();
  out->general = &own;
  return general(name, *out, &own);
}

// One matrix of section 2, or fp16.
Error TensorReader::matrix(const std::string& name, int rows, int columns, Linear* out) {
  out->rows = rows;
  out->columns = columns;
  const auto declared = declared_.find(name);
  if (declared != declared_.end()) return packed(name, declared->second, out);
  const uint8_t* weights;
  if (Error failed = halves(name + ".weight", rows, columns, &weights)) return failed;
  out->set_weights(weights, nullptr);
  return {};
}

Error TensorReader::packed(const std::string& name, const Declared& declared, Linear* out) {
  if (declared.rows != uint32_t(out->rows) || declared.columns != uint32_t(out->columns)) {
    return error(ErrorCode::kModel, "linear '%s' is %u x %u, expected %d x %d", name.c_str(), declared.rows, declared.columns, out->rows, out->columns);
  }
  out->scheme = declared.scheme;
  const int bits = out->scheme.weight_bits, n = out->padded_rows(), k = out->padded_columns();
  const uint8_t* codes;
  const uint16_t* scales;
  if (Error failed = file.tensor(name + ".codes", TensorType::kI8, uint64_t(n) * k * bits / 8, &codes)) return failed;
  const uint64_t groups = has(name + ".levels") ? 1 : (k + out->group() - 1) / out->group();
  if (Error failed = finite_halves(name + ".scales", groups * n, &scales)) return failed;
  out->set_weights(codes, scales);
  out->weights.scales_stride = groups * kRowBlock;
  ++taken_;  // of the codes
  ++declared_taken_;
  return {};
}

Error TensorReader::general(const std::string& name, const Linear& linear, GeneralLinear* out) {
  if (has(name + ".rows")) {
    if (Error failed = permutation(name + ".rows", linear.rows, &out->rows)) return failed;
  }
  if (Error failed = pieces(name, linear, out)) return failed;
  const Scheme& scheme = out->pieces.front().linear.scheme;
  Packing own;
  own.columns = linear.columns;
  own.bits = scheme.activation_bits;
  own.own_scales = scheme.activation_groups;
  if (Error failed = packing(name, linear.columns, &own)) return failed;
  if (Error failed = side(name, linear, &own, out)) return failed;
  if (Error failed = outliers(name, linear, &own, out)) return failed;
  const bool by_columns = out->pieces.size() > 1 && !out->rows;
  for (const Piece& piece : out->pieces) {
    if (own.bits < 16 && (by_columns || own.spans.empty())) {
      own.spans.push_back({piece.column, piece.column + piece.linear.padded_columns(), piece.linear.group()});
    }
  }
  const bool changes = own.hadamard > 1 || own.order || own.factors || own.scale > 0 || own.side_inputs || own.keeps_row;
  if (by_columns || changes) out->packing = general_->intern(std::move(own));
  return {};
}

Error TensorReader::pieces(const std::string& name, const Linear& linear, GeneralLinear* out) {
  const bool by_rows = out->rows;
  if (has_piece(name)) {
    if (Error failed = piece(name, linear, by_rows, out)) return failed;
  } else {
    for (int i = 0; has_piece(name + "." + std::to_string(i)); ++i) {
      if (Error failed = piece(name + "." + std::to_string(i), linear, by_rows, out)) return failed;
    }
  }
  if (out->pieces.empty()) return error(ErrorCode::kModel, "tensor '%.64s.weight' is missing", name.c_str());
  const Linear& last = out->pieces.back().linear;
  const int covered = by_rows ? out->pieces.back().row + last.rows : out->pieces.back().column + last.columns;
  if (covered != (by_rows ? linear.rows : linear.columns)) {
    return error(ErrorCode::kModel, "the pieces of linear '%.64s' have %d %s, expected %d", name.c_str(), covered, by_rows ? "rows" : "columns",
                 by_rows ? linear.rows : linear.columns);
  }
  for (Piece& piece : out->pieces) {  // they lie where they stay
    if (piece.linear.family) piece.linear.weights.extra = &piece.extra;
  }
  return {};
}

// Rows or columns that the file says a piece has; 0 when it says nothing that could be one.
uint64_t TensorReader::extent(const std::string& name, bool by_rows) const {
  const auto declared = declared_.find(name);
  if (declared != declared_.end()) return by_rows ? declared->second.rows : declared->second.columns;
  const auto weight = file.tensors().find(name + ".weight");
  return weight == file.tensors().end() || weight->second.shape.size() != 2 ? 0 : weight->second.shape[by_rows ? 1 : 0];
}

// The next piece, which goes on where the last one ends.
Error TensorReader::piece(const std::string& name, const Linear& linear, bool by_rows, GeneralLinear* out) {
  Piece next;
  if (!out->pieces.empty()) {
    const Piece& last = out->pieces.back();
    const int step = by_rows ? kRowBlock : std::max(last.linear.scheme.group, kColumnBlock);
    if ((by_rows ? last.linear.rows : last.linear.columns) % step) return bad(name, "follows a piece that ends inside a block");
    (by_rows ? next.row : next.column) = by_rows ? last.row + last.linear.rows : last.column + last.linear.columns;
    if (!by_rows) next.sum = last.sum + (last.linear.padded_columns() + last.linear.group() - 1) / last.linear.group();
  }
  const int left = by_rows ? linear.rows - next.row : linear.columns - next.column;
  const uint64_t size = extent(name, by_rows);
  if (size == 0 || size > uint64_t(left)) return bad(name, "does not fit into its linear");
  if (Error failed = matrix(name, by_rows ? int(size) : linear.rows, by_rows ? linear.columns : int(size), &next.linear)) return failed;
  if (Error failed = meaning(name, &next)) return failed;
  if (!out->pieces.empty() && !share_inputs(out->pieces.front().linear.scheme, next.linear.scheme, by_rows)) {
    return bad(name, "differs in activation bits or groups from the first piece");
  }
  out->pieces.push_back(next);
  return {};
}

// A codebook or two levels, where codes mean such.
Error TensorReader::meaning(const std::string& name, Piece* piece) {
  const bool book = has(name + ".codebook"), levels = has(name + ".levels");
  if (!book && !levels) return {};
  Linear& linear = piece->linear;
  const Scheme& scheme = linear.scheme;
  if (scheme.weight() != 4 || scheme.activation_bits == 16 || (levels && (book || scheme.activation_groups))) {
    return bad(name, "has a codebook or levels, expected one of them, 4-bit codes and integer activations (levels: without groups)");
  }
  const uint8_t* bytes;
  if (book) {
    if (Error failed = file.tensor(name + ".codebook", TensorType::kI8, kBookValues, &bytes)) return failed;
    piece->extra.codebook = reinterpret_cast<const int8_t*>(bytes);
    if (std::count(piece->extra.codebook, piece->extra.codebook + kBookValues, -128)) return bad(name + ".codebook", "has -128");
    linear.family = &mm_family_codebook;
    ++taken_;
    return {};
  }
  const uint64_t count = mm_scales_count(linear.rows, linear.columns, linear.group());
  if (Error failed = file.tensor(name + ".levels", TensorType::kI8, count, &bytes)) return failed;
  piece->extra.level_scales = reinterpret_cast<const int8_t*>(bytes);
  if (Error failed = file.tensor(name + ".zeros", TensorType::kI8, count, &bytes)) return failed;
  piece->extra.level_zeros = bytes;
  linear.family = &mm_family_twolevel;
  taken_ += 2;
  return {};
}

Error TensorReader::packing(const std::string& name, int columns, Packing* out) {
  if (has(name + ".hadamard")) {
    const int32_t* size;
    if (Error failed = integers(name + ".hadamard", 1, &size)) return failed;
    out->hadamard = *size;
    if (*size < 2 || (*size & (*size - 1)) || columns % *size) return bad(name + ".hadamard", "is no power of two that divides the columns");
  }
  if (has(name + ".order")) {
    if (Error failed = permutation(name + ".order", columns, &out->order)) return failed;
  }
  if (has(name + ".factors")) {
    if (Error failed = floats(name + ".factors", columns, &out->factors)) return failed;
  }
  return has(name + ".static") ? fixed_scale(name + ".static", out) : Error{};
}

Error TensorReader::fixed_scale(const std::string& name, Packing* out) {
  const float* pair;
  if (Error failed = floats(name, 2, &pair)) return failed;
  if (out->bits == 16) return bad(name, "needs integer activations");
  const float scale = pair[0], zero = pair[1], most = static_cast<float>((1 << (out->bits - 1)) - 1);
  if (!(scale > 0) || !isfinite(scale) || !isfinite(1 / scale)) return bad(name, "has a scale that is not positive and finite");
  if (!(fabsf(zero) <= most) || zero != rintf(zero)) return bad(name, "has a zero that is no code");
  out->scale = scale;
  out->zero = static_cast<int>(zero);
  out->own_scales = false;
  return {};
}

Error TensorReader::side(const std::string& name, const Linear& linear, Packing* packing, GeneralLinear* out) {
  if (!has(name + ".side.begin")) return {};
  const uint64_t count = file.tensors().find(name + ".side.begin")->second.elements;
  if (count > uint64_t(kMaxColumns)) return bad(name + ".side.begin", "has too many side inputs");
  const int inputs = packing->side_inputs = static_cast<int>(count);
  if (Error failed = integers(name + ".side.begin", inputs, &packing->side_begin)) return failed;
  if (Error failed = integers(name + ".side.end", inputs, &packing->side_end)) return failed;
  for (int j = 0; j < inputs; ++j) {
    if (packing->side_begin[j] < 0 || packing->side_begin[j] >= packing->side_end[j] || packing->side_end[j] > linear.columns) {
      return bad(name + ".side.begin", "and end are no ranges of columns");
    }
  }
  return finite_halves(name + ".side.weights", uint64_t(round_up(linear.rows, kRowBlock)) * count, &out->side_weights);
}

Error TensorReader::outliers(const std::string& name, const Linear& linear, Packing* packing, GeneralLinear* out) {
  const std::string begin = name + ".outliers.begin";
  if (!has(begin)) return {};
  if (Error failed = integers(begin, linear.rows + 1, &out->outlier_begin)) return failed;
  const int32_t* rows = out->outlier_begin;
  if (rows[0] != 0 || !std::is_sorted(rows, rows + linear.rows + 1)) return bad(begin, "does not ascend from 0");
  const int count = rows[linear.rows];
  if (Error failed = integers(name + ".outliers.columns", count, &out->outlier_columns)) return failed;
  if (!in_range(out->outlier_columns, count, 0, linear.columns)) return bad(name + ".outliers.columns", "has columns that the linear has not");
  packing->keeps_row = true;
  return finite_halves(name + ".outliers.values", uint64_t(count), &out->outliers);
}
