// The emulation's machinery: fibers and their barriers, the guarded memory, and the runtime's functions.
#include "backend/cuda/emulation.h"

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>

#ifndef __x86_64__
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace pydl::emulation {
namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s (block %u %u %u of %u threads)\n", what, blockIdx.x, blockIdx.y, blockIdx.z,
               blockDim.x * blockDim.y * blockDim.z);
  std::abort();
}

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

// ---- memory
constexpr size_t kReserved = size_t{64} << 30, kTotal = size_t{16} << 30, kAlign = 256, kGuard = 64;

struct Memory {
  char* base = nullptr;
  size_t top = 0;                      // bytes of the mapping that were ever used
  std::map<size_t, size_t> free;       // offset: bytes
  std::map<size_t, size_t> allocated;  // offset: bytes asked for
  size_t in_use = 0;
  int open = 0;
  bool guarded = true;

  Memory() {
    const char* wanted = std::getenv("PYDL_EMULATED_GUARD");
    guarded = !(wanted && std::strcmp(wanted, "0") == 0);
    void* p = mmap(nullptr, kReserved, guarded ? PROT_NONE : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail("the address space for device memory can't be reserved");
    base = static_cast<char*>(p);
  }
  static size_t rounded(size_t bytes) { return (bytes + kGuard + kAlign - 1) / kAlign * kAlign; }
  void protect(int rights) {
    if (guarded && top && mprotect(base, (top + 4095) / 4096 * 4096, rights) != 0) fail("mprotect failed");
  }
  void unlock() {
    if (open++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void lock() {
    if (--open == 0) protect(PROT_NONE);
  }
  void* allocate(size_t bytes) {
    const size_t size = rounded(bytes);
    if (in_use + size > kTotal) return nullptr;
    auto hole = free.begin();
    while (hole != free.end() && hole->second < size) ++hole;
    size_t at;
    if (hole != free.end()) {
      at = hole->first;
      const size_t rest = hole->second - size;
      free.erase(hole);
      if (rest) free[at + size] = rest;
    } else {
      if (top + size > kReserved) return nullptr;
      at = top;
      top += size;
    }
    in_use += size;
    allocated[at] = bytes;
    unlock();
    std::memset(base + at, 0xFF, size);
    std::memset(base + at + bytes, 0xA5, size - bytes);
    lock();
    return base + at;
  }
  bool release(void* block) {
    const size_t at = static_cast<size_t>(static_cast<char*>(block) - base);
    const auto found = allocated.find(at);
    if (found == allocated.end()) return false;
    size_t size = rounded(found->second);
    unlock();
    for (size_t i = found->second; i < size; ++i)
      if (base[at + i] != static_cast<char>(0xA5)) fail("a kernel wrote behind the end of a block of device memory");
    lock();
    in_use -= size;
    allocated.erase(found);
    auto after = free.lower_bound(at);
    if (after != free.end() && after->first == at + size) {
      size += after->second;
      after = free.erase(after);
    }
    if (after != free.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == at) {
        before->second += size;
        return true;
      }
    }
    free[at] = size;
    return true;
  }
};

std::recursive_mutex& mutex() {
  static auto* m = new std::recursive_mutex;
  return *m;
}
Memory& memory() {
  static auto* m = new Memory;
  return *m;
}
thread_local cudaError_t t_error = cudaSuccess;
cudaError_t keep(cudaError_t error) {
  if (error != cudaSuccess) t_error = error;
  return error;
}

// ---- graphs
using Work = std::function<cudaError_t()>;
struct Recording {
  std::vector<Work> work;
  cudaStreamCaptureMode mode;
  bool broken = false;
};
thread_local std::unique_ptr<Recording> t_recording;

// What a stream that captures refuses.
bool forbidden() {
  if (!t_recording) return false;
  t_recording->broken = true;
  keep(cudaErrorStreamCaptureUnsupported);
  return true;
}
// Done now, or kept.
cudaError_t issue(Work work) {
  if (!t_recording) return work();
  t_recording->work.push_back(std::move(work));
  return cudaSuccess;
}
cudaError_t run_now(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body);

}  // namespace

cudaError_t run_grid(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body) {
  if (!t_recording) return run_now(grid, block, shared_bytes, cooperative, body);
  return issue([=] { return run_now(grid, block, shared_bytes, cooperative, body); });
}

namespace {

cudaError_t run_now(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body) {
  const size_t threads = size_t{block.x} * block.y * block.z, blocks = size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || shared_bytes > (227u << 10) || (cooperative && blocks > kMultiprocessors))
    return keep(cudaErrorInvalidConfiguration);
  std::lock_guard<std::recursive_mutex> guard(mutex());
  memory().unlock();
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
  memory().lock();
  return cudaSuccess;
}

}  // namespace

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

