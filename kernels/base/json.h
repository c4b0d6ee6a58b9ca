// Json: writes one JSON value as text. Commas follow from what was written last; strings become valid UTF-8.
//
//   Json json;
//   json.begin('{').key("type").value("mm").key("ns").begin('[').value(1).value(2).end(']').end('}');
#ifndef BENCH_BASE_JSON_H_
#define BENCH_BASE_JSON_H_

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include <concepts>
#include <string>
#include <string_view>

class Json {
 public:
  Json& begin(char bracket) {
    separate();
    text_ += bracket;
    return *this;
  }

  Json& end(char bracket) {
    text_ += bracket;
    return *this;
  }

  Json& key(std::string_view name) {
    value(name);
    text_ += ':';
    return *this;
  }

  Json& value(std::string_view string) {
    separate();
    text_ += '"';
    for (size_t i = 0; i < string.size();) i += escape(string.substr(i));
    text_ += '"';
    return *this;
  }
  Json& value(const char* string) { return value(std::string_view(string)); }

  Json& value(std::integral auto number) {
    separate();
    text_ += std::to_string(number);
    return *this;
  }

  Json& value(bool truth) { return literal(truth ? "true" : "false"); }

  // JSON has no NaN and no infinity: they become null. Nine digits identify a float.
  Json& value(double number) {
    if (!isfinite(number)) return null();
    char digits[32];
    snprintf(digits, sizeof digits, "%.9g", number);
    return literal(digits);
  }

  Json& null() { return literal("null"); }

  const std::string& text() const { return text_; }

 private:
  void separate() {
    const char last = text_.empty() ? '{' : text_.back();
    if (last != '{' && last != '[' && last != ':') text_ += ',';
  }

  Json& literal(const char* word) {
    separate();
    text_ += word;
    return *this;
  }

  // Writes the first character of `rest` and returns how many bytes it took; a byte that starts no valid UTF-8 becomes '?'.
  size_t escape(std::string_view rest) {
    const unsigned char byte = static_cast<unsigned char>(rest[0]);
    if (byte == '"' || byte == '\\') {
      text_ += '\\';
      text_ += rest[0];
    } else if (byte < 0x20 || byte == 0x7f) {
      char code[8];
      snprintf(code, sizeof code, "\\u%04x", byte);
      text_ += code;
    } else if (byte < 0x80) {
      text_ += rest[0];
    } else {
      const size_t length = sequence_length(rest);
      text_ += length ? rest.substr(0, length) : "?";
      return length ? length : 1;
    }
    return 1;
  }

  // Bytes of the UTF-8 sequence at the start of `rest`; 0 when it is cut, overlong, a surrogate or above U+10FFFF, and for the
  // control characters and separators at which some readers end a line (U+0080..U+009F, U+2028, U+2029).
  static size_t sequence_length(std::string_view rest) {
    const auto byte = [&](size_t i) { return i < rest.size() ? static_cast<unsigned char>(rest[i]) : 0u; };
    const unsigned first = byte(0);
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t point = first & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return 0;
      point = point << 6 | (byte(i) & 0x3f);
    }
    const uint32_t smallest = length == 2 ? 0xa0 : length == 3 ? 0x800 : 0x10000;
    const bool valid = first >= 0xc2 && first < 0xf8 && point >= smallest && point <= 0x10ffff && (point >> 11) != 0x1b;
    const bool ends_line = point == 0x2028 || point == 0x2029;
    return valid && !ends_line ? length : 0;
  }

  std::string text_;
};

#endif  // BENCH_BASE_JSON_H_
