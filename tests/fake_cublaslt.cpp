// The functions of cuBLASLt that pydl calls, computed on the host with plain loops over column-major matrices. For
// test_cuda_blas.py: what they are asked for is the product that was wanted. Refuses what it does not know.
#include <cstdint>
#include <cstring>

namespace {

struct Desc {
  int compute, scale, trans_a = 0, trans_b = 0, epilogue = 1;
  const void* bias = nullptr;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t leading;
  int32_t batch = 1;
  int64_t stride = 0;
};
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
int g_products = 0, g_choices = 0;
constexpr int kInvalid = 7, kUnsupported = 15;

template <class T>
int take(T& field, const void* value, size_t bytes) {
  if (bytes != sizeof field) return kInvalid;
  std::memcpy(&field, value, bytes);
  return 0;
}

template <class T>
int multiply(const Desc& d, T alpha, const T* a, const Layout& la, const T* b, const Layout& lb, T beta, T* y,
             const Layout& ly) {
  const uint64_t m = ly.rows, n = ly.cols, k = d.trans_a ? la.rows : la.cols;
  if ((d.trans_a ? la.cols : la.rows) != m || (d.trans_b ? lb.rows : lb.cols) != n ||
      (d.trans_b ? lb.cols : lb.rows) != k || la.batch != ly.batch || lb.batch != ly.batch)
    return kInvalid;
  const auto at = [](const T* p, const Layout& l, int z, uint64_t row, uint64_t col) -> double {
    return p[z * l.stride + static_cast<int64_t>(col) * l.leading + static_cast<int64_t>(row)];
  };
  for (int z = 0; z < ly.batch; ++z)
    for (uint64_t j = 0; j < n; ++j)
      for (uint64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (uint64_t p = 0; p < k; ++p)
          sum += (d.trans_a ? at(a, la, z, p, i) : at(a, la, z, i, p)) *
                 (d.trans_b ? at(b, lb, z, j, p) : at(b, lb, z, p, j));
        T& out = y[z * ly.stride + static_cast<int64_t>(j) * ly.leading + static_cast<int64_t>(i)];
        double value = alpha * sum + (beta == 0 ? 0 : beta * out);
        if (d.epilogue & 4) value += static_cast<const T*>(d.bias)[i];
        if ((d.epilogue & 2) && value < 0) value = 0;
        out = static_cast<T>(value);
      }
  return 0;
}

}  // namespace

extern "C" {

int fake_products() { return g_products; }
int fake_choices() { return g_choices; }

size_t cublasLtGetVersion() { return 130100; }
int cublasLtCreate(void** handle) { return *handle = &g_products, 0; }

int cublasLtMatmulDescCreate(void** desc, int compute, int scale) { return *desc = new Desc{compute, scale}, 0; }
int cublasLtMatmulDescDestroy(void* desc) { return delete static_cast<Desc*>(desc), 0; }
int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  Desc& d = *static_cast<Desc*>(desc);
  switch (attribute) {
    case 3:
      return take(d.trans_a, value, bytes);
    case 4:
      return take(d.trans_b, value, bytes);
    case 7:
      return take(d.epilogue, value, bytes);
    case 8:
      return take(d.bias, value, bytes);
    default:
      return kInvalid;
  }
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t leading) {
  if (leading < static_cast<int64_t>(rows)) return kInvalid;
  return *layout = new Layout{type, rows, cols, leading}, 0;
}
int cublasLtMatrixLayoutDestroy(void* layout) { return delete static_cast<Layout*>(layout), 0; }
int cublasLtMatrixLayoutSetAttribute(void* layout, int attribute, const void* value, size_t bytes) {
  Layout& l = *static_cast<Layout*>(layout);
  return attribute == 5 ? take(l.batch, value, bytes) : attribute == 6 ? take(l.stride, value, bytes) : kInvalid;
}

int cublasLtMatmulPreferenceCreate(void** preference) { return *preference = new int(0), 0; }
int cublasLtMatmulPreferenceDestroy(void* preference) { return delete static_cast<int*>(preference), 0; }
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void*, size_t bytes) {
  ++*static_cast<int*>(preference);
  return (attribute == 1 && bytes == 8) || ((attribute == 3 || (attribute >= 5 && attribute <= 8)) && bytes == 4)
             ? 0
             : kInvalid;
}

int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void* preference, int, Heuristic* choice,
                                   int* count) {
  if (*static_cast<int*>(preference) != 6) return kInvalid;
  ++g_choices;
  *choice = {};
  choice->algorithm[7] = 77;
  choice->workspace = 100;
  *count = 1;
  return 0;
}

int cublasLtMatmul(void*, void* desc, const void* alpha, const void* a, void* a_layout, const void* b, void* b_layout,
                   const void* beta, const void* c, void* c_layout, void* y, void* y_layout, const uint64_t* algorithm,
                   void* workspace, size_t bytes, void*) {
  if (algorithm[7] != 77 || bytes != 100 || !workspace || c != y || c_layout != y_layout) return kInvalid;
  const Desc& d = *static_cast<Desc*>(desc);
  const Layout &la = *static_cast<Layout*>(a_layout), &lb = *static_cast<Layout*>(b_layout);
  const Layout& ly = *static_cast<Layout*>(y_layout);
  ++g_products;
  if (d.compute == 70 && d.scale == 1 && la.type == 1)
    return multiply(d, *static_cast<const double*>(alpha), static_cast<const double*>(a), la,
                    static_cast<const double*>(b), lb, *static_cast<const double*>(beta), static_cast<double*>(y), ly);
  if (d.compute == 68 && d.scale == 0 && la.type == 0)
    return multiply(d, *static_cast<const float*>(alpha), static_cast<const float*>(a), la,
                    static_cast<const float*>(b), lb, *static_cast<const float*>(beta), static_cast<float*>(y), ly);
  return kUnsupported;  // TF32 and 16 bits among them: pydl then multiplies itself
}
}
