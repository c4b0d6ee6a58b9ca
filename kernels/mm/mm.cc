// Which kernels exist, which run on this CPU, and which one to take.
#include "mm/mm.h"

#include <string.h>

#include "base/cpu.h"
#include "mm/families/families.h"

extern "C" {
#define MM_VARIANT(isa, name, weight, activation_bits, tile_m) \
  void name(const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);
#define MM_FAMILY(isa, family, name, weight, activation_bits) MM_VARIANT(isa, name, weight, activation_bits, 1)
#define MM_TILE(isa, family, name, weight, activation_bits, tile_m) MM_VARIANT(isa, name, weight, activation_bits, tile_m)
#include "mm/variants.inc"
#include "mm/families/families.inc"
#include "mm/families/tiles.inc"
#undef MM_VARIANT
#undef MM_FAMILY
#undef MM_TILE

const MmVariant kMmVariants[] = {
#define MM_VARIANT(isa, name, weight, activation_bits, tile_m) \
  {#name, #isa, weight, activation_bits, tile_m, name, weight == 16 ? &mm_family_rows : &mm_family_packed},
#define MM_FAMILY(isa, family, name, weight, activation_bits) {#name, #isa, weight, activation_bits, 1, name, &mm_family_##family},
#define MM_TILE(isa, family, name, weight, activation_bits, tile_m) {#name, #isa, 4, activation_bits, tile_m, name, &mm_family_##family},
#include "mm/variants.inc"
#include "mm/families/families.inc"
#include "mm/families/tiles.inc"
#undef MM_VARIANT
#undef MM_FAMILY
#undef MM_TILE
    {nullptr, nullptr, 0, 0, 0, nullptr, nullptr},
};
}

extern "C" bool mm_runnable(const MmVariant* variant) { return cpu_runs(variant->isa); }

extern "C" bool mm_multiplies(const MmVariant* v, int weight, int activation_bits) {
  return v->weight == weight && (v->activation_bits == 16) == (activation_bits == 16) && v->activation_bits >= activation_bits;
}

// Of the family, or of the default ones if it is null.
static const MmVariant* best(const MmFamily* family, int weight, int activation_bits, int m) {
  const MmVariant* any_tile = nullptr;
  for (const MmVariant* v = kMmVariants; v->name; ++v) {
    if (!mm_multiplies(v, weight, activation_bits) || !mm_runnable(v)) continue;
    if (family ? v->family != family : !v->family->by_default) continue;
    if ((v->tile_m > 1) == (m > 1)) return v;
    if (!any_tile) any_tile = v;
  }
  return any_tile;
}

extern "C" const MmVariant* mm_find(int weight, int activation_bits, int m, const char* name) {
  if (!name) return best(nullptr, weight, activation_bits, m);
  for (const MmVariant* v = kMmVariants; v->name; ++v) {
    if (strcmp(v->name, name) == 0 && mm_multiplies(v, weight, activation_bits) && mm_runnable(v)) return v;
  }
  return nullptr;
}

extern "C" const MmVariant* mm_find_family(const MmFamily* family, int weight, int activation_bits, int m) {
  return best(family, weight, activation_bits, m);
}
