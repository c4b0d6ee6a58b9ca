// LeaseText: the text of a lease file: who holds this device, and what has to be undone when the holder goes.
//
//   bench-lease 1
//   fence<TAB>12                       the number of the lease; only a greater one is ever granted
//   holder<TAB>lab-3 campaign 7
//   boot<TAB>6f1c..                    of /proc/sys/kernel/random/boot_id: what the journal below is worth after a restart
//   since<TAB>81234567890              on the agent's clock; 0 once the lease has ended
//   #                                  (filled with spaces to 512 bytes)
//   write<TAB>/sys/..<TAB>ondemand     the journal, oldest first
//   #rite<TAB>/sys/..<TAB>1            undone
//   mask<TAB>TID<TAB>START TIME<TAB>0-3
//   run<TAB>sudo<TAB>-n<TAB>..
//
// The header has a fixed size and is rewritten in place by one write within one sector; an entry is appended, and one that is undone
// becomes a comment by its first byte. So the locked inode stays, and a crash between any two steps leaves a file that can be read: at
// worst its last line has no end, and what that entry announces was then never done.
#ifndef BENCH_AGENT_LEASE_TEXT_H_
#define BENCH_AGENT_LEASE_TEXT_H_

#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.h"

constexpr size_t kLeaseHeader = 512;
constexpr size_t kMaxLeaseFile = 64 << 10;
constexpr size_t kMaxEntries = 256;     // a line that reports all of them as failed stays below 1 MiB
constexpr size_t kMaxHolder = 128;  // escaped it is twice as long at most, and the header still fits

using Words = std::vector<std::string>;

struct LeaseHeader {
  int64_t fence = 0;
  std::string holder;
  std::string boot;
  int64_t since_ns = 0;  // 0: it has ended, and its holder at most restores

  std::string text() const;  // kLeaseHeader bytes
};

struct JournalEntry {
  Words words;
  int64_t offset;  // of its line in the file
};

struct LeaseText {
  LeaseHeader header;
  std::vector<JournalEntry> journal;  // what is not undone yet
  size_t size = 0;                    // bytes up to the end of the last whole line

  // `lease` when the text is that of another file, or damaged.
  Error parse(std::string_view text);
};

// Words with tabs between them and a newline; tab, newline and backslash inside of a word are \t, \n and \\.
std::string lease_line(const Words& words);

std::vector<std::string_view> split_tabs(std::string_view line);

// The numbers of a list such as "0-3,6", the reverse of parse_cpu_list.
std::string cpu_list(const std::vector<int>& cpus);

#endif  // BENCH_AGENT_LEASE_TEXT_H_
