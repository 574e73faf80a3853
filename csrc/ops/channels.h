// How ops over (N, C, *spatial) see a tensor's memory: channels first, (N, C, S), or channels last, (N * S, C). Images
// are kept channels last between layers: shape (N, C, H, W), strides of a dense (N, H, W, C).
#pragma once
#include "ops/ops.h"

namespace pydl::ops {

bool is_channels_last(const Tensor& x);  // true as well of what is dense either way: one channel, one place
Tensor channels_last(const Tensor& x);   // x itself, or a recorded copy

// x as (outer, C, inner), in its own memory or, where that is neither, in a copy.
struct Channels {
  Tensor x;
  bool last = false;
  int64_t outer = 1, channels = 1, inner = 1;
};
Channels channels_of(const Tensor& x);
// Of x's shape, in the layout of `like`.
Tensor empty_as(const Channels& like);
Tensor laid_as(const Channels& like, const Tensor& x);  // a copy of x where its layout is another

}  // namespace pydl::ops
