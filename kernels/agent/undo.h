// Undo: puts back one thing that a lease changed.
#ifndef BENCH_AGENT_UNDO_H_
#define BENCH_AGENT_UNDO_H_

#include <sys/types.h>

#include <string>

#include "agent/lease_text.h"

// `io` when it could not be put back. A thread that has ended has nothing to put back; its number may belong to another by now.
Error undo(const Words& entry);

// What the entry undoes, for a reader: "write /sys/..", "mask 1234", "run sudo -n ..".
std::string undo_name(const Words& entry);

// When the thread started, in clock ticks since boot, as the kernel writes it: with its number it names the thread for good. Empty when
// there is no such thread.
std::string start_time(pid_t thread);

#endif  // BENCH_AGENT_UNDO_H_
