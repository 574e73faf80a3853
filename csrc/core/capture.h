// Capture: the calls of a step are recorded once, on a device, and replayed as one graph without any of the code that
// made them.
//
// What changes from replay to replay lies in a table in device memory, which is written before each replay: the states
// of random generators (each draw has a slot), the scalars of optimizer steps. What the host would have had to wait for
// stays on the device: the first bad index of each check, which is read when somebody asks; norms and what follows from
// them. A launch is told of such memory by CapturedValues, beside its arguments. A kernel that knows nothing of it asks
// the runtime for a copy to the host, which raises while a capture is under way.
//
// Memory that is made during a capture belongs to the graph until it is destroyed: no other tensor gets it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/rng.h"

namespace pydl {

// What the launch that is captured reads and writes on the device; null: what its arguments say.
struct CapturedValues {
  const GeneratorState* random;  // in place of seed and position
  const void* scalars;           // UpdateScalars, in place of the arguments'
  int64_t* first_bad;            // where the first bad index is noted, if none is yet
  double* result;                // where a result for the host goes
  const double* factor;          // a norm to clip by, or an upstream gradient
};

// Of the device's module. All are noexcept; what fails is kept by the thread until DeviceHooks::take_error.
struct CaptureHooks {
  // Begins on the calling thread's stream. values: what launches look at. table: so many bytes on the device.
  void* (*begin)(int index, size_t table_bytes, CapturedValues** values, char** table) noexcept;
  bool (*end)(void* graph) noexcept;  // false: nothing that could be replayed
  void (*replay)(void* graph, const void* values, size_t first, size_t bytes) noexcept;  // into the table, from `first`
  void (*read)(void* graph, void* values, size_t bytes) noexcept;                        // of the table; waits
  void (*write)(void* graph, const void* values, size_t bytes) noexcept;
  void (*destroy)(void* graph) noexcept;
};
void set_capture_hooks(const CaptureHooks* hooks);

class Graph {
 public:
  explicit Graph(Device device);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void begin();
  void end();               // ValueError where the capture had failed
  void abandon() noexcept;  // ends a capture that failed
  // Nothing has run by then, and generators are where they were. A replay: renew() advances them; between it and
  // launch() the optimizers' steps leave their scalars.
  void renew();
  void launch();
  void stop_renewing() noexcept;
  bool captured() const { return state_ == State::captured; }
  bool capturing() const { return state_ == State::capturing; }
  void check();  // IndexError where an index was bad since the last look; waits for the device
  std::vector<Generator*> generators() const;

  // ---- of the calling thread, for ops
  static Graph* current();   // the one that it captures, or null
  static Graph* renewing();  // the one whose values are renewed, or null

  uint64_t reserve(Generator& generator, uint64_t blocks);
  const GeneratorState* state_at(uint64_t seed, uint64_t position) const;  // null: drawn before the capture
  int64_t* new_check(std::string before, std::string after);               // the message around the index's position
  // The next slot of an optimizer's step: while capturing a new one; while renewing, that of the step in its place.
  const void* scalars(const std::string& key, const void* values, size_t bytes);
  CapturedValues& values() { return *values_; }

 private:
  enum class State { fresh, capturing, captured, failed };
  struct Draw {
    Generator* generator;
    uint64_t seed, position, blocks;
    size_t at;  // in the table
  };
  struct Scalars {
    std::string key;
    size_t at, bytes;
  };
  struct Check {
    std::string before, after;
  };
  size_t slot(size_t bytes);

  Device device_;
  State state_ = State::fresh;
  void* handle_ = nullptr;
  CapturedValues* values_ = nullptr;
  char* table_ = nullptr;    // on the device
  std::vector<char> image_;  // the table's, behind the checks
  std::vector<Draw> draws_;
  std::vector<Scalars> scalars_;
  std::vector<Check> checks_;
  std::vector<std::pair<Generator*, GeneratorState>> before_;  // where generators were
  size_t next_scalars_ = 0;
};

// Positions for a draw, noted by the graph that is being captured.
inline uint64_t reserve(Generator& generator, uint64_t blocks) {
  Graph* graph = Graph::current();
  return graph ? graph->reserve(generator, blocks) : generator.reserve(blocks);
}

// ValueError while the calling thread captures: op needs what only the host has.
void refuse_while_capturing(const char* op, const char* what);

// For the launches in its scope.
class CapturedLaunch {
 public:
  CapturedLaunch() : graph_(Graph::current()) {}
  ~CapturedLaunch() {
    if (graph_) graph_->values() = CapturedValues{};
  }
  CapturedLaunch(const CapturedLaunch&) = delete;
  CapturedLaunch& operator=(const CapturedLaunch&) = delete;
  explicit operator bool() const { return graph_ != nullptr; }
  Graph& graph() { return *graph_; }
  CapturedLaunch& random(uint64_t seed, uint64_t position) {
    if (graph_) graph_->values().random = graph_->state_at(seed, position);
    return *this;
  }
  // The message of the IndexError that is raised later: before, the index's position, after.
  CapturedLaunch& check(std::string before, std::string after) {
    if (graph_) graph_->values().first_bad = graph_->new_check(std::move(before), std::move(after));
    return *this;
  }

 private:
  Graph* graph_;
};

}  // namespace pydl
