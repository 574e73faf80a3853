// Elementary functions of plain float and double in device code, by one name for both. Formulas over V use scalar.h.
#pragma once
#include "backend/cuda/launch.h"

namespace pydl {
namespace {

#define PYDL_REAL(name, for_float, for_double)                     \
  __device__ inline float name(float x) { return ::for_float(x); } \
  __device__ inline double name(double x) { return ::for_double(x); }
PYDL_REAL(real_exp, expf, exp)
PYDL_REAL(real_log, logf, log)
PYDL_REAL(real_sqrt, sqrtf, sqrt)
PYDL_REAL(real_abs, fabsf, fabs)
#undef PYDL_REAL
__device__ inline float real_fma(float a, float b, float c) { return ::fmaf(a, b, c); }
__device__ inline double real_fma(double a, double b, double c) { return ::fma(a, b, c); }
__device__ inline void real_sincos(float x, float* sine, float* cosine) { ::sincosf(x, sine, cosine); }
__device__ inline void real_sincos(double x, double* sine, double* cosine) { ::sincos(x, sine, cosine); }

// A NaN wins.
template <class T>
__device__ T real_max(T a, T b) {
  return a != a || a > b ? a : b;
}
template <class T>
__device__ bool is_finite(T x) {
  return x - x == T(0);
}

}  // namespace
}  // namespace pydl
