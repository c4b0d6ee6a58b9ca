// Reading with the registers that every CPU has.
#include <stdint.h>

#define REGISTER "r"
typedef uint64_t __attribute__((may_alias)) Vector;
#include "peak/read.h"

PEAK_READS(scalar)
