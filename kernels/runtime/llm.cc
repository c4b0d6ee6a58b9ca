// The forward pass (Touvron et al. 2023, "LLaMA").
#include "runtime/llm.h"

#include <algorithm>
#include <initializer_list>

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

// Calls row(i) for every token, split over the team; one token is not worth waking it.
template <typename Row>
void for_each_token(Pool* pool, int count, const Row& row) {
  const auto work = [&](int member) {
    const Range rows = share(count, member, count > 1 ? pool->size() : 1);
    for (int i = rows.begin; i < rows.end; ++i) row(size_t(i));
  };
  count > 1 ? pool->run(work) : work(0);
}

}  // namespace

Error Llm::start(Model* model, Pool* pool, int positions, int batch, int logit_rows) {
  model_ = model;
  pool_ = pool;
  positions_ = positions;
  batch_ = batch;
  logit_rows_ = logit_rows;
  if (Error failed = find_kernels()) return failed;
  const uint64_t bytes = place(nullptr);
  if (Error failed = check_memory(bytes + model->file_bytes, "the model with its cache and buffers")) return failed;
  if (Error failed = memory_.allocate(bytes, true, "the cache and the buffers")) return failed;
  place(memory_.data());
  rope_table(positions, model->head_size, model->rope_base, cosine_, sine_);
  return {};
}

Error Llm::find_kernels() {
  for (Layer& layer : model_->layers) {
    for (Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.output, &layer.gate, &layer.up, &layer.down}) {
      if (Error failed = linear->find_kernels()) return failed;
    }
  }
  return model_->head.find_kernels();
}

uint64_t Llm::place(uint8_t* memory) {
  const Model& model = *model_;
  const int query_columns = model.heads * model.head_size, key_columns = model.kv_heads * model.head_size;
  const uint64_t rows = uint64_t(batch_), positions = uint64_t(positions_);
  channel_stride_ = padded(model.channels);
  query_stride_ = padded(query_columns);
  key_stride_ = padded(key_columns);
  hidden_stride_ = padded(model.hidden);
  logits_stride_ = padded(model.vocabulary);

  Placer placer(memory);
  residual_ = placer.floats(rows, channel_stride_);
  normed_ = placer.floats(rows, channel_stride_);
  projected_ = placer.floats(rows, channel_stride_);
  queries_ = placer.floats(rows, query_stride_);
  keys_ = placer.floats(rows, key_stride_);
  values_ = placer.floats(rows, key_stride_);
  attended_ = placer.floats(rows, query_stride_);
  gate_ = placer.floats(rows, hidden_stride_);
  up_ = placer.floats(rows, hidden_stride_);
  scores_ = placer.floats(uint64_t(pool_->size()), positions);
  cosine_ = placer.floats(positions, uint64_t(model.head_size) / 2);
  sine_ = placer.floats(positions, uint64_t(model.head_size) / 2);
  logits_ = placer.floats(uint64_t(logit_rows_), logits_stride_);
  cache_ = {placer.floats(1, KvCache::floats(int(model.layers.size()), model.kv_heads, positions_, model.head_size)), model.kv_heads, positions_,
            model.head_size};

  const int widest = std::max({model.channels, query_columns, model.hidden});
  uint8_t* packed = placer.bytes(Activations::bytes(batch_, widest));
  if (memory) activations_.place(packed, batch_, widest);
  return placer.used();
}

const float* Llm::prefill(const uint32_t* tokens, int count) {
  int position = 0;
  for (; count - position > batch_; position += batch_) forward(tokens + position, batch_, position, Logits::kNone);
  return forward(tokens + position, count - position, position, Logits::kLast);
}

const float* Llm::forward(const uint32_t* tokens, int count, int position, Logits wanted) {
  const Model& model = *model_;
  for_each_token(pool_, count, [&](size_t i) {
    floats_from_halves(model.embedding + size_t(tokens[i]) * model.channels, model.channels, residual_ + i * channel_stride_);
  });
  for (size_t i = 0; i < model.layers.size(); ++i) {
    attend(model.layers[i], static_cast<int>(i), count, position);
    feed_forward(model.layers[i], count);
  }
  if (wanted == Logits::kNone) return nullptr;

  const size_t first = wanted == Logits::kAll ? 0 : size_t(count - 1);
  const int rows = count - static_cast<int>(first);
  normalize(model.final_norm, count);
  activations_.set_input(normed_ + first * channel_stride_, channel_stride_, rows, model.channels);
  const Linear* head = &model.head;
  multiply(pool_, &activations_, rows, 1, &head, &logits_, &logits_stride_);
  return logits_;
}

