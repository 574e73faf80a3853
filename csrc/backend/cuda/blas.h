// cuBLASLt, where it is found when the first product is made: no header and no library of it is needed to build. Looked
// for in PYDL_CUBLASLT (a path; "off" means never), beside pydl in the site-packages (the wheels nvidia-cublas and
// nvidia-cublas-cu12), then by its name. Only gemm.cu includes this.
//
// Its matrices are column-major, so dst^T = B^T A^T is asked for. An algorithm is chosen once for each shape; those
// that add partial sums in an order of chance are left out. TF32 is off unless allow_tf32(1) was called.
#pragma once
#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "backend/cuda/launch.h"
#include "backend/cuda/libraries.h"

namespace pydl {
namespace {

// The part of cublasLt.h's interface that is used here; the same numbers in CUDA 12 and 13.
struct LtApi {
  using Handle = void*;
  using Object = void*;
  struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
  };
  enum DataType { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 14 };
  enum Compute { kCompute32 = 68, kCompute64 = 70, kComputeTf32 = 77 };
  enum Operation { kPlain = 0, kTransposed = 1 };
  enum Epilogue { kEpilogueNone = 1, kEpilogueRelu = 2, kEpilogueBias = 4 };
  enum DescAttribute { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };
  enum LayoutAttribute { kBatchCount = 5, kBatchStride = 6 };
  enum PreferenceAttribute { kWorkspaceBytes = 1, kReductionSchemes = 3, kAlignmentA = 5 };  // then B, C, D
  static constexpr uint32_t kReduceInWorkspace = 2;

  int (*create)(Handle*);
  size_t (*version)();
  int (*desc_create)(Object*, int compute, int scale);
  int (*desc_set)(Object, int, const void*, size_t);
  int (*desc_destroy)(Object);
  int (*layout_create)(Object*, int type, uint64_t rows, uint64_t cols, int64_t ld);
  int (*layout_set)(Object, int, const void*, size_t);
  int (*layout_destroy)(Object);
  int (*preference_create)(Object*);
  int (*preference_set)(Object, int, const void*, size_t);
  int (*preference_destroy)(Object);
  int (*heuristic)(Handle, Object, Object, Object, Object, Object, Object, int, Heuristic*, int*);
  int (*matmul)(Handle, Object, const void* alpha, const void* a, Object, const void* b, Object, const void* beta,
                const void* c, Object, void* d, Object, const uint64_t* algorithm, void* workspace, size_t,
                cudaStream_t);

