// What every .cu file includes: launches and their errors, temporary device memory, small copies, dtype dispatch, and
// reductions in a fixed order.
//
// A family's file fills its entries of the kernel table, like those of cpu/:
//
//   PYDL_FILL(softmax) { table.softmax = pydl::softmax_kernel; }
//
// with `void softmax_kernel(const SoftmaxArgs& args, Exec& exec) noexcept`: host code that launches __global__
// functions on stream_of(exec) and returns without waiting. The void pointers of an argument struct are device memory;
// where a struct holds host arrays (sizes, pointer lists, window tables) or a result for the host, kernel_args.h says
// so, and upload() and download() move them. Errors are kept by the thread and raised, with the op's name, by the op
// that launched the kernel: so a kernel that could not get memory simply returns.
#pragma once
#include "backend/kernel_table.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#elif defined(PYDL_CUDA_EMULATED)
#include "backend/cuda/emulation.h"
#else
#error "device code is for nvcc, or for PYDL_CUDA=emulated"
#endif

namespace pydl {

struct CapturedValues;  // core/capture.h

// ---- the module's runtime (runtime.cu)
namespace cuda {

// Remembers the first error of this thread; what: the call or kernel it came from. Returns whether there was none.
bool keep_error(cudaError_t error, const char* what) noexcept;
// Stream-ordered; null, with the error kept, where there is no memory left. Zero bytes are fine.
void* allocate(size_t bytes, cudaStream_t stream) noexcept;
void deallocate(void* block, size_t bytes, cudaStream_t stream) noexcept;
// Waits for the stream only to read: the host array may be reused at once.
void copy_to_device(void* device, const void* host, size_t bytes, cudaStream_t stream) noexcept;
void copy_to_host(void* host, const void* device, size_t bytes, cudaStream_t stream) noexcept;  // waits
int multiprocessors() noexcept;                                                                 // of the current device
// What a captured launch reads and writes on the device in place of its arguments; null while nothing is captured.
const CapturedValues* captured_values() noexcept;

// While one lives this thread may ask for memory in spite of a capture.
class RelaxedCapture {
 public:
  RelaxedCapture() { exchange(); }
  ~RelaxedCapture() { exchange(); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  void exchange() { keep_error(cudaThreadExchangeStreamCaptureMode(&mode_), "cudaThreadExchangeStreamCaptureMode"); }
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace cuda

namespace {

inline cudaStream_t stream_of(const Exec& exec) { return static_cast<cudaStream_t>(exec.stream); }

// PYDL_CUDA_LAUNCH((kernel<T>), grid, block, shared_bytes, exec, arguments...): asynchronous; an empty grid must not be
// asked for (see grid_for). More than 48 KB of shared memory: allow_shared((kernel<T>), bytes) first.
#if defined(__CUDACC__)
#define PYDL_CUDA_LAUNCH(kernel, grid, block, shared_bytes, exec, ...)                 \
  do {                                                                                 \
    kernel<<<(grid), (block), (shared_bytes), ::pydl::stream_of(exec)>>>(__VA_ARGS__); \
    ::pydl::cuda::keep_error(cudaGetLastError(), #kernel);                             \
  } while (false)
#else
#define PYDL_CUDA_LAUNCH(kernel, grid, block, shared_bytes, exec, ...)                                                \
  do {                                                                                                                \
    (void)::pydl::stream_of(exec);                                                                                    \
    const auto bind_ = [&](auto... values) { return [=] { kernel(values...); }; };                                    \
    ::pydl::cuda::keep_error(::pydl::emulation::run_grid((grid), (block), (shared_bytes), false, bind_(__VA_ARGS__)), \
                             #kernel);                                                                                \
  } while (false)
#endif

// The same for a kernel whose blocks wait for each other with grid_sync(): at most cooperative_blocks(...) blocks.
template <class... Params, class... Args>
void launch_cooperative(void (*kernel)(Params...), const char* name, dim3 grid, dim3 block, size_t shared_bytes,
                        Exec& exec, Args... args) {
#if defined(__CUDACC__)
  const auto call = [&](Params... values) {
    void* pointers[] = {static_cast<void*>(&values)...};
    return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes,
                                       stream_of(exec));
  };
  cuda::keep_error(call(args...), name);
#else
  (void)exec;
  cuda::keep_error(emulation::run_grid(grid, block, shared_bytes, true, [=] { kernel(args...); }), name);
#endif
}
// How many blocks can live at the same time.
template <class Kernel>
int cooperative_blocks(Kernel* kernel, int threads, size_t shared_bytes) {
  int blocks = 0;
  cuda::keep_error(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes), "occupancy");
  return blocks * cuda::multiprocessors();
}
template <class Kernel>
bool allow_shared(Kernel* kernel, size_t bytes) {
  return bytes <= (48u << 10) ||
         cuda::keep_error(
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
}

// In a cooperative kernel: all threads of all blocks. What the kernel shares within a block must be PYDL_CUDA_SHARED.
__device__ inline void grid_sync() {
#if defined(__CUDACC__)
  cooperative_groups::this_grid().sync();
#else
  emulation::grid_barrier();
#endif
}

// T* name: the dynamic shared memory of the launch, aligned to 16 bytes.
#if defined(__CUDACC__)
#define PYDL_CUDA_SHARED(T, name)                                    \
  extern __shared__ __align__(16) unsigned char pydl_shared_bytes[]; \
  T* name = reinterpret_cast<T*>(pydl_shared_bytes)
#else
#define PYDL_CUDA_SHARED(T, name) T* name = static_cast<T*>(::pydl::emulation::dynamic_shared())
#endif

// ---- grids
constexpr int kBlock = 256;

// Blocks for a grid-stride loop over count items, `each` of them a thread; at least 1.
inline unsigned grid_for(int64_t count, int threads = kBlock, int each = 1) {
  const int64_t a_block = int64_t{threads} * each, wanted = (count + a_block - 1) / a_block;
  const int64_t most = int64_t{cuda::multiprocessors()} * 16;
  return static_cast<unsigned>(wanted < 1 ? 1 : wanted > most ? most : wanted);
}
#define PYDL_CUDA_LOOP(i, n)                                                             \
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < (n); \
       i += static_cast<int64_t>(gridDim.x) * blockDim.x)

// ---- temporary memory
// Device memory for the work of this call, freed in stream order. Check it: null means that the error is kept.
template <class T>
class DeviceScratch {
 public:
  DeviceScratch(Exec& exec, int64_t count)
      : stream_(stream_of(exec)),
        bytes_(static_cast<size_t>(count) * sizeof(T)),
        data_(static_cast<T*>(cuda::allocate(bytes_, stream_))) {}
  DeviceScratch(DeviceScratch&& other) noexcept : stream_(other.stream_), bytes_(other.bytes_), data_(other.data_) {
    other.data_ = nullptr;
  }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  ~DeviceScratch() {
    if (data_) cuda::deallocate(data_, bytes_, stream_);
  }
  T* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  cudaStream_t stream_;
  size_t bytes_;
  T* data_;
};

// A small host array, on the device for the duration of the call. A null or empty one gives a null get(), and is true.
template <class T>
class Upload {
 public:
  Upload(Exec& exec, const T* host, int64_t count) : wanted_(host && count > 0), scratch_(exec, wanted_ ? count : 0) {
    if (wanted_ && scratch_)
      cuda::copy_to_device(scratch_.get(), host, static_cast<size_t>(count) * sizeof(T), stream_of(exec));
  }
  const T* get() const { return wanted_ ? scratch_.get() : nullptr; }
  explicit operator bool() const { return !wanted_ || scratch_; }

 private:
  bool wanted_;
  DeviceScratch<T> scratch_;
};
template <class T>
Upload<T> upload(Exec& exec, const T* host, int64_t count) {
  return Upload<T>(exec, host, count);
}
// Waits for the stream: for the few results that the host must read.
template <class T>
void download(Exec& exec, const T* device, T* host, int64_t count) {
  if (count > 0) cuda::copy_to_host(host, device, static_cast<size_t>(count) * sizeof(T), stream_of(exec));
}
inline void fill_bytes(Exec& exec, void* device, int value, size_t bytes) {
  if (bytes) cuda::keep_error(cudaMemsetAsync(device, value, bytes, stream_of(exec)), "cudaMemsetAsync");
}

// ---- dtypes: f(T{}) with the C++ type of dtype; booleans as uint8_t.
template <class F>
void dispatch_floating(DType dtype, F&& f) {
  if (dtype == DType::float32)
    f(float{});
  else if (dtype == DType::float64)
    f(double{});
  else
    cuda::keep_error(cudaErrorNotSupported, "dispatch_floating: a dtype that the op should have converted");
}
template <class F>
void dispatch_integer(DType dtype, F&& f) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
      return f(uint8_t{});
    case DType::int8:
      return f(int8_t{});
    case DType::uint16:
      return f(uint16_t{});
    case DType::int16:
      return f(int16_t{});
    case DType::uint32:
      return f(uint32_t{});
    case DType::int32:
      return f(int32_t{});
    case DType::uint64:
      return f(uint64_t{});
    case DType::int64:
      return f(int64_t{});
    default:
      cuda::keep_error(cudaErrorNotSupported, "dispatch_integer: a floating dtype");
  }
}
// By width alone, for what only moves elements: uint8_t, uint16_t, uint32_t or uint64_t.
template <class F>
void dispatch_width(size_t bytes, F&& f) {
  switch (bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

// ---- reductions in a fixed order, so that the same seed gives the same bits. Ops: op(a, b), commutative.
constexpr unsigned kFullWarp = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// Of a whole warp; every lane gets the result. Values of up to eight bytes.
template <class T, class Op>
__device__ inline T warp_reduce(T value, Op op) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value = op(value, __shfl_xor_sync(kFullWarp, value, lanes));
  return value;
}

// Of a whole block of a multiple of 32 threads, at most 1024; every thread gets the result. slots: 32 in shared memory;
// they may be used again at once.
template <class T, class Op>
__device__ inline T block_reduce(T value, T identity, Op op, T* slots) {
  const int thread = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) / 32;
  value = warp_reduce(value, op);
  if (warps == 1) return value;
  if (thread % 32 == 0) slots[thread / 32] = value;
  __syncthreads();
  value = warp_reduce(thread % 32 < warps ? slots[thread % 32] : identity, op);
  __syncthreads();
  return value;
}

}  // namespace
}  // namespace pydl
