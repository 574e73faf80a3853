// cuDNN's convolutions, where it is found when the first one is made: no header and no library of it is needed to
// build. Looked for in PYDL_CUDNN (a path; "off" means never), beside pydl in the site-packages (the wheels
// nvidia-cudnn-cu13 and nvidia-cudnn-cu12), then by its name. Only conv.cu includes this.
//
// Of its two interfaces the older one, of descriptors, which cuDNN 8 and 9 both have. An algorithm is chosen once for
// each shape, from the library's own guesses: trial runs would choose by chance and can't be captured. Left out are
// those that add in an order of chance, and Fourier transforms, which carry what is large or no number into every
// output. float32 is multiplied as float32 unless TF32 is allowed; 16-bit types are added up in float32.
#pragma once
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "backend/cuda/launch.h"
#include "backend/cuda/libraries.h"

namespace pydl {
namespace {

// The part of cudnn.h's interface that is used here; the same numbers in cuDNN 8 and 9.
struct DnnApi {
  using Handle = void*;
  using Object = void*;
  struct Guess {
    int algorithm, status;
    float time;
    size_t workspace;
    int deterministic, math;
    int reserved[3];
  };
  enum DataType { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 9 };
  enum Math { kDefault = 0, kTensorCores = 1, kConverting = 2, kMultiplyAdd = 3 };  // kDefault: TF32 where there is one
  enum Format { kChannelsFirst = 0, kChannelsLast = 1 };
  static constexpr int kCorrelation = 1;

  size_t (*version)();
  int (*create)(Handle*);
  int (*set_stream)(Handle, cudaStream_t);
  int (*tensor_create)(Object*);
  int (*tensor_set)(Object, int type, int axes, const int* sizes, const int* strides);
  int (*tensor_destroy)(Object);
  int (*filter_create)(Object*);
  int (*filter_set)(Object, int type, int format, int axes, const int* sizes);
  int (*filter_destroy)(Object);
  int (*conv_create)(Object*);
  int (*conv_set)(Object, int axes, const int* padding, const int* stride, const int* dilation, int mode, int type);
  int (*conv_groups)(Object, int);
  int (*conv_math)(Object, int);
  int (*conv_destroy)(Object);
  // Of each pass: forward (x, weight, y), the input's gradient (weight, d_y, d_x), the weight's (x, d_y, d_weight).
  using Choose = int (*)(Handle, Object, Object, Object conv, Object, int wanted, int* found, Guess*);
  using Workspace = int (*)(Handle, Object, Object, Object conv, Object, int algorithm, size_t*);
  using Run = int (*)(Handle, const void* alpha, Object, const void*, Object, const void*, Object conv, int algorithm,
                      void* workspace, size_t, const void* beta, Object, void*);
  Choose choose[3];
  Workspace workspace[3];
  Run run[3];

