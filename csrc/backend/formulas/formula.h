// How a formula that every device shares is declared. The functions that it calls (exp, tanh, select, ...) are found
// for its value V: the CPU's Vec<T> and Scalar<T>, or the scalar of a device.
#pragma once

#ifndef PYDL_FORMULA
#ifdef __CUDACC__
#define PYDL_FORMULA __host__ __device__ __forceinline__
#else
#define PYDL_FORMULA inline __attribute__((always_inline))
#endif
#endif
