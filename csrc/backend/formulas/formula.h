// Formulas that more than one backend computes: over a generic value V, which is Vec<T> in the CPU's kernels and a
// scalar in CUDA's. V has its functions (fma, sqrt, max, select, ...) by argument-dependent lookup.
#pragma once

#ifdef __CUDACC__
#define PYDL_FORMULA __host__ __device__ __forceinline__
#else
#define PYDL_FORMULA inline __attribute__((always_inline))
#endif
