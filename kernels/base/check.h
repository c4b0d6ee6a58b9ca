// CHECK: a precondition that stays on in release builds. Says which one failed and aborts.
#ifndef BENCH_BASE_CHECK_H_
#define BENCH_BASE_CHECK_H_

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                       \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: precondition failed: %s\n", __FILE__, __LINE__, #condition);     \
      abort();                                                                                 \
    }                                                                                          \
  } while (0)

#endif  // BENCH_BASE_CHECK_H_
