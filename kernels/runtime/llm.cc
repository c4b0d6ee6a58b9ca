// The forward pass: blocks of attention and feed-forward network, each of which reads the normed residual and adds to it.
#include "runtime/llm.h"

#include <algorithm>
#include <atomic>

#include "ops/attention.h"
#include "ops/ops.h"

namespace {

// Lays buffers one after the other; with a null memory it only adds up how much they take.
class Placer {
 public:
  explicit Placer(uint8_t* memory) : memory_(memory) {}

  uint8_t* bytes(uint64_t count) {
    uint8_t* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (count + 63) / 64 * 64;
    return at;
  }

  float* floats(uint64_t rows, uint64_t columns) { return reinterpret_cast<float*>(bytes(rows * columns * sizeof(float))); }

  uint64_t used() const { return used_; }

 private:
  uint8_t* memory_;
  uint64_t used_ = 0;
};

size_t padded(int rows) { return size_t(round_up(rows, kRowBlock)); }

// to [columns][rows].
void transpose(const float* from, int rows, int columns, float* to) {
  for (int column = 0; column < columns; ++column)
    for (int row = 0; row < rows; ++row) *to++ = from[int64_t{row} * columns + column];
}

}  // namespace

Error Llm::start(Model* model, Pool* pool, int positions, int batch, int logit_rows, KvType kv) {
  model_ = model;
  pool_ = pool;
  positions_ = positions;
  batch_ = batch;
  logit_rows_ = logit_rows;
  kv_ = kv;
  if (model->positions && positions > model->context) {
    return error(ErrorCode::kUsage, "%d positions, of which the model has learned %d", positions, model->context);
  }
  if (kv == KvType::kCodes && model->cache.past_only && model->log2_softmax) {
    return {ErrorCode::kUnsupported, "bench.kv.past_only together with bench.attention.softmax log2: another cache (--kv fp16) goes with that"};
  }
  if (Error failed = find_kernels()) return failed;
  if (kv == KvType::kCodes) prepare_codes();
  const uint64_t bytes = place(nullptr);
  if (Error failed = check_memory(bytes + model->file_bytes, "the model with its cache and buffers")) return failed;
  if (Error failed = memory_.allocate(bytes, true, "the cache and the buffers")) return failed;
  place(memory_.data());
  for (std::vector<int>* rows : {&token_of_, &row_of_, &ranked_, &moved_}) rows->resize(size_t(batch));
  dropped_.assign(model->layers.size(), 0);
  if (cosine_) rope_table(positions, model->head_size, model->rope_base, cosine_, sine_);
  if (key_cosine_) {
    transpose(cosine_, positions, model->head_size / 2, key_cosine_);
    transpose(sine_, positions, model->head_size / 2, key_sine_);
  }
  if (slopes_) alibi_slopes(model->heads, slopes_);
  return {};
}

Error Llm::find_kernels() {
  for (Layer& layer : model_->layers) {
    for (const Model::Place& place : model_->linears(&layer)) {
      if (Error failed = place.linear->find_kernels()) return failed;
    }
  }
  return model_->head.find_kernels();
}

