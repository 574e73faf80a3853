// How Winograd's transforms, which are of 3 to 5 taps and stride 1, take a kernel: every stride-th tap is a phase, and
// a phase of more taps is cut into parts of equally many.
#pragma once
#include "backend/kernel_args.h"

namespace pydl {
namespace {

struct WinogradParts {
  int64_t stride, taps, parts;                      // along both axes; taps of a part
  int64_t count() const { return stride * parts; }  // of parts of all phases along an axis
  // The first tap of one, of those along an axis; its others follow `stride` apart.
  int64_t first_tap(int64_t part) const { return part % stride + part / stride * taps * stride; }
};

// The fewest parts among the cheapest: 36 multiplications for (7 - taps) x (7 - taps) outputs, for each of the parts.
inline WinogradParts winograd_parts(const ConvShape& s) {
  const int64_t stride = s.stride[1], longest = s.kernel[1] > s.kernel[2] ? s.kernel[1] : s.kernel[2];
  const int64_t phase = (longest + stride - 1) / stride;
  WinogradParts best{stride, 5, (phase + 4) / 5};
  for (int64_t taps = 4; taps >= 3; --taps) {
    const int64_t parts = (phase + taps - 1) / taps;
    if (parts * (7 - best.taps) < best.parts * (7 - taps)) best = {stride, taps, parts};
  }
  return best;
}

// Whether the kernel is one part of one phase.
inline bool is_one_part(const ConvShape& s, const WinogradParts& p) {
  return p.count() == 1 && s.kernel[1] == p.taps && s.kernel[2] == p.taps;
}

}  // namespace
}  // namespace pydl
