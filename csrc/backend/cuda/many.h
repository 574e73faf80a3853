// Many tensors in one launch: a few dozen pointers go by value in the kernel's parameters, and each block takes a chunk
// of kChunk elements of one of them, so that many small tensors cost no more launches than a large one. Capturable:
// nothing is uploaded.
#pragma once
#include "backend/cuda/packets.h"

namespace pydl {
namespace {

constexpr int kTensorsAtOnce = 48;       // a launch's parameters are 4 KB at most
constexpr int kMostPointers = 5;         // parameter, gradient and three states
constexpr int64_t kChunk = 16 * kBlock;  // elements of a block

template <int pointers>
struct TensorList {
  int tensors;
  int first_chunk[kTensorsAtOnce + 1];  // of each tensor, then of all
  int64_t sizes[kTensorsAtOnce];
  void* data[pointers][kTensorsAtOnce];
  bool aligned[kTensorsAtOnce];  // all of a tensor's pointers, to 16 bytes
};
static_assert(sizeof(TensorList<kMostPointers>) <= 3500, "with the other parameters, at most 4 KB");

// This block's tensor, and its elements of it.
struct Chunk {
  int tensor;
  int64_t begin, end;
  template <int pointers>
  __device__ explicit Chunk(const TensorList<pointers>& list) {
    const int chunk = static_cast<int>(blockIdx.x);
    int low = 0, high = list.tensors - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (list.first_chunk[middle] <= chunk)
        low = middle;
      else
        high = middle - 1;
    }
    tensor = low;
    begin = (chunk - list.first_chunk[low]) * kChunk;
    end = begin + kChunk < list.sizes[low] ? begin + kChunk : list.sizes[low];
  }
};

// launch(list, chunks, members) for groups of the tensors, in order; members: the list's tensors by their number in the
// call, as empty ones are left out. pointer(k, t): pointer k of tensor t.
template <int pointers, class P, class F>
void each_group(int tensors, const int64_t* sizes, P pointer, F launch) {
  constexpr int kMostChunks = 1 << 30;
  for (int t = 0; t < tensors;) {
    TensorList<pointers> list{};
    int64_t chunks = 0;
    int members[kTensorsAtOnce];
    for (; t < tensors && list.tensors < kTensorsAtOnce; ++t) {
      if (sizes[t] <= 0) continue;
      const int64_t more = (sizes[t] + kChunk - 1) / kChunk;
      if (chunks + more > kMostChunks && list.tensors > 0) break;
      const int at = list.tensors++;
      members[at] = t;
      list.first_chunk[at] = static_cast<int>(chunks);
      list.sizes[at] = sizes[t];
      list.aligned[at] = true;
      for (int k = 0; k < pointers; ++k) {
        list.data[k][at] = pointer(k, t);
        if ((reinterpret_cast<uintptr_t>(list.data[k][at]) & 15u) != 0) list.aligned[at] = false;
      }
      chunks += more;
    }
    list.first_chunk[list.tensors] = static_cast<int>(chunks);
    if (list.tensors > 0) launch(list, static_cast<unsigned>(chunks), members);
  }
}

// body(values, tensor) for each element of the block's chunk, in registers: values[k] is that of pointer k. Those below
// `written` are stored back; those below `unread` are not loaded.
template <class T, int pointers, int written, int unread = 0, class F>
__device__ void each_element(const TensorList<pointers>& list, F body) {
  const Chunk chunk(list);
  T* data[pointers];
  for (int k = 0; k < pointers; ++k) data[k] = static_cast<T*>(list.data[k][chunk.tensor]);
  constexpr int size = Packet<T>::kSize;
  int64_t i = chunk.begin;
  if (list.aligned[chunk.tensor]) {
    const int64_t whole = chunk.begin + (chunk.end - chunk.begin) / size * size;
    for (int64_t at = chunk.begin + static_cast<int64_t>(threadIdx.x) * size; at < whole; at += kBlock * size) {
      Packet<T> packets[pointers];
#pragma unroll
      for (int k = unread; k < pointers; ++k) packets[k] = *reinterpret_cast<const Packet<T>*>(data[k] + at);
#pragma unroll
      for (int e = 0; e < size; ++e) {
        T values[pointers];
#pragma unroll
        for (int k = unread; k < pointers; ++k) values[k] = packets[k].v[e];
        body(values, chunk.tensor);
#pragma unroll
        for (int k = 0; k < written; ++k) packets[k].v[e] = values[k];
      }
#pragma unroll
      for (int k = 0; k < written; ++k) *reinterpret_cast<Packet<T>*>(data[k] + at) = packets[k];
    }
    i = whole;
  }
  for (int64_t at = i + static_cast<int64_t>(threadIdx.x); at < chunk.end; at += kBlock) {
    T values[pointers];
#pragma unroll
    for (int k = unread; k < pointers; ++k) values[k] = data[k][at];
    body(values, chunk.tensor);
#pragma unroll
    for (int k = 0; k < written; ++k) data[k][at] = values[k];
  }
}

}  // namespace
}  // namespace pydl
