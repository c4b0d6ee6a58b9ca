// Numbers to codes, one row at a time.
#include "ops/kv_codes.h"

#include <math.h>

#include "base/check.h"
#include "base/half.h"
#include "ops/planes.h"

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
  out->first = range.first;
  out->step = bits == 1 && format.grid != KvGrid::kAsymmetric ? 2 : 1;
  out->count = format.grid == KvGrid::kCodebook ? 1 << bits : int((range.last - range.first) / out->step) + 1;
  if (format.grid != KvGrid::kCodebook) return;
  for (int i = 0; i < out->count; ++i) out->levels[i] = half_to_float(fit.codebook[i]);
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

// Lanes, since the order of comparisons may not change otherwise.
template <typename Better>
float extreme(const float* x, int count, float start, const Better& better) {
  float lanes[kPlane];
  for (float& lane : lanes) lane = start;
  int i = 0;
  for (; i + kPlane <= count; i += kPlane)
    for (int lane = 0; lane < kPlane; ++lane) lanes[lane] = better(x[i + lane], lanes[lane]) ? x[i + lane] : lanes[lane];
  for (; i < count; ++i) lanes[0] = better(x[i], lanes[0]) ? x[i] : lanes[0];
  for (const float lane : lanes) start = better(lane, start) ? lane : start;
  return start;
}

// Of the numbers that are not kept as they are.
Scale part_scale(const float* x, const bool* kept, const KvPart& part, const KvFormat& format) {
  float lows[kMaxKvHead], highs[kMaxKvHead];
  const float *low_of = x + part.begin, *high_of = low_of;
  const int count = part.end - part.begin;
  for (int i = 0; i < count && format.outliers; ++i) {
    const bool out = kept[part.begin + i];
    lows[i] = out ? INFINITY : x[part.begin + i];
    highs[i] = out ? -INFINITY : x[part.begin + i];
    low_of = lows, high_of = highs;
  }
  const float low = extreme(low_of, count, INFINITY, [](float a, float b) { return a < b; });
  const float high = extreme(high_of, count, -INFINITY, [](float a, float b) { return a > b; });
  return low > high ? range_scale(0, 0, format.grid, part.bits) : range_scale(low, high, format.grid, part.bits);
}

// The nearest integer, the lower one where two are, of |x| below 2^22. The sum has no room for a fraction; what it rounded away is exact.
int nearest_below(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  const float near = (x + kMagic) - kMagic;
  return int(near) - (x - near == -0.5f);
}

