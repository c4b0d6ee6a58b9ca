// Reads and writes the text of a lease file. Nothing of it is believed before it was checked.
#include "agent/lease_text.h"

#include <algorithm>

#include "agent/arguments.h"
#include "base/check.h"

namespace {

constexpr char kFirstLine[] = "bench-lease 1";
constexpr size_t kMaxValue = 4096;  // a page: what the kernel gives of a knob

Error damaged(const char* what) {
  return error(ErrorCode::kLease, "this is no lease file of version 1, or a damaged one (%s): name another file, or remove it when no lease is held", what);
}

bool unescape(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      *out += text[i];
      continue;
    }
    const char code = ++i < text.size() ? text[i] : '\0';
    if (code != 't' && code != 'n' && code != '\\') return false;
    *out += code == 't' ? '\t' : code == 'n' ? '\n' : '\\';
  }
  return true;
}

bool parse_words(std::string_view line, Words* words) {
  for (const std::string_view word : split_tabs(line)) {
    if (!unescape(word, &words->emplace_back())) return false;
  }
  return true;
}

// Takes a line with its newline off the text; false at the end and before a line that has no end.
bool take_line(std::string_view* text, std::string_view* line) {
  const size_t end = text->find('\n');
  if (end == text->npos) return false;
  *line = text->substr(0, end);
  text->remove_prefix(end + 1);
  return true;
}

bool take_field(std::string_view* text, const char* name, std::string* value) {
  std::string_view line;
  Words words;
  if (!take_line(text, &line) || !parse_words(line, &words) || words.size() != 2 || words[0] != name) return false;
  *value = std::move(words[1]);
  return true;
}

bool parse_header(std::string_view text, LeaseHeader* header) {
  std::string_view line;
  std::string fence, since;
  return take_line(&text, &line) && line == kFirstLine && take_field(&text, "fence", &fence) && parse_integer(fence, 1, INT64_MAX, &header->fence) &&
         take_field(&text, "holder", &header->holder) && header->holder.size() <= kMaxHolder && take_field(&text, "boot", &header->boot) &&
         header->boot.size() <= 36 && take_field(&text, "since", &since) && parse_integer(since, 0, INT64_MAX, &header->since_ns) &&
         take_line(&text, &line) && text.empty();
}

bool is_entry(const Words& words) {
  int64_t number;
  if (words[0] == "write") return words.size() == 3 && words[2].size() <= kMaxValue;
  if (words[0] == "run") return words.size() >= 2;
  return words[0] == "mask" && words.size() == 4 && parse_integer(words[1], 1, INT32_MAX, &number) &&
         parse_integer(words[2], 0, INT64_MAX, &number) && !parse_cpu_list(words[3]).empty();
}

}  // namespace

std::string lease_line(const Words& words) {
  std::string line;
  for (const std::string& word : words) {
    if (&word != &words.front()) line += '\t';
    for (const char byte : word) {
      if (byte == '\t' || byte == '\n' || byte == '\\') line += '\\';
      line += byte == '\t' ? 't' : byte == '\n' ? 'n' : byte;
    }
  }
  return line + '\n';
}

std::vector<std::string_view> split_tabs(std::string_view line) {
  std::vector<std::string_view> words;
  for (size_t end; (end = line.find('\t')) != line.npos; line.remove_prefix(end + 1)) words.push_back(line.substr(0, end));
  words.push_back(line);
  return words;
}

std::string cpu_list(const std::vector<int>& cpus) {
  std::string list;
  for (size_t i = 0; i < cpus.size(); ++i) {
    const size_t first = i;
    while (i + 1 < cpus.size() && cpus[i + 1] == cpus[i] + 1) ++i;
    list += (list.empty() ? "" : ",") + std::to_string(cpus[first]);
    if (i > first) list += "-" + std::to_string(cpus[i]);
  }
  return list;
}

std::string LeaseHeader::text() const {
  std::string text = std::string(kFirstLine) + "\n" + lease_line({"fence", std::to_string(fence)}) + lease_line({"holder", holder}) +
                     lease_line({"boot", boot}) + lease_line({"since", std::to_string(since_ns)}) + "#";
  CHECK(text.size() < kLeaseHeader);
  text.resize(kLeaseHeader - 1, ' ');
  return text + "\n";
}

Error LeaseText::parse(std::string_view text) {
  if (text.size() > kMaxLeaseFile) return damaged("longer than 64 KiB");
  if (text.size() < kLeaseHeader || !parse_header(text.substr(0, kLeaseHeader), &header)) return damaged("its header");
  size = kLeaseHeader;
  std::string_view rest = text.substr(kLeaseHeader), line;
  while (take_line(&rest, &line)) {
    Words words;
    if (!line.starts_with('#')) {
      if (!parse_words(line, &words) || !is_entry(words)) return damaged("its journal");
      journal.push_back({std::move(words), static_cast<int64_t>(size)});
    }
    size = text.size() - rest.size();
  }
  return {};
}
