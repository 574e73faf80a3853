"""What code that asks for a GPU first finds: there is none yet, so it goes on with the CPU."""

from __future__ import annotations

__all__ = [
    "current_device",
    "device_count",
    "empty_cache",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "synchronize",
]


def is_available() -> bool:
    """Whether a CUDA device can be used: False."""
    return False


def device_count() -> int:
    """How many CUDA devices there are: 0."""
    return 0


def current_device() -> int:
    """Raises NotImplementedError, as there is no device."""
    raise NotImplementedError("[cuda] this build has no CUDA kernels; use the CPU, which needs no choice of device")


def manual_seed(seed: int) -> None:
    """Does nothing: :func:`pydl.manual_seed` seeds all there is."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: :func:`pydl.manual_seed` seeds all there is."""


def synchronize(device: object = None) -> None:
    """Does nothing: work on the CPU is done when a call returns."""


def empty_cache() -> None:
    """Does nothing."""
