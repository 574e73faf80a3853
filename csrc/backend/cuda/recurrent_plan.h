// How the steps of a recurrent layer are laid out over blocks and threads. Host code; no kernels here.
//
// A block owns `units` hidden units of `rows` sequences. Its slice of w_hh stays in shared memory for all steps
// (resident) where every block of the grid can live at the same time; then one cooperative launch takes all steps, and
// the blocks of a grid meet once a step. Where a slice is the whole matrix the blocks never meet. Where the weights do
// not fit on the device, each step is a launch of its own and streams its slice.
#pragma once
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

constexpr int kRecurrentThreads = 256;
constexpr int kStateChunk = 128;  // values of a row's state that pass through shared memory at a time
constexpr int kStatePitch = kStateChunk + 4;
constexpr int kLaunchesTogether = 4096;  // steps of one launch at most

struct RecurrentPlan {
  int units, rows;  // of a block
  int lanes;        // threads that share a sum, each every lanes-th vector of four of it
  int each;         // rows (and, backward, units) of a thread: 1, 2 or 4
  bool resident;
  int weight_pitch;  // elements between the weights of two columns in shared memory
  int row_tiles;     // of one launch
  int64_t unit_tiles;
  size_t shared_bytes;
  double cost;
};

constexpr int64_t up_to(int64_t size, int64_t step) { return (size + step - 1) / step * step; }
constexpr int64_t parts_of(int64_t size, int64_t part) { return (size + part - 1) / part; }

// Elements between columns of `depth` values: vectors of four, an odd number of them, so that eight columns lie in
// different banks.
constexpr int column_pitch(int64_t depth, int lanes) {
  const int64_t fours = up_to(depth, 4 * lanes) / 4;
  return static_cast<int>((fours | 1) * 4);
}

// columns: sums of a thread for each of its rows: the gates forward, `each` units backward. depth: the length of a sum.
struct RecurrentProblem {
  int64_t batch, hidden, depth;
  int gates;
  bool backward;
  size_t item;
  int capacity;  // blocks that can live at the same time
  size_t shared_limit;
};

// A plan with its estimated cycles a step, or cost < 0 where it is impossible.
inline RecurrentPlan priced_plan(const RecurrentProblem& p, int units, int lanes, int each, bool resident) {
  RecurrentPlan plan{};
  plan.cost = -1;
  const int columns = p.backward ? each : p.gates;
  const int unit_threads = p.backward ? units / each : units;
  if (unit_threads < 1 || unit_threads * lanes > kRecurrentThreads) return plan;
  const int groups = kRecurrentThreads / (unit_threads * lanes);
  plan.units = units;
  plan.lanes = lanes;
  plan.each = each;
  plan.rows = groups * each;
  plan.resident = resident;
  plan.weight_pitch = resident ? column_pitch(p.depth, lanes) : kStatePitch;
  const int64_t weight_columns = p.backward ? units : int64_t{p.gates} * units;
  plan.shared_bytes =
      static_cast<size_t>(weight_columns * plan.weight_pitch + int64_t{plan.rows} * kStatePitch) * p.item;
  if (plan.shared_bytes > p.shared_limit) return plan;
  plan.unit_tiles = parts_of(p.hidden, units);
  int64_t tiles = parts_of(p.batch, plan.rows);
  double rounds = 1;
  if (resident) {
    if (plan.unit_tiles > p.capacity) return plan;
    const int64_t fit = p.capacity / plan.unit_tiles;
    rounds = static_cast<double>(parts_of(tiles, fit));
    tiles = tiles < fit ? tiles : fit;
  } else {
    const int64_t most = 65535;
    tiles = tiles < most ? tiles : most;
    rounds = static_cast<double>(parts_of(plan.unit_tiles * tiles, p.capacity));
  }
  plan.row_tiles = static_cast<int>(tiles);
  // A warp's iteration: four steps of the sum. Shared memory hands out 128 bytes a cycle, the FMA units take 4 warps.
  const double words = static_cast<double>(p.item) / 4;
  const int across = unit_threads * lanes < 32 ? unit_threads * lanes : 32;  // distinct vectors of weights in a warp
  const int down = 32 / across * lanes;                                      // and of states
  const double loads = words * (columns * (across > 8 ? across / 8.0 : 1) + each * (down > 8 ? down / 8.0 : 1));
  const double multiplies = words * columns * each;
  const double iterations = static_cast<double>(parts_of(p.depth, 4 * lanes)) * (kRecurrentThreads / 32);
  const double state_bytes = static_cast<double>(plan.rows * p.depth) * static_cast<double>(p.item);
  const double weight_bytes =
      resident ? 0 : static_cast<double>(weight_columns * p.depth) * static_cast<double>(p.item);
  const double meet = !resident ? 6000 : plan.unit_tiles > 1 ? 2500 : 100;
  plan.cost =
      rounds * (iterations * (loads > multiplies ? loads : multiplies) + (state_bytes + weight_bytes) / 32 + 1500) +
      meet * (resident ? rounds : 1);
  return plan;
}

inline RecurrentPlan choose_plan(const RecurrentProblem& p) {
  RecurrentPlan best{};
  best.cost = -1;
  for (const bool resident : {true, false}) {
    for (int units = 4; units <= 64; units *= 2) {
      for (int lanes = 1; lanes <= 32; lanes *= 2) {
        for (int each = 1; each <= 4; each *= 2) {
          const RecurrentPlan plan = priced_plan(p, units, lanes, each, resident);
          if (plan.cost >= 0 && (best.cost < 0 || plan.cost < best.cost)) best = plan;
        }
      }
    }
    if (best.cost >= 0) return best;  // streaming only where nothing else is possible
  }
  return best;
}

}  // namespace
}  // namespace pydl