// ---- the runtime's functions
using pydl::emulation::forbidden;
using pydl::emulation::issue;
using pydl::emulation::keep;
using pydl::emulation::memory;
using pydl::emulation::mutex;
using pydl::emulation::Recording;
using pydl::emulation::t_recording;
using pydl::emulation::Work;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(pydl::emulation::t_error, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) {
  const char* wanted = std::getenv("CUDA_VISIBLE_DEVICES");  // as with CUDA, an empty one hides all
  *count = wanted && (*wanted == 0 || *wanted == '-') ? 0 : 1;
  return *count ? cudaSuccess : keep(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : keep(cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated on the CPU");
  properties->totalGlobalMem = pydl::emulation::kTotal;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->multiProcessorCount = pydl::emulation::kMultiprocessors;
  properties->major = 9;
  properties->l2CacheSize = 50 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return keep(cudaErrorInvalidDevice);
  const int values[] = {pydl::emulation::kMultiprocessors, 227 << 10, 9, 0, 1, 2048, 50 << 20};
  *value = values[attribute];
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 0, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::recursive_mutex> guard(mutex());
  *total = pydl::emulation::kTotal;
  *free = *total - memory().in_use;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** block, size_t bytes) {
  if (t_recording && t_recording->mode != cudaStreamCaptureModeRelaxed && forbidden())
    return cudaErrorStreamCaptureUnsupported;
  std::lock_guard<std::recursive_mutex> guard(mutex());
  *block = memory().allocate(bytes);
  return *block ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* block) {
  if (!block) return cudaSuccess;
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  std::lock_guard<std::recursive_mutex> guard(mutex());
  return memory().release(block) ? cudaSuccess : keep(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** block, size_t bytes) {
  if (t_recording && t_recording->mode != cudaStreamCaptureModeRelaxed && forbidden())
    return cudaErrorStreamCaptureUnsupported;
  *block = std::malloc(bytes ? bytes : 1);
  return *block ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* block) { return std::free(block), cudaSuccess; }
cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  return cudaMemcpyAsync(dst, src, bytes, kind);
}
cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  return cudaMemsetAsync(dst, value, bytes);
}
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return issue([=] {
    std::lock_guard<std::recursive_mutex> guard(mutex());
    memory().unlock();
    std::memmove(dst, src, bytes);
    memory().lock();
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t) {
  return issue([=] {
    std::lock_guard<std::recursive_mutex> guard(mutex());
    memory().unlock();
    std::memset(dst, value, bytes);
    memory().lock();
    return cudaSuccess;
  });
}
// On a device these are allowed, and make memory that is the graph's: no part of pydl wants that.
cudaError_t cudaMallocAsync(void** block, size_t bytes, cudaStream_t) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaMalloc(block, bytes);
}
cudaError_t cudaFreeAsync(void* block, cudaStream_t) { return cudaFree(block); }

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return forbidden() ? cudaErrorStreamCaptureUnsupported : cudaSuccess; }

// ---- graphs
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode mode) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  t_recording = std::make_unique<Recording>();
  t_recording->mode = mode;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!t_recording) return keep(cudaErrorInvalidValue);
  const std::unique_ptr<Recording> done = std::move(t_recording);
  if (done->broken) return keep(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(done->work)};
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  if (t_recording) std::swap(t_recording->mode, *mode);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  if (forbidden()) return cudaErrorStreamCaptureUnsupported;
  for (const Work& work : exec->work)
    if (const cudaError_t error = work(); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }
