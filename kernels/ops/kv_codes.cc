// Numbers to codes, one row at a time.
#include "ops/kv_codes.h"

#include <math.h>

#include "base/check.h"
#include "base/half.h"

namespace {

// The levels, or bounds of them, that the ends of a range are put on.
struct Ends {
  float first, last;
};

Ends ends(KvGrid grid, int bits) {
  const int most = bits > 1 ? (1 << (bits - 1)) - 1 : 1;
  if (grid == KvGrid::kCodebook) return {-1, 1};
  if (grid == KvGrid::kAsymmetric) return {0, float((1 << bits) - 1)};
  return {float(-most), float(most)};
}

void fill_levels(const KvFormat& format, const KvFit& fit, int bits, KvLevels* out) {
  const Ends range = ends(format.grid, bits);
  const float step = bits == 1 && format.grid != KvGrid::kAsymmetric ? 2 : 1;
  out->count = format.grid == KvGrid::kCodebook ? 1 << bits : int((range.last - range.first) / step) + 1;
  for (int i = 0; i < out->count; ++i) out->levels[i] = fit.codebook ? half_to_float(fit.codebook[i]) : range.first + step * float(i);
  for (int i = 0; i + 1 < out->count; ++i) out->middles[i] = (out->levels[i + 1] + out->levels[i]) * 0.5f;
}

struct Scale {
  float scale, offset;
};

// With which levels reach from `low` to `high`.
Scale range_scale(float low, float high, KvGrid grid, int bits) {
  const Ends range = ends(grid, bits);
  const float most = fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high);
  if (grid == KvGrid::kPower) {
    const int exponent = int(float_bits(most) >> 23) - (bits - 2);  // that of a step in a mantissa of so many bits
    return {float_from_bits(uint32_t(exponent > 0 ? exponent : 0) << 23), 0};
  }
  if (grid == KvGrid::kSymmetric) return {half_to_float(half_from_float(most / range.last)), 0};
  const float scale = half_to_float(half_from_float((high - low) / (range.last - range.first)));
  return {scale, half_to_float(half_from_float(low - scale * range.first))};
}

