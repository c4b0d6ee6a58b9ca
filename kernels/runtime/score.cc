// Log-probability and Kullback-Leibler divergence, summed in double.
#include "runtime/score.h"

#include <math.h>

#include "ops/ops.h"
#include "runtime/llm.h"

Score score_row(const float* logits, int vocabulary, uint32_t token, const float* reference) {
  const double normalizer = log_sum_exp(logits, vocabulary);
  Score score = {static_cast<double>(logits[token]) - normalizer, 0, false, true};
  if (!reference) return score;
  for (int i = 0; i < vocabulary; ++i) {
    const double expected = static_cast<double>(reference[i]);
    score.kl += static_cast<double>(expf(reference[i])) * (expected - (static_cast<double>(logits[i]) - normalizer));
  }
  score.same_top = argmax(reference, vocabulary) == argmax(logits, vocabulary);
  return score;
}

void log_softmax(const float* logits, int vocabulary, float* logprobs) {
  const double normalizer = log_sum_exp(logits, vocabulary);
  for (int i = 0; i < vocabulary; ++i) logprobs[i] = static_cast<float>(static_cast<double>(logits[i]) - normalizer);
}
