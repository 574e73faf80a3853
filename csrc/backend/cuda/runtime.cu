// The module's side of the CUDA runtime: devices, streams, memory, copies and errors. No kernels.
//
// Each host thread has one stream on each device, so that threads need not wait for each other's calls. What one thread
// has issued, another may use at once: before a thread issues anything, its stream is made to wait for whatever other
// streams got since it last looked. Memory comes from the device's own stream-ordered pool, which keeps what is freed;
// a limit and the statistics are ours. Small copies to the device go through pinned memory and are not waited for.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "backend/cuda/capture.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/runtime.h"

namespace pydl {
namespace cuda {
namespace {

constexpr int kMaxDevices = 16, kMaxStreams = 256;

// ---- errors: the first one of each thread, until it is taken
struct KeptError {
  int kind = 0;  // 1, or 2: no memory, or 3: not while capturing
  char message[400] = {};
};
thread_local KeptError t_error;

void keep_message(int kind, const char* message) {
  if (t_error.kind) return;
  t_error.kind = kind;
  std::snprintf(t_error.message, sizeof t_error.message, "%s", message);
}

}  // namespace

bool keep_error(cudaError_t error, const char* what) noexcept {
  if (error == cudaSuccess) return true;
  if (!t_error.kind) {
    t_error.kind = error == cudaErrorMemoryAllocation ? 2 : 1;
    std::snprintf(t_error.message, sizeof t_error.message, "CUDA error in %s: %s (%s)", what, cudaGetErrorString(error),
                  cudaGetErrorName(error));
  }
  return false;
}

namespace {

int take_error(char* message, size_t size) noexcept {
  const int kind = t_error.kind;
  if (kind) {
    std::snprintf(message, size, "%s", t_error.message);
    t_error = KeptError{};
  }
  return kind;
}

// ---- streams
constexpr size_t kSlotBytes = 64 << 10;
constexpr int kSlots = 8;

struct Slot {  // pinned memory on its way to the device
  void* memory = nullptr;
  cudaEvent_t done = {};
};

struct Stream {
  cudaStream_t handle = {};
  cudaEvent_t reached = {};         // others wait for it
  std::atomic<uint64_t> issued{0};  // grows with everything that was given to the stream
  uint64_t seen[kMaxStreams] = {};  // of the others, when this one last waited for them
  int number = 0;
  bool free = false;
  std::atomic<bool> captures{false};
  Slot slots[kSlots];
  int next_slot = 0;
};

struct DeviceState {
  std::mutex mutex;  // of streams' making and of the statistics' limit
  Stream* streams[kMaxStreams] = {};
  std::atomic<int> count{0};
  std::atomic<int64_t> allocated{0}, peak{0}, limit{-1};
  std::atomic<int> multiprocessors{0};
#if !defined(PYDL_CUDA_EMULATED)
  cudaMemPool_t pool = {};
#endif
};
DeviceState& state(int device) {
  static DeviceState* states = new DeviceState[kMaxDevices];  // never freed: kernels may run until the process ends
  return states[device];
}

thread_local int t_device = -1;  // the one that is current for this thread

void set_current(int device) {
  if (t_device == device) return;
  if (keep_error(cudaSetDevice(device), "cudaSetDevice")) t_device = device;
}

Stream* make_stream(int device) {
  DeviceState& s = state(device);
  std::lock_guard<std::mutex> guard(s.mutex);
  const int count = s.count.load();
  for (int i = 0; i < count; ++i)
    if (s.streams[i]->free) {
      s.streams[i]->free = false;
      return s.streams[i];
    }
  if (count == kMaxStreams) return s.streams[0];  // shared from here on: slower, as safe
#if !defined(PYDL_CUDA_EMULATED)
  if (count == 0) {
    uint64_t keep = UINT64_MAX;  // bytes that the pool need not give back
    keep_error(cudaDeviceGetDefaultMemPool(&s.pool, device), "cudaDeviceGetDefaultMemPool");
    keep_error(cudaMemPoolSetAttribute(s.pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
  }
#endif
  Stream* stream = new Stream;
  stream->number = count;
  keep_error(cudaStreamCreateWithFlags(&stream->handle, cudaStreamNonBlocking), "cudaStreamCreate");
  keep_error(cudaEventCreateWithFlags(&stream->reached, cudaEventDisableTiming), "cudaEventCreate");
  s.streams[count] = stream;
  s.count.store(count + 1);
  return stream;
}

struct ThreadStreams {
  Stream* of[kMaxDevices] = {};
  ~ThreadStreams() {  // the next thread takes them over
    for (int d = 0; d < kMaxDevices; ++d) {
      if (!of[d]) continue;
      std::lock_guard<std::mutex> guard(state(d).mutex);
      of[d]->free = true;
    }
  }
};
thread_local ThreadStreams t_streams;

Stream& own_stream(int device) {
  set_current(device);
  Stream*& mine = t_streams.of[device];
  if (!mine) mine = make_stream(device);
  return *mine;
}

// The thread's stream, behind everything that other streams have been given.
Stream& ready_stream(int device) {
  Stream& mine = own_stream(device);
  if (mine.captures.load(std::memory_order_relaxed)) return mine;  // it waits when the graph is launched
  DeviceState& s = state(device);
  const int count = s.count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    Stream* other = s.streams[i];
    const uint64_t issued = other->issued.load(std::memory_order_acquire);
    if (other == &mine || mine.seen[i] == issued) continue;
    std::lock_guard<std::mutex> guard(s.mutex);                     // of the other's event
    if (other->captures.load(std::memory_order_relaxed)) continue;  // nothing of it runs
    keep_error(cudaEventRecord(other->reached, other->handle), "cudaEventRecord");
    keep_error(cudaStreamWaitEvent(mine.handle, other->reached, 0), "cudaStreamWaitEvent");
    mine.seen[i] = issued;
  }
  mine.issued.fetch_add(1, std::memory_order_release);
  return mine;
}

void* begin(int device) noexcept { return ready_stream(device).handle; }
// Whatever begin() announced has been issued now, so that others who looked in between look again.
int end_and_take_error(char* message, size_t size) noexcept {
  if (t_device >= 0 && t_streams.of[t_device]) t_streams.of[t_device]->issued.fetch_add(1, std::memory_order_release);
  return take_error(message, size);
}

// ---- memory
bool count(int device, int64_t bytes) {
  DeviceState& s = state(device);
  const int64_t limit = s.limit.load(std::memory_order_relaxed);
  const int64_t after = s.allocated.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (bytes > 0 && limit >= 0 && after > limit) {
    s.allocated.fetch_sub(bytes, std::memory_order_relaxed);
    return false;
  }
  int64_t peak = s.peak.load(std::memory_order_relaxed);
  while (after > peak && !s.peak.compare_exchange_weak(peak, after, std::memory_order_relaxed)) {
  }
  return true;
}

void no_memory_left(int device, size_t wanted) {
  DeviceState& s = state(device);
  size_t free_bytes = 0, total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  char message[300];
  std::snprintf(
      message, sizeof message,
      "out of memory on cuda:%d: wanted %.1f MB, %.1f MB are in use, %.1f of %.1f MB are free on the device%s; "
      "use smaller batches or pydl.cuda.empty_cache()",
      device, static_cast<double>(wanted) / 1e6, static_cast<double>(s.allocated.load()) / 1e6,
      static_cast<double>(free_bytes) / 1e6, static_cast<double>(total_bytes) / 1e6,
      s.limit.load() >= 0 ? " and set_per_process_memory_fraction limits what may be used" : "");
  keep_message(2, message);
}

void* allocate_on(int device, size_t bytes, cudaStream_t stream) {
  if (capturing()) return allocate_captured(bytes);
  const size_t wanted = bytes ? bytes : 1;
  if (!count(device, static_cast<int64_t>(wanted))) {
    no_memory_left(device, wanted);
    return nullptr;
  }
  void* block = nullptr;
  cudaError_t error = cudaMallocAsync(&block, wanted, stream);
  if (error == cudaErrorMemoryAllocation) {  // what has been freed may still wait for its stream
    cudaGetLastError();
    cudaDeviceSynchronize();
#if !defined(PYDL_CUDA_EMULATED)
    cudaMemPoolTrimTo(state(device).pool, 0);
#endif
    error = cudaMallocAsync(&block, wanted, stream);
  }
  if (error == cudaSuccess) return block;
  count(device, -static_cast<int64_t>(wanted));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    no_memory_left(device, wanted);
  } else {
    keep_error(error, "cudaMallocAsync");
  }
  return nullptr;
}

void deallocate_on(int device, void* block, size_t bytes, cudaStream_t stream) {
  if (!block || release_captured(device, block, bytes)) return;
  state(device).allocated.fetch_sub(static_cast<int64_t>(bytes ? bytes : 1), std::memory_order_relaxed);
  keep_error(cudaFreeAsync(block, stream), "cudaFreeAsync");
}

void* hook_allocate(int device, size_t bytes) noexcept {
  return allocate_on(device, bytes, ready_stream(device).handle);
}
void hook_deallocate(int device, void* block, size_t bytes) noexcept {
  const KeptError before = t_error;
  const int current = t_device;
  deallocate_on(device, block, bytes, ready_stream(device).handle);
  if (current >= 0) set_current(current);
  t_error = before;  // nobody could raise it
}

// ---- copies
constexpr const char* kNotWhileCapturing =
    "needs the CPU to wait for the device, which a step that is being captured can't: its replays run without the CPU; "
    "do that before or after the step, or do without capture";
constexpr const char* kFrozen =
    "copies from the CPU, which a step that is being captured can't: its replays would copy the same numbers again; "
    "make the tensor before the step, or do without capture";

void upload_on(Stream& stream, void* device, const void* host, size_t bytes) {
  if (capturing()) {  // of a kernel's arguments, which follow from shapes
    const void* kept = keep_host(host, bytes);
    if (kept)
      keep_error(cudaMemcpyAsync(device, kept, bytes, cudaMemcpyHostToDevice, stream.handle), "copy to the device");
    return;
  }
  if (bytes > kSlotBytes) {  // the driver's own staging
    keep_error(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream.handle), "copy to the device");
    return;
  }
  Slot& slot = stream.slots[stream.next_slot];
  stream.next_slot = (stream.next_slot + 1) % kSlots;
  if (!slot.memory) {
    if (!keep_error(cudaMallocHost(&slot.memory, kSlotBytes), "cudaMallocHost")) return;
    keep_error(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "cudaEventCreate");
  } else {
    keep_error(cudaEventSynchronize(slot.done), "cudaEventSynchronize");
  }
  std::memcpy(slot.memory, host, bytes);
  keep_error(cudaMemcpyAsync(device, slot.memory, bytes, cudaMemcpyHostToDevice, stream.handle), "copy to the device");
  keep_error(cudaEventRecord(slot.done, stream.handle), "cudaEventRecord");
}

void copy(int dst_device, void* dst, int src_device, const void* src, size_t bytes, CopyDirection direction) noexcept {
  if (capturing() && direction != CopyDirection::within)
    return keep_message(3, direction == CopyDirection::to_device ? kFrozen : kNotWhileCapturing);
  Stream& stream = ready_stream(direction == CopyDirection::to_host ? src_device : dst_device);
  switch (direction) {
    case CopyDirection::to_device:
      upload_on(stream, dst, src, bytes);
      break;
    case CopyDirection::to_host:
      keep_error(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream.handle), "copy to the host");
      keep_error(cudaStreamSynchronize(stream.handle), "copy to the host");
      break;
    case CopyDirection::within:
      keep_error(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream.handle), "copy");
      break;
    case CopyDirection::between:  // waits for the source, whose streams this one does not see
      set_current(src_device);
      keep_error(cudaDeviceSynchronize(), "copy between devices");
      set_current(dst_device);
      keep_error(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream.handle), "copy between devices");
      keep_error(cudaStreamSynchronize(stream.handle), "copy between devices");
  }
}

