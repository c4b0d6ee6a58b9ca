// The families of kMmFamilies by name, for the table of variants.
#ifndef BENCH_MM_FAMILIES_FAMILIES_H_
#define BENCH_MM_FAMILIES_FAMILIES_H_

#include "mm/mm.h"

extern "C" {
extern const MmFamily mm_family_packed;
extern const MmFamily mm_family_rows;
extern const MmFamily mm_family_planes;
extern const MmFamily mm_family_table;
extern const MmFamily mm_family_agile;
extern const MmFamily mm_family_deep;
extern const MmFamily mm_family_codebook;
extern const MmFamily mm_family_twolevel;
extern const MmFamily mm_family_trip;
extern const MmFamily mm_family_rowsplit;
extern const MmFamily mm_family_sidecar;
extern const MmFamily mm_family_sparse;
}

#endif  // BENCH_MM_FAMILIES_FAMILIES_H_
