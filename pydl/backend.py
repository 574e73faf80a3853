"""What runs underneath: the kernels' ISA level, threads, memory."""

from __future__ import annotations

from typing import Any

from pydl import _C

__all__ = ["info", "isa_levels", "memory_stats", "release_cached_memory"]


def info() -> dict[str, Any]:
    """What this process uses.

    Returns:
        device ("cpu"), cpu (its name), isa (the selected level), isa_levels (those this machine can run, best first),
        bfloat16 (what products of it are made by), threads, cuda (the CUDA devices' names, or why there is none),
        cuda_libraries where there is one.
    """
    from pydl import cuda

    problem = cuda.why_unavailable()
    devices = [
        f"cuda:{i} {p['name']} ({p['total_memory'] / 2**30:.0f} GiB, sm_{p['major']}{p['minor']})"
        for i, p in ((i, cuda.get_device_properties(f"cuda:{i}")) for i in range(cuda.device_count()))
    ]
    return {
        "device": "cpu",
        "cpu": _C.cpu_name(),
        "isa": _C.isa(),
        "isa_levels": isa_levels(),
        "bfloat16": "float32" if "gemm_bf16" in _C.missing_kernels(_C.isa()) else "AVX512-BF16",
        "threads": _C.get_num_threads(),
        "cuda": f"none: {problem}" if problem else devices,
        **({} if problem else {"cuda_libraries": _cuda_libraries()}),
    }


def _cuda_libraries() -> list[str]:
    runtime, driver, gemm, convolution = _C.cuda_versions()

    def name(version: int) -> str:
        return f"{version // 1000}.{version % 1000 // 10}"

    return [
        f"runtime {name(runtime)}",
        f"driver {name(driver)}",
        f"matrix products by {gemm or 'own kernels'}",
        f"convolutions by {convolution or 'own kernels'}",
    ]


def isa_levels() -> list[str]:
    """The ISA levels that this build has and this machine can run, best first."""
    return [name for name, supported, _ in _C.isa_levels() if supported]


def memory_stats() -> dict[str, int]:
    """Bytes in tensors now, the most ever, and bytes kept for reuse: allocated, peak, cached."""
    return _C.memory_stats()


def release_cached_memory() -> None:
    """Give memory kept for reuse back to the system."""
    _C.release_cached_memory()