void Llm::normalize(const float* weight, int count) {
  for_each_token(pool_, count, [&](size_t i) {
    rmsnorm(residual_ + i * channel_stride_, weight, model_->channels, model_->epsilon, normed_ + i * channel_stride_);
  });
}

// residual += output(attention(rope(q), rope(k), v)) of the normed residual.
void Llm::attend(const Layer& layer, int index, int count, int position) {
  normalize(layer.attention_norm, count);
  activations_.set_input(normed_, channel_stride_, count, model_->channels);
  const Linear* const inputs[] = {&layer.q, &layer.k, &layer.v};
  float* const projections[] = {queries_, keys_, values_};
  const size_t strides[] = {query_stride_, key_stride_, key_stride_};
  multiply(pool_, &activations_, count, 3, inputs, projections, strides);
  rotate_and_store(index, count, position);

  const int heads = model_->heads, size = model_->head_size, sharing = heads / model_->kv_heads;
  pool_->run([&](int member) {
    float* scores = scores_ + size_t(member) * size_t(positions_);
    // Later tokens look back farther: taking turns gives every member as much.
    for (int64_t task = member; task < int64_t{count} * heads; task += pool_->size()) {
      const int token = static_cast<int>(task / heads), head = static_cast<int>(task % heads);
      const size_t offset = size_t(token) * query_stride_ + size_t(head) * size;
      attention(queries_ + offset, cache_.keys(index, head / sharing), cache_.values(index, head / sharing), position + token + 1, size, scores,
                attended_ + offset);
    }
  });

  activations_.set_input(attended_, query_stride_, count, heads * size);
  const Linear* output = &layer.output;
  multiply(pool_, &activations_, count, 1, &output, &projected_, &channel_stride_);
  for_each_token(pool_, count, [&](size_t i) { add(residual_ + i * channel_stride_, projected_ + i * channel_stride_, model_->channels); });
}

void Llm::rotate_and_store(int layer, int count, int position) {
  const int size = model_->head_size;
  for_each_token(pool_, count, [&](size_t i) {
    const size_t angles = (size_t(position) + i) * (size / 2);
    float* key = keys_ + i * key_stride_;
    rope(queries_ + i * query_stride_, model_->heads, size, cosine_ + angles, sine_ + angles);
    rope(key, model_->kv_heads, size, cosine_ + angles, sine_ + angles);
    cache_.store(layer, position + static_cast<int>(i), key, values_ + i * key_stride_);
  });
}

// residual += down(silu(gate) * up) of the normed residual.
void Llm::feed_forward(const Layer& layer, int count) {
  normalize(layer.ffn_norm, count);
  activations_.set_input(normed_, channel_stride_, count, model_->channels);
  const Linear* const inputs[] = {&layer.gate, &layer.up};
  float* const projections[] = {gate_, up_};
  const size_t strides[] = {hidden_stride_, hidden_stride_};
  multiply(pool_, &activations_, count, 2, inputs, projections, strides);
  for_each_token(pool_, count, [&](size_t i) {
    silu_multiply(gate_ + i * hidden_stride_, up_ + i * hidden_stride_, model_->hidden, gate_ + i * hidden_stride_);
  });

  activations_.set_input(gate_, hidden_stride_, count, model_->hidden);
  const Linear* down = &layer.down;
  multiply(pool_, &activations_, count, 1, &down, &projected_, &channel_stride_);
  for_each_token(pool_, count, [&](size_t i) { add(residual_ + i * channel_stride_, projected_ + i * channel_stride_, model_->channels); });
}

int argmax(const float* logits, int count) { return static_cast<int>(std::max_element(logits, logits + count) - logits); }
