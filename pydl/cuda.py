"""CUDA devices: whether there are any, their memory, waiting for them.

The kernels are a module of their own (``PYDL_CUDA=ON`` when building), which is loaded when a CUDA device is first
asked for. Work on a device is issued in order and not waited for; ``item()``, ``cpu()``, printing and
:func:`synchronize` wait.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from pydl import _C
from pydl._cuda_graphs import CUDAGraph, graph, is_current_stream_capturing

__all__ = [
    "CUDAGraph",
    "allow_tf32",
    "current_device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "graph",
    "is_available",
    "is_current_stream_capturing",
    "is_emulated",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
    "synchronize",
    "why_unavailable",
]

_problem: str | None = None  # why the module can't be used, once that is known
_loaded = False


def _try_load() -> str | None:
    """Loads the module of kernels; what is wrong where that fails."""
    global _loaded, _problem
    if _loaded or _problem is not None:
        return _problem
    if importlib.util.find_spec("pydl._cuda") is None:
        _problem = "this build has no CUDA kernels (it was made without PYDL_CUDA=ON)"
        return _problem
    try:
        from pydl import _cuda

        _C._register_device(_cuda.backend)
    except (ImportError, OSError, ValueError) as error:
        _problem = f"the module of CUDA kernels can't be loaded: {error}"
        return _problem
    _loaded = True
    if _C.cuda_device_count() == 0:
        _problem = _no_device(*_C.cuda_versions()[:2], emulated=_cuda.emulated)
    return _problem


def _no_device(runtime: int, driver: int, emulated: bool = False) -> str:
    """Why there is none, by the versions of the runtime and of the driver, 0 without one: 13000 is 13.0."""
    if driver == 0 and not emulated:
        return "there is no CUDA driver (libcuda.so.1), which comes with NVIDIA's driver for the GPU"
    if driver // 1000 < runtime // 1000:
        return (
            f"the CUDA driver is one for CUDA {driver // 1000}.{driver % 1000 // 10}, older than the "
            f"{runtime // 1000}.{runtime % 1000 // 10} of this build; update the driver, or build with that CUDA"
        )
    return "there is no CUDA device"


def _load(device: str) -> None:
    problem = _try_load()
    if problem is not None:
        raise NotImplementedError(f"[device] got {device!r}, but {problem}; use 'cpu'")


def _device(device: Any) -> Any:
    return "cuda" if device is None else device


def why_unavailable() -> str | None:
    """Why there is no CUDA device to use, in words; None where there is one."""
    return _try_load()


def is_available() -> bool:
    """Whether a CUDA device can be used. Never raises; :func:`why_unavailable` has the reason."""
    return _try_load() is None


def is_emulated() -> bool:
    """Whether "cuda" is the CPU in disguise: a build for tests, PYDL_CUDA=emulated."""
    if not is_available():
        return False
    from pydl import _cuda

    return bool(_cuda.emulated)


def device_count() -> int:
    """How many CUDA devices there are."""
    return 0 if _try_load() is not None else _C.cuda_device_count()


def current_device() -> int:
    """The device that "cuda" stands for: 0. NotImplementedError where there is none."""
    _load("cuda")
    return 0


def get_device_properties(device: Any = None) -> dict[str, Any]:
    """name, total_memory (bytes), multi_processor_count, major and minor (the compute capability)."""
    return _C.cuda_properties(_device(device))


def get_device_name(device: Any = None) -> str:
    """The device's name, as its maker has it."""
    return str(get_device_properties(device)["name"])


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability: (9, 0) of an H100."""
    properties = get_device_properties(device)
    return properties["major"], properties["minor"]


def manual_seed(seed: int) -> None:
    """Does nothing: :func:`pydl.manual_seed` seeds all there is, and devices draw the CPU's numbers."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: :func:`pydl.manual_seed` seeds all there is, and devices draw the CPU's numbers."""


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all that it was given. Does nothing where there is none."""
    if is_available():
        _C.cuda_synchronize(_device(device))


def empty_cache(device: Any = None) -> None:
    """Give memory that is kept for reuse back to the device, for other programs. Does nothing where there is none."""
    if is_available():
        _C.cuda_empty_cache(_device(device))


def _memory(device: Any) -> dict[str, int]:
    if not is_available():
        return {"allocated": 0, "peak": 0, "reserved": 0, "free": 0, "total": 0}
    return _C.cuda_memory(_device(device))


def memory_allocated(device: Any = None) -> int:
    """Bytes in tensors now; 0 where there is no device."""
    return _memory(device)["allocated"]


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes ever in tensors and workspaces, since the start or the last reset."""
    return _memory(device)["peak"]


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the device: those in use and those kept for reuse."""
    return _memory(device)["reserved"]


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes free on the device, for all programs, and bytes it has."""
    memory = _memory(device)
    return memory["free"], memory["total"]


def reset_peak_memory_stats(device: Any = None) -> None:
    """Start to count :func:`max_memory_allocated` anew."""
    if is_available():
        _C.cuda_reset_peak(_device(device))


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Use at most this share, 0 to 1, of a device's memory: what would need more raises MemoryError."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"[cuda] got the memory fraction {fraction}, expected a number from 0 to 1")
    _load("cuda")
    _C.cuda_set_limit(_device(device), float(fraction))


def allow_tf32(enabled: bool = True) -> None:
    """Let float32 products and convolutions round their factors to TF32's 10 bits, which is faster; off at first."""
    _load("cuda")
    _C.cuda_allow_tf32(bool(enabled))
