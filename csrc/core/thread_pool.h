// The thread pool: parallel loops for kernels. No futures, no tasks, no Python.
//
// One job at a time: a nested call, or a call while another user thread has the pool, runs serially on its own thread.
// A caller opens a gate, works, closes it and waits for those inside; a worker that wakes late finds the gate closed
// and is not waited for. Workers spin for some 500 us after a job, then sleep. They are detached, block all signals and
// own nothing, so neither exit nor a daemon thread has to wait for them. A forked child starts with no pool and makes
// its own when needed.
#pragma once
#include <cstdint>

namespace pydl {

// Default: PYDL_NUM_THREADS, or the CPUs this process may use (affinity and cgroup quota, rounded up).
// Throws ValueError, once per call, while PYDL_NUM_THREADS is not an integer in [1, kMaxThreads].
int num_threads();
void set_num_threads(int n);  // ValueError unless 1 <= n <= kMaxThreads; takes effect at the next parallel loop
int available_cpus();         // what num_threads() would be without PYDL_NUM_THREADS and set_num_threads
constexpr int kMaxThreads = 1024;

// Calls body on ranges that cover [0, n), each starting at a multiple of grain (>= 1), on up to num_threads() threads,
// the caller among them, and returns when all is done. Workers take over the caller's floating-point modes. The first
// exception that a body throws is thrown again here; ranges not yet begun are then dropped.
void parallel_for(int64_t n, int64_t grain, void (*body)(void* context, int64_t begin, int64_t end), void* context);

}  // namespace pydl
