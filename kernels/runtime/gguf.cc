// Parses GGUF v3: "GGUF", u32 version, u64 tensors, u64 keys, the keys, the tensor directory, padding, tensor data.
#include "runtime/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include <algorithm>
#include <iterator>

namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kAlignment = 64;     // FORMAT.md section 1
constexpr uint64_t kMaxKeys = 65536;    // far above any model; bounds the size of the directory in memory
constexpr uint64_t kMaxTensors = 65536;
constexpr uint64_t kMaxName = 256;      // bytes of a key or a tensor name
constexpr uint32_t kMaxDimensions = 4;  // ggml's GGML_MAX_DIMS

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 64)) + "'"; }

// Walks the bytes. After the first read beyond the end everything reads as zero and `cut()` is true.
class Cursor {
 public:
  Cursor(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool skip(uint64_t bytes) {
    if (cut_ || bytes > size_ - position_) {
      cut_ = true;
      return false;
    }
    position_ += static_cast<size_t>(bytes);
    return true;
  }

  template <typename T>
  T read() {
    T value{};
    const uint8_t* from = here();
    if (skip(sizeof(T))) memcpy(&value, from, sizeof(T));
    return value;
  }

  std::string_view string() {
    const uint64_t length = read<uint64_t>();
    const uint8_t* from = here();
    return skip(length) ? std::string_view(reinterpret_cast<const char*>(from), static_cast<size_t>(length)) : "";
  }

  const uint8_t* here() const { return data_ + position_; }
  size_t position() const { return position_; }
  bool cut() const { return cut_; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t position_ = 0;
  bool cut_ = false;
};

Error truncated(const Cursor& cursor, const char* inside) {
  return error(ErrorCode::kModel, "the file ends inside its %s, after byte %zu", inside, cursor.position());
}

// Bytes of one value; 0 for strings and arrays (no fixed size) and for unknown types.
uint64_t value_bytes(GgufType type) {
  static constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto index = static_cast<uint32_t>(type);
  return index < std::size(kBytes) ? kBytes[index] : 0;
}

uint64_t element_bytes(TensorType type) {
  switch (type) {
    case TensorType::kF32: return 4;
    case TensorType::kF16: return 2;
    case TensorType::kI8: return 1;
    case TensorType::kI32: return 4;
  }
  return 0;
}

Error skip_values(Cursor* cursor, std::string_view key, const GgufValue& value) {
  if (value.type == GgufType::kString) {
    for (uint64_t i = 0; i < value.count && !cursor->cut(); ++i) cursor->string();
    return {};
  }
  const uint64_t bytes = value_bytes(value.type);
  if (bytes == 0) {
    return error(ErrorCode::kModel, "key %s has value type %u, expected one of 0-8 and 10-12", quoted(key).c_str(),
                 static_cast<uint32_t>(value.type));
  }
  if (value.count > UINT64_MAX / bytes) {
    return error(ErrorCode::kModel, "key %s claims %" PRIu64 " values", quoted(key).c_str(), value.count);
  }
  cursor->skip(value.count * bytes);
  return {};
}

Error read_value(Cursor* cursor, std::string_view key, GgufValue* value) {
  value->type = static_cast<GgufType>(cursor->read<uint32_t>());
  value->is_array = value->type == GgufType::kArray;
  value->count = 1;
  if (value->is_array) {
    value->type = static_cast<GgufType>(cursor->read<uint32_t>());
    value->count = cursor->read<uint64_t>();
  }
  value->bytes = cursor->here();
  return cursor->cut() ? Error{} : skip_values(cursor, key, *value);
}

Error check_name(std::string_view name, const char* what) {
  if (!name.empty() && name.size() <= kMaxName) return {};
  return error(ErrorCode::kModel, "a %s of %zu bytes, expected 1 to %" PRIu64, what, name.size(), kMaxName);
}

Error read_shape(Cursor* cursor, std::string_view name, GgufTensor* tensor) {
  const uint32_t dimensions = cursor->read<uint32_t>();
  if (!cursor->cut() && (dimensions == 0 || dimensions > kMaxDimensions)) {
    return error(ErrorCode::kModel, "tensor %s has %u dimensions, expected 1 to %u", quoted(name).c_str(), dimensions, kMaxDimensions);
  }
  tensor->elements = 1;
  for (uint32_t i = 0; i < dimensions && !cursor->cut(); ++i) {
    const uint64_t length = cursor->read<uint64_t>();
    if (!cursor->cut() && (length == 0 || __builtin_mul_overflow(tensor->elements, length, &tensor->elements))) {
      return error(ErrorCode::kModel, "tensor %s has a dimension of %" PRIu64, quoted(name).c_str(), length);
    }
    tensor->shape.push_back(length);
  }
  return {};
}

// Reads a directory entry; `offset` is relative to the start of the tensor data.
Error read_tensor(Cursor* cursor, std::string_view name, GgufTensor* tensor, uint64_t* offset) {
  if (Error failed = read_shape(cursor, name, tensor)) return failed;
  tensor->type = static_cast<TensorType>(cursor->read<uint32_t>());
  *offset = cursor->read<uint64_t>();
  if (cursor->cut()) return {};
  const uint64_t bytes = element_bytes(tensor->type);
  if (bytes == 0) {
    return error(ErrorCode::kModel, "tensor %s has ggml type %u, expected 0 (F32), 1 (F16) or 24 (I8)", quoted(name).c_str(),
                 static_cast<uint32_t>(tensor->type));
  }
  if (*offset % kAlignment) {
    return error(ErrorCode::kModel, "tensor %s has offset %" PRIu64 ", expected a multiple of %" PRIu64, quoted(name).c_str(), *offset,
                 kAlignment);
  }
  if (__builtin_mul_overflow(tensor->elements, bytes, &tensor->size)) {
    return error(ErrorCode::kModel, "tensor %s claims %" PRIu64 " elements", quoted(name).c_str(), tensor->elements);
  }
  return {};
}

// Two tensors in the same bytes mean that a writer or a disk went wrong.
Error check_overlap(const std::map<std::string_view, GgufTensor, std::less<>>& tensors) {
  std::vector<std::pair<const uint8_t*, std::string_view>> order;
  for (const auto& [name, tensor] : tensors) order.emplace_back(tensor.data, name);
  std::sort(order.begin(), order.end());
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor& before = tensors.find(order[i - 1].second)->second;
    if (before.data + before.size > order[i].first) {
      return error(ErrorCode::kModel, "tensors %s and %s overlap", quoted(order[i - 1].second).c_str(), quoted(order[i].second).c_str());
    }
  }
  return {};
}

const char* type_name(TensorType type) {
  switch (type) {
    case TensorType::kF32: return "F32";
    case TensorType::kF16: return "F16";
    case TensorType::kI8: return "I8";
    case TensorType::kI32: return "I32";
  }
  return "?";
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (const uint64_t length : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(length);
  return text + "]";
}

}  // namespace

Error Gguf::parse(const uint8_t* data, size_t size) {
  Cursor cursor(data, size);
  if (size < 4 || memcmp(data, "GGUF", 4) != 0) {
    return error(ErrorCode::kModel, "no GGUF file: expected the bytes 'GGUF' at its start");
  }
  cursor.skip(4);
  const auto version = cursor.read<uint32_t>();
  const auto tensor_count = cursor.read<uint64_t>();
  const auto key_count = cursor.read<uint64_t>();
  if (cursor.cut()) return truncated(cursor, "header");
  if (version != kVersion) return error(ErrorCode::kModel, "GGUF version %u, expected %u", version, kVersion);
  if (tensor_count > kMaxTensors || key_count > kMaxKeys) {
    return error(ErrorCode::kModel, "%" PRIu64 " tensors and %" PRIu64 " keys, expected at most %" PRIu64 " of each", tensor_count, key_count,
                 kMaxTensors);
  }

  for (uint64_t i = 0; i < key_count; ++i) {
    const std::string_view key = cursor.string();
    GgufValue value;
    if (Error failed = read_value(&cursor, key, &value)) return failed;
    if (cursor.cut()) return truncated(cursor, "keys");
    if (Error failed = check_name(key, "key")) return failed;
    if (!values_.emplace(key, value).second) return error(ErrorCode::kModel, "key %s occurs twice", quoted(key).c_str());
  }
  uint32_t alignment;
  if (Error failed = u32("general.alignment", kAlignment, kAlignment, &alignment)) return failed;

  std::vector<std::pair<GgufTensor*, uint64_t>> offsets;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    const std::string_view name = cursor.string();
    GgufTensor tensor;
    uint64_t offset;
    if (Error failed = read_tensor(&cursor, name, &tensor, &offset)) return failed;
    if (cursor.cut()) return truncated(cursor, "tensor directory");
    if (Error failed = check_name(name, "tensor name")) return failed;
    const auto [entry, is_new] = tensors_.emplace(name, std::move(tensor));
    if (!is_new) return error(ErrorCode::kModel, "tensor %s occurs twice", quoted(name).c_str());
    offsets.emplace_back(&entry->second, offset);
  }

