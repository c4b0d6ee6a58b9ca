// Tests of llm.h on a model file: llm_test MODEL. Prints what failed and "N passed, N failed".
//
// malloc, mmap and their like are the ones below, which count: in a static binary they take the place of the C library's, so that
// operator new and the library's own allocations come by here as well.
#include "runtime/llm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "runtime/mapped_file.h"

namespace {

constexpr size_t kArena = 64 << 20, kAlignment = 64;
alignas(kAlignment) char arena[kArena];
std::atomic<size_t> used{0};
std::atomic<int> allocations{0};

// Nothing is given back: the test ends before the arena does. The size stands before the block.
void* take(size_t bytes) {
  ++allocations;
  const size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  const size_t at = used.fetch_add(whole);
  if (at + whole > kArena) return nullptr;
  memcpy(arena + at, &bytes, sizeof bytes);
  return arena + at + kAlignment;
}

}  // namespace

extern "C" {
void* malloc(size_t bytes) { return take(bytes); }
void free(void*) {}
void* calloc(size_t count, size_t bytes) { return take(count * bytes); }  // the arena is zero
void* aligned_alloc(size_t alignment, size_t bytes) { return alignment <= kAlignment ? take(bytes) : nullptr; }
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  *out = aligned_alloc(alignment, bytes);
  return *out ? 0 : ENOMEM;
}
void* realloc(void* old, size_t bytes) {
  void* block = take(bytes);
  size_t had = 0;
  if (old) memcpy(&had, static_cast<char*>(old) - kAlignment, sizeof had);
  if (old && block) memcpy(block, old, had < bytes ? had : bytes);
  return block;
}
void* mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  ++allocations;
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
}
}

namespace {

int passed = 0, failed = 0;

void check(bool ok, const char* claim) {
  ok ? ++passed : ++failed;
  if (!ok) printf("FAILED: %s\n", claim);
}

void test_nothing_is_allocated(Model* model, int threads, KvType kv) {
  constexpr int kPrompt = 20, kDecoded = 30;
  Pool pool;
  Llm llm;
  check(!pool.start(threads, {}) && !llm.start(model, &pool, kPrompt + kDecoded, 16, 1, kv), "the model starts");
  const uint32_t prompt[kPrompt] = {};
  const int before = allocations;
  const float* logits = llm.prefill(prompt, kPrompt);
  for (int i = 0; i < kDecoded; ++i) {
    const uint32_t next = static_cast<uint32_t>(argmax(logits, model->vocabulary));
    logits = llm.forward(&next, 1, kPrompt + i, Logits::kLast);
  }
  check(allocations == before, "prefill and decoding allocate and map nothing");
}

void test_allocations_are_seen() {
  const int before = allocations;
  std::vector<int>* one = new std::vector<int>(100);
  check(allocations >= before + 2, "an allocation would be seen");
  delete one;
  const int mapped_before = allocations;
  Memory memory;
  check(!memory.allocate(4096, true, "a page") && allocations > mapped_before, "and so would a mapping");
}

}  // namespace

int main(int argc, char** argv) {
  MappedFile file;
  Model model;
  if (argc != 2 || file.open(argv[1]) || model.parse(file.data(), file.size())) {
    printf("usage: llm_test MODEL\n");
    return 2;
  }
  test_allocations_are_seen();
  for (const int threads : {1, 3}) {
    for (const KvType kv : {KvType::kFp32, KvType::kFp16, KvType::kInt8}) test_nothing_is_allocated(&model, threads, kv);
    if (model.cache.declared) test_nothing_is_allocated(&model, threads, KvType::kCodes);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
