// The emulation's graphs: a thread that captures keeps its launches and copies, and a replay does them in order.
#include <memory>

#include "backend/cuda/emulation_parts.h"

namespace pydl::emulation {
namespace {

struct Recording {
  std::vector<Work> work;
  cudaStreamCaptureMode mode;
  bool broken = false;
};
thread_local std::unique_ptr<Recording> t_recording;

}  // namespace

bool capturing() { return t_recording != nullptr; }
bool forbidden(bool unless_relaxed) {
  if (!t_recording || (unless_relaxed && t_recording->mode == cudaStreamCaptureModeRelaxed)) return false;
  t_recording->broken = true;
  keep(cudaErrorStreamCaptureUnsupported);
  return true;
}
cudaError_t issue(Work work) {
  if (!t_recording) return work();
  t_recording->work.push_back(std::move(work));
  return cudaSuccess;
}

}  // namespace pydl::emulation

using pydl::emulation::forbidden;
using pydl::emulation::keep;
using pydl::emulation::Recording;
using pydl::emulation::t_recording;
using pydl::emulation::Work;

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

// ---- for tests' stand-ins of NVIDIA's libraries, which do their work on the host but in the stream's order
extern "C" __attribute__((visibility("default"))) int pydl_emulated_issue(void (*work)(void*), void* argument) {
  return pydl::emulation::issue([=] {
    const pydl::emulation::OpenMemory open;
    work(argument);
    return cudaSuccess;
  });
}
// Whether memory could be asked for now.
extern "C" __attribute__((visibility("default"))) int pydl_emulated_may_allocate() { return !forbidden(true); }