uint64_t Llm::place(uint8_t* memory) {
  const Model& model = *model_;
  const int query_columns = model.heads * model.head_size, key_columns = model.kv_heads * model.head_size;
  const uint64_t rows = uint64_t(batch_), positions = uint64_t(positions_);
  channel_stride_ = padded(model.channels);
  const bool fused = model.architecture->fused_qkv;
  query_stride_ = padded(fused ? query_columns + 2 * key_columns : query_columns);
  key_stride_ = fused ? query_stride_ : padded(key_columns);
  hidden_stride_ = padded(model.hidden);
  logits_stride_ = padded(model.vocabulary);
  scratch_stride_ = (std::max(attention_scratch(model.head_size), log2_attention_scratch(model.head_size)) + 15) / 16 * 16;

  Placer placer(memory);
  residual_ = placer.floats(rows, channel_stride_);
  projected_ = placer.floats(rows, channel_stride_);
  queries_ = placer.floats(rows, query_stride_);
  if (!fused) {
    keys_ = placer.floats(rows, key_stride_);
    values_ = placer.floats(rows, key_stride_);
  } else if (memory) {
    keys_ = queries_ + query_columns;
    values_ = keys_ + key_columns;
  }
  attended_ = placer.floats(rows, query_stride_);
  if (model.architecture->gated()) gate_ = placer.floats(rows, hidden_stride_);
  up_ = placer.floats(rows, hidden_stride_);
  scratch_ = placer.floats(uint64_t(pool_->size()), scratch_stride_);
  if (model.architecture->positions == Positions::kRotary) {
    cosine_ = placer.floats(positions, uint64_t(model.head_size) / 2);
    sine_ = placer.floats(positions, uint64_t(model.head_size) / 2);
    if (stores_unrotated()) {
      key_cosine_ = placer.floats(uint64_t(model.head_size) / 2, positions);
      key_sine_ = placer.floats(uint64_t(model.head_size) / 2, positions);
    }
  }
  if (model.architecture->positions == Positions::kAlibi) slopes_ = placer.floats(1, uint64_t(model.heads));
  logits_ = placer.floats(uint64_t(logit_rows_), logits_stride_);
  start_ = placer.floats(rows, uint64_t(model.heads));
  importance_ = placer.floats(rows, 1);
  place_cache(nullptr);
  place_cache(placer.bytes(cache_.bytes()));

  const int widest = std::max({model.channels, query_columns, model.hidden});
  Activations::Size size = {batch_, widest, pool_->size()};
  size.make_room_for(model.general);
  uint8_t* packed = placer.bytes(Activations::bytes(size));
  if (memory) activations_.place(packed, size);
  return placer.used();
}

void Llm::prepare_codes() {
  const CacheFormat& format = model_->cache;
  key_codes_.resize(model_->layers.size());
  value_codes_.resize(model_->layers.size());
  for (size_t i = 0; i < model_->layers.size(); ++i) {
    kv_codes(format.keys, format.key_fits[i], model_->head_size, &key_codes_[i]);
    kv_codes(format.values, format.value_fits[i], model_->head_size, &value_codes_[i]);
  }
}

void Llm::place_cache(uint8_t* memory) {
  const KvCoding coding = {key_codes_.data(), value_codes_.data(), model_->cache.first, key_cosine_, key_sine_, positions_};
  cache_ = KvCache(memory, kv_, int(model_->layers.size()), model_->kv_heads, positions_, model_->head_size, coding);
}

const float* Llm::prefill(const uint32_t* tokens, int count) {
  int position = 0;
  for (; count - position > batch_; position += batch_) forward(tokens + position, batch_, position, Logits::kNone);
  return forward(tokens + position, count - position, position, Logits::kLast);
}

const float* Llm::forward(const uint32_t* tokens, int count, int position, Logits wanted) {
  const Model& model = *model_;
  embed(tokens, count, position);
  kept_ = count;
  for (int i = 0; i < count; ++i) token_of_[size_t(i)] = i;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (position == 0) dropped_[i] = count - kept_;
    attend(model.layers[i], static_cast<int>(i), kept_, position == 0 ? 0 : position - dropped_[i]);
    if (position == 0 && model.layers[i].prune > 0) kept_ = drop_tokens(i, kept_);
    feed_forward(model.layers[i], kept_);
  }
  if (wanted == Logits::kNone) return nullptr;

  for (int row = 0; row < count; ++row) row_of_[size_t(token_of_[size_t(row)])] = row;
  const int first = wanted == Logits::kAll ? 0 : row_of(count - 1);
  activations_.set_input(normed(model.final_norm, first, wanted == Logits::kAll ? count : 1));
  const Linear* head = &model.head;
  multiply(pool_, &activations_, 1, &head, &logits_, &logits_stride_);
  return logits_;
}

