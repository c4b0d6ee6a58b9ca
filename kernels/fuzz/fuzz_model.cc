// Any bytes as a model file. What the parser accepts must also run: three tokens, prefill and decoding, every weight read.
#include <algorithm>

#include "fuzz/bytes.h"
#include "runtime/llm.h"

namespace {

constexpr int kSmall = 4096;  // larger models only cost time

bool is_small(const Model& model) {
  return std::max({model.vocabulary, model.channels, model.hidden, model.heads * model.head_size}) <= kSmall && model.layers.size() <= 8;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const AlignedCopy copy(data, size);
  Model model;
  if (model.parse(copy.data(), size) || !is_small(model)) return 0;
  Pool pool;
  Llm llm;
  const KvType kv = model.cache.declared ? KvType::kCodes : size % 2 ? KvType::kFp16 : KvType::kInt8;
  if (pool.start(1, {}) || llm.start(&model, &pool, 3, 2, 1, kv)) return 0;
  const uint32_t last = static_cast<uint32_t>(model.vocabulary - 1);
  const uint32_t tokens[] = {0, last, last / 2};
  llm.prefill(tokens, 2);
  llm.forward(tokens + 2, 1, 2, Logits::kLast);
  return 0;
}
