// Errors: one type per Python exception. Messages begin with the op in brackets, then got, wanted and the way out:
//   throw ValueError(text("[matmul] inner sizes differ: got ", a, " @ ", b));
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace pydl {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct ValueError : Error {
  using Error::Error;
};
struct TypeError : Error {
  using Error::Error;
};
struct IndexError : Error {
  using Error::Error;
};
struct NotImplemented : Error {  // no such kernel on this device: Python's NotImplementedError
  using Error::Error;
};
struct OutOfMemory : Error {  // of a device: Python's MemoryError
  using Error::Error;
};
struct InternalError : Error {  // our bug, never the user's mistake: Python's RuntimeError
  using Error::Error;
};

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace pydl
