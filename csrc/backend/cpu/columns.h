// The rows of (outer, n), or the columns of (outer, n, inner), some neighbours together, for what runs along n.
#pragma once
#include <type_traits>

#include "backend/exec.h"

namespace pydl {
namespace {

// body(first, rows as a constant): four at a time, so that none has to wait for itself. Args: outer, n.
template <class Args, class F>
void each_few_rows(Exec& exec, const Args& args, int64_t grain, F body) {
  parallel_for(exec, args.outer, 1 + grain / (args.n + 1), [&](int64_t begin, int64_t end) {
    int64_t row = begin;
    for (; row + 4 <= end; row += 4) body(row, std::integral_constant<int, 4>());
    for (; row < end; ++row) body(row, std::integral_constant<int, 1>());
  });
}

// body(o, first, count) for columns [first, first + count) of inner, at most `most` at a time. Args: outer, n, inner.
template <class Args, class F>
void each_column_block(Exec& exec, const Args& args, int64_t most, int64_t grain, F body) {
  const int64_t inner = args.inner, blocks = ceil_div(inner, most), width = inner < most ? inner : most;
  parallel_for(exec, args.outer * blocks, 1 + grain / (args.n * width + 1), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block % blocks * most;
      body(block / blocks, first, inner - first < most ? inner - first : most);
    }
  });
}

}  // namespace
}  // namespace pydl
