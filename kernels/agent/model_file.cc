// Opens models as options say.
#include "agent/model_file.h"

bool ModelOptions::take(Arguments* arguments) {
  if (arguments->is("--model")) {
    path = arguments->text();
  } else if (arguments->is("--kv")) {
    static constexpr const char* kWords[] = {"fp32", "fp16", "int8"};
    kv = static_cast<KvType>(arguments->choice(kWords, 3));
  } else if (arguments->is("--pages")) {
    static constexpr const char* kWords[] = {"base", "huge"};
    huge_pages = arguments->choice(kWords, 2) == 1;
  } else {
    return false;
  }
  return true;
}

Error open_model(const ModelOptions& options, MappedFile* file, Model* model) {
  if (Error failed = file->open(options.path)) return failed;
  if (!options.huge_pages) return model->parse(file->data(), file->size());
  if (Error failed = file->copy_to_huge_pages()) return failed;
  Error failed = model->parse(file->data(), file->size());
  model->file_bytes = 0;  // already taken from what is available
  return failed;
}
