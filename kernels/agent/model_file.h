// ModelOptions: which model is run and how it lies in memory: --model, --kv and --pages.
#ifndef BENCH_AGENT_MODEL_FILE_H_
#define BENCH_AGENT_MODEL_FILE_H_

#include <optional>
#include <string>

#include "agent/arguments.h"
#include "base/json.h"
#include "ops/kv_cache.h"
#include "runtime/mapped_file.h"
#include "runtime/model.h"

struct ModelOptions {
  std::string path;
  std::optional<KvType> kv;  // what the file says, or fp16
  Pages pages;

  KvType cache_of(const Model& model) const { return kv.value_or(model.cache.declared ? KvType::kCodes : KvType::kFp16); }
  // Adds which cache it is, and the bytes of a position in it.
  void tell_cache(const Model& model, const KvCache& cache, Json* line) const;

  bool take(Arguments* arguments);  // whether the option was one of these
};

// Maps or copies the file, which must outlive the model, and reads the model.
Error open_model(const ModelOptions& options, MappedFile* file, Model* model);

#endif  // BENCH_AGENT_MODEL_FILE_H_
