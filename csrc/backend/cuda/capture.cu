// Graphs of captured launches, and the memory that is theirs. No kernels.
//
// A capture takes its memory from segments of its own, in which what is freed is given out again within the capture:
// the order of the stream makes that as safe in a replay. Segments live until the graph is destroyed and none of its
// tensors is left. What a captured step frees of other memory may have been read by it, so that is kept as long.
#include <atomic>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "backend/cuda/capture.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/runtime.h"

namespace pydl {
namespace cuda {
namespace {

constexpr size_t kUnit = 512, kSmall = size_t{1} << 20, kLarge = size_t{10} << 20, kPinned = size_t{64} << 10;

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

struct Block {
  void* data;
  size_t bytes;
};

struct Captured {
  int device = 0;
  cudaGraphExec_t exec = nullptr;
  CapturedValues values{};
  char* table = nullptr;
  size_t table_bytes = 0;
  bool open = false, destroyed = false;
  std::map<char*, size_t> segments, free, used;  // first byte: bytes
  std::vector<Block> kept;                       // others' memory, released while capturing
  std::vector<void*> pinned;
  size_t pinned_left = 0;
};

std::mutex g_mutex;  // of all graphs' memory
std::vector<Captured*> g_graphs;
std::atomic<int> g_count{0};
thread_local Captured* t_open = nullptr;

bool add_segment(Captured& graph, size_t bytes) {
  const size_t size = bytes < kSmall ? 2 * kSmall : bytes < kLarge ? 2 * kLarge : rounded(bytes, 2 * kSmall);
  for (const size_t wanted : {size, rounded(bytes, kUnit)}) {
    if (!count_memory(graph.device, static_cast<int64_t>(wanted))) continue;
    void* segment = nullptr;
    const RelaxedCapture relaxed;
    if (cudaMalloc(&segment, wanted) == cudaSuccess) {
      graph.segments[static_cast<char*>(segment)] = graph.free[static_cast<char*>(segment)] = wanted;
      return true;
    }
    cudaGetLastError();
    count_memory(graph.device, -static_cast<int64_t>(wanted));
  }
  keep_out_of_memory(graph.device, bytes);
  return false;
}

char* take(Captured& graph, size_t bytes) {
  const size_t size = rounded(bytes ? bytes : 1, kUnit);
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto best = graph.free.end();
    for (auto it = graph.free.begin(); it != graph.free.end(); ++it)
      if (it->second >= size && (best == graph.free.end() || it->second < best->second)) best = it;
    if (best != graph.free.end()) {
      char* const at = best->first;
      const size_t rest = best->second - size;
      graph.free.erase(best);
      if (rest) graph.free[at + size] = rest;
      graph.used[at] = size;
      return at;
    }
    if (attempt == 0 && !add_segment(graph, size)) break;
  }
  return nullptr;
}

void give_back(Captured& graph, std::map<char*, size_t>::iterator block) {
  char* at = block->first;
  size_t size = block->second;
  graph.used.erase(block);
  auto after = graph.free.lower_bound(at);
  if (after != graph.free.end() && after->first == at + size && graph.segments.count(after->first) == 0) {
    size += after->second;
    after = graph.free.erase(after);
  }
  if (after != graph.free.begin() && graph.segments.count(at) == 0) {
    const auto before = std::prev(after);
    if (before->first + before->second == at) {
      before->second += size;
      return;
    }
  }
  graph.free[at] = size;
}

// The memory of a graph that is destroyed, unless a tensor is left in it. Called with the mutex.
void free_if_unused(Captured* graph) {
  if (!graph->destroyed || !graph->used.empty()) return;
  const RelaxedCapture relaxed;
  for (const auto& [segment, bytes] : graph->segments) {
    keep_error(cudaFree(segment), "cudaFree");
    count_memory(graph->device, -static_cast<int64_t>(bytes));
  }
  for (void* host : graph->pinned) cudaFreeHost(host);
  for (auto& known : g_graphs)
    if (known == graph) {
      std::swap(known, g_graphs.back());
      g_graphs.pop_back();
      break;
    }
  g_count.store(static_cast<int>(g_graphs.size()));
  delete graph;
}
void free_unused() {
  const std::lock_guard<std::mutex> guard(g_mutex);
  for (Captured* graph : std::vector<Captured*>(g_graphs)) free_if_unused(graph);
}

// ---- hooks
void* begin(int device, size_t table_bytes, CapturedValues** values, char** table) noexcept {
  auto* graph = new Captured;
  graph->device = device;
  graph->table_bytes = table_bytes;
  {
    const std::lock_guard<std::mutex> guard(g_mutex);
    graph->table = take(*graph, table_bytes);
    g_graphs.push_back(graph);
    g_count.store(static_cast<int>(g_graphs.size()));
  }
  if (graph->table && begin_capture(device)) {
    graph->open = true;
    t_open = graph;
  }
  *values = &graph->values;
  *table = graph->table;
  return graph;
}

bool end(void* handle) noexcept {
  auto* graph = static_cast<Captured*>(handle);
  if (!graph->open) return false;
  graph->open = false;
  t_open = nullptr;
  cudaGraph_t recorded = nullptr;
  bool whole = keep_error(end_capture(graph->device, &recorded), "the end of the capture");
  whole = whole && recorded && keep_error(cudaGraphInstantiate(&graph->exec, recorded, 0), "cudaGraphInstantiate");
  if (recorded) cudaGraphDestroy(recorded);
  free_unused();
  return whole;
}

void replay(void* handle, const void* values, size_t first, size_t bytes) noexcept {
  auto* graph = static_cast<Captured*>(handle);
  copy_to_table(graph->device, graph->table + first, values, bytes);
  keep_error(cudaGraphLaunch(graph->exec, issue_stream(graph->device)), "cudaGraphLaunch");
}

void read(void* handle, void* values, size_t bytes) noexcept {
  auto* graph = static_cast<Captured*>(handle);
  copy_to_host(values, graph->table, bytes, issue_stream(graph->device));
}
void write(void* handle, const void* values, size_t bytes) noexcept {
  auto* graph = static_cast<Captured*>(handle);
  copy_to_table(graph->device, graph->table, values, bytes);
}

void destroy(void* handle) noexcept {
  auto* graph = static_cast<Captured*>(handle);
  if (graph->exec) cudaGraphExecDestroy(graph->exec);
  for (const Block& block : graph->kept) hooks()->deallocate(graph->device, block.data, block.bytes);
  {
    const std::lock_guard<std::mutex> guard(g_mutex);
    graph->kept.clear();
    graph->used.erase(graph->table);
    graph->destroyed = true;
  }
  if (!t_open) free_unused();
}

const CaptureHooks kHooks = {begin, end, replay, read, write, destroy};

}  // namespace

const CaptureHooks* capture_hooks() { return &kHooks; }

bool capturing() noexcept { return t_open != nullptr; }
const CapturedValues* captured_values() noexcept { return t_open ? &t_open->values : nullptr; }

void* allocate_captured(size_t bytes) noexcept {
  char* block = nullptr;
  {
    const std::lock_guard<std::mutex> guard(g_mutex);
    block = take(*t_open, bytes);
  }
#if defined(PYDL_CUDA_EMULATED)  // what a replay does not write is no number
  if (block) keep_error(cudaMemsetAsync(block, 0xFF, rounded(bytes ? bytes : 1, kUnit)), "cudaMemsetAsync");
#endif
  return block;
}

const void* keep_host(const void* host, size_t bytes) noexcept {
  Captured& graph = *t_open;
  const size_t size = rounded(bytes, 64);
  if (size > graph.pinned_left) {
    const size_t wanted = size > kPinned ? size : kPinned;
    void* chunk = nullptr;
    const RelaxedCapture relaxed;
    if (!keep_error(cudaMallocHost(&chunk, wanted), "cudaMallocHost")) return nullptr;
    graph.pinned.push_back(chunk);
    graph.pinned_left = wanted;
  }
  // Chunks are filled from their end, so that what is left lies at the beginning.
  graph.pinned_left -= size;
  char* const at = static_cast<char*>(graph.pinned.back()) + graph.pinned_left;
  std::memcpy(at, host, bytes);
  return at;
}

bool release_captured(int device, void* block, size_t bytes) noexcept {
  if (g_count.load(std::memory_order_relaxed) == 0) return false;
  const std::lock_guard<std::mutex> guard(g_mutex);
  for (Captured* graph : g_graphs) {
    const auto found = graph->used.find(static_cast<char*>(block));
    if (found == graph->used.end()) continue;
    if (graph->open)
      give_back(*graph, found);
    else
      graph->used.erase(found);  // never given out again: each replay writes there
    if (!t_open) free_if_unused(graph);
    return true;
  }
  if (!t_open || t_open->device != device) return false;
  t_open->kept.push_back({block, bytes});
  return true;
}

}  // namespace cuda
}  // namespace pydl
