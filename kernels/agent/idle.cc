// agent idle: does nothing but watch: what the device draws at rest, seen by the same thread that sees it at work.
#include <errno.h>
#include <time.h>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/watch.h"
#include "base/clock.h"

namespace {

void rest(int64_t ms) {
  timespec left = {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1000000)};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

}  // namespace

Error parse_idle(Arguments* arguments, IdleOptions* options) {
  while (arguments->next()) {
    if (arguments->is("--ms")) {
      options->ms = arguments->integer(1, kMaxMs);
    } else if (!options->team.take(arguments) && !options->watch.take(arguments)) {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;
  if (options->ms == 0) return {ErrorCode::kUsage, "--ms N is missing"};
  return options->team.settle();
}

Error run_idle(Arguments* arguments) {
  IdleOptions options;
  if (Error failed = parse_idle(arguments, &options)) return failed;
  Watch watch(options.watch, options.team.cpus);
  Pool pool;
  if (Error failed = pool.start(options.team.threads, options.team.cpus)) return failed;
  if (Error failed = watch.start(&pool)) return failed;
  const int64_t begin = now_ns();
  rest(options.ms);
  const int64_t end = now_ns();
  watch.stop();
  tell_cpus(pool.cpus());
  Json idle = line("idle");
  idle.key("begin_ns").value(begin).key("end_ns").value(end);
  emit(&idle);
  watch.report();
  return {};
}
