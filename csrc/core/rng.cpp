// The default generator.
#include "core/rng.h"

#include <random>

namespace pydl {

Generator& default_generator() {
  static Generator* const generator = [] {  // never destroyed: threads may still draw at exit
    std::random_device entropy;
    const uint64_t high = entropy();
    return new Generator(high << 32 | entropy());
  }();
  return *generator;
}

}  // namespace pydl
