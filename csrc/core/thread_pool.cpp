// The thread pool. The header says what it promises; here is how.
//
// gate: one 64-bit word, [number of the job:32 | someone sleeps until all are out:1 | places left:15 | workers
// inside:16]. A job is open while places are left. A worker goes in by one compare-exchange that takes a place, so it
// only ever reads the job's fields while the caller is bound to wait for it. The caller closes by clearing the places,
// then waits for inside == 0.
//
// Chunks: each participant owns a contiguous segment, so that consecutive loops over the same data find it in the same
// core's cache, and takes from it in portions, each an eighth of what is left; whoever has finished his own takes
// portions of the others'. So what a late or slow thread leaves the others waiting for becomes small.
#include "core/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "core/error.h"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#else
#include <condition_variable>
#include <mutex>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pydl {
namespace {

using Body = void (*)(void* context, int64_t begin, int64_t end);

// ---- waiting

#ifdef __linux__
void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
void wake(std::atomic<uint32_t>& word, int sleepers) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, sleepers, nullptr, nullptr, 0);
}
#else
struct Parking {
  std::mutex mutex;
  std::condition_variable changed;
};
Parking* g_parking = new Parking;
void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
  std::unique_lock<std::mutex> lock(g_parking->mutex);
  if (word.load() == value) g_parking->changed.wait(lock);
}
void wake(std::atomic<uint32_t>&, int) {
  std::lock_guard<std::mutex> lock(g_parking->mutex);
  g_parking->changed.notify_all();
}
#endif

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec;
}

// As long as a thread may be late: sleeping costs more on virtual CPUs, which are given away meanwhile.
constexpr int64_t kSpinNs = 500000;

// Spins until done() or for kSpinNs; where threads outnumber CPUs, only yields a few times. Returns done().
template <class Done>
bool spin_until(bool crowded, Done&& done) {
  if (crowded) {
    for (int i = 0; i < 4; ++i) {
      if (done()) return true;
      sched_yield();
    }
    return done();
  }
  for (int i = 0; i < 64; ++i) {  // no clock for the shortest waits
    if (done()) return true;
    pause_cpu();
  }
  const int64_t start = now_ns();
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      pause_cpu();
    }
  } while (now_ns() - start < kSpinNs);
  return done();
}

// ---- rounding mode and flushing of subnormals, so that a worker's bits are the caller's

uint64_t float_modes() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~0x3Fu;  // without the sticky exception flags
#elif defined(__aarch64__)
  uint64_t modes;
  asm volatile("mrs %0, fpcr" : "=r"(modes));
  return modes;
#else
  return 0;
#endif
}
void set_float_modes([[maybe_unused]] uint64_t modes) {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<unsigned>(modes));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" : : "r"(modes));
#endif
}

// ---- the pool

constexpr uint64_t kInside = 1, kInsideMask = 0xFFFF;
constexpr uint64_t kPlace = 1u << 16, kPlaceMask = uint64_t{0x7FFF} << 16;
constexpr uint64_t kWaiting = 1u << 31;
constexpr int kJobShift = 32;
constexpr int64_t kPortions = 8;

struct alignas(128) Segment {  // two lines: the prefetcher fetches in pairs
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

struct Sleeper {
  std::atomic<int> tid{0};   // 0: not started
  std::atomic<int> cpu{-1};  // where it went to sleep
};

struct Pool {
  explicit Pool(int threads)
      : threads(threads),
        crowded(threads > available_cpus()),
        segments(new Segment[threads]),
        sleeping(new Sleeper[threads]) {}

  alignas(128) std::atomic<uint64_t> gate{0};
  alignas(128) std::atomic<uint32_t> bell{0};  // rung for sleeping workers
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  alignas(128) std::atomic<uint32_t> all_out{0};  // rung for a sleeping caller
  std::atomic<bool> failed{false};
  std::exception_ptr failure;  // of the first to set failed