  bool load(void* library) {
    const auto find = [&](auto& function, const char* name) {
      void* symbol = dlsym(library, name);
      std::memcpy(&function, &symbol, sizeof symbol);
      return symbol != nullptr;
    };
    return find(version, "cudnnGetVersion") && find(create, "cudnnCreate") && find(set_stream, "cudnnSetStream") &&
           find(tensor_create, "cudnnCreateTensorDescriptor") && find(tensor_set, "cudnnSetTensorNdDescriptor") &&
           find(tensor_destroy, "cudnnDestroyTensorDescriptor") && find(filter_create, "cudnnCreateFilterDescriptor") &&
           find(filter_set, "cudnnSetFilterNdDescriptor") && find(filter_destroy, "cudnnDestroyFilterDescriptor") &&
           find(conv_create, "cudnnCreateConvolutionDescriptor") && find(conv_set, "cudnnSetConvolutionNdDescriptor") &&
           find(conv_groups, "cudnnSetConvolutionGroupCount") && find(conv_math, "cudnnSetConvolutionMathType") &&
           find(conv_destroy, "cudnnDestroyConvolutionDescriptor") &&
           find(choose[0], "cudnnGetConvolutionForwardAlgorithm_v7") &&
           find(choose[1], "cudnnGetConvolutionBackwardDataAlgorithm_v7") &&
           find(choose[2], "cudnnGetConvolutionBackwardFilterAlgorithm_v7") &&
           find(workspace[0], "cudnnGetConvolutionForwardWorkspaceSize") &&
           find(workspace[1], "cudnnGetConvolutionBackwardDataWorkspaceSize") &&
           find(workspace[2], "cudnnGetConvolutionBackwardFilterWorkspaceSize") &&
           find(run[0], "cudnnConvolutionForward") && find(run[1], "cudnnConvolutionBackwardData") &&
           find(run[2], "cudnnConvolutionBackwardFilter");
  }
};

enum class DnnPass { forward, backward_input, backward_weight };

// One convolution without its data. Both tensors have channel stride 1.
struct DnnProblem {
  DnnPass pass;
  ConvShape shape;
  ConvLayout x, y;  // of x or d_x, and of y or d_y
};

// Channels-last and contiguous, as results are written.
inline ConvLayout packed_layout(int64_t channels, const int64_t (&sizes)[3]) {
  return {channels * sizes[0] * sizes[1] * sizes[2], 1, channels};
}

class Dnn {
 public:
  static Dnn& instance() {
    static Dnn* dnn = new Dnn;  // never destroyed: its library may be unloaded first
    return *dnn;
  }
  const char* name() const { return loaded_ ? name_ : nullptr; }
  void allow_tf32(bool on) { tf32_ = on; }
  // Weights are (O, taps, C / groups) for the library, but (O, C / groups, taps) in float64, where it has nothing
  // faster.
  static bool channels_last_weight(DType dtype) { return dtype != DType::float64; }

  // Whether the library takes this convolution.
  bool takes(const DnnProblem& p) {
    if (!loaded_ || !possible(p)) return false;
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    return choice_of(p, device).status == 0;
  }

  // False where it failed before anything was done. a, b and out in the order of the pass (DnnApi).
  bool run(const DnnProblem& p, const void* a, const void* b, void* out, Exec& exec) {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return false;
    const std::lock_guard<std::mutex> lock(mutex_);  // a handle serves one thread at a time
    Choice& choice = choice_of(p, device);
    if (choice.status != 0) return false;
    Descriptors d(api_, p);
    if (!d.complete || api_.conv_math(d.conv, choice.math) != 0) return false;
    DeviceScratch<char> workspace(exec, static_cast<int64_t>(choice.workspace));
    if (choice.workspace > 0 && !workspace) return true;  // the error is kept
    const DnnApi::Handle handle = handles_[device];
    if (api_.set_stream(handle, stream_of(exec)) != 0) return false;
    const float one = 1, zero = 0;
    const double wide_one = 1, wide_zero = 0;
    const bool wide = p.shape.dtype == DType::float64;
    const int pass = static_cast<int>(p.pass);
    choice.status = api_.run[pass](handle, wide ? static_cast<const void*>(&wide_one) : &one, d.a(), a, d.b(), b,
                                   d.conv, choice.algorithm, workspace.get(), choice.workspace,
                                   wide ? static_cast<const void*>(&wide_zero) : &zero, d.out(), out);
    return choice.status == 0;
  }

 private:
  using Key = std::array<int64_t, 26>;
  struct Choice {
    int status, algorithm, math;
    size_t workspace;
  };
  static constexpr size_t kWorkspace = size_t{512} << 20;
  static constexpr int kGuesses = 16;

  struct Descriptors {
    const DnnApi& api;
    DnnPass pass;
    DnnApi::Object x = nullptr, y = nullptr, weight = nullptr, conv = nullptr;
    bool complete = false;

