// Builds a Model from the keys and tensors of a GGUF file.
#include "runtime/model.h"

#include <inttypes.h>
#include <math.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "runtime/tensor_reader.h"

namespace {

constexpr uint32_t kFormatVersion = 2;
constexpr uint32_t kMaxLayers = 1024;
constexpr uint32_t kMaxContext = 1 << 24;
constexpr uint32_t kMaxHeads = 4096;

Error read_kind(const Gguf& file, Model* model) {
  std::string_view name;
  if (Error failed = file.string("general.architecture", &name)) return failed;
  model->architecture = find_architecture(name);
  if (!model->architecture) {
    return error(ErrorCode::kUnsupported, "architecture '%s', this agent runs %s", std::string(name.substr(0, 64)).c_str(), architecture_names().c_str());
  }
  uint32_t version;
  return file.u32("bench.format_version", kFormatVersion, kFormatVersion, &version);
}

// All of a head is turned.
Error read_rotary(const Gguf& file, const std::string& prefix, Model* model) {
  uint32_t rotary = 0;
  if (Error failed = file.u32((prefix + "rope.dimension_count").c_str(), 1, kMaxHeads, &rotary)) return failed;
  if (rotary != uint32_t(model->head_size) || rotary % 2) {
    return error(ErrorCode::kUnsupported, "%srope.dimension_count is %u, expected the key length %d, an even number", prefix.c_str(), rotary,
                 model->head_size);
  }
  return file.f32((prefix + "rope.freq_base").c_str(), &model->rope_base);
}

Error read_sizes(const Gguf& file, Model* model, uint32_t* layers) {
  const std::string prefix = std::string(model->architecture->name) + ".";
  const struct {
    const char* key;
    uint32_t maximum;
    void* out;
  } sizes[] = {
      {"vocab_size", kMaxRows, &model->vocabulary},
      {"context_length", kMaxContext, &model->context},
      {"embedding_length", kMaxColumns, &model->channels},
      {"block_count", kMaxLayers, layers},
      {"feed_forward_length", kMaxColumns, &model->hidden},
      {"attention.head_count", kMaxHeads, &model->heads},
      {"attention.head_count_kv", kMaxHeads, &model->kv_heads},
      {"attention.key_length", kMaxHeads, &model->head_size},
  };
  for (const auto& size : sizes) {
    if (Error failed = file.u32((prefix + size.key).c_str(), 1, size.maximum, static_cast<uint32_t*>(size.out))) return failed;
  }
  if (model->heads % model->kv_heads) {
    return error(ErrorCode::kModel, "%d attention heads do not share %d key-value heads evenly", model->heads, model->kv_heads);
  }
  if (int64_t{model->heads} * model->head_size > kMaxColumns) {
    return error(ErrorCode::kUnsupported, "%d heads of %d, expected at most %d together", model->heads, model->head_size, kMaxColumns);
  }
  const char* epsilon = model->architecture->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
  if (Error failed = file.f32((prefix + epsilon).c_str(), &model->epsilon)) return failed;
  return model->architecture->positions == Positions::kRotary ? read_rotary(file, prefix, model) : Error{};
}

Error read_layer(TensorReader* reader, const Model& model, const std::string& prefix, Layer* layer) {
  const Architecture& architecture = *model.architecture;
  if (Error failed = reader->norm(prefix + "attn_norm", model.channels, architecture.layer_norm, &layer->attention_norm)) return failed;
  if (Error failed = reader->norm(prefix + "ffn_norm", model.channels, architecture.layer_norm, &layer->ffn_norm)) return failed;
  if (architecture.head_norms) {
    if (Error failed = reader->floats(prefix + "attn_q_norm.weight", model.head_size, &layer->query_norm)) return failed;
    if (Error failed = reader->floats(prefix + "attn_k_norm.weight", model.head_size, &layer->key_norm)) return failed;
  }
  for (const Model::Place& place : model.linears(layer)) {
    if (Error failed = reader->linear(prefix + place.name, place.rows, place.columns, place.linear)) return failed;
  }
  return {};
}

// Steps of heads, where the file has them.
Error read_grid(TensorReader* reader, const std::string& name, int heads, const float** out) {
  if (!reader->has(name)) return {};
  if (Error failed = reader->floats(name, heads, out)) return failed;
  if (std::all_of(*out, *out + heads, [](float step) { return step > 0 && isfinite(1 / step); })) return {};
  return error(ErrorCode::kModel, "tensor '%.64s' has a step that is not positive and finite", name.c_str());
}

// Section 9: what attention does besides.
Error read_grids(TensorReader* reader, const Model& model, const std::string& prefix, Layer* layer) {
  if (model.architecture->fused_qkv) {
    if (Error failed = read_grid(reader, prefix + "attn_qkv.grid", model.heads + 2 * model.kv_heads, &layer->q_grid)) return failed;
    layer->k_grid = layer->q_grid ? layer->q_grid + model.heads : nullptr;
    layer->v_grid = layer->q_grid ? layer->k_grid + model.kv_heads : nullptr;
  } else {
    if (Error failed = read_grid(reader, prefix + "attn_q.grid", model.heads, &layer->q_grid)) return failed;
    if (Error failed = read_grid(reader, prefix + "attn_k.grid", model.kv_heads, &layer->k_grid)) return failed;
    if (Error failed = read_grid(reader, prefix + "attn_v.grid", model.kv_heads, &layer->v_grid)) return failed;
  }
  if (!model.log2_softmax || layer->v_grid) return {};
  return error(ErrorCode::kModel, "bench.attention.softmax is log2, but the values of %.16s have no grid", prefix.c_str());
}

Error read_softmax(const Gguf& file, Model* model) {
  if (!file.has("bench.attention.softmax")) return {};
  std::string_view name;
  if (Error failed = file.string("bench.attention.softmax", &name)) return failed;
  model->log2_softmax = name == "log2";
  if (model->log2_softmax) return {};
  return error(ErrorCode::kUnsupported, "bench.attention.softmax is '%s', this agent knows log2", std::string(name.substr(0, 64)).c_str());
}

Error read_shares(const Gguf& file, Model* model) {
  if (!file.has("bench.prune.shares")) return {};
  std::vector<float> shares;
  if (Error failed = file.f32_array("bench.prune.shares", &shares)) return failed;
  if (shares.size() != model->layers.size()) {
    return error(ErrorCode::kModel, "bench.prune.shares has %zu entries, expected one for each of %zu blocks", shares.size(), model->layers.size());
  }
  for (size_t i = 0; i < shares.size(); ++i) {
    if (!(shares[i] >= 0 && shares[i] < 1)) {
      return error(ErrorCode::kModel, "entry %zu of bench.prune.shares is %g, expected 0 up to 1", i, static_cast<double>(shares[i]));
    }
    model->layers[i].prune = shares[i];
  }
  return {};
}

Error read_ends(TensorReader* reader, Model* model) {
  const Architecture& architecture = *model->architecture;
  const uint8_t *embedding, *positions;
  if (Error failed = reader->halves("token_embd.weight", model->vocabulary, model->channels, &embedding)) return failed;
  model->embedding = reinterpret_cast<const uint16_t*>(embedding);
  if (architecture.positions == Positions::kLearned) {
    if (Error failed = reader->halves("position_embd.weight", kLearnedOffset + model->context, model->channels, &positions)) return failed;
    model->positions = reinterpret_cast<const uint16_t*>(positions);
  }
  if (architecture.embedding_norm) {
    if (Error failed = reader->norm("token_embd_norm", model->channels, architecture.layer_norm, &model->embedding_norm)) return failed;
  }
  if (Error failed = reader->norm("output_norm", model->channels, architecture.layer_norm, &model->final_norm)) return failed;
  if (reader->has_linear("output")) return reader->linear("output", model->vocabulary, model->channels, &model->head);
  model->head.rows = model->vocabulary;
  model->head.columns = model->channels;
  model->head.set_weights(embedding, nullptr);
  return {};
}

}  // namespace

