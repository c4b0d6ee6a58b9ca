// Which kernels exist, which run on this CPU, and which one to take.
#include "mm/mm.h"

#include <string.h>

#include "base/cpu.h"

extern "C" {
#define MM_VARIANT(isa, name, weight_bits, activation_bits, tile_m) \
  void name(const MmShape*, const MmWeights*, const MmActivations*, const MmOutput*);
#include "mm/variants.inc"
#undef MM_VARIANT

const MmVariant kMmVariants[] = {
#define MM_VARIANT(isa, name, weight_bits, activation_bits, tile_m) {#name, #isa, weight_bits, activation_bits, tile_m, name},
#include "mm/variants.inc"
#undef MM_VARIANT
    {nullptr, nullptr, 0, 0, 0, nullptr},
};
}

namespace {

// Every feature that mm_<isa>.cc is compiled for (cmake/isa.cmake); the CPU must have all of them.
struct Isa {
  const char* name;
  const char* features[3];
};
const Isa kIsas[] = {
    {"scalar", {}},
    {"avx2", {"avx2", "fma", "f16c"}},
    {"neon", {"neon"}},
    {"dotprod", {"neon", "dotprod"}},
};

bool runs(const Isa& isa) {
  for (const char* feature : isa.features)
    if (feature && !cpu_has(feature)) return false;
  return true;
}

bool fits(const MmVariant& v, int weight_bits, int activation_bits) {
  return v.weight_bits == weight_bits && v.activation_bits == activation_bits && mm_runnable(&v);
}

}  // namespace

extern "C" bool mm_runnable(const MmVariant* variant) {
  for (const Isa& isa : kIsas)
    if (strcmp(isa.name, variant->isa) == 0) return runs(isa);
  return false;
}

extern "C" const MmVariant* mm_find(int weight_bits, int activation_bits, int m, const char* name) {
  const MmVariant* any_tile = nullptr;
  for (const MmVariant* v = kMmVariants; v->name; ++v) {
    if (!fits(*v, weight_bits, activation_bits)) continue;
    if (name) {
      if (strcmp(v->name, name) == 0) return v;
      continue;
    }
    if ((v->tile_m > 1) == (m > 1)) return v;
    if (!any_tile) any_tile = v;
  }
  return any_tile;
}
