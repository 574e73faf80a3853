"""Borders around sequences, images and volumes as layers; :func:`pydl.nn.functional.pad` does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Module):
    """A border of the last ``_axes`` axes; subclasses say which and how it is filled.

    Args:
        padding: one width for all sides, or a pair for each axis, the last axis first:
            (left, right[, top, bottom[, front, back]]). A negative width cuts off.
    """

    _axes = 0
    _mode = "constant"
    value: float = 0.0

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        widths = (padding,) * (2 * self._axes) if isinstance(padding, int) else tuple(padding)
        if len(widths) != 2 * self._axes:
            expected = f"one width or {2 * self._axes} of them"
            raise ValueError(f"[{type(self).__name__}] got padding {padding!r}, expected {expected}")
        self.padding: tuple[int, ...] = widths

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, sizes) or (C, sizes) -> the same with larger sizes."""
        axes = self._axes
        if not axes < input.ndim <= axes + 2 and not (self._mode == "constant" and input.ndim >= axes):
            expected = f"{axes + 1} axes or, with a batch, {axes + 2}"
            raise ValueError(f"[{type(self).__name__}] got input of shape {tuple(input.shape)}, expected {expected}")
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"padding={self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A border of one value, for sequences (N, C, W) or (C, W).

    Args:
        padding: one width for all sides, or (left, right); a negative width cuts off.
        value: of the border.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ConstantPad1d(1, 0.5)(pydl.ones((1, 2, 3))).shape
    (1, 2, 5)
    """

    _axes = 1


class ConstantPad2d(_ConstantPad):
    """A border of one value, for images (N, C, H, W) or (C, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom); a negative width cuts off.
        value: of the border.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ConstantPad2d(1, 0.5)(pydl.ones((1, 2, 3, 3))).shape
    (1, 2, 5, 5)
    """

    _axes = 2


class ConstantPad3d(_ConstantPad):
    """A border of one value, for volumes (N, C, D, H, W) or (C, D, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom, front, back); a negative width cuts off.
        value: of the border.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ConstantPad3d(1, 0.5)(pydl.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 5, 5, 5)
    """

    _axes = 3


class ZeroPad1d(_Pad):
    """A border of zeros, for sequences (N, C, W) or (C, W).

    Args:
        padding: one width for all sides, or (left, right); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ZeroPad1d(1)(pydl.ones((1, 2, 3))).shape
    (1, 2, 5)
    """

    _axes = 1


class ZeroPad2d(_Pad):
    """A border of zeros, for images (N, C, H, W) or (C, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ZeroPad2d(1)(pydl.ones((1, 2, 3, 3))).shape
    (1, 2, 5, 5)
    """

    _axes = 2


class ZeroPad3d(_Pad):
    """A border of zeros, for volumes (N, C, D, H, W) or (C, D, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom, front, back); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ZeroPad3d(1)(pydl.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 5, 5, 5)
    """

    _axes = 3


class ReflectionPad1d(_Pad):
    """A border that mirrors the inside; the edge itself is not repeated, for sequences (N, C, W) or (C, W).

    Args:
        padding: one width for all sides, or (left, right); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReflectionPad1d(1)(pydl.ones((1, 2, 3))).shape
    (1, 2, 5)
    """

    _axes = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """A border that mirrors the inside; the edge itself is not repeated, for images (N, C, H, W) or (C, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReflectionPad2d(1)(pydl.ones((1, 2, 3, 3))).shape
    (1, 2, 5, 5)
    """

    _axes = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    """A border that mirrors the inside; the edge itself is not repeated, for volumes (N, C, D, H, W) or (C, D, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom, front, back); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReflectionPad3d(1)(pydl.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 5, 5, 5)
    """

    _axes = 3
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the edge, for sequences (N, C, W) or (C, W).

    Args:
        padding: one width for all sides, or (left, right); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReplicationPad1d(1)(pydl.ones((1, 2, 3))).shape
    (1, 2, 5)
    """

    _axes = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edge, for images (N, C, H, W) or (C, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReplicationPad2d(1)(pydl.ones((1, 2, 3, 3))).shape
    (1, 2, 5, 5)
    """

    _axes = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    """A border that repeats the edge, for volumes (N, C, D, H, W) or (C, D, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom, front, back); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReplicationPad3d(1)(pydl.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 5, 5, 5)
    """

    _axes = 3
    _mode = "replicate"


class CircularPad1d(_Pad):
    """A border that goes on at the other end, for sequences (N, C, W) or (C, W).

    Args:
        padding: one width for all sides, or (left, right); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.CircularPad1d(1)(pydl.ones((1, 2, 3))).shape
    (1, 2, 5)
    """

    _axes = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """A border that goes on at the other end, for images (N, C, H, W) or (C, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.CircularPad2d(1)(pydl.ones((1, 2, 3, 3))).shape
    (1, 2, 5, 5)
    """

    _axes = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    """A border that goes on at the other end, for volumes (N, C, D, H, W) or (C, D, H, W).

    Args:
        padding: one width for all sides, or (left, right, top, bottom, front, back); a negative width cuts off.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.CircularPad3d(1)(pydl.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 5, 5, 5)
    """

    _axes = 3
    _mode = "circular"
