"""Borders around a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "pad",
]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put a border around the input: pairs of widths (before, after), the last axis first, as in PyTorch.

    Args:
        input: any shape; with another mode than ``"constant"`` at most the last three axes get a border.
        pad: the widths. A negative one cuts off.
        mode: ``"constant"`` (default); ``"reflect"``, the inside seen in a mirror at the edge, which is not repeated;
            ``"replicate"``, the edge again and again; ``"circular"``, what lies at the other end.
        value: of the constant border; default 0.

    Raises:
        ValueError: an odd number of widths or too many of them; a mirrored or circular border wider than the inside.

    >>> import pydl
    >>> pad(pydl.ones((2,)), (1, 2)).numpy().tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    >>> pad(pydl.asarray([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect").numpy().tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"[pad] got {len(pad)} widths for an input of {input.ndim} axes, expected pairs, one an axis")
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    if mode == "constant":
        return _C.pad(input, [(0, 0)] * (input.ndim - len(widths)) + widths, 0.0 if value is None else value)
    if value not in (None, 0):
        raise ValueError(f"[pad] got value = {value} and mode {mode!r}, which takes none; expected mode 'constant'")
    if mode == "circular" and min(pad, default=0) < 0:  # what is cut off comes around no more
        cut = [(0, 0)] * (input.ndim - len(widths)) + [(min(a, 0), min(b, 0)) for a, b in widths]
        input = _C.pad(input, cut, 0.0)
        widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    return _C.pad_border(input, widths, mode) if widths else input
