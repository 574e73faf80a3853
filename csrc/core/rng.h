// Generator: hands out positions of a Philox stream (philox.h). It makes no numbers itself: a kernel gets seed and
// position.
#pragma once
#include <atomic>
#include <cstdint>

namespace pydl {

struct GeneratorState {
  uint64_t seed;    // Philox key
  uint64_t offset;  // next unused position
};
static_assert(sizeof(GeneratorState) == 16, "saved with checkpoints");

// Lock-free, so any thread and a forked child may draw at any time: no position is handed out twice. Seeding while
// another thread draws leaves it open which of the two seeds that draw gets.
class Generator {
 public:
  explicit Generator(uint64_t seed) : seed_(seed), offset_(0) {}
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  uint64_t seed() const { return seed_.load(std::memory_order_relaxed); }
  void manual_seed(uint64_t seed) { set_state({seed, 0}); }

  // First of `blocks` positions, which are now the caller's. One position is one 128-bit Philox block: four uint32.
  uint64_t reserve(uint64_t blocks) { return offset_.fetch_add(blocks, std::memory_order_relaxed); }

  GeneratorState state() const { return {seed(), offset_.load(std::memory_order_relaxed)}; }
  void set_state(GeneratorState state) {
    seed_.store(state.seed, std::memory_order_relaxed);
    offset_.store(state.offset, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> seed_, offset_;
};

// Seeded from the system's entropy when first used. A forked child inherits its state: seed it, or all children draw
// alike.
Generator& default_generator();

}  // namespace pydl
