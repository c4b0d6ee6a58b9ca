// Packings by content.
#include "runtime/general_linear.h"

#include <string.h>

#include <algorithm>

namespace {

template <typename T>
bool same(const T* a, const T* b, int count) {
  return a == b || (a && b && memcmp(a, b, size_t(count) * sizeof(T)) == 0);
}

}  // namespace

int Packing::sums() const {
  int count = 0;
  for (const GroupedColumns& span : spans) count += span.groups();
  return count;
}

bool Packing::operator==(const Packing& o) const {
  return columns == o.columns && bits == o.bits && own_scales == o.own_scales && hadamard == o.hadamard && scale == o.scale && zero == o.zero &&
         side_inputs == o.side_inputs && keeps_row == o.keeps_row && spans == o.spans && same(order, o.order, columns) &&
         same(factors, o.factors, columns) && same(side_begin, o.side_begin, side_inputs) && same(side_end, o.side_end, side_inputs);
}

const Packing* GeneralLinears::intern(Packing packing) {
  const auto found = std::find(packings.begin(), packings.end(), packing);
  if (found != packings.end()) return &*found;
  packings.push_back(std::move(packing));
  return &packings.back();
}
