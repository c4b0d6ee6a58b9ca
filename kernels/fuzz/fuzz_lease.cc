// Any bytes as a lease file. What is accepted must be read again as the same from what it is written as.
#include "agent/lease_text.h"
#include "fuzz/bytes.h"

namespace {

void require(bool truth) {
  if (!truth) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const AlignedCopy copy(data, size);
  LeaseText lease, again;
  if (lease.parse({reinterpret_cast<const char*>(copy.data()), size})) return 0;
  require(lease.size >= kLeaseHeader && lease.size <= size);
  std::string text = lease.header.text();
  require(text.size() == kLeaseHeader);
  for (const JournalEntry& entry : lease.journal) text += lease_line(entry.words);
  require(!again.parse(text));
  require(again.size == text.size() && again.journal.size() == lease.journal.size());
  require(again.header.fence == lease.header.fence && again.header.holder == lease.header.holder && again.header.boot == lease.header.boot);
  for (size_t i = 0; i < again.journal.size(); ++i) require(again.journal[i].words == lease.journal[i].words);
  return 0;
}
