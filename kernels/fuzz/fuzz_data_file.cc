// Any bytes as a token file and as a reference file. Whatever is accepted is read from end to end.
#include "fuzz/bytes.h"
#include "runtime/data_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const AlignedCopy copy(data, size);
  TokenFile tokens;
  if (!tokens.parse(copy.data(), size)) {
    for (uint32_t i = 0; i < tokens.count; ++i) {
      if (tokens.tokens[i] >= tokens.vocabulary) abort();
    }
  }
  ReferenceFile reference;
  if (!reference.parse(copy.data(), size)) {
    volatile float last = 0;
    for (uint64_t i = 0; i < uint64_t{reference.rows} * reference.vocabulary; ++i) last = reference.logprobs[i];
    static_cast<void>(last);
  }
  return 0;
}
