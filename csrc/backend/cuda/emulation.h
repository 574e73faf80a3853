// A stand-in for the CUDA runtime and its compiler, so that g++ compiles the .cu files and a machine without a GPU runs
// them: a test aid (PYDL_CUDA=emulated), not a backend for users, and slow.
//
// A launch runs the blocks in order, one launch at a time in the whole process. The threads of a block are fibers that
// change hands only at a barrier or a warp function; a kernel without any costs one call a thread. Device memory lies
// in one mapping without any access rights outside of launches and copies, so host code that touches it crashes; fresh
// memory is filled with 0xFF (NaN), and a write behind a block's end is found when it is freed. Everything is
// synchronous. A deadlock at a barrier, or a warp function whose mask names a thread that has ended, aborts with a
// line.
//
// Not emulated: asynchrony, races between blocks, caches, register and shared-memory limits. __shared__ arrays are one
// static copy, so kernels that use grid_sync() (launch.h) keep what they share in PYDL_CUDA_SHARED only.
#pragma once
#include <math.h>

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

// ---- types
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
  unsigned x, y, z;
};
#define PYDL_VECTOR2(name, T)          \
  struct alignas(2 * sizeof(T)) name { \
    T x, y;                            \
  };                                   \
  inline name make_##name(T x, T y) { return {x, y}; }
#define PYDL_VECTOR4(name, T)                                \
  struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name { \
    T x, y, z, w;                                            \
  };                                                         \
  inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }
PYDL_VECTOR2(float2, float)
PYDL_VECTOR2(double2, double)
PYDL_VECTOR2(int2, int)
PYDL_VECTOR2(uint2, unsigned)
PYDL_VECTOR2(longlong2, long long)
PYDL_VECTOR2(ulonglong2, unsigned long long)
PYDL_VECTOR2(short2, short)
PYDL_VECTOR2(ushort2, unsigned short)
PYDL_VECTOR4(float4, float)
PYDL_VECTOR4(double4, double)
PYDL_VECTOR4(int4, int)
PYDL_VECTOR4(uint4, unsigned)
PYDL_VECTOR4(short4, short)
PYDL_VECTOR4(ushort4, unsigned short)
PYDL_VECTOR4(char4, signed char)
PYDL_VECTOR4(uchar4, unsigned char)
#undef PYDL_VECTOR2
#undef PYDL_VECTOR4

extern uint3 threadIdx, blockIdx;  // of the thread that runs now
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---- the runtime
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrCooperativeLaunch,
  cudaDevAttrMaxThreadsPerMultiProcessor,
  cudaDevAttrL2CacheSize,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaFuncAttributePreferredSharedMemoryCarveout };
struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
struct CUgraph_st;
struct CUgraphExec_st;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaEventDefault = 0,
                   cudaHostAllocDefault = 0;
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
  int major, minor, multiProcessorCount, l2CacheSize;
};

const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** block, size_t bytes);
cudaError_t cudaFree(void* block);
cudaError_t cudaMallocAsync(void** block, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* block, cudaStream_t stream);
template <class T>
cudaError_t cudaMalloc(T** block, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(block), bytes);
}
cudaError_t cudaMallocHost(void** block, size_t bytes);
cudaError_t cudaFreeHost(void* block);
cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemset(void* dst, int value, size_t bytes);
cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = {});
cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream = {});
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = {}, cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned = 0);
cudaError_t cudaDeviceSynchronize();
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = {}, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t = {}) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t);

// Graphs: a thread that captures keeps its launches and copies to run them later. What may not be done meanwhile ends
// the capture with an error, as on a device.
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int, size_t) {
  return *blocks = 1, cudaSuccess;
}

// ---- launches
namespace pydl::emulation {

constexpr int kMultiprocessors = 4;  // few, so that tests meet grids smaller than their data

// Runs body once a thread of the grid, or keeps it where the thread captures. cooperative: all blocks live at the same
// time.
cudaError_t run_grid(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative, const std::function<void()>& body);
void* dynamic_shared();                                        // the block's
void block_barrier();                                          // __syncthreads
void grid_barrier();                                           // of a cooperative launch
const uint64_t* warp_exchange(unsigned mask, uint64_t value);  // the values of all 32 lanes, once all of mask have come
unsigned warp_present();                                       // lanes that the block has

}  // namespace pydl::emulation

