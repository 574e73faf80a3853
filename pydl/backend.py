"""What runs underneath: the kernels' ISA level, threads, memory."""

from __future__ import annotations

from typing import Any

from pydl import _C

__all__ = ["info", "isa_levels", "memory_stats", "release_cached_memory"]


def info() -> dict[str, Any]:
    """What this process uses.

    Returns:
        device ("cpu"), cpu (its name), isa (the selected level), isa_levels (those this machine can run, best first),
        threads, cuda (whether this build has CUDA kernels).
    """
    return {
        "device": "cpu",
        "cpu": _C.cpu_name(),
        "isa": _C.isa(),
        "isa_levels": isa_levels(),
        "threads": _C.get_num_threads(),
        "cuda": False,
    }


def isa_levels() -> list[str]:
    """The ISA levels that this build has and this machine can run, best first."""
    return [name for name, supported, _ in _C.isa_levels() if supported]


def memory_stats() -> dict[str, int]:
    """Bytes in tensors now, the most ever, and bytes kept for reuse: allocated, peak, cached."""
    return _C.memory_stats()


def release_cached_memory() -> None:
    """Give memory kept for reuse back to the system."""
    _C.release_cached_memory()
