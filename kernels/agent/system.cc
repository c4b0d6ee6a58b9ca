// Reads /proc and /sys.
#include "agent/system.h"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <tuple>

#include "agent/arguments.h"
#include "runtime/affinity.h"

namespace {

constexpr size_t kMaxFile = 1 << 20;  // /proc/cpuinfo of a large server is some 500 KB

struct Part {
  int implementer, part;
  const char* name;
};

// MIDR implementer and part numbers: Linux, arch/arm64/include/asm/cputype.h.
constexpr Part kParts[] = {
    {0x41, 0xd03, "Cortex-A53"}, {0x41, 0xd04, "Cortex-A35"},  {0x41, 0xd05, "Cortex-A55"},    {0x41, 0xd07, "Cortex-A57"},
    {0x41, 0xd08, "Cortex-A72"}, {0x41, 0xd09, "Cortex-A73"},  {0x41, 0xd0a, "Cortex-A75"},    {0x41, 0xd0b, "Cortex-A76"},
    {0x41, 0xd0c, "Neoverse-N1"}, {0x41, 0xd0d, "Cortex-A77"}, {0x41, 0xd0e, "Cortex-A76AE"},  {0x41, 0xd40, "Neoverse-V1"},
    {0x41, 0xd41, "Cortex-A78"}, {0x41, 0xd42, "Cortex-A78AE"}, {0x41, 0xd44, "Cortex-X1"},    {0x41, 0xd46, "Cortex-A510"},
    {0x41, 0xd47, "Cortex-A710"}, {0x41, 0xd48, "Cortex-X2"},  {0x41, 0xd49, "Neoverse-N2"},   {0x41, 0xd4b, "Cortex-A78C"},
    {0x41, 0xd4c, "Cortex-X1C"}, {0x41, 0xd4d, "Cortex-A715"}, {0x41, 0xd4e, "Cortex-X3"},     {0x41, 0xd4f, "Neoverse-V2"},
    {0x41, 0xd80, "Cortex-A520"}, {0x41, 0xd81, "Cortex-A720"}, {0x41, 0xd82, "Cortex-X4"},    {0x41, 0xd84, "Neoverse-V3"},
    {0x41, 0xd85, "Cortex-X925"}, {0x41, 0xd87, "Cortex-A725"}, {0x4e, 0x003, "Denver 2"},     {0x4e, 0x004, "Carmel"},
    {0x51, 0x001, "Oryon"},
};

std::string part_name(int implementer, int part) {
  for (const Part& known : kParts) {
    if (known.implementer == implementer && known.part == part) return known.name;
  }
  char name[48];
  snprintf(name, sizeof name, "implementer 0x%02x part 0x%03x", implementer, part);
  return name;
}

// "32K", "2048K", "32M" of sysfs, in bytes.
int64_t parse_size(const std::string& text) {
  char unit = 0;
  long long number = 0;
  if (sscanf(text.c_str(), "%lld%c", &number, &unit) < 1 || number < 0 || number > INT32_MAX) return 0;
  return number * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
}

// Calls field(name, value) for every "name : value" line.
template <typename Field>
void for_each_field(std::string_view text, const Field& field) {
  while (!text.empty()) {
    const std::string_view row = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(row.size() + 1, text.size()));
    const size_t colon = row.find(':');
    if (colon == row.npos) continue;
    const size_t name_end = row.find_last_not_of(" \t", colon ? colon - 1 : 0);
    const size_t value = row.find_first_not_of(" \t", colon + 1);
    if (name_end == row.npos || value == row.npos) continue;
    field(row.substr(0, name_end + 1), std::string(row.substr(value)));
  }
}

std::string cpu_path(int id, const char* file) { return "/sys/devices/system/cpu/cpu" + std::to_string(id) + "/" + file; }

// On most x86 machines every CPU is its own frequency domain, which says nothing about clusters.
void drop_single_policies(std::vector<Core>* cores) {
  for (const Core& core : *cores) {
    if (core.policy >= 0 && core.policy != core.id) return;
  }
  for (Core& core : *cores) core.policy = -1;
}

bool same_cluster(const Core& a, const Core& b) {
  if (a.policy != b.policy) return false;
  // The kernel tells nothing of an offline core but the frequency domain that it belongs to.
  if (a.policy >= 0 && !(a.online && b.online)) return true;
  return std::tie(a.capacity, a.max_khz, a.name) == std::tie(b.capacity, b.max_khz, b.name);
}

void assign_clusters(std::vector<Core>* cores) {
  int clusters = 0;
  for (Core& core : *cores) {
    const auto same = std::find_if(cores->begin(), cores->end(), [&](const Core& other) { return same_cluster(other, core); });
    core.cluster = same->id == core.id ? clusters++ : same->cluster;
  }
}

}  // namespace

std::string System::read(const std::string& path) const {
  FILE* file = fopen((root_ + path).c_str(), "re");
  if (!file) return {};
  std::string text;
  char piece[4096];
  size_t got;
  while (text.size() < kMaxFile && (got = fread(piece, 1, sizeof piece, file)) > 0) text.append(piece, got);
  fclose(file);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' ')) text.pop_back();
  return text;
}

