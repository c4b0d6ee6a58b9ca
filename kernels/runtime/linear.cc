// Strides and kernels of a linear.
#include "runtime/linear.h"

#include "runtime/general_linear.h"

size_t Linear::codes_bytes() const {
  if (scheme.is_float()) return 0;
  return decode ? decode->family->codes_bytes(scheme.weight(), rows, columns) : mm_codes_bytes(scheme.weight(), rows, columns);
}

size_t Linear::weight_bytes() const {
  if (scheme.is_float()) return size_t(rows) * columns * sizeof(uint16_t);
  return codes_bytes() + mm_scales_count(rows, columns, group()) * sizeof(uint16_t);
}

void Linear::set_weights(const uint8_t* codes, const uint16_t* scales) {
  weights.codes = codes;
  weights.scales = scales;
  if (scheme.is_float()) {
    weights.codes_stride = size_t(columns) * sizeof(uint16_t);
    weights.scales_stride = 0;
    return;
  }
  const int groups = (padded_columns() + group() - 1) / group();
  weights.codes_stride = decode ? decode->family->codes_bytes(scheme.weight(), stored_rows(), columns)
                                : mm_codes_bytes(scheme.weight(), kRowBlock, columns);
  weights.scales_stride = size_t(groups) * kRowBlock;
}

Error Linear::find_kernels(const char* name) {
  if (general) {
    for (Piece& piece : general->pieces) {
      if (Error failed = piece.linear.find_kernels(name)) return failed;
    }
    return {};
  }
  const auto find = [&](int m) {
    return family ? mm_find_family(family, scheme.weight(), scheme.activation_bits, m) : mm_find(scheme.weight(), scheme.activation_bits, m, name);
  };
  decode = find(1);
  prefill = find(1024);
  if (decode && prefill) return {};
  return error(ErrorCode::kUnsupported, "no kernel for %s%s%s runs on this CPU", scheme.word().c_str(), name ? " called " : "", name ? name : "");
}