  // The job: written while the gate is closed and nobody is inside.
  alignas(128) Body body = nullptr;
  void* context = nullptr;
  int64_t n = 0, grain = 0;
  int participants = 0;
  uint64_t modes = 0;

  const int threads;  // with the caller
  const bool crowded;
  int workers = 0;  // how many could be started
  std::unique_ptr<Segment[]> segments;
  std::unique_ptr<Sleeper[]> sleeping;  // by worker, from 1
};

// Linux may wake a worker on the CPU it slept on although that is the caller's now and others are idle: one of the two
// then waits for milliseconds. So a worker that slept where the caller runs is told to use the caller's other CPUs.
void move_away(Pool& pool) {
#ifdef __linux__
  const int cpu = sched_getcpu();
  cpu_set_t others;
  bool known = false;
  for (int i = 1; i <= pool.workers && !pool.crowded; ++i) {
    const int tid = pool.sleeping[i].tid.load(std::memory_order_relaxed);
    if (tid == 0 || pool.sleeping[i].cpu.load(std::memory_order_relaxed) != cpu) continue;
    if (!known) {
      if (sched_getaffinity(0, sizeof others, &others) != 0 || CPU_COUNT(&others) < 2 || cpu >= CPU_SETSIZE) return;
      CPU_CLR(static_cast<unsigned>(cpu), &others);
      known = true;
    }
    sched_setaffinity(tid, sizeof others, &others);
  }
#else
  static_cast<void>(pool);
#endif
}

void note_place([[maybe_unused]] Pool& pool, [[maybe_unused]] int index) {
#ifdef __linux__
  pool.sleeping[index].cpu.store(sched_getcpu(), std::memory_order_relaxed);
#endif
}

void run_chunks(Pool& pool, int own) {
  for (int i = 0; i < pool.participants; ++i) {
    Segment& segment = pool.segments[(own + i) % pool.participants];
    int64_t first = segment.next.load(std::memory_order_relaxed);
    while (first < segment.end) {
      const int64_t last = first + std::max<int64_t>(1, (segment.end - first) / kPortions);
      if (!segment.next.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
      if (pool.failed.load(std::memory_order_relaxed)) return;
      try {
        pool.body(pool.context, first * pool.grain, std::min(last * pool.grain, pool.n));
      } catch (...) {
        if (!pool.failed.exchange(true)) pool.failure = std::current_exception();
        return;
      }
      first = segment.next.load(std::memory_order_relaxed);
    }
  }
}

// Takes a place in a job newer than *seen. False: there is none.
bool enter(Pool& pool, uint32_t* seen) {
  uint64_t gate = pool.gate.load();
  while ((gate & kPlaceMask) != 0 && static_cast<uint32_t>(gate >> kJobShift) != *seen) {
    if (pool.gate.compare_exchange_weak(gate, gate - kPlace + kInside, std::memory_order_acquire)) {
      *seen = static_cast<uint32_t>(gate >> kJobShift);
      return true;
    }
  }
  return false;
}

void leave(Pool& pool) {
  const uint64_t before = pool.gate.fetch_sub(kInside, std::memory_order_acq_rel);
  if ((before & kInsideMask) == 1 && (before & kWaiting) != 0) {
    pool.all_out.fetch_add(1);
    wake(pool.all_out, 1);
  }
}

void worker_main(std::shared_ptr<Pool> shared, int index) {
  Pool& pool = *shared;
#ifdef __linux__
  pool.sleeping[index].tid.store(static_cast<int>(syscall(SYS_gettid)), std::memory_order_relaxed);
#endif
  uint32_t seen = 0;
  for (;;) {
    bool entered = false;
    auto ready = [&] { return (entered = enter(pool, &seen)) || pool.stop.load(std::memory_order_relaxed); };
    while (!spin_until(pool.crowded, ready)) {
      const uint32_t bell = pool.bell.load();
      note_place(pool, index);
      // The caller writes gate, then reads sleepers; we write sleepers, then read gate: one of the two sees the other.
      pool.sleepers.fetch_add(1);
      const bool go = ready();
      if (!go) sleep_while(pool.bell, bell);
      pool.sleepers.fetch_sub(1);
      if (go) break;
    }
    if (!entered) return;  // stopped
    set_float_modes(pool.modes);
    run_chunks(pool, index % pool.participants);
    leave(pool);
  }
}

void start_workers(const std::shared_ptr<Pool>& pool) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the program's business
  for (int index = 1; index < pool->threads; ++index) {
    try {
      std::thread worker(worker_main, pool, index);
#ifdef __linux__
      pthread_setname_np(worker.native_handle(), "pydl-worker");
#endif
      worker.detach();
    } catch (const std::exception&) {  // the system has no more threads: go on with those that there are
      break;
    }
    ++pool->workers;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void stop_workers(Pool& pool) {
  pool.stop.store(true);
  pool.bell.fetch_add(1);
  wake(pool.bell, kMaxThreads);
}

std::atomic<int> g_threads{0};            // 0: not yet known
std::atomic<bool> g_busy{false};          // held by the one thread that may use or replace the pool
std::shared_ptr<Pool>* g_pool = nullptr;  // never destroyed; guarded by g_busy

// The child has no workers, and the thread that held the pool, if any, is not there either.
void after_fork_in_child() {
  g_pool = nullptr;  // left as it is: its threads' references are gone with them
  g_busy.store(false);
#ifndef __linux__
  g_parking = new Parking;
#endif
}

[[maybe_unused]] const bool g_registered = [] {
  pthread_atfork(nullptr, nullptr, after_fork_in_child);
  return true;
}();

struct BusyGuard {
  ~BusyGuard() { g_busy.store(false, std::memory_order_release); }
};

Pool& pool_of(int threads) {
  if (g_pool == nullptr || (*g_pool)->threads != threads) {
    auto* fresh = new std::shared_ptr<Pool>(std::make_shared<Pool>(threads));
    if (g_pool != nullptr) {
      stop_workers(**g_pool);
      delete g_pool;
    }
    g_pool = fresh;
    start_workers(*fresh);
  }
  return **g_pool;
}

void run_job(Pool& pool, int64_t n, int64_t grain, int64_t chunks, Body body, void* context) {
  const int participants = static_cast<int>(std::min<int64_t>(chunks, pool.workers + 1));
  pool.body = body;
  pool.context = context;
  pool.n = n;
  pool.grain = grain;
  pool.participants = participants;
  pool.modes = float_modes();
  for (int i = 0; i < participants; ++i) {
    pool.segments[i].next.store(chunks / participants * i + std::min<int64_t>(i, chunks % participants),
                                std::memory_order_relaxed);
    pool.segments[i].end = chunks / participants * (i + 1) + std::min<int64_t>(i + 1, chunks % participants);
  }
  uint64_t job = (pool.gate.load(std::memory_order_relaxed) >> kJobShift) + 1;
  if (static_cast<uint32_t>(job) == 0) job = 1;  // 0 is what a new worker has seen
  const uint64_t places = static_cast<uint64_t>(participants - 1);
  pool.gate.store(job << kJobShift | places * kPlace);
  if (pool.sleepers.load() > 0) {
    move_away(pool);
    pool.bell.fetch_add(1);
    wake(pool.bell, participants - 1);
  }
  run_chunks(pool, 0);
  uint64_t gate = pool.gate.fetch_and(~kPlaceMask, std::memory_order_acq_rel);
  if ((gate & kInsideMask) == 0) return;
  auto alone = [&] { return (pool.gate.load(std::memory_order_acquire) & kInsideMask) == 0; };
  while (!spin_until(pool.crowded, alone)) {
    const uint32_t rung = pool.all_out.load();
    gate = pool.gate.fetch_or(kWaiting);
    if ((gate & kInsideMask) != 0) sleep_while(pool.all_out, rung);
  }
}

// ---- how many threads

int affinity_cpus() {
#ifdef __linux__
  for (int size = 1024; size <= 1 << 16; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(size);
    if (set == nullptr) break;
    const int failed = sched_getaffinity(0, CPU_ALLOC_SIZE(size), set);
    const int count = failed == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(size), set) : 0;
    const bool too_small = failed != 0 && errno == EINVAL;
    CPU_FREE(set);
    if (count > 0) return count;
    if (!too_small) break;
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

// CPUs by a quota file of one cgroup, or 0 where it sets none. v2: cpu.max is "max 100000" or "150000 100000".
double quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}
double quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period && quota > 0 && period > 0 ? quota / period : 0;
}

// The tightest quota from the group's folder up to the mount. In a container the path may name a folder outside:
// skipped.
double tightest(const std::string& mount, std::string path, double (*quota)(const std::string&)) {
  double least = 0;
  for (;;) {
    if (path == "/") path.clear();
    const double cpus = quota(mount + path);
    if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return least;
    path.resize(slash);
  }
}

// /proc/self/cgroup has lines "0::/path" (v2) and "4:cpu,cpuacct:/path" (v1).
double cgroup_cpus() {
  double least = 0;
  auto consider = [&least](double cpus) {
    if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
  };
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) consider(tightest(mount, path, quota_v2));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
        consider(tightest(mount, path, quota_v1));
      }
    }
  }
  return least;
}

