// A plugin for QEMU's emulator (interface of version 1, QEMU 6.0 to 8.2): how often every block of a program was executed.
//
// A block is a straight piece of code as QEMU translates it. One counter is added to each, in the translated code itself,
// so the program is hardly slower. At the end one line a block goes to the file of `out=`:
//
//     <address, hexadecimal> <executions, decimal> <its instructions, hexadecimal bytes>
//
// Counters are exact for one thread. The functions are declared here because Debian packages no qemu-plugin.h.
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_INSTRUCTIONS 512  // of a block: QEMU's TCG_MAX_INSNS
#define BUCKETS 65536

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

struct block {
  struct block *next;
  uint64_t address, executions;
  size_t bytes;
  uint8_t code[];
};

static struct block *blocks[BUCKETS];
static const char *path;

// The same code may be translated again; its counter goes on.
static struct block *find(uint64_t address, const uint8_t *code, size_t bytes) {
  struct block **bucket = &blocks[(address >> 2) % BUCKETS];
  for (struct block *block = *bucket; block; block = block->next) {
    if (block->address == address && block->bytes == bytes && !memcmp(block->code, code, bytes)) return block;
  }
  struct block *block = calloc(1, sizeof *block + bytes);
  if (!block) abort();
  *block = (struct block){.next = *bucket, .address = address, .bytes = bytes};
  memcpy(block->code, code, bytes);
  return *bucket = block;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  (void)id;
  uint8_t code[4 * MAX_INSTRUCTIONS];
  size_t bytes = 0;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
    const size_t size = qemu_plugin_insn_size(instruction);
    if (bytes + size > sizeof code) abort();
    memcpy(code + bytes, qemu_plugin_insn_data(instruction), size);
    bytes += size;
  }
  struct block *block = find(qemu_plugin_tb_vaddr(tb), code, bytes);
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &block->executions, 1);
}

static void print(FILE *file, const struct block *block) {
  fprintf(file, "%" PRIx64 " %" PRIu64 " ", block->address, block->executions);
  for (size_t i = 0; i < block->bytes; ++i) fprintf(file, "%02x", block->code[i]);
  fputc('\n', file);
}

static void finished(plugin_id id, void *unused) {
  (void)id;
  (void)unused;
  FILE *file = fopen(path, "w");
  if (!file) abort();
  for (size_t i = 0; i < BUCKETS; ++i) {
    for (const struct block *block = blocks[i]; block; block = block->next) {
      if (block->executions) print(file, block);
    }
  }
  if (fclose(file)) abort();
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (!strncmp(argv[i], "out=", 4)) path = argv[i] + 4;
  }
  if (!path) return -1;
  path = strdup(path);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
