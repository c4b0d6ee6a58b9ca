// Score: how well a row of logits predicts the token that came, and how far it is from the full-precision model's row.
#ifndef BENCH_RUNTIME_SCORE_H_
#define BENCH_RUNTIME_SCORE_H_

#include <stdint.h>

struct Score {
  double logprob;  // natural logarithm of the probability of the token
  double kl;       // KL(reference || model) in nats; 0 without a reference
  bool same_top;   // both have the same most probable token
  bool kept;       // no layer dropped the token that it was predicted from
};

// `reference`: log-probabilities [vocabulary] or null. Not finite when an input is not.
Score score_row(const float* logits, int vocabulary, uint32_t token, const float* reference);

// logprobs[i] = logits[i] - log(sum exp(logits)).
void log_softmax(const float* logits, int vocabulary, float* logprobs);

#endif  // BENCH_RUNTIME_SCORE_H_
