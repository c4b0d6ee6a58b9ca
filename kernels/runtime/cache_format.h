// CacheFormat: how a model file wants keys and values to be kept (FORMAT.md, section 8).
#ifndef BENCH_RUNTIME_CACHE_FORMAT_H_
#define BENCH_RUNTIME_CACHE_FORMAT_H_

#include <stddef.h>

#include <vector>

#include "ops/kv_codes.h"
#include "runtime/error.h"
#include "runtime/gguf.h"

struct CacheFormat {
  bool declared = false;  // whether the file says anything
  KvFormat keys, values;
  bool rotated = true;    // keys are stored after rotation
  bool past_only = false;
  int first = 0;          // positions at the start that are kept as fp16
  std::vector<KvFit> key_fits, value_fits;  // [layer]

  // Adds the tensors that it takes to `taken`. The file may be hostile.
  Error parse(const Gguf& file, int layers, int heads, int head_size, size_t* taken);
};

#endif  // BENCH_RUNTIME_CACHE_FORMAT_H_
