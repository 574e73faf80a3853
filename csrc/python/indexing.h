// From what stands between the brackets of x[...] to a list of ops::Index.
#pragma once
#include <vector>

#include "python/tensor_type.h"

namespace pydl::python {

std::vector<ops::Index> parse_index(PyObject* key);

}  // namespace pydl::python