    Descriptors(const DnnApi& with, const DnnProblem& p) : api(with), pass(p.pass) {
      const ConvShape& s = p.shape;
      const int first = flat(s) ? 1 : 0, axes = 3 - first, type = type_of(s.dtype);
      int padding[3], stride[3], dilation[3], filter[5] = {whole(s.out_channels), whole(s.in_channels / s.groups)};
      for (int i = first; i < 3; ++i) {
        padding[i - first] = whole(s.padding[i]);
        stride[i - first] = whole(s.stride[i]);
        dilation[i - first] = whole(s.dilation[i]);
        filter[2 + i - first] = whole(s.kernel[i]);
      }
      const int format = channels_last_weight(s.dtype) ? DnnApi::kChannelsLast : DnnApi::kChannelsFirst;
      complete = set_tensor(x, type, s.batch, s.in_channels, s.in, p.x, first) &&
                 set_tensor(y, type, s.batch, s.out_channels, s.out, p.y, first) && api.filter_create(&weight) == 0 &&
                 api.filter_set(weight, type, format, 2 + axes, filter) == 0 && api.conv_create(&conv) == 0 &&
                 api.conv_set(conv, axes, padding, stride, dilation, DnnApi::kCorrelation,
                              s.dtype == DType::float64 ? DnnApi::kFloat64 : DnnApi::kFloat32) == 0 &&
                 api.conv_groups(conv, whole(s.groups)) == 0;
    }
    Descriptors(const Descriptors&) = delete;
    ~Descriptors() {
      if (x) api.tensor_destroy(x);
      if (y) api.tensor_destroy(y);
      if (weight) api.filter_destroy(weight);
      if (conv) api.conv_destroy(conv);
    }
    DnnApi::Object a() const { return pass == DnnPass::backward_input ? weight : x; }
    DnnApi::Object b() const { return pass == DnnPass::forward ? weight : y; }
    DnnApi::Object out() const { return pass == DnnPass::forward ? y : pass == DnnPass::backward_input ? x : weight; }
    bool set_tensor(DnnApi::Object& tensor, int type, int64_t batch, int64_t channels, const int64_t (&sizes)[3],
                    const ConvLayout& layout, int first) {
      int size[5] = {whole(batch), whole(channels)}, stride[5] = {whole(layout.batch), 1};
      int64_t step = layout.pixel;
      for (int i = 2; i >= first; --i) {
        size[2 + i - first] = whole(sizes[i]);
        stride[2 + i - first] = whole(step);
        step *= sizes[i];
      }
      return api.tensor_create(&tensor) == 0 && api.tensor_set(tensor, type, 5 - first, size, stride) == 0;
    }
  };

  Dnn() {
    void* library = open_library("PYDL_CUDNN", {"nvidia/cudnn/lib/libcudnn.so.9"}, {"libcudnn.so.9", "libcudnn.so.8"});
    loaded_ = library && api_.load(library);
    if (!loaded_) return;
    const size_t version = api_.version(), scale = version >= 90000 ? 10000 : 1000;
    std::snprintf(name_, sizeof name_, "cuDNN %zu.%zu.%zu", version / scale, version % scale / 100, version % 100);
  }

  static bool is_sixteen_bits(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }
  static int whole(int64_t n) { return static_cast<int>(n); }
  // Whether the axis of depth is none.
  static bool flat(const ConvShape& s) {
    return s.in[0] == 1 && s.out[0] == 1 && s.kernel[0] == 1 && s.padding[0] == 0;
  }
  static int type_of(DType dtype) {
    return dtype == DType::float64    ? DnnApi::kFloat64
           : dtype == DType::float16  ? DnnApi::kFloat16
           : dtype == DType::bfloat16 ? DnnApi::kBFloat16
                                      : DnnApi::kFloat32;
  }

  // The library pads both ends of an axis alike and counts in 32 bits.
  static bool possible(const DnnProblem& p) {
    const ConvShape& s = p.shape;
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    int64_t pixels_in = 1, pixels_out = 1;
    for (int i = 0; i < 3; ++i) {
      const int64_t reach = s.dilation[i] * (s.kernel[i] - 1) + 1;
      if (s.in[i] + 2 * s.padding[i] < reach) return false;
      if ((s.in[i] + 2 * s.padding[i] - reach) / s.stride[i] + 1 != s.out[i] || reach > kMost) return false;
      if (s.stride[i] > kMost || s.in[i] > kMost || s.out[i] > kMost) return false;
      pixels_in *= s.in[i];
      pixels_out *= s.out[i];
    }
    const auto fits = [&](const ConvLayout& layout, int64_t pixels) {
      return layout.channel == 1 && layout.batch > 0 && pixels > 0 && layout.pixel <= kMost / pixels &&
             layout.batch <= kMost / s.batch;
    };
    return s.batch > 0 && fits(p.x, pixels_in) && fits(p.y, pixels_out);
  }

