// Tests of llm.h and of what linears share, on a model file: llm_test MODEL. Prints what failed and "N passed, N failed".
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

// What a file may say of a linear's inputs, each part in memory of its own.
struct Inputs {
  int32_t order[4] = {1, 0, 3, 2}, begin[1] = {1}, end[1] = {3};
  float factors[4] = {1, 2, 3, 4};

  Packing packing() const {
    Packing found;
    found.columns = 4;
    found.bits = 8;
    found.order = order;
    found.factors = factors;
    found.side_begin = begin;
    found.side_end = end;
    found.side_inputs = 1;
    found.spans = {{0, 32, 32}};
    return found;
  }
};

void test_equal_inputs_share_one_packing() {
  const Inputs first, again;
  Inputs other;
  GeneralLinears general;
  const Packing* one = general.intern(first.packing());
  check(general.intern(again.packing()) == one && general.packings.size() == 1, "inputs of one content are packed once, wherever they lie");

  std::vector<Packing> others(14, first.packing());
  others[0].order = nullptr;
  others[1].factors = nullptr;
  others[2].bits = 4;
  others[3].own_scales = true;
  others[4].hadamard = 2;
  others[5].scale = 0.1f;
  others[6].zero = 1;
  others[7].keeps_row = true;
  others[8].spans = {{0, 32, 64}};
  others[9].side_inputs = 0;
  other.order[0] = 0, other.order[1] = 1, other.factors[3] = 5, other.begin[0] = 0, other.end[0] = 4;
  others[10].order = other.order;
  others[11].factors = other.factors;
  others[12].side_begin = other.begin;
  others[13].side_end = other.end;
  for (const Packing& packing : others) general.intern(packing);
  check(general.packings.size() == 1 + others.size(), "and any that differ are not");

  GeneralLinear general_a, general_b, general_c;
  general_a.packing = general_b.packing = one;
  general_c.packing = &general.packings.back();
  Linear a, b, c;
  a.general = &general_a;
  b.general = &general_b;
  c.general = &general_c;
  check(Activations::share_form(a, b) && !Activations::share_form(a, c), "linears share what is packed for them where it is the same");
}

void test_a_file_has_each_packing_once(const Model& model) {
  bool once = true;
  for (const Packing& a : model.general.packings)
    for (const Packing& b : model.general.packings) once = once && (&a == &b || !(a == b));
  check(once, "no two packings of a file are equal");
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
  test_equal_inputs_share_one_packing();
  test_a_file_has_each_packing_once(model);
  for (const int threads : {1, 3}) {
    for (const KvType kv : {KvType::kFp32, KvType::kFp16, KvType::kInt8}) test_nothing_is_allocated(&model, threads, kv);
    if (model.cache.declared) test_nothing_is_allocated(&model, threads, KvType::kCodes);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
