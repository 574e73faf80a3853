"""Borders around a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "pad",
]


def pad(input: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put ``value`` (default 0) around the input: pairs (before, after), the last axis first, as in PyTorch.

    A negative width cuts off. Other modes than ``"constant"`` are not known.

    >>> pad(pydl.ones((2,)), (1, 2)).numpy().tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    """
    if mode != "constant":
        raise ValueError(f"[pad] got mode {mode!r}, expected 'constant'")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"[pad] got {len(pad)} widths for an input of {input.ndim} axes, expected pairs, one an axis")
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return _C.pad(input, [(0, 0)] * (input.ndim - len(widths)) + widths, 0.0 if value is None else value)