  bool load(void* library) {
    const auto find = [&](auto& function, const char* name) {
      void* symbol = dlsym(library, name);
      std::memcpy(&function, &symbol, sizeof symbol);
      return symbol != nullptr;
    };
    return find(create, "cublasLtCreate") && find(version, "cublasLtGetVersion") &&
           find(desc_create, "cublasLtMatmulDescCreate") && find(desc_set, "cublasLtMatmulDescSetAttribute") &&
           find(desc_destroy, "cublasLtMatmulDescDestroy") && find(layout_create, "cublasLtMatrixLayoutCreate") &&
           find(layout_set, "cublasLtMatrixLayoutSetAttribute") &&
           find(layout_destroy, "cublasLtMatrixLayoutDestroy") &&
           find(preference_create, "cublasLtMatmulPreferenceCreate") &&
           find(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
           find(preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
           find(heuristic, "cublasLtMatmulAlgoGetHeuristic") && find(matmul, "cublasLtMatmul");
  }
};

// An operand as cuBLASLt can take it, or not: column-major with `leading`, plain or transposed.
struct LtOperand {
  int operation;
  int64_t rows, cols, leading;
  bool possible;
};
// A row-major matrix (rows, cols) with strides is a column-major one (cols, rows).
inline LtOperand lt_operand(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride) {
  if (col_stride == 1 && (row_stride >= cols || rows == 1))
    return {LtApi::kPlain, cols, rows, row_stride >= cols ? row_stride : cols, true};
  if (row_stride == 1 && (col_stride >= rows || cols == 1))
    return {LtApi::kTransposed, rows, cols, col_stride >= rows ? col_stride : rows, true};
  return {LtApi::kPlain, 0, 0, 0, false};
}

class Blas {
 public:
  static Blas& instance() {
    static Blas* blas = new Blas;  // never destroyed: its library may be unloaded first
    return *blas;
  }
  const char* name() const { return loaded_ ? name_ : nullptr; }
  void allow_tf32(bool on) { tf32_ = on; }

  // False where it can't be done this way: nothing was launched then.
  bool gemm(const GemmArgs& g, Exec& exec) {
    if (!loaded_ || g.k <= 0 || g.activation > 1) return false;
    const int type = type_of(g.dtype);
    const LtOperand a = lt_operand(g.k, g.n, g.b_row, g.b_col), b = lt_operand(g.m, g.k, g.a_row, g.a_col);
    if (type < 0 || !a.possible || !b.possible || (g.dst_row < g.n && g.m > 1)) return false;
    if (g.batch > 1 && (g.a_batch < 0 || g.b_batch < 0)) return false;
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return false;

    Call call(api_);
    const int compute = type == LtApi::kFloat64 ? LtApi::kCompute64 : tf32_ ? LtApi::kComputeTf32 : LtApi::kCompute32;
    const int scale = type == LtApi::kFloat64 ? LtApi::kFloat64 : LtApi::kFloat32;
    const int epilogue = (g.activation == 1 ? LtApi::kEpilogueRelu : 0) | (g.bias ? LtApi::kEpilogueBias : 0);
    const int epilogue_or_none = epilogue ? epilogue : LtApi::kEpilogueNone;
    const int64_t dst_row = g.m > 1 ? g.dst_row : g.n;
    if (!call.describe(compute, scale, a.operation, b.operation, epilogue_or_none, g.bias) ||
        !call.lay_out(0, type, a, g.batch, g.b_batch) || !call.lay_out(1, type, b, g.batch, g.a_batch) ||
        !call.lay_out(2, type, {LtApi::kPlain, g.n, g.m, dst_row, true}, g.batch, g.dst_batch))
      return false;
    const Key key{device,
                  type,
                  compute,
                  epilogue,
                  a.operation,
                  b.operation,
                  g.m,
                  g.n,
                  g.k,
                  g.batch,
                  a.leading,
                  b.leading,
                  dst_row,
                  g.a_batch,
                  g.b_batch,
                  g.dst_batch,
                  alignment(g.b) | alignment(g.a) << 8 | alignment(g.dst) << 16};
    const LtApi::Handle handle = handle_of(device);
    LtApi::Heuristic choice;
    if (handle == nullptr || !choose(key, handle, call, g, choice)) return false;
    DeviceScratch<char> workspace(exec, static_cast<int64_t>(choice.workspace));
    if (choice.workspace > 0 && !workspace) return true;  // the error is kept
    const float alpha = static_cast<float>(g.alpha), beta = static_cast<float>(g.beta);
    const bool wide = scale == LtApi::kFloat64;
    const int status =
        api_.matmul(handle, call.desc, wide ? static_cast<const void*>(&g.alpha) : &alpha, g.b, call.layout[0], g.a,
                    call.layout[1], wide ? static_cast<const void*>(&g.beta) : &beta, g.dst, call.layout[2], g.dst,
                    call.layout[2], choice.algorithm, workspace.get(), choice.workspace, stream_of(exec));
    return status == 0;
  }

 private:
  using Key = std::array<int64_t, 17>;
  static constexpr size_t kWorkspace = size_t{32} << 20;

  // The descriptors of one product.
  struct Call {
    const LtApi& api;
    LtApi::Object desc = nullptr, layout[3] = {}, preference = nullptr;
    explicit Call(const LtApi& a) : api(a) {}
    Call(const Call&) = delete;
    ~Call() {
      if (desc) api.desc_destroy(desc);
      for (LtApi::Object l : layout)
        if (l) api.layout_destroy(l);
      if (preference) api.preference_destroy(preference);
    }
    bool describe(int compute, int scale, int operation_a, int operation_b, int epilogue, const void* bias) {
      return api.desc_create(&desc, compute, scale) == 0 && set(LtApi::kTransA, operation_a) &&
             set(LtApi::kTransB, operation_b) && set(LtApi::kEpilogue, epilogue) &&
             (bias == nullptr || set(LtApi::kBiasPointer, bias));
    }
    template <class T>
    bool set(int attribute, T value) {
      return api.desc_set(desc, attribute, &value, sizeof value) == 0;
    }
    bool lay_out(int which, int type, const LtOperand& m, int64_t batch, int64_t stride) {
      LtApi::Object& l = layout[which];
      if (api.layout_create(&l, type, static_cast<uint64_t>(m.rows), static_cast<uint64_t>(m.cols), m.leading) != 0)
        return false;
      if (batch == 1) return true;
      const int32_t count = static_cast<int32_t>(batch);
      return batch == count && api.layout_set(l, LtApi::kBatchCount, &count, sizeof count) == 0 &&
             api.layout_set(l, LtApi::kBatchStride, &stride, sizeof stride) == 0;
    }
  };

  Blas() {
    void* library =
        open_library("PYDL_CUBLASLT", {"nvidia/cu13/lib/libcublasLt.so.13", "nvidia/cublas/lib/libcublasLt.so.12"},
                     {"libcublasLt.so.13", "libcublasLt.so.12"});
    loaded_ = library && api_.load(library);
    if (!loaded_) return;
    const size_t version = api_.version();
    std::snprintf(name_, sizeof name_, "cuBLASLt %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
  }

  static int type_of(DType dtype) {
    switch (dtype) {
      case DType::float32:
        return LtApi::kFloat32;
      case DType::float64:
        return LtApi::kFloat64;
      case DType::float16:
        return LtApi::kFloat16;
      case DType::bfloat16:
        return LtApi::kBFloat16;
      default:
        return -1;
    }
  }
  static int64_t alignment(const void* p) {
    const auto bits = reinterpret_cast<uintptr_t>(p);
    for (int64_t bytes = 16; bytes > 1; bytes /= 2)
      if (bits % static_cast<uintptr_t>(bytes) == 0) return bytes;
    return 1;
  }

  LtApi::Handle handle_of(int device) {
    std::lock_guard<std::mutex> lock(mutex_);
    LtApi::Handle& handle = handles_[device];
    const cuda::RelaxedCapture relaxed;
    if (!handle && api_.create(&handle) != 0) handle = nullptr;
    return handle;
  }

  bool choose(const Key& key, LtApi::Handle handle, Call& call, const GemmArgs& g, LtApi::Heuristic& choice) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const auto found = choices_.find(key);
      if (found != choices_.end()) return choice = found->second, choice.state == 0;
    }
    if (api_.preference_create(&call.preference) != 0) return false;
    const auto prefer = [&](int attribute, auto value) {
      return api_.preference_set(call.preference, attribute, &value, sizeof value) == 0;
    };
    const void* operands[] = {g.b, g.a, g.dst, g.dst};
    bool fine = prefer(LtApi::kWorkspaceBytes, uint64_t{kWorkspace}) &&
                prefer(LtApi::kReductionSchemes, LtApi::kReduceInWorkspace);
    for (int i = 0; i < 4; ++i)
      fine = fine && prefer(LtApi::kAlignmentA + i, static_cast<uint32_t>(alignment(operands[i])));
    int found = 0;
    choice = {};
    if (!fine ||
        api_.heuristic(handle, call.desc, call.layout[0], call.layout[1], call.layout[2], call.layout[2],
                       call.preference, 1, &choice, &found) != 0 ||
        found < 1)
      choice.state = -1;  // remembered too
    std::lock_guard<std::mutex> lock(mutex_);
    choices_[key] = choice;
    return choice.state == 0;
  }

  bool loaded_ = false, tf32_ = false;
  char name_[48] = "";
  LtApi api_{};
  std::mutex mutex_;
  std::map<int, LtApi::Handle> handles_;
  std::map<Key, LtApi::Heuristic> choices_;
};

}  // namespace
}  // namespace pydl
