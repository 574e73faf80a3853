// How the emulation launches: a thread is a fiber, which changes hands at barriers and warp functions.
#include <sys/mman.h>

#include <memory>

#include "backend/cuda/emulation_parts.h"

#ifndef __x86_64__
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace pydl::emulation {

void fail(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s (block %u %u %u of %u threads)\n", what, blockIdx.x, blockIdx.y, blockIdx.z,
               blockDim.x * blockDim.y * blockDim.z);
  std::abort();
}

namespace {

// ---- fibers
#ifdef __x86_64__
// Saves the callee's registers and the stack pointer, and goes on where `to` was saved.
extern "C" void pydl_switch_fiber(void** from, void* to);
asm(R"(
.text
.hidden pydl_switch_fiber
.globl pydl_switch_fiber
pydl_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
struct Context {
  void* stack_pointer = nullptr;
  void begin(char* stack, size_t bytes, void (*entry)()) {
    auto* top = reinterpret_cast<void**>(stack + bytes);
    *--top = nullptr;  // the return address of entry, which does not return
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack_pointer = top;
  }
  static void change(Context& from, Context& to) { pydl_switch_fiber(&from.stack_pointer, to.stack_pointer); }
};
#else
struct Context {
  ucontext_t context;
  void begin(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  static void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
};
#endif

enum class Wait : uint8_t { none, warp, block, grid, ended };

struct Thread {
  uint3 index, block;
  Wait wait = Wait::none;
  unsigned mask = 0;   // of the warp function it waits in
  uint64_t value = 0;  // what it brings there
  int fiber = -1;
};

struct Fiber {
  static constexpr size_t kBytes = 128 << 10;
  Context context;
  char* stack;
  Fiber() {
    stack = static_cast<char*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0));
    if (stack == MAP_FAILED) fail("no memory for stacks");
    mprotect(stack, 4096, PROT_NONE);  // an overflow crashes
  }
};

struct Warp {
  uint64_t values[32];
  unsigned present = 0;
};

// The threads that live at the same time: one block, or all blocks of a cooperative launch.
struct Cohort {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<std::vector<char>> shared;  // of each block
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<int> idle;
  size_t block_threads = 0, warps_a_block = 0;
  size_t next = 0;     // the first thread that has not begun
  size_t current = 0;  // the one that runs
  size_t ended = 0;
  Context scheduler;
  const std::function<void()>* body = nullptr;

