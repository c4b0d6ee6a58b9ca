// ModelOptions: which model is run and how it lies in memory: --model, --kv and --pages.
#ifndef BENCH_AGENT_MODEL_FILE_H_
#define BENCH_AGENT_MODEL_FILE_H_

#include <string>

#include "agent/arguments.h"
#include "ops/kv_cache.h"
#include "runtime/mapped_file.h"
#include "runtime/model.h"

struct ModelOptions {
  std::string path;
  KvType kv = KvType::kFp16;
  Pages pages;

  bool take(Arguments* arguments);  // whether the option was one of these
};

// Maps or copies the file, which must outlive the model, and reads the model.
Error open_model(const ModelOptions& options, MappedFile* file, Model* model);

#endif  // BENCH_AGENT_MODEL_FILE_H_