bool Model::prunes() const {
  return std::any_of(layers.begin(), layers.end(), [](const Layer& layer) { return layer.prune > 0; });
}

Error Model::parse(const uint8_t* data, size_t size) {
  TensorReader reader(&general);
  if (Error failed = reader.open(data, size)) return failed;
  if (Error failed = read_kind(reader.file, this)) return failed;
  uint32_t count;
  if (Error failed = read_sizes(reader.file, this, &count)) return failed;
  if (Error failed = read_ends(&reader, this)) return failed;
  if (Error failed = read_softmax(reader.file, this)) return failed;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string prefix = "blk." + std::to_string(i) + ".";
    if (Error failed = read_layer(&reader, *this, prefix, &layers.emplace_back())) return failed;
    if (Error failed = read_grids(&reader, *this, prefix, &layers.back())) return failed;
  }
  if (Error failed = read_shares(reader.file, this)) return failed;
  file_bytes = size;
  size_t of_cache = 0;
  if (Error failed = cache.parse(reader.file, int(count), kv_heads, head_size, &of_cache)) return failed;
  reader.also_took(of_cache);
  return reader.all_taken();
}

std::vector<Model::Place> Model::linears(Layer* layer) const {
  const int c = channels, f = hidden, queries = heads * head_size, keys = kv_heads * head_size;
  std::vector<Place> places;
  if (architecture->fused_qkv) {
    places = {{"attn_qkv", queries + 2 * keys, c, &layer->qkv}};
  } else {
    places = {{"attn_q", queries, c, &layer->q}, {"attn_k", keys, c, &layer->k}, {"attn_v", keys, c, &layer->v}};
  }
  places.push_back({"attn_output", c, queries, &layer->output});
  if (architecture->gated()) places.push_back({"ffn_gate", f, c, &layer->gate});
  places.push_back({"ffn_up", f, c, &layer->up});
  places.push_back({"ffn_down", c, f, &layer->down});
  return places;
}
