// Parses token and reference files.
#include "runtime/data_file.h"

#include <inttypes.h>
#include <string.h>

namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kTokenHeader = 16;  // bytes
constexpr char kTokenMagic[] = "BTOK";
constexpr char kReferenceMagic[] = "BREF";

// The u32 words of a header: magic, version, and the sizes that follow.
Error read_header(const uint8_t* data, size_t size, const char* magic, size_t header, const char* kind, uint32_t* words) {
  if (size < header || memcmp(data, magic, 4) != 0) {
    return error(ErrorCode::kModel, "no %s file: expected the bytes '%s' and a header of %zu bytes", kind, magic, header);
  }
  memcpy(words, data, header);
  if (words[1] == kVersion) return {};
  return error(ErrorCode::kModel, "%s file version %u, expected %u", kind, words[1], kVersion);
}

Error check_size(const char* kind, size_t size, uint64_t expected) {
  if (size == expected) return {};
  return error(ErrorCode::kModel, "the %s file has %zu bytes, its header says %" PRIu64, kind, size, expected);
}

}  // namespace

Error TokenFile::parse(const uint8_t* data, size_t size) {
  uint32_t words[kTokenHeader / 4];
  if (Error failed = read_header(data, size, kTokenMagic, kTokenHeader, "token", words)) return failed;
  vocabulary = words[2];
  count = words[3];
  tokens = reinterpret_cast<const uint32_t*>(data + kTokenHeader);
  if (Error failed = check_size("token", size, kTokenHeader + uint64_t{count} * 4)) return failed;
  for (uint32_t i = 0; i < count; ++i) {
    if (tokens[i] >= vocabulary) return error(ErrorCode::kModel, "token %u is %u, expected less than the vocabulary size %u", i, tokens[i], vocabulary);
  }
  return {};
}

Error ReferenceFile::parse(const uint8_t* data, size_t size) {
  uint32_t words[kReferenceHeader / 4];
  if (Error failed = read_header(data, size, kReferenceMagic, kReferenceHeader, "reference", words)) return failed;
  vocabulary = words[2];
  window = words[3];
  rows = words[4];
  if (vocabulary == 0 || window < 2) {
    return error(ErrorCode::kModel, "the reference file has vocabulary %u and window %u, expected at least 1 and 2", vocabulary, window);
  }
  if (words[5] | words[6] | words[7]) return error(ErrorCode::kModel, "the reference file has data in the zero bytes of its header");
  const uint64_t cells = uint64_t{rows} * vocabulary;  // below 2^64; times 4 may not be
  if (cells > UINT64_MAX / 8) return error(ErrorCode::kModel, "the reference file claims %" PRIu64 " numbers", cells);
  logprobs = reinterpret_cast<const float*>(data + kReferenceHeader);
  return check_size("reference", size, kReferenceHeader + cells * 4);
}

void write_reference_header(uint32_t vocabulary, uint32_t window, uint32_t rows, uint8_t (&out)[kReferenceHeader]) {
  uint32_t words[kReferenceHeader / 4] = {0, kVersion, vocabulary, window, rows, 0, 0, 0};
  memcpy(words, kReferenceMagic, 4);
  memcpy(out, words, sizeof words);
}
