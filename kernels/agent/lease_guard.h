// LeaseGuard: what a launch does about the lease it runs under, so that one which comes late, or outlives its harness, does not disturb
// whoever holds the device now.
#ifndef BENCH_AGENT_LEASE_GUARD_H_
#define BENCH_AGENT_LEASE_GUARD_H_

#include <string>

#include "runtime/error.h"

// `variable` is BENCH_LEASE of the environment, FENCE:PATH; null: the launch runs without a lease.
// `lease` when that lease is not held now. From then on SIGIO comes when it ends, by whatever end of its holder: the launch registers
// nowhere and polls nothing. It watches the file, and the kernel tells it when the holder's descriptor closes, even by SIGKILL.
Error guard_launch(const char* variable);

#endif  // BENCH_AGENT_LEASE_GUARD_H_