int64_t System::read_number(const std::string& path) const {
  int64_t number;
  return parse_integer(read(path), 0, INT64_MAX, &number) ? number : -1;
}

std::vector<int> System::present() const {
  const std::vector<int> listed = parse_cpu_list(read("/sys/devices/system/cpu/present"));
  return listed.empty() ? affinity() : listed;
}

int64_t System::current_khz(int cpu) const { return read_number(cpu_path(cpu, "cpufreq/scaling_cur_freq")); }

std::vector<int> System::affinity() const {
  std::string allowed;
  for_each_field(read("/proc/self/status"), [&](std::string_view name, std::string value) {
    if (name == "Cpus_allowed_list") allowed = std::move(value);
  });
  const std::vector<int> cpus = parse_cpu_list(allowed);
  return cpus.empty() ? ::affinity(0) : cpus;
}

std::vector<Core> System::cores() const {
  const std::vector<int> online = parse_cpu_list(read("/sys/devices/system/cpu/online"));
  std::vector<Core> cores;
  for (const int id : present()) {
    Core& core = cores.emplace_back();
    core.id = id;
    core.online = online.empty() || std::find(online.begin(), online.end(), id) != online.end();
    core.capacity = read_number(cpu_path(id, "cpu_capacity"));
    core.max_khz = read_number(cpu_path(id, "cpufreq/cpuinfo_max_freq"));
    core.governor = read(cpu_path(id, "cpufreq/scaling_governor"));
  }
  read_policies(&cores);
  drop_single_policies(&cores);
  name_cores(&cores);
  assign_clusters(&cores);
  return cores;
}

// A domain lists its offline cores too, but only its online cores have a folder that lists it.
void System::read_policies(std::vector<Core>* cores) const {
  for (const Core& core : *cores) {
    std::string related = read(cpu_path(core.id, "cpufreq/related_cpus"));
    std::replace(related.begin(), related.end(), ' ', ',');
    const std::vector<int> domain = parse_cpu_list(related);
    for (Core& member : *cores) {
      if (std::find(domain.begin(), domain.end(), member.id) != domain.end()) member.policy = domain.front();
    }
  }
}

// From /proc/cpuinfo: x86 gives a model name, Arm the numbers of implementer and part, for online cores only.
void System::name_cores(std::vector<Core>* cores) const {
  Core* core = nullptr;
  int implementer = 0;
  for_each_field(read("/proc/cpuinfo"), [&](std::string_view name, const std::string& value) {
    if (name == "processor") {
      const auto found = std::find_if(cores->begin(), cores->end(), [&](const Core& each) { return std::to_string(each.id) == value; });
      core = found == cores->end() ? nullptr : &*found;
    }
    if (name == "CPU implementer") implementer = static_cast<int>(strtol(value.c_str(), nullptr, 16));
    if (core && name == "CPU part") core->name = part_name(implementer, static_cast<int>(strtol(value.c_str(), nullptr, 16)));
#if defined(__x86_64__)
    // Not on Arm: an emulator shows the host's model name there.
    if (core && name == "model name") core->name = value;
#endif
  });
}

std::string System::cpu_model() const {
  std::vector<std::string> names;
  for (const Core& core : cores()) {
    if (!core.name.empty() && std::find(names.begin(), names.end(), core.name) == names.end()) names.push_back(core.name);
  }
  std::string model;
  for (const std::string& name : names) model += (model.empty() ? "" : " + ") + name;
  return model.empty() ? "unknown" : model;
}

std::vector<Cache> System::caches() const {
  std::vector<Cache> caches;
  for (const int id : present()) {
    for (int index = 0; index < 8; ++index) {
      const std::string folder = cpu_path(id, "cache/index") + std::to_string(index) + "/";
      Cache cache;
      cache.level = static_cast<int>(read_number(folder + "level"));
      cache.type = read(folder + "type");
      cache.bytes = parse_size(read(folder + "size"));
      cache.cores = parse_cpu_list(read(folder + "shared_cpu_list"));
      // A shared cache is listed once, by the first of its cores that is present.
      const bool listed = std::any_of(caches.begin(), caches.end(), [&](const Cache& other) {
        return other.level == cache.level && other.type == cache.type && other.cores == cache.cores;
      });
      if (cache.level > 0 && cache.bytes > 0 && !cache.cores.empty() && !listed) caches.push_back(std::move(cache));
    }
  }
  return caches;
}

std::string System::kernel() const { return read("/proc/sys/kernel/osrelease"); }

int64_t System::memory_kib(const char* field) const {
  int64_t kib = 0;
  for_each_field(read("/proc/meminfo"), [&](std::string_view name, const std::string& value) {
    if (name == field) kib = strtoll(value.c_str(), nullptr, 10);
  });
  return kib;
}

int64_t last_level_cache(const std::vector<Cache>& caches) {
  int level = 0;
  int64_t bytes = 0;
  for (const Cache& cache : caches) {
    if (cache.level < level || (cache.level == level && cache.bytes < bytes)) continue;
    level = cache.level;
    bytes = cache.bytes;
  }
  return bytes;
}