// ---- what device code calls
inline void __syncthreads() { pydl::emulation::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { pydl::emulation::warp_exchange(mask, 0); }
inline int pydl_emulated_lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
}
inline int __syncthreads_or(int predicate) {
  static int any;
  __syncthreads();
  any = 0;
  __syncthreads();
  if (predicate) any = 1;
  __syncthreads();
  return any;
}
inline int __syncthreads_and(int predicate) { return !__syncthreads_or(!predicate); }

template <class T>
T pydl_emulated_shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "values of up to eight bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = pydl::emulation::warp_exchange(mask, bits)[source];
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = pydl_emulated_lane();
  return pydl_emulated_shuffle(mask, value, (lane & ~(width - 1)) + (source & (width - 1)));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = pydl_emulated_lane(), source = lane + static_cast<int>(delta);
  return pydl_emulated_shuffle(mask, value, (source & ~(width - 1)) == (lane & ~(width - 1)) ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = pydl_emulated_lane(), source = lane - static_cast<int>(delta);
  return pydl_emulated_shuffle(mask, value, source >= (lane & ~(width - 1)) ? source : lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const int lane = pydl_emulated_lane(), source = lane ^ lanes;
  return pydl_emulated_shuffle(mask, value, (source & ~(width - 1)) > (lane & ~(width - 1)) ? lane : source);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* values = pydl::emulation::warp_exchange(mask, predicate != 0);
  unsigned out = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & pydl::emulation::warp_present() >> lane & 1) out |= static_cast<unsigned>(values[lane]) << lane;
  return out;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline unsigned __activemask() { return pydl::emulation::warp_present(); }

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { std::abort(); }

template <class T>
T atomicAdd(T* p, T value) {
  return std::exchange(*p, static_cast<T>(*p + value));
}
template <class T>
T atomicSub(T* p, T value) {
  return std::exchange(*p, static_cast<T>(*p - value));
}
template <class T>
T atomicMax(T* p, T value) {
  return std::exchange(*p, std::max(*p, value));
}
template <class T>
T atomicMin(T* p, T value) {
  return std::exchange(*p, std::min(*p, value));
}
template <class T>
T atomicOr(T* p, T value) {
  return std::exchange(*p, static_cast<T>(*p | value));
}
template <class T>
T atomicAnd(T* p, T value) {
  return std::exchange(*p, static_cast<T>(*p & value));
}
template <class T>
T atomicExch(T* p, T value) {
  return std::exchange(*p, value);
}
template <class T>
T atomicCAS(T* p, T compare, T value) {
  const T old = *p;
  if (old == compare) *p = value;
  return old;
}
inline unsigned atomicInc(unsigned* p, unsigned limit) { return std::exchange(*p, *p >= limit ? 0 : *p + 1); }

template <class To, class From>
To pydl_emulated_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
inline int __float_as_int(float x) { return pydl_emulated_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return pydl_emulated_bits<unsigned>(x); }
inline float __int_as_float(int x) { return pydl_emulated_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return pydl_emulated_bits<float>(x); }
inline long long __double_as_longlong(double x) { return pydl_emulated_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return pydl_emulated_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __expf(float x) { return __builtin_expf(x); }
inline float __logf(float x) { return __builtin_logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline long long clock64() { return 0; }
#define PYDL_MIN_MAX(T)                            \
  inline T min(T a, T b) { return b < a ? b : a; } \
  inline T max(T a, T b) { return a < b ? b : a; }
PYDL_MIN_MAX(int)
PYDL_MIN_MAX(unsigned)
PYDL_MIN_MAX(long)
PYDL_MIN_MAX(unsigned long)
PYDL_MIN_MAX(long long)
PYDL_MIN_MAX(unsigned long long)
#undef PYDL_MIN_MAX
// As CUDA's: a NaN loses.
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