Scale rows_scale(const float* x, const bool* kept, const KvPart& part, KvGrid grid) {
  float low = INFINITY, high = -INFINITY;
  for (int i = part.begin; i < part.end; ++i) {
    if (kept[i]) continue;
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  return low > high ? range_scale(0, 0, grid, part.bits) : range_scale(low, high, grid, part.bits);
}

// The nearest level, the lower one where two are: the number of middles below x.
int code_of(float x, const KvLevels& levels) {
  int low = 0, high = levels.count - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (levels.middles[middle] < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

void put_half(uint8_t* at, float x) {
  const uint16_t half = half_from_float(x);
  __builtin_memcpy(at, &half, sizeof half);
}

KvPart part_at(const KvFormat& format, int size, int begin) {
  int end = size;
  if (begin < format.wide && format.wide < end) end = format.wide;
  if (format.group) {
    const int next = (begin / format.group + 1) * format.group;
    end = next < end ? next : end;
  }
  return {begin, end, format.bits + (begin < format.wide)};
}

bool has_offset(KvGrid grid) { return grid == KvGrid::kAsymmetric || grid == KvGrid::kCodebook; }

Scale channel_scale(const KvCodes& codes, int head, int channel) {
  const int64_t at = int64_t{head} * codes.size + channel;
  return {half_to_float(codes.fit.scales[at]), half_to_float(codes.fit.offsets[at])};
}

// How far x lies from 0, or outside the range of its channel.
float excess(const KvCodes& codes, int head, int channel, float x) {
  if (!codes.format.by_channel) return fabsf(x);
  const Ends range = ends(codes.format.grid, codes.format.bits);
  const Scale own = channel_scale(codes, head, channel);
  const float below = (own.offset + own.scale * range.first) - x, above = x - (own.offset + own.scale * range.last);
  return below > above ? below : above;
}

// Marks the numbers of a row that lie farthest out, the first of equals, and stores them.
void put_outliers(const KvCodes& codes, int head, const float* x, bool* kept, uint8_t* to) {
  float far[kMaxKvHead];
  for (int i = 0; i < codes.size; ++i) far[i] = codes.format.outliers ? excess(codes, head, i, x[i]) : 0;
  for (int i = 0; i < codes.size; ++i) kept[i] = false;
  for (int n = 0; n < codes.format.outliers && n < codes.size; ++n, to += 4) {
    int farthest = -1;
    for (int i = 0; i < codes.size; ++i) {
      if (!kept[i] && (farthest < 0 || far[i] > far[farthest])) farthest = i;
    }
    kept[farthest] = true;
    const uint16_t channel = uint16_t(farthest);
    __builtin_memcpy(to, &channel, sizeof channel);
    put_half(to + 2, x[farthest]);
  }
}

void put_scale(const KvCodes& codes, int part, const Scale& own, uint8_t* row) {
  if (codes.format.grid == KvGrid::kPower) {
    row[codes.exponents_at + part] = uint8_t(float_bits(own.scale) >> 23);
    return;
  }
  put_half(row + part * codes.scale_bytes, own.scale);
  if (has_offset(codes.format.grid)) put_half(row + part * codes.scale_bytes + 2, own.offset);
}

// Returns what comes behind the planes of this part. `own` is null where every channel has a scale.
uint8_t* put_codes(const KvCodes& codes, const KvPart& part, int head, const Scale* own, const float* x, uint8_t* planes) {
  const KvLevels& levels = codes.levels[part.bits - codes.format.bits];
  for (int i = part.begin; i < part.end; i += kPlane, planes += part.bits) {
    for (int bit = 0; bit < part.bits; ++bit) planes[bit] = 0;
    for (int lane = 0; lane < kPlane && i + lane < part.end; ++lane) {
      const Scale here = own ? *own : channel_scale(codes, head, i + lane);
      const float inverse = here.scale == 0 ? 0.0f : 1.0f / here.scale;
      const int code = code_of((x[i + lane] - here.offset) * inverse, levels);
      for (int bit = 0; bit < part.bits; ++bit) planes[bit] |= uint8_t((code >> bit & 1) << lane);
    }
  }
  return planes;
}

}  // namespace

void kv_codes(const KvFormat& format, const KvFit& fit, int head_size, KvCodes* out) {
  CHECK(head_size <= kMaxKvHead);
  *out = {};
  out->format = format;
  out->fit = fit;
  out->size = head_size;
  out->row_bytes = 2 * head_size;
  if (format.grid == KvGrid::kHalves) return;
  fill_levels(format, fit, format.bits, &out->levels[0]);
  if (format.wide) fill_levels(format, fit, format.bits + 1, &out->levels[1]);
  int planes = 0;
  for (int begin = 0; begin < head_size; begin = out->part[out->parts++].end) {
    const KvPart& part = out->part[out->parts] = part_at(format, head_size, begin);
    planes += (part.end - part.begin + kPlane - 1) / kPlane * part.bits;
  }
  const bool power = format.grid == KvGrid::kPower;
  out->scale_bytes = format.by_channel || power ? 0 : has_offset(format.grid) ? 4 : 2;
  out->outliers_at = out->parts * out->scale_bytes;
  out->exponents_at = out->outliers_at + 4 * format.outliers;
  out->planes_at = out->exponents_at + (power ? out->parts : 0);
  out->row_bytes = (out->planes_at + planes + 1) / 2 * 2;
}

void kv_store(const KvCodes& codes, int head, const float* x, uint8_t* row) {
  if (codes.format.grid == KvGrid::kHalves) {
    for (int i = 0; i < codes.size; ++i) put_half(row + 2 * i, x[i]);
    return;
  }
  float ordered[kMaxKvHead];
  bool kept[kMaxKvHead];
  const int32_t* order = codes.fit.order ? codes.fit.order + int64_t{head} * codes.size : nullptr;
  for (int i = 0; i < codes.size; ++i) ordered[i] = x[order ? order[i] : i];
  put_outliers(codes, head, ordered, kept, row + codes.outliers_at);
  uint8_t* planes = row + codes.planes_at;
  for (int p = 0; p < codes.parts; ++p) {
    const KvPart& part = codes.part[p];
    if (codes.format.by_channel) {
      planes = put_codes(codes, part, head, nullptr, ordered, planes);
      continue;
    }
    const Scale own = rows_scale(ordered, kept, part, codes.format.grid);
    put_scale(codes, p, own, row);
    planes = put_codes(codes, part, head, &own, ordered, planes);
  }
}
