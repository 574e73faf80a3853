"""PyTorch's question for any accelerator, answered: CUDA devices are the only ones."""

from __future__ import annotations

from typing import Any

from pydl import _C, cuda

__all__ = ["current_accelerator", "is_available"]


def is_available() -> bool:
    """Whether there is an accelerator: a CUDA device."""
    return cuda.is_available()


def current_accelerator(check_available: bool = False) -> Any:
    """The accelerator's device, or None where there is none."""
    return _C.Device("cuda") if cuda.is_available() else None