  const uint64_t start = (cursor.position() + kAlignment - 1) / kAlignment * kAlignment;
  for (const auto& [tensor, offset] : offsets) {
    if (start > size || offset > size - start || tensor->size > size - start - offset) {
      return error(ErrorCode::kModel, "the file has %zu bytes, but a tensor of %" PRIu64 " bytes starts at byte %" PRIu64 " of its data (truncated?)",
                   size, tensor->size, offset);
    }
    tensor->data = data + start + offset;
  }
  return check_overlap(tensors_);
}

Error Gguf::find(const char* key, GgufType type, bool is_array, const GgufValue** out) const {
  const auto entry = values_.find(key);
  if (entry == values_.end()) return error(ErrorCode::kModel, "key '%s' is missing", key);
  const GgufValue& value = entry->second;
  if (value.type != type || value.is_array != is_array) {
    return error(ErrorCode::kModel, "key '%s' is %s GGUF type %u, expected %s type %u", key, value.is_array ? "an array of" : "of",
                 static_cast<uint32_t>(value.type), is_array ? "an array of" : "a single value of", static_cast<uint32_t>(type));
  }
  if (value.count > kMaxTensors) {
    return error(ErrorCode::kModel, "key '%s' has %" PRIu64 " values, expected at most %" PRIu64, key, value.count, kMaxTensors);
  }
  *out = &value;
  return {};
}