// ---- what can be asked
int device_count() noexcept {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return devices < kMaxDevices ? devices : kMaxDevices;
}
void synchronize(int device) noexcept {
  if (capturing()) return keep_message(3, kNotWhileCapturing);
  set_current(device);
  keep_error(cudaDeviceSynchronize(), "synchronize");
}
bool properties(int device, DeviceProperties* out) noexcept {
  cudaDeviceProp p;
  if (!keep_error(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties")) return false;
  std::snprintf(out->name, sizeof out->name, "%s", p.name);
  out->total_bytes = static_cast<int64_t>(p.totalGlobalMem);
  out->major = p.major;
  out->minor = p.minor;
  out->multiprocessors = p.multiProcessorCount;
  return true;
}
bool memory(int device, DeviceMemory* out) noexcept {
  DeviceState& s = state(device);
  own_stream(device);
  size_t free_bytes = 0, total_bytes = 0;
  if (!keep_error(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo")) return false;
  out->allocated = s.allocated.load();
  out->peak = s.peak.load();
  out->free_bytes = static_cast<int64_t>(free_bytes);
  out->total_bytes = static_cast<int64_t>(total_bytes);
#if defined(PYDL_CUDA_EMULATED)
  out->reserved = out->allocated;
#else
  uint64_t reserved = 0;
  keep_error(cudaMemPoolGetAttribute(s.pool, cudaMemPoolAttrReservedMemCurrent, &reserved), "cudaMemPoolGetAttribute");
  out->reserved = static_cast<int64_t>(reserved);
#endif
  return true;
}
void reset_peak(int device) noexcept { state(device).peak.store(state(device).allocated.load()); }
void empty_cache(int device) noexcept {
  if (capturing()) return keep_message(3, kNotWhileCapturing);
  own_stream(device);
  keep_error(cudaDeviceSynchronize(), "empty_cache");
#if !defined(PYDL_CUDA_EMULATED)
  keep_error(cudaMemPoolTrimTo(state(device).pool, 0), "empty_cache");
#endif
}
void set_limit(int device, double fraction) noexcept {
  own_stream(device);
  size_t free_bytes = 0, total_bytes = 0;
  if (!keep_error(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo")) return;
  state(device).limit.store(fraction >= 1 ? -1 : static_cast<int64_t>(fraction * static_cast<double>(total_bytes)));
}
void versions(int* runtime, int* driver) noexcept {
  *runtime = *driver = 0;
  cudaRuntimeGetVersion(runtime);
  cudaDriverGetVersion(driver);
  cudaGetLastError();
}

void allow_tf32(int on) noexcept {
  allow_tf32_products(on);
  allow_tf32_convolutions(on);
}

const DeviceHooks kHooks = {device_count, hook_allocate, hook_deallocate,     copy,
                            synchronize,  begin,         end_and_take_error,  properties,
                            memory,       reset_peak,    empty_cache,         set_limit,
                            versions,     gemm_library,  convolution_library, allow_tf32};

}  // namespace

const DeviceHooks* hooks() { return &kHooks; }

// ---- what captured graphs need
bool begin_capture(int device) noexcept {
  Stream& stream = ready_stream(device);
  if (!keep_error(cudaStreamSynchronize(stream.handle), "cudaStreamSynchronize")) return false;
  const std::lock_guard<std::mutex> guard(state(device).mutex);  // nobody waits for the stream's event from here on
  if (!keep_error(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"))
    return false;
  stream.captures.store(true);
  return true;
}
cudaError_t end_capture(int device, cudaGraph_t* graph) noexcept {
  Stream& stream = own_stream(device);
  const cudaError_t error = cudaStreamEndCapture(stream.handle, graph);
  if (error != cudaSuccess) cudaGetLastError();
  stream.captures.store(false);
  return error;
}
cudaStream_t issue_stream(int device) noexcept { return ready_stream(device).handle; }
void copy_to_table(int device, void* dst, const void* host, size_t bytes) noexcept {
  if (bytes) upload_on(ready_stream(device), dst, host, bytes);
}
bool count_memory(int device, int64_t bytes) noexcept { return count(device, bytes); }
void keep_out_of_memory(int device, size_t wanted) noexcept { no_memory_left(device, wanted); }

// ---- what launch.h promises, for the device that is current
void* allocate(size_t bytes, cudaStream_t stream) noexcept { return allocate_on(t_device, bytes, stream); }
void deallocate(void* block, size_t bytes, cudaStream_t stream) noexcept {
  deallocate_on(t_device, block, bytes, stream);
}
void copy_to_device(void* device, const void* host, size_t bytes, cudaStream_t) noexcept {
  upload_on(own_stream(t_device), device, host, bytes);
}
void copy_to_host(void* host, const void* device, size_t bytes, cudaStream_t stream) noexcept {
  if (capturing()) return keep_message(3, kNotWhileCapturing);
  keep_error(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copy to the host");
  keep_error(cudaStreamSynchronize(stream), "copy to the host");
}
int multiprocessors() noexcept {
  if (t_device < 0) return 1;
  std::atomic<int>& known = state(t_device).multiprocessors;
  if (known.load(std::memory_order_relaxed) == 0) {
    int count = 0;
    keep_error(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, t_device), "cudaDeviceGetAttribute");
    known.store(count > 0 ? count : 1, std::memory_order_relaxed);
  }
  return known.load(std::memory_order_relaxed);
}

}  // namespace cuda
}  // namespace pydl
