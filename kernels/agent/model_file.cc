// Opens models as options say.
#include "agent/model_file.h"

constexpr const char* kWords[] = {"fp32", "fp16", "int8", "codes"};  // in the order of KvType

void ModelOptions::tell_cache(const Model& model, const KvCache& cache, Json* line) const {
  line->key("kv").value(kWords[static_cast<int>(cache_of(model))]).key("position_bytes").value(cache.position_bytes());
}

bool ModelOptions::take(Arguments* arguments) {
  if (arguments->is("--model")) {
    path = arguments->text();
  } else if (arguments->is("--kv")) {
    kv = static_cast<KvType>(arguments->choice(kWords, 3));
  } else {
    return pages.take(arguments);
  }
  return true;
}

Error open_model(const ModelOptions& options, MappedFile* file, Model* model) {
  if (Error failed = file->open(options.path)) return failed;
  if (!options.pages.huge) return model->parse(file->data(), file->size());
  if (Error failed = file->copy_to_huge_pages()) return failed;
  Error failed = model->parse(file->data(), file->size());
  model->file_bytes = 0;  // already taken from what is available
  return failed;
}