int threads_by_environment() {
  const char* value = std::getenv("PYDL_NUM_THREADS");
  if (value == nullptr || *value == 0) return 0;
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(value, &end, 10);
  while (*end == ' ') ++end;
  if (errno != 0 || end == value || *end != 0 || n < 1 || n > kMaxThreads) {
    throw ValueError(text("[num_threads] PYDL_NUM_THREADS: got \"", value, "\", expected an integer from 1 to ",
                          kMaxThreads, "; correct it or unset it to use the CPUs that there are"));
  }
  return static_cast<int>(n);
}

}  // namespace

int available_cpus() {
  static std::atomic<int> known{0};
  int cpus = known.load(std::memory_order_relaxed);
  if (cpus == 0) {
    cpus = affinity_cpus();
    const double quota = cgroup_cpus();
    if (quota > 0 && quota <= cpus - 1) cpus = std::max(1, static_cast<int>(quota) + (quota > static_cast<int>(quota)));
    cpus = std::min(cpus, kMaxThreads);
    known.store(cpus, std::memory_order_relaxed);
  }
  return cpus;
}

int num_threads() {
  int n = g_threads.load(std::memory_order_relaxed);
  if (n != 0) return n;
  n = threads_by_environment();
  if (n == 0) n = available_cpus();
  int expected = 0;  // set_num_threads may have been quicker
  return g_threads.compare_exchange_strong(expected, n) ? n : expected;
}

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads) {
    throw ValueError(text("[set_num_threads] got n=", n, ", expected 1 to ", kMaxThreads));
  }
  g_threads.store(n);
}

void parallel_for(int64_t n, int64_t grain, Body body, void* context) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t chunks = (n - 1) / grain + 1;
  const int threads = num_threads();
  if (chunks == 1 || threads == 1 || g_busy.exchange(true, std::memory_order_acquire)) {
    body(context, 0, n);
    return;
  }
  std::exception_ptr failure;
  {
    BusyGuard guard;
    Pool& pool = pool_of(threads);
    run_job(pool, n, grain, chunks, body, context);
    if (pool.failed.load(std::memory_order_relaxed)) {
      failure = std::move(pool.failure);
      pool.failure = nullptr;
      pool.failed.store(false, std::memory_order_relaxed);
    }
  }
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace pydl