  Warp& warp_of(size_t thread) { return warps[thread / block_threads * warps_a_block + thread % block_threads / 32]; }
  void become(size_t thread) {
    current = thread;
    threadIdx = threads[thread].index;
    blockIdx = threads[thread].block;
  }
  // Gives up the thread that runs until the scheduler lets it go on.
  void wait(Wait wait) {
    const size_t me = current;
    threads[me].wait = wait;
    Context::change(fibers[static_cast<size_t>(threads[me].fiber)]->context, scheduler);
    become(me);
  }
  // A fiber takes one thread after the other for as long as none of them waits.
  void work(int fiber) {
    for (;;) {
      while (next < threads.size()) {
        const size_t me = next++;
        threads[me].fiber = fiber;
        become(me);
        (*body)();
        threads[current].wait = Wait::ended;
        ++ended;
        if (threads[current].fiber != fiber) fail("fibers are mixed up");
      }
      idle.push_back(fiber);
      Context::change(fibers[static_cast<size_t>(fiber)]->context, scheduler);
    }
  }
  void start();
  bool release_warps();
  bool release_blocks();
  void run();
};
Cohort g_cohort;
int g_starting = -1;

void fiber_entry() { g_cohort.work(g_starting); }

void Cohort::start() {
  if (idle.empty()) {
    fibers.push_back(std::make_unique<Fiber>());
    g_starting = static_cast<int>(fibers.size()) - 1;
    fibers.back()->context.begin(fibers.back()->stack, Fiber::kBytes, fiber_entry);
    Context::change(scheduler, fibers.back()->context);
    return;
  }
  const int fiber = idle.back();
  idle.pop_back();
  Context::change(scheduler, fibers[static_cast<size_t>(fiber)]->context);
}

// Lets go whatever warp function has all of its threads. Called when nobody can run, so no values are overwritten that
// somebody still wants.
bool Cohort::release_warps() {
  bool any = false;
  for (size_t first = 0; first < threads.size();) {
    const size_t in_block = first % block_threads, count = std::min<size_t>(32, block_threads - in_block);
    Warp& warp = warp_of(first);
    unsigned pending = 0;
    for (size_t i = 0; i < count; ++i)
      if (threads[first + i].wait == Wait::warp) pending |= 1u << i;
    while (pending) {
      const int leader = __builtin_ctz(pending);
      const unsigned mask = threads[first + static_cast<size_t>(leader)].mask;
      unsigned come = 0;
      for (size_t i = 0; i < count; ++i) {
        const Thread& t = threads[first + i];
        if (!(mask >> i & 1)) continue;
        if (t.wait == Wait::ended) fail("a warp function's mask names a thread that has ended");
        if (t.wait == Wait::warp && t.mask == mask) come |= 1u << i;
      }
      if (come == (mask & warp.present)) {
        for (size_t i = 0; i < count; ++i)
          if (come >> i & 1) {
            warp.values[i] = threads[first + i].value;
            threads[first + i].wait = Wait::none;
          }
        any = true;
      }
      pending &= ~(come | 1u << leader);
    }
    first += count;
  }
  return any;
}

bool Cohort::release_blocks() {
  bool any = false, whole_grid = true;
  for (size_t b = 0; b < threads.size(); b += block_threads) {
    bool all = true, some = false;
    for (size_t t = b; t < b + block_threads; ++t) {
      const Wait w = threads[t].wait;
      all = all && (w == Wait::block || w == Wait::ended);
      some = some || w == Wait::block;
      whole_grid = whole_grid && (w == Wait::grid || w == Wait::ended);
    }
    if (!all || !some) continue;
    for (size_t t = b; t < b + block_threads; ++t)
      if (threads[t].wait == Wait::block) threads[t].wait = Wait::none;
    any = true;
  }
  if (!any && whole_grid) {
    for (Thread& t : threads)
      if (t.wait == Wait::grid) t.wait = Wait::none;
    any = true;
  }
  return any;
}

void Cohort::run() {
  next = ended = 0;
  while (next < threads.size()) start();
  while (ended < threads.size()) {
    if (!release_warps() && !release_blocks())
      fail("deadlock: threads wait at different barriers, or one has ended that others wait for");
    for (size_t t = 0; t < threads.size(); ++t)
      if (threads[t].wait == Wait::none) {
        become(t);
        Context::change(scheduler, fibers[static_cast<size_t>(threads[t].fiber)]->context);
      }
  }
}

cudaError_t run_now(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body) {
  const size_t threads = size_t{block.x} * block.y * block.z, blocks = size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || shared_bytes > (227u << 10) || (cooperative && blocks > kMultiprocessors))
    return keep(cudaErrorInvalidConfiguration);
  const OpenMemory memory;
  Cohort& c = g_cohort;
  blockDim = block;
  gridDim = grid;
  c.body = &body;
  c.block_threads = threads;
  c.warps_a_block = (threads + 31) / 32;
  const size_t together = cooperative ? blocks : 1;
  c.warps.assign(together * c.warps_a_block, Warp{});
  c.threads.resize(together * threads);
  for (size_t first = 0; first < blocks; first += together) {
    c.shared.assign(together, std::vector<char>(shared_bytes + 16, static_cast<char>(0xFF)));
    for (size_t b = 0; b < together; ++b) {
      const size_t number = first + b;
      const uint3 at{static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                     static_cast<unsigned>(number / grid.x / grid.y)};
      for (size_t t = 0; t < threads; ++t) {
        Thread& thread = c.threads[b * threads + t];
        thread = Thread{};
        thread.block = at;
        thread.index = {static_cast<unsigned>(t % block.x), static_cast<unsigned>(t / block.x % block.y),
                        static_cast<unsigned>(t / block.x / block.y)};
        c.warp_of(b * threads + t).present |= 1u << (t % 32);
      }
    }
    c.run();
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t run_grid(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body) {
  if (!capturing()) return run_now(grid, block, shared_bytes, cooperative, body);
  return issue([=] { return run_now(grid, block, shared_bytes, cooperative, body); });
}

void* dynamic_shared() {
  char* p = g_cohort.shared[g_cohort.current / g_cohort.block_threads].data();
  return p + (16 - reinterpret_cast<uintptr_t>(p) % 16) % 16;
}
void block_barrier() { g_cohort.wait(Wait::block); }
void grid_barrier() { g_cohort.wait(Wait::grid); }
const uint64_t* warp_exchange(unsigned mask, uint64_t value) {
  Thread& me = g_cohort.threads[g_cohort.current];
  if (!(mask >> pydl_emulated_lane() & 1)) fail("a warp function's mask lacks the thread that calls it");
  me.mask = mask;
  me.value = value;
  g_cohort.wait(Wait::warp);
  return g_cohort.warp_of(g_cohort.current).values;
}
unsigned warp_present() { return g_cohort.warp_of(g_cohort.current).present; }

}  // namespace pydl::emulation