  bool exact(DType dtype) const { return dtype == DType::float32 && !tf32_; }

  Key key_of(const DnnProblem& p, int device) const {
    const ConvShape& s = p.shape;
    Key key{};
    size_t n = 0;
    for (const int64_t value :
         {static_cast<int64_t>(p.pass) | static_cast<int64_t>(s.dtype) << 8, int64_t{device}, int64_t{exact(s.dtype)},
          s.batch, s.groups, s.in_channels, s.out_channels, p.x.batch, p.x.pixel, p.y.batch, p.y.pixel})
      key[n++] = value;
    for (int i = 0; i < 3; ++i)
      for (const int64_t value : {s.in[i], s.out[i], s.kernel[i], s.stride[i] << 32 | s.dilation[i], s.padding[i]})
        key[n++] = value;
    return key;
  }

  // With the mutex. Failures are remembered too.
  Choice& choice_of(const DnnProblem& p, int device) {
    const Key key = key_of(p, device);
    const auto found = choices_.find(key);
    if (found != choices_.end()) return found->second;
    return choices_[key] = choose(p, device);
  }

  Choice choose(const DnnProblem& p, int device) {
    const Choice none{-1, 0, 0, 0};
    const cuda::RelaxedCapture relaxed;  // a handle takes memory, a guess may load kernels
    DnnApi::Handle& handle = handles_[device];
    if (!handle && api_.create(&handle) != 0) return handle = nullptr, none;
    Descriptors d(api_, p);
    const bool is_exact = exact(p.shape.dtype);
    const int math = is_exact                         ? DnnApi::kMultiplyAdd
                     : is_sixteen_bits(p.shape.dtype) ? DnnApi::kTensorCores
                                                      : DnnApi::kDefault;
    if (!d.complete || api_.conv_math(d.conv, math) != 0) return none;
    const int pass = static_cast<int>(p.pass);
    DnnApi::Guess guesses[kGuesses] = {};
    int count = 0;
    if (api_.choose[pass](handle, d.a(), d.b(), d.conv, d.out(), kGuesses, &count, guesses) != 0) return none;
    for (int i = 0; i < count && i < kGuesses; ++i) {
      const DnnApi::Guess& guess = guesses[i];
      if (guess.status != 0 || !guess.deterministic || is_fourier(p.pass, guess.algorithm)) continue;
      // What would round more than was allowed.
      if (guess.math == DnnApi::kConverting || (is_exact && guess.math == DnnApi::kTensorCores)) continue;
      const int used = is_exact ? math : guess.math;
      size_t bytes = 0;
      if (api_.conv_math(d.conv, used) != 0 ||
          api_.workspace[pass](handle, d.a(), d.b(), d.conv, d.out(), guess.algorithm, &bytes) != 0 ||
          bytes > kWorkspace)
        continue;
      return {0, guess.algorithm, used, bytes};
    }
    return none;
  }
  static bool is_fourier(DnnPass pass, int algorithm) {
    switch (pass) {
      case DnnPass::forward:
        return algorithm == 4 || algorithm == 5;
      case DnnPass::backward_input:
        return algorithm == 2 || algorithm == 3;
      default:
        return algorithm == 2 || algorithm == 6;
    }
  }

  bool loaded_ = false, tf32_ = false;
  char name_[48] = "";
  DnnApi api_{};
  std::mutex mutex_;
  std::map<int, DnnApi::Handle> handles_;
  std::map<Key, Choice> choices_;
};

}  // namespace
}  // namespace pydl