// residual = norm(embedding + positions), of what the model has.
void Llm::embed(const uint32_t* tokens, int count, int position) {
  const Model& model = *model_;
  const size_t channels = size_t(model.channels);
  for_each(pool_, count, [&](int i, int) {
    float *residual = residual_ + size_t(i) * channel_stride_, *other = projected_ + size_t(i) * channel_stride_;
    floats_from_halves(model.embedding + size_t(tokens[i]) * channels, model.channels, model.embedding_norm.weight ? other : residual);
    if (model.embedding_norm.weight) model.embedding_norm.apply(other, model.channels, model.epsilon, residual);
    if (!model.positions) return;
    floats_from_halves(model.positions + size_t(position + i + kLearnedOffset) * channels, model.channels, other);
    add(residual, other, model.channels);
  });
}

// The normed residual of `count` tokens.
Rows Llm::normed(const Norm& norm, int first, int count) const {
  Rows rows = {residual_ + size_t(first) * channel_stride_, channel_stride_, count, model_->channels};
  rows.norm = norm;
  rows.epsilon = model_->epsilon;
  return rows;
}

// residual += linear * input.
void Llm::add_product(const Linear& linear, int count) {
  const Linear* one = &linear;
  multiply(pool_, &activations_, 1, &one, &projected_, &channel_stride_);
  for_each(pool_, count, [&](int i, int) { add(residual_ + size_t(i) * channel_stride_, projected_ + size_t(i) * channel_stride_, model_->channels); });
}

// residual += output(attention(q, k, v)) of the normed residual.
void Llm::attend(const Layer& layer, int index, int count, int position) {
  activations_.set_input(normed(layer.attention_norm, 0, count));
  project(layer);
  store(layer, index, count, position);
  look_back(index, count, position);
  activations_.set_input({attended_, query_stride_, count, model_->heads * model_->head_size});
  add_product(layer.output, count);
}

// Queries, keys and values of the input.
void Llm::project(const Layer& layer) {
  const Linear* const inputs[] = {&layer.q, &layer.k, &layer.v};
  const Linear* const fused = &layer.qkv;
  float* const projections[] = {queries_, keys_, values_};
  const size_t strides[] = {query_stride_, key_stride_, key_stride_};
  if (model_->architecture->fused_qkv) {
    multiply(pool_, &activations_, 1, &fused, projections, strides);
  } else {
    multiply(pool_, &activations_, 3, inputs, projections, strides);
  }
}

void Llm::store(const Layer& layer, int index, int count, int position) {
  for_each(pool_, count, [&](int i, int) {
    float* key = keys_ + size_t(i) * key_stride_;
    float* query = queries_ + size_t(i) * query_stride_;
    float* value = values_ + size_t(i) * key_stride_;
    if (layer.q_grid) snap_heads(query, model_->heads, model_->head_size, layer.q_grid);
    if (layer.k_grid) snap_heads(key, model_->kv_heads, model_->head_size, layer.k_grid);
    if (layer.v_grid) snap_heads(value, model_->kv_heads, model_->head_size, layer.v_grid);
    norm_heads(layer, query, key);
    if (stores_unrotated()) cache_.store(index, position + i, key, value);
    if (cosine_) rotate(query, key, position + i);
    if (!stores_unrotated()) cache_.store(index, position + i, key, value);
  });
}

// The queries and keys of one token, normed before if the model has norms for them.
void Llm::norm_heads(const Layer& layer, float* query, float* key) const {
  if (layer.query_norm) rmsnorm_heads(query, layer.query_norm, model_->heads, model_->head_size, model_->epsilon);
  if (layer.key_norm) rmsnorm_heads(key, layer.key_norm, model_->kv_heads, model_->head_size, model_->epsilon);
}

void Llm::rotate(float* query, float* key, int position) const {
  const int size = model_->head_size;
  const size_t angles = size_t(position) * size_t(size / 2);
  rope(query, model_->heads, size, cosine_ + angles, sine_ + angles);
  rope(key, model_->kv_heads, size, cosine_ + angles, sine_ + angles);
}

