// Error: what went wrong, as a value. The codes are those of PROTOCOL.md; the message says what was expected and what was found.
#ifndef BENCH_RUNTIME_ERROR_H_
#define BENCH_RUNTIME_ERROR_H_

#include <stdarg.h>

#include <string>

enum class ErrorCode { kNone, kUsage, kModel, kMemory, kUnsupported, kIo, kLease };

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::kNone;
  std::string message;

  explicit operator bool() const { return code != ErrorCode::kNone; }
};

__attribute__((format(printf, 2, 3))) Error error(ErrorCode code, const char* format, ...);

#endif  // BENCH_RUNTIME_ERROR_H_
