// Builds a Model from the keys and tensors of a GGUF file.
#include "runtime/model.h"

#include <inttypes.h>

#include <string>
#include <string_view>

#include "runtime/tensor_reader.h"

namespace {

constexpr uint32_t kFormatVersion = 2;
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxContext = 1 << 24;
constexpr uint32_t kMaxHeads = 4096;

Error read_kind(const Gguf& file) {
  std::string_view architecture;
  if (Error failed = file.string("general.architecture", &architecture)) return failed;
  if (architecture != "llama") {
    return error(ErrorCode::kUnsupported, "architecture '%s', this agent runs llama", std::string(architecture.substr(0, 64)).c_str());
  }
  uint32_t version;
  return file.u32("bench.format_version", kFormatVersion, kFormatVersion, &version);
}

Error read_sizes(const Gguf& file, Model* model, uint32_t* layers) {
  uint32_t rotary = 0;
  const struct {
    const char* key;
    uint32_t maximum;
    void* out;
  } sizes[] = {
      {"llama.vocab_size", kMaxRows, &model->vocabulary},
      {"llama.context_length", kMaxContext, &model->context},
      {"llama.embedding_length", kMaxColumns, &model->channels},
      {"llama.block_count", kMaxLayers, layers},
      {"llama.feed_forward_length", kMaxColumns, &model->hidden},
      {"llama.attention.head_count", kMaxHeads, &model->heads},
      {"llama.attention.head_count_kv", kMaxHeads, &model->kv_heads},
      {"llama.attention.key_length", kMaxHeads, &model->head_size},
      {"llama.rope.dimension_count", kMaxHeads, &rotary},
  };
  for (const auto& size : sizes) {
    if (Error failed = file.u32(size.key, 1, size.maximum, static_cast<uint32_t*>(size.out))) return failed;
  }
  if (model->heads % model->kv_heads) {
    return error(ErrorCode::kModel, "%d attention heads do not share %d key-value heads evenly", model->heads, model->kv_heads);
  }
  if (int64_t{model->heads} * model->head_size > kMaxColumns) {
    return error(ErrorCode::kUnsupported, "%d heads of %d, expected at most %d together", model->heads, model->head_size, kMaxColumns);
  }
  if (rotary != uint32_t(model->head_size) || rotary % 2) {
    return error(ErrorCode::kUnsupported, "llama.rope.dimension_count is %u, expected the key length %d, an even number", rotary, model->head_size);
  }
  if (Error failed = file.f32("llama.attention.layer_norm_rms_epsilon", &model->epsilon)) return failed;
  return file.f32("llama.rope.freq_base", &model->rope_base);
}

Error read_layer(TensorReader* reader, const Model& model, const std::string& prefix, Layer* layer) {
  const int c = model.channels, f = model.hidden;
  const int queries = model.heads * model.head_size, keys = model.kv_heads * model.head_size;
  if (Error failed = reader->floats(prefix + "attn_norm.weight", c, &layer->attention_norm)) return failed;
  if (Error failed = reader->floats(prefix + "ffn_norm.weight", c, &layer->ffn_norm)) return failed;
  const struct {
    const char* name;
    int rows, columns;
    Linear* out;
  } linears[] = {
      {"attn_q", queries, c, &layer->q},      {"attn_k", keys, c, &layer->k}, {"attn_v", keys, c, &layer->v},
      {"attn_output", c, queries, &layer->output}, {"ffn_gate", f, c, &layer->gate}, {"ffn_up", f, c, &layer->up},
      {"ffn_down", c, f, &layer->down},
  };
  for (const auto& linear : linears) {
    if (Error failed = reader->linear(prefix + linear.name, linear.rows, linear.columns, linear.out)) return failed;
  }
  return {};
}

Error read_ends(TensorReader* reader, Model* model) {
  const uint8_t* embedding;
  if (Error failed = reader->halves("token_embd.weight", model->vocabulary, model->channels, &embedding)) return failed;
  model->embedding = reinterpret_cast<const uint16_t*>(embedding);
  if (Error failed = reader->floats("output_norm.weight", model->channels, &model->final_norm)) return failed;
  if (reader->has_linear("output")) return reader->linear("output", model->vocabulary, model->channels, &model->head);
  model->head.rows = model->vocabulary;
  model->head.columns = model->channels;
  model->head.set_weights(embedding, nullptr);
  return {};
}

}  // namespace

Error Model::parse(const uint8_t* data, size_t size) {
  TensorReader reader(&general);
  if (Error failed = reader.open(data, size)) return failed;
  if (Error failed = read_kind(reader.file)) return failed;
  uint32_t count;
  if (Error failed = read_sizes(reader.file, this, &count)) return failed;
  if (Error failed = read_ends(&reader, this)) return failed;
  for (uint32_t i = 0; i < count; ++i) {
    if (Error failed = read_layer(&reader, *this, "blk." + std::to_string(i) + ".", &layers.emplace_back())) return failed;
  }
  file_bytes = size;
  return reader.all_taken();
}
