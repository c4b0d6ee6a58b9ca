// WatchCommand: a sensor that is no file: a command, run anew for every sample, whose standard output is kept.
//
// fork would copy the page tables of a process that holds a model, and let its next writes fault: the new process runs in this memory
// until it becomes the command, and only the thread that asks waits for that.
#ifndef BENCH_AGENT_WATCH_COMMAND_H_
#define BENCH_AGENT_WATCH_COMMAND_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "runtime/memory.h"

class WatchCommand {
 public:
  WatchCommand() = default;
  WatchCommand(const WatchCommand&) = delete;
  WatchCommand& operator=(const WatchCommand&) = delete;
  ~WatchCommand();

  // Takes everything that `read` needs. No shell; the program is looked up on PATH.
  Error prepare(const std::vector<std::string>& words);

  // Runs it on the CPUs of the calling thread, allocates nothing, and returns the bytes of its output; -1 when it does not start, ends with
  // another status than 0, says more than `size` bytes (a cut text may end within a number), or takes longer than 2 s, when it is killed
  // with its group. It is also killed when the calling thread ends.
  int read(char* text, int size);

 private:
  pid_t start(int output);

  std::vector<std::string> words_;
  std::vector<char*> arguments_;
  int nowhere_ = -1;
  Memory stack_;
};

#endif  // BENCH_AGENT_WATCH_COMMAND_H_