Error Gguf::u32(const char* key, uint32_t minimum, uint32_t maximum, uint32_t* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kU32, false, &value)) return failed;
  memcpy(out, value->bytes, sizeof *out);
  if (*out >= minimum && *out <= maximum) return {};
  return error(ErrorCode::kModel, "key '%s' is %u, expected %u to %u", key, *out, minimum, maximum);
}

Error Gguf::f32(const char* key, float* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kF32, false, &value)) return failed;
  memcpy(out, value->bytes, sizeof *out);
  if (isfinite(*out) && *out > 0) return {};
  return error(ErrorCode::kModel, "key '%s' is %g, expected a positive number", key, static_cast<double>(*out));
}

Error Gguf::string(const char* key, std::string_view* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kString, false, &value)) return failed;
  uint64_t length;
  memcpy(&length, value->bytes, sizeof length);
  *out = {reinterpret_cast<const char*>(value->bytes + sizeof length), static_cast<size_t>(length)};
  return {};
}

Error Gguf::u32_array(const char* key, std::vector<uint32_t>* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kU32, true, &value)) return failed;
  out->resize(static_cast<size_t>(value->count));
  if (value->count) memcpy(out->data(), value->bytes, out->size() * sizeof(uint32_t));
  return {};
}

Error Gguf::f32_array(const char* key, std::vector<float>* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kF32, true, &value)) return failed;
  out->resize(static_cast<size_t>(value->count));
  if (value->count) memcpy(out->data(), value->bytes, out->size() * sizeof(float));
  return {};
}

Error Gguf::string_array(const char* key, std::vector<std::string_view>* out) const {
  const GgufValue* value;
  if (Error failed = find(key, GgufType::kString, true, &value)) return failed;
  const uint8_t* from = value->bytes;
  for (uint64_t i = 0; i < value->count; ++i) {
    uint64_t length;
    memcpy(&length, from, sizeof length);
    out->emplace_back(reinterpret_cast<const char*>(from + sizeof length), static_cast<size_t>(length));
    from += sizeof length + length;
  }
  return {};
}

Error Gguf::tensor(const std::string& name, TensorType type, uint64_t elements, const uint8_t** out) const {
  const auto entry = tensors_.find(name);
  if (entry == tensors_.end()) return error(ErrorCode::kModel, "tensor %s is missing", quoted(name).c_str());
  const GgufTensor& tensor = entry->second;
  if (tensor.type != type || tensor.elements != elements) {
    return error(ErrorCode::kModel, "tensor %s is %s %s, expected %s with %" PRIu64 " elements", quoted(name).c_str(), type_name(tensor.type),
                 shape_text(tensor.shape).c_str(), type_name(type), elements);
  }
  *out = tensor.data;
  return {};
}

Error Gguf::tensor(const std::string& name, TensorType type, const std::vector<uint64_t>& shape, const uint8_t** out) const {
  const auto entry = tensors_.find(name);
  if (entry != tensors_.end() && (entry->second.type != type || entry->second.shape != shape)) {
    return error(ErrorCode::kModel, "tensor %s is %s %s, expected %s %s", quoted(name).c_str(), type_name(entry->second.type),
                 shape_text(entry->second.shape).c_str(), type_name(type), shape_text(shape).c_str());
  }
  uint64_t elements = 1;
  for (const uint64_t length : shape) elements *= length;
  return tensor(name, type, elements, out);
}
