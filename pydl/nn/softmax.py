"""Activations along an axis: softmax and its kin, and gated linear units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "GLU",
    "LogSoftmax",
    "Softmax",
    "Softmax2d",
    "Softmin",
]


class _AlongAxis(Module):
    """Something computed along one axis."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """exp(x) / Σ exp(x) along one axis.

    Args:
        dim: the axis. Without it, as in PyTorch: 0 for inputs of 0, 1 or 3 axes, 1 for others.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Softmax(dim=1)(pydl.zeros((1, 4))).numpy().tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.softmax(input, self.dim)


class Softmin(_AlongAxis):
    """softmax(-x). Arguments as in :class:`Softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.softmin(input, self.dim)


class Softmax2d(Module):
    """softmax over the channels at each place of (N, C, H, W) or (C, H, W).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Softmax2d()(pydl.zeros((1, 4, 1, 1)))[0, :, 0, 0].numpy().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W) -> the same shape."""
        if input.ndim not in (3, 4):
            raise ValueError(f"[Softmax2d] got input of shape {tuple(input.shape)}, expected (N, C, H, W) or (C, H, W)")
        return F.softmax(input, -3)


class LogSoftmax(_AlongAxis):
    """log softmax(x). Arguments as in :class:`Softmax`.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.LogSoftmax(dim=1)(pydl.zeros((1, 4)))[0, 0].item(), 4)
    -1.3863
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.log_softmax(input, self.dim)


class GLU(_AlongAxis):
    """Gated linear unit a·σ(b), for the halves a and b of one axis.

    Args:
        dim: the axis, of even size; default -1.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.GLU()(pydl.asarray([3.0, 0.0])).item()
    1.5
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)

    def forward(self, input: Tensor) -> Tensor:
        """(..., 2N, ...) -> (..., N, ...)."""
        return F.glu(input, self.dim if self.dim is not None else -1)
