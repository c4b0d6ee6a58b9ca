// Formats the message of an Error.
#include "runtime/error.h"

#include <stdio.h>

Error error(ErrorCode code, const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return {code, message};
}