// Codes of the nearest levels, the lower one where two are: how many middles are below x. NaN becomes 0.
void nearest_codes(const float* x, int count, const KvLevels& levels, KvGrid grid, uint8_t* codes) {
  if (grid == KvGrid::kCodebook || levels.step != 1) {
    for (int i = 0; i < count; ++i) codes[i] = 0;
    for (int m = 0; m + 1 < levels.count; ++m)  // of two codes the middle is 0, as middles[0] is
      for (int i = 0; i < count; ++i) codes[i] = uint8_t(codes[i] + (levels.middles[m] < x[i]));
    return;
  }
  const float first = levels.first, last = first + float(levels.count - 1);
  for (int i = 0; i < count; ++i) {
    const float low = x[i] > first ? x[i] : first, inside = low < last ? low : last;
    codes[i] = uint8_t(nearest_below(inside) - int(first));
  }
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

// Scales and offsets of the channels of a head.
struct ChannelScales {
  float scale[kMaxKvHead], offset[kMaxKvHead];
};

void channel_scales(const KvCodes& codes, int head, ChannelScales* out) {
  const int64_t at = int64_t{head} * codes.size;
  for (int i = 0; i < codes.size; ++i) out->scale[i] = half_to_float(codes.fit.scales[at + i]);
  for (int i = 0; i < codes.size; ++i) out->offset[i] = half_to_float(codes.fit.offsets[at + i]);
}

// How far numbers lie from 0, or outside the ranges of their channels.
void excesses(const KvCodes& codes, const ChannelScales& channels, const float* x, float* far) {
  const Ends range = ends(codes.format.grid, codes.format.bits);
  for (int i = 0; i < codes.size; ++i) {
    const float scale = channels.scale[i], offset = channels.offset[i];
    const float below = (offset + scale * range.first) - x[i], above = x[i] - (offset + scale * range.last);
    far[i] = below > above ? below : above;
  }
}

// Where the `count` largest are, the first of equals, in falling order.
void find_largest(const float* x, int size, int count, int* found) {
  int n = 0;
  for (int i = 0; i < size; ++i) {
    if (n == count && !(x[i] > x[found[n - 1]])) continue;
    int at = n < count ? n++ : n - 1;
    for (; at > 0 && x[i] > x[found[at - 1]]; --at) found[at] = found[at - 1];
    found[at] = i;
  }
}

// Marks the numbers of a row that lie farthest out, and stores them.
void put_outliers(const KvCodes& codes, const ChannelScales& channels, const float* x, bool* kept, uint8_t* to) {
  float far[kMaxKvHead];
  int found[kMaxKvOutliers];
  const int count = codes.format.outliers < codes.size ? codes.format.outliers : codes.size;
  if (!count) return;
  for (int i = 0; i < codes.size; ++i) kept[i] = false;
  if (codes.format.by_channel) {
    excesses(codes, channels, x, far);
  } else {
    for (int i = 0; i < codes.size; ++i) far[i] = fabsf(x[i]);
  }
  find_largest(far, codes.size, count, found);
  for (int n = 0; n < count; ++n, to += 4) {
    kept[found[n]] = true;
    const uint16_t channel = uint16_t(found[n]);
    __builtin_memcpy(to, &channel, sizeof channel);
    put_half(to + 2, x[found[n]]);
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

float inverse(float scale) { return scale == 0 ? 0.0f : 1.0f / scale; }

// Of numbers over their scales. Returns what comes behind the planes of this part.
uint8_t* put_codes(const KvCodes& codes, const KvPart& part, const float* scaled, uint8_t* planes) {
  uint8_t each[kMaxKvHead + kPlane];
  const int count = part.end - part.begin;
  nearest_codes(scaled, count, codes.levels[part.bits - codes.format.bits], codes.format.grid, each);
  for (int i = count; i % kPlane; ++i) each[i] = 0;
  for (int i = 0; i < count; i += kPlane, planes += part.bits) {
    uint64_t word;
    __builtin_memcpy(&word, each + i, sizeof word);
    transpose_bits(&word);
    for (int bit = 0; bit < part.bits; ++bit) planes[bit] = uint8_t(word >> 8 * bit);
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
  float ordered[kMaxKvHead], scaled[kMaxKvHead];
  bool kept[kMaxKvHead];
  ChannelScales channels;
  const int32_t* order = codes.fit.order ? codes.fit.order + int64_t{head} * codes.size : nullptr;
  for (int i = 0; i < codes.size; ++i) ordered[i] = x[order ? order[i] : i];
  if (codes.format.by_channel) channel_scales(codes, head, &channels);
  put_outliers(codes, channels, ordered, kept, row + codes.outliers_at);
  uint8_t* planes = row + codes.planes_at;
  for (int p = 0; p < codes.parts; ++p) {
    const KvPart& part = codes.part[p];
    if (codes.format.by_channel) {
      for (int i = part.begin; i < part.end; ++i) scaled[i] = (ordered[i] - channels.offset[i]) * inverse(channels.scale[i]);
    } else {
      const Scale own = part_scale(ordered, kept, part, codes.format);
      put_scale(codes, p, own, row);
      const float factor = inverse(own.scale);
      for (int i = part.begin; i < part.end; ++i) scaled[i] = (ordered[i] - own.offset) * factor;
    }
    planes = put_codes(codes, part, scaled + part.begin, planes);
  }
}
