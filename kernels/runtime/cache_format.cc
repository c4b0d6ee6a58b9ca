// Reads and checks the bench.kv keys and the kv tensors of a file.
#include "runtime/cache_format.h"

#include <algorithm>
#include <string>

#include "base/half.h"

namespace {

constexpr uint32_t kMaxFirst = 1024;

Error pair(const Gguf& file, const char* key, uint32_t maximum, std::vector<uint32_t>* out) {
  if (Error failed = file.u32_array(key, out)) return failed;
  if (out->size() == 2 && std::max((*out)[0], (*out)[1]) <= maximum) return {};
  return error(ErrorCode::kModel, "%s: expected two numbers up to %u, of keys and of values", key, maximum);
}

// Which of the words each of the two strings is.
Error words(const Gguf& file, const char* key, const std::vector<std::string_view>& known, int out[2]) {
  std::vector<std::string_view> found;
  if (Error failed = file.string_array(key, &found)) return failed;
  for (size_t i = 0; i < 2; ++i) {
    const auto at = found.size() == 2 ? std::find(known.begin(), known.end(), found[i]) : known.end();
    if (at == known.end()) return error(ErrorCode::kModel, "%s: expected two words that FORMAT.md, section 8, knows", key);
    out[i] = int(at - known.begin());
  }
  return {};
}

Error read_formats(const Gguf& file, KvFormat formats[2]) {
  int grids[2], axes[2];
  if (Error failed = words(file, "bench.kv.grids", {"fp16", "asymmetric", "symmetric", "power", "codebook"}, grids)) return failed;
  if (Error failed = words(file, "bench.kv.axes", {"token", "channel"}, axes)) return failed;
  std::vector<uint32_t> bits, groups, wide, outliers, ordered;
  if (Error failed = pair(file, "bench.kv.bits", 16, &bits)) return failed;
  if (Error failed = pair(file, "bench.kv.groups", kMaxKvHead, &groups)) return failed;
  if (Error failed = pair(file, "bench.kv.wide", kMaxKvHead, &wide)) return failed;
  if (Error failed = pair(file, "bench.kv.outliers", kMaxKvOutliers, &outliers)) return failed;
  if (Error failed = pair(file, "bench.kv.ordered", 1, &ordered)) return failed;
  for (size_t i = 0; i < 2; ++i) {
    if (static_cast<KvGrid>(grids[i]) == KvGrid::kHalves) continue;
    formats[i] = {static_cast<KvGrid>(grids[i]), axes[i] == 1, int(bits[i]), int(groups[i]), int(wide[i]), int(outliers[i]), ordered[i] == 1};
  }
  return {};
}

// The rules of quantizers/kv_codes.py.
Error check(const KvFormat& format, int head_size) {
  if (format.grid == KvGrid::kHalves) return {};
  const bool codebook = format.grid == KvGrid::kCodebook, power = format.grid == KvGrid::kPower;
  const int most = codebook ? 4 : kMaxKvBits - (format.wide > 0), least = power ? 2 : 1;
  if (format.bits < least || format.bits > most) {
    return error(ErrorCode::kModel, "bench.kv.bits is %d, expected %d to %d of this grid", format.bits, least, most);
  }
  if (format.group % kPlane || (format.wide % kPlane && format.wide != head_size) || format.wide > head_size) {
    return error(ErrorCode::kModel, "bench.kv.groups and bench.kv.wide are %d and %d, expected multiples of %d, wide at most %d", format.group,
                 format.wide, kPlane, head_size);
  }
  if (format.by_channel && (format.group || power)) return {ErrorCode::kModel, "bench.kv: scales of channels have no groups and are no powers of two"};
  if (format.wide && (codebook || format.outliers)) return {ErrorCode::kModel, "bench.kv: wide channels have neither codebook nor outliers"};
  return {};
}

Error halves(const Gguf& file, const std::string& name, uint64_t count, size_t* taken, const uint16_t** out) {
  const uint8_t* bytes = nullptr;
  if (Error failed = file.tensor(name, TensorType::kF16, count, &bytes)) return failed;
  *out = reinterpret_cast<const uint16_t*>(bytes);
  ++*taken;
  return all_finite(*out, count) ? Error{} : error(ErrorCode::kModel, "tensor '%.64s' is not finite", name.c_str());
}

Error order(const Gguf& file, const std::string& name, int heads, int head_size, size_t* taken, const int32_t** out) {
  const uint8_t* bytes = nullptr;
  if (Error failed = file.tensor(name, TensorType::kI32, uint64_t(heads) * uint64_t(head_size), &bytes)) return failed;
  *out = reinterpret_cast<const int32_t*>(bytes);
  ++*taken;
  for (int head = 0; head < heads; ++head) {
    std::vector<bool> seen(static_cast<size_t>(head_size));
    for (int i = 0; i < head_size; ++i) {
      const int32_t channel = (*out)[head * head_size + i];
      if (channel < 0 || channel >= head_size || seen[static_cast<size_t>(channel)]) return error(ErrorCode::kModel, "%s: expected every channel of a head once", name.c_str());
      seen[static_cast<size_t>(channel)] = true;
    }
  }
  return {};
}

Error read_fit(const Gguf& file, const KvFormat& format, const std::string& name, int heads, int head_size, size_t* taken, KvFit* fit) {
  const uint64_t channels = uint64_t(heads) * uint64_t(head_size);
  if (format.by_channel) {
    if (Error failed = halves(file, name + ".scales", channels, taken, &fit->scales)) return failed;
    if (Error failed = halves(file, name + ".offsets", channels, taken, &fit->offsets)) return failed;
  }
  if (format.grid == KvGrid::kCodebook) {
    const int levels = 1 << format.bits;
    if (Error failed = halves(file, name + ".codebook", uint64_t(levels), taken, &fit->codebook)) return failed;
    for (int i = 0; i + 1 < levels; ++i) {
      if (!(half_to_float(fit->codebook[i]) <= half_to_float(fit->codebook[i + 1]))) return error(ErrorCode::kModel, "%s.codebook does not ascend", name.c_str());
    }
  }
  return format.ordered ? order(file, name + ".order", heads, head_size, taken, &fit->order) : Error{};
}

}  // namespace

Error CacheFormat::parse(const Gguf& file, int layers, int heads, int head_size, size_t* taken) {
  declared = file.has("bench.kv.grids");
  if (!declared) return {};
  if (head_size > kMaxKvHead) return error(ErrorCode::kUnsupported, "heads of %d channels with a coded cache, expected at most %d", head_size, kMaxKvHead);
  KvFormat formats[2];
  if (Error failed = read_formats(file, formats)) return failed;
  keys = formats[0];
  values = formats[1];
  for (const KvFormat& format : formats) {
    if (Error failed = check(format, head_size)) return failed;
  }
  uint32_t flags[2];
  if (Error failed = file.u32("bench.kv.rotated", 0, 1, &flags[0])) return failed;
  if (Error failed = file.u32("bench.kv.past_only", 0, 1, &flags[1])) return failed;
  if (Error failed = file.u32("bench.kv.first", 0, kMaxFirst, reinterpret_cast<uint32_t*>(&first))) return failed;
  rotated = flags[0] != 0;
  past_only = flags[1] != 0;
  for (int i = 0; i < layers; ++i) {
    const std::string prefix = "blk." + std::to_string(i) + ".";
    if (Error failed = read_fit(file, keys, prefix + "kv_keys", heads, head_size, taken, &key_fits.emplace_back())) return failed;
    if (Error failed = read_fit(file, values, prefix + "kv_values", heads, head_size, taken, &value_fits.emplace_back())) return failed;
  }
  return {};
}