// attended = attention(queries). A piece of work is a few tokens of the heads that share a key-value head; whoever is free takes the next:
// later tokens look back farther, so they come first.
void Llm::look_back(int layer, int count, int position) {
  const int size = model_->head_size, sharing = model_->heads / model_->kv_heads;
  const int tokens = query_tokens(sharing), tiles = (count + tokens - 1) / tokens;
  const int heads = std::min(sharing, kQueryRows), parts = (sharing + heads - 1) / heads;
  std::atomic<int> next{0};
  pool_->run([&](int member) {
    float* scratch = scratch_ + size_t(member) * scratch_stride_;
    for (int piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < tiles * model_->kv_heads * parts;) {
      const int token = (tiles - 1 - piece / (model_->kv_heads * parts)) * tokens;
      const int kv_head = piece / parts % model_->kv_heads, head = piece % parts * heads;
      const size_t offset = size_t(token) * query_stride_ + size_t(kv_head * sharing + head) * size_t(size);
      Queries queries = {queries_ + offset, attended_ + offset, query_stride_, std::min(tokens, count - token), std::min(heads, sharing - head),
                         position + token + 1};
      queries.start = start_ + size_t(token) * size_t(model_->heads) + size_t(kv_head * sharing + head);
      queries.start_stride = size_t(model_->heads);
      if (kv_ == KvType::kCodes && model_->cache.past_only) {
        const size_t own = size_t(token) * key_stride_ + size_t(kv_head) * size_t(size);
        queries.own_keys = keys_ + own;
        queries.own_values = values_ + own;
        queries.own_stride = key_stride_;
      }
      if (slopes_) queries.slopes = slopes_ + kv_head * sharing + head;
      if (model_->log2_softmax) {
        log2_attention(queries, cache_.head(layer, kv_head), model_->layers[size_t(layer)].v_grid[kv_head], scratch);
      } else {
        attention(queries, cache_.head(layer, kv_head), scratch);
      }
    }
  });
}

// Puts the tokens that paid least attention to the first one behind the others, each part in its order, and returns how many are left
// (Agile-Quant's cascade pruning, Shen et al. 2023, arXiv:2312.05693).
int Llm::drop_tokens(size_t layer, int count) {
  const int kept = count - static_cast<int>(double(model_->layers[layer].prune) * count);
  if (kept == count) return count;
  rank_tokens(count, kept);
  for (int row = 0; row < count; ++row) {
    const size_t from = size_t(ranked_[size_t(row)]);
    std::copy_n(residual_ + from * channel_stride_, channel_stride_, projected_ + size_t(row) * channel_stride_);
    moved_[size_t(row)] = token_of_[from];
  }
  std::copy_n(projected_, size_t(count) * channel_stride_, residual_);
  std::copy_n(moved_.begin(), count, token_of_.begin());
  return kept;
}

// ranked_ = rows from most to least important, of equal ones the earlier first; the first `kept` and the rest again in their order.
void Llm::rank_tokens(int count, int kept) {
  const size_t heads = size_t(model_->heads);
  for (int row = 0; row < count; ++row) {
    float sum = 0;
    for (size_t head = 0; head < heads; ++head) sum += start_[size_t(row) * heads + head];
    importance_[row] = sum > 0 ? sum : 0;  // undefined numbers have no order
    ranked_[size_t(row)] = row;
  }
  const auto end = ranked_.begin() + count, middle = ranked_.begin() + kept;
  std::sort(ranked_.begin(), end, [this](int a, int b) { return importance_[a] != importance_[b] ? importance_[a] > importance_[b] : a < b; });
  std::sort(ranked_.begin(), middle);
  std::sort(middle, end);
}

// residual += down(activation(up)) of the normed residual.
void Llm::feed_forward(const Layer& layer, int count) {
  activations_.set_input(normed(layer.ffn_norm, 0, count));
  const Linear* const inputs[] = {&layer.up, &layer.gate};
  float* const projections[] = {up_, gate_};
  const size_t strides[] = {hidden_stride_, hidden_stride_};
  multiply(pool_, &activations_, model_->architecture->gated() ? 2 : 1, inputs, projections, strides);
  Rows rows = {up_, hidden_stride_, count, model_->hidden};
  rows.activation = model_->architecture->activation;
  rows.gate = gate_;
  activations_.set_input(rows);
  add_product(layer.down, count);
}

int argmax(const float* logits, int count) { return static_cast<int>(std::max_element(logits, logits + count) - logits); }
