// One row a sample while they come in, one column a value when they are printed.
#include "agent/samples.h"

#include <string.h>

#include <algorithm>

#include "agent/output.h"

namespace {

constexpr size_t kMaxSamples = 1000000;
constexpr size_t kRowsBytes = 64 << 20;
constexpr size_t kTextsBytes = 40 << 20;  // an hour of 1 KiB at 10 Hz

constexpr size_t kLineSamples = 500;
constexpr size_t kLineBytes = 1000000;
constexpr size_t kNumberBytes = 21;  // of an int64 and its comma
constexpr size_t kLetterBytes = 6;   // of a byte of text that JSON escapes

enum Field { kBegin, kEnd, kKnown, kTextBegin, kTextSize, kValues };

}  // namespace

Error Samples::allocate(size_t paths, bool text) {
  paths_ = paths;
  with_text_ = text;
  stride_ = kValues + paths;
  capacity_ = std::min(kMaxSamples, kRowsBytes / (stride_ * sizeof(int64_t)));
  if (Error failed = rows_.allocate(capacity_ * stride_ * sizeof(int64_t), false, "the watch")) return failed;
  return text ? texts_.allocate(kTextsBytes, false, "the text of the watch") : Error{};
}

void Samples::keep(const Sample& sample) {
  const size_t text_size = with_text_ ? static_cast<size_t>(std::max(sample.text_size, 0)) : 0;
  if (full() || text_size > kTextsBytes - text_used_) return drop();
  int64_t* row = rows() + size_ * stride_;
  row[kBegin] = sample.begin_ns;
  row[kEnd] = sample.end_ns;
  row[kKnown] = static_cast<int64_t>(sample.known);
  row[kTextBegin] = static_cast<int64_t>(text_used_);
  row[kTextSize] = sample.text_size;
  memcpy(row + kValues, sample.values, paths_ * sizeof(int64_t));
  if (text_size) memcpy(texts_.data() + text_used_, sample.text, text_size);
  text_used_ += text_size;
  ++size_;
}

bool Samples::has_text(size_t index) const { return with_text_ && row(index)[kTextSize] >= 0; }

std::string_view Samples::text(size_t index) const {
  if (!has_text(index)) return {};
  return {reinterpret_cast<const char*>(texts_.data()) + row(index)[kTextBegin], static_cast<size_t>(row(index)[kTextSize])};
}

void Samples::report() const {
  for (size_t first = 0, end; first < size_; first = end) report(first, end = end_of_line(first));
}

// By the most that each sample can take, not by what it takes: this line may be shorter than it could be, never too long.
size_t Samples::end_of_line(size_t first) const {
  const size_t last = std::min(size_, first + kLineSamples);
  size_t end = first;
  for (size_t bytes = 0; end < last; ++end) {
    bytes += (2 + paths_) * kNumberBytes + 3 + text(end).size() * kLetterBytes;
    if (bytes > kLineBytes && end > first) break;
  }
  return end;
}

void Samples::report(size_t first, size_t end) const {
  Json samples = line("samples");
  samples.key("begin_ns").begin('[');
  for (size_t i = first; i < end; ++i) samples.value(row(i)[kBegin]);
  samples.end(']').key("end_ns").begin('[');
  for (size_t i = first; i < end; ++i) samples.value(row(i)[kEnd]);
  samples.end(']').key("values").begin('[');
  for (size_t path = 0; path < paths_; ++path) {
    samples.begin('[');
    for (size_t i = first; i < end; ++i) row(i)[kKnown] >> path & 1 ? samples.value(row(i)[kValues + path]) : samples.null();
    samples.end(']');
  }
  samples.end(']');
  if (with_text_) {
    samples.key("text").begin('[');
    for (size_t i = first; i < end; ++i) has_text(i) ? samples.value(text(i)) : samples.null();
    samples.end(']');
  }
  emit(&samples);
}
