"""Max-pooling with windows at random places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = ["FractionalMaxPool2d", "FractionalMaxPool3d"]


class _FractionalMaxPool(Module):
    _rank = 0
    _random_samples: Tensor | None

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        output_size: int | Sequence[int] | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            name = type(self).__name__
            raise ValueError(f"[{name}] got both or neither of output_size and output_ratio, expected one of them")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        """(N, C, ...) or (C, ...) -> the pooled tensor, and with ``return_indices`` the places."""
        pool = F.fractional_max_pool2d if self._rank == 2 else F.fractional_max_pool3d
        options = self.output_size, self.output_ratio, self.return_indices, self._random_samples
        return pool(input, self.kernel_size, *options)


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest value of windows at random places of (N, C, H, W); Graham, arXiv:1412.6071.

    Args:
        kernel_size: of the windows.
        output_size: of the output. Either this or
        output_ratio: the output's size over the input's, between 0 and 1.
        return_indices: also return the places; default False.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.FractionalMaxPool2d(3, output_ratio=0.5)(pydl.ones((2, 1, 8, 8))).shape
    (2, 1, 4, 4)
    """

    _rank = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """:class:`FractionalMaxPool2d` for volumes, (N, C, D, H, W)."""

    _rank = 3
