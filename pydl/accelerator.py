"""PyTorch's question for any accelerator, answered: there is none, code goes on with the CPU."""

from __future__ import annotations

__all__ = ["current_accelerator", "is_available"]


def is_available() -> bool:
    """Whether there is an accelerator: False."""
    return False


def current_accelerator(check_available: bool = False) -> None:
    """The accelerator's device: None."""
    return
