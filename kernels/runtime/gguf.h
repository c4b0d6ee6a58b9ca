// Gguf: the directory of a GGUF v3 file: its keys and its tensors, as views into the bytes. It knows the container, not the model.
//
// The bytes are untrusted: every length, offset and product is checked against the end of the file before it is used, and
// nothing is allocated in proportion to a number that the file merely claims.
#ifndef BENCH_RUNTIME_GGUF_H_
#define BENCH_RUNTIME_GGUF_H_

#include <stdint.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.h"

// Value types of GGUF metadata and the tensor types of FORMAT.md, numbered as in the GGUF specification.
enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };
enum class TensorType : uint32_t { kF32 = 0, kF16 = 1, kI8 = 24, kI32 = 26 };

struct GgufValue {
  GgufType type;          // of the value, or of the elements of an array
  bool is_array;
  uint64_t count;         // 1, or elements of the array
  const uint8_t* bytes;   // little-endian; strings as in the file: u64 length, then characters
};

struct GgufTensor {
  TensorType type;
  std::vector<uint64_t> shape;  // fastest-running dimension first
  uint64_t elements;
  uint64_t size;  // bytes
  const uint8_t* data;
};

class Gguf {
 public:
  // `data` must outlive this object and be aligned to 64 bytes. Errors are `model`.
  Error parse(const uint8_t* data, size_t size);

  Error u32(const char* key, uint32_t minimum, uint32_t maximum, uint32_t* out) const;
  Error f32(const char* key, float* out) const;
  Error string(const char* key, std::string_view* out) const;
  bool has(const char* key) const { return values_.count(key) != 0; }
  Error u32_array(const char* key, std::vector<uint32_t>* out) const;
  Error f32_array(const char* key, std::vector<float>* out) const;
  Error string_array(const char* key, std::vector<std::string_view>* out) const;

  // The tensor `name` if it has this type and, fastest dimension first, this shape.
  Error tensor(const std::string& name, TensorType type, const std::vector<uint64_t>& shape, const uint8_t** out) const;
  // The same for raw bytes and lists, whose shape is the writer's choice.
  Error tensor(const std::string& name, TensorType type, uint64_t elements, const uint8_t** out) const;
  bool has_tensor(const std::string& name) const { return tensors_.find(name) != tensors_.end(); }
  const std::map<std::string_view, GgufTensor, std::less<>>& tensors() const { return tensors_; }

 private:
  Error find(const char* key, GgufType type, bool is_array, const GgufValue** out) const;

  std::map<std::string_view, GgufValue, std::less<>> values_;
  std::map<std::string_view, GgufTensor, std::less<>> tensors_;
};

#endif  // BENCH_RUNTIME_GGUF_H_
