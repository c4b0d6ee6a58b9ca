// agent info: what this machine is, and which kernels it can run.
#include <unistd.h>

#include <algorithm>

#include "agent/commands.h"
#include "agent/output.h"
#include "agent/system.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "mm/mm.h"

namespace {

#if defined(__x86_64__)
constexpr char kArch[] = "x86_64";
#else
constexpr char kArch[] = "aarch64";
#endif

void add_known(Json* json, const char* key, int64_t number) {
  json->key(key);
  number < 0 ? json->null() : json->value(number);
}

void add_cores(Json* json, const std::vector<Core>& cores) {
  json->key("cores").begin('[');
  for (const Core& core : cores) {
    json->begin('{').key("id").value(core.id).key("online").value(core.online);
    add_known(json, "capacity", core.capacity);
    add_known(json, "max_khz", core.max_khz);
    json->key("governor");
    core.governor.empty() ? json->null() : json->value(core.governor);
    json->key("cluster").value(core.cluster).end('}');
  }
  json->end(']');
}

void add_clusters(Json* json, const std::vector<Core>& cores) {
  json->key("clusters").begin('[');
  int next = 0;
  for (const Core& first : cores) {
    if (first.cluster != next) continue;
    std::vector<int> members;
    for (const Core& core : cores) {
      if (core.cluster == next) members.push_back(core.id);
    }
    json->begin('{').key("id").value(next++);
    add_list(json, "cores", members);
    add_known(json, "capacity", first.capacity);
    add_known(json, "max_khz", first.max_khz);
    json->end('}');
  }
  json->end(']');
}

void add_caches(Json* json, const std::vector<Cache>& caches) {
  json->key("caches").begin('[');
  for (const Cache& cache : caches) {
    json->begin('{').key("level").value(cache.level).key("type").value(cache.type).key("bytes").value(cache.bytes);
    add_list(json, "cores", cache.cores);
    json->end('}');
  }
  json->end(']');
}

void add_abilities(Json* json) {
  json->key("features").begin('[');
  for (const CpuFeature* feature = kCpuFeatures; feature->name; ++feature) {
    if (cpu_executes(*feature)) json->value(feature->name);
  }
  json->end(']').key("variants").begin('[');
  for (const MmVariant* variant = kMmVariants; variant->name; ++variant) {
    if (mm_runnable(variant)) json->value(variant->name);
  }
  json->end(']');
}

}  // namespace

Error run_info(Arguments* arguments) {
  std::string root;
  while (arguments->next()) {
    if (arguments->is("--root")) {
      root = arguments->text();
    } else {
      arguments->refuse();
    }
  }
  if (Error failed = arguments->error()) return failed;

  const System system(root);
  const std::vector<Core> cores = system.cores();
  Json info = line("info");
  info.key("arch").value(kArch).key("cpu_model").value(system.cpu_model()).key("os").value("Linux").key("kernel").value(system.kernel());
  info.key("page_size").value(sysconf(_SC_PAGESIZE)).key("timer_resolution_ns").value(timer_resolution_ns());
  add_cores(&info, cores);
  add_clusters(&info, cores);
  add_list(&info, "affinity", system.affinity());
  add_caches(&info, system.caches());
  info.key("memory").begin('{').key("total_bytes").value(system.memory_kib("MemTotal") * 1024);
  info.key("available_bytes").value(system.memory_kib("MemAvailable") * 1024).end('}');
  add_abilities(&info);
  emit(&info);
  return {};
}
