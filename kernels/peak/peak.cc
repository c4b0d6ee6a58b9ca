// Which peaks exist. Callers ask cpu_runs(isa) before they run one.
#include "peak/peak.h"

#include "peak/reads.h"

#if defined(__x86_64__)
#define PEAK_ALL_READS PEAK_READS(avx2) PEAK_READS(scalar)
#else
#define PEAK_ALL_READS PEAK_READS(neon) PEAK_READS(scalar)
#endif

extern "C" {
#define PEAK_COMPUTE(isa, name, what, loop) int64_t name(int64_t turns);
#include "peak/peaks.inc"
#undef PEAK_COMPUTE
#define PEAK_READ(isa, streams, ahead) int64_t PEAK_READ_NAME(isa, streams, ahead)(const uint8_t* data, int64_t bytes);
PEAK_ALL_READS
#undef PEAK_READ
}

const PeakCompute kPeakComputes[] = {
#define PEAK_COMPUTE(isa, name, what, loop) {#isa, what, loop, name},
#include "peak/peaks.inc"
#undef PEAK_COMPUTE
    {nullptr, nullptr, nullptr, nullptr},
};

const PeakRead kPeakReads[] = {
#define PEAK_READ(isa, streams, ahead) {#isa, streams, ahead, PEAK_READ_NAME(isa, streams, ahead)},
    PEAK_ALL_READS
#undef PEAK_READ
    {nullptr, 0, 0, nullptr},
};
