// PEAK_READS(isa): every pattern of reading, one PEAK_READ(isa, streams, ahead) each. Declarations, definitions and the table come
// from this list.
#ifndef BENCH_PEAK_READS_H_
#define BENCH_PEAK_READS_H_

#define PEAK_READS(isa)    \
  PEAK_READ(isa, 1, 0)     \
  PEAK_READ(isa, 1, 1024)  \
  PEAK_READ(isa, 2, 0)     \
  PEAK_READ(isa, 2, 1024)  \
  PEAK_READ(isa, 4, 0)     \
  PEAK_READ(isa, 4, 512)   \
  PEAK_READ(isa, 4, 2048)  \
  PEAK_READ(isa, 8, 0)     \
  PEAK_READ(isa, 8, 1024)

#define PEAK_READ_NAME(isa, streams, ahead) peak_read_##isa##_##streams##x##ahead

#endif  // BENCH_PEAK_READS_H_
