"""Borders around a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "pad",
]


def pad(input: Tensor, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put a border around the input: pairs of widths (before, after), the last axis first, as in PyTorch.

    Args:
        mode: ``"constant"``, ``value`` (default 0), of which a negative width cuts off; ``"reflect"``, what lies as far
            inside, without the outermost; ``"replicate"``, the outermost; ``"circular"``, the other end.

    Raises:
        ValueError: widths that are not pairs or that the mode cannot fill.

    >>> pad(pydl.ones((2,)), (1, 2)).numpy().tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    >>> pad(pydl.arange(3.0), (2, 1), mode="reflect").numpy().tolist()
    [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    """
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(f"[pad] got mode {mode!r}, expected 'constant', 'reflect', 'replicate' or 'circular'")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"[pad] got {len(pad)} widths for an input of {input.ndim} axes, expected pairs, one an axis")
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    first = input.ndim - len(widths)
    if mode == "constant":
        return _C.pad(input, [(0, 0)] * first + widths, 0.0 if value is None else value)
    if value is not None:
        raise ValueError(f"[pad] got value {value} with mode {mode!r}, expected none")
    for axis, (before, after) in enumerate(widths, first):
        if before or after:
            input = pydl.take(input, _sources(input.shape[axis], before, after, mode), axis=axis)
    return input


def _sources(size: int, before: int, after: int, mode: str) -> Tensor:
    """For each place along a padded axis, where its value comes from."""
    most = {"reflect": size - 1, "replicate": size and max(before, after), "circular": size}[mode]
    if min(before, after) < 0 or max(before, after) > most:
        raise ValueError(
            f"[pad] got widths {before} and {after} for an axis of size {size}, which {mode!r} cannot fill"
        )
    places = list(range(-before, size + after))
    if mode == "reflect":
        places = [min(abs(p), 2 * (size - 1) - abs(p)) for p in places]
    elif mode == "replicate":
        places = [min(max(p, 0), size - 1) for p in places]
    else:
        places = [p % size for p in places]
    return pydl.asarray(places, dtype=pydl.int64)
