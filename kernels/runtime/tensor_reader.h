// Tensor reader: takes norms and linears out of a model file (FORMAT.md sections 1, 2 and 7), and counts what it took, so that a
// tensor that nobody asked for is noticed. What could lead astray later, indices above all, is checked here once.
#ifndef BENCH_RUNTIME_TENSOR_READER_H_
#define BENCH_RUNTIME_TENSOR_READER_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/general_linear.h"
#include "runtime/gguf.h"
#include "runtime/norm.h"

class TensorReader {
 public:
  // Linears that are more than one matrix go to `general`, which must outlive them.
  explicit TensorReader(GeneralLinears* general) : general_(general) {}

  Error open(const uint8_t* data, size_t size);

  Error floats(const std::string& name, int count, const float** out);
  Error norm(const std::string& name, int count, bool has_bias, Norm* out);
  Error halves(const std::string& name, int rows, int columns, const uint8_t** out);
  bool has(const std::string& tensor) const { return file.has_tensor(tensor); }
  bool has_linear(const std::string& name) const { return has_piece(name) || has_piece(name + ".0"); }
  // With its bias, where it has one.
  Error linear(const std::string& name, int rows, int columns, Linear* out);

  // So many tensors were taken from `file` by somebody else.
  void also_took(size_t tensors) { taken_ += tensors; }
  // Whether everything in the file belongs to the model.
  Error all_taken() const;

  Gguf file;

 private:
  struct Declared {  // one entry of the bench.linear.* arrays
    Scheme scheme;
    uint32_t rows, columns;
  };

  Error read_declared();
  bool has_piece(const std::string& name) const { return declared_.count(name) || has(name + ".weight"); }
  bool is_plain(const std::string& name) const;
  Error matrix(const std::string& name, int rows, int columns, Linear* out);
  Error packed(const std::string& name, const Declared& declared, Linear* out);

  Error general(const std::string& name, const Linear& linear, GeneralLinear* out);
  Error pieces(const std::string& name, const Linear& linear, GeneralLinear* out);
  uint64_t extent(const std::string& name, bool by_rows) const;
  Error piece(const std::string& name, const Linear& linear, bool by_rows, GeneralLinear* out);
  Error meaning(const std::string& name, Piece* piece);
  Error packing(const std::string& name, int columns, Packing* out);
  Error fixed_scale(const std::string& name, Packing* out);
  Error side(const std::string& name, const Linear& linear, Packing* packing, GeneralLinear* out);
  Error outliers(const std::string& name, const Linear& linear, Packing* packing, GeneralLinear* out);
  Error finite_halves(const std::string& name, uint64_t count, const uint16_t** out);
  Error integers(const std::string& name, int count, const int32_t** out);
  Error permutation(const std::string& name, int count, const int32_t** out);

  std::map<std::string, Declared, std::less<>> declared_;
  GeneralLinears* general_;
  size_t taken_ = 0;
  size_t declared_taken_ = 0;
};

#endif  // BENCH_RUNTIME_TENSOR_READER_H_
