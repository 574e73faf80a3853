"""Activations made of straight pieces with bounds and thresholds. The details are functional's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "ReLU6",
    "Softshrink",
    "Tanhshrink",
    "Threshold",
]


class ReLU6(Module):
    """min(max(x, 0), 6).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReLU6()(pydl.asarray([-1.0, 9.0])).numpy().tolist()
    [0.0, 6.0]
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.relu6(input)


class Hardtanh(Module):
    """x kept between two bounds.

    Args:
        min_val, max_val: the bounds; default -1 and 1.
        min_value, max_value: their older names.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Hardtanh()(pydl.asarray([-3.0, 0.5])).numpy().tolist()
    [-1.0, 0.5]
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        min_val = min_val if min_value is None else min_value
        max_val = max_val if max_value is None else max_value
        if not min_val < max_val:
            raise ValueError(f"[Hardtanh] got min_val = {min_val}, expected less than max_val = {max_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Hardsigmoid(Module):
    """min(max(x + 3, 0), 6) / 6.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Hardsigmoid()(pydl.asarray([0.0])).item()
    0.5
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.hardsigmoid(input)


class Hardswish(Module):
    """x·hardsigmoid(x).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Hardswish()(pydl.asarray([3.0])).item()
    3.0
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.hardswish(input)


class Tanhshrink(Module):
    """x - tanh(x).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Tanhshrink()(pydl.asarray([0.0])).item()
    0.0
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.tanhshrink(input)


class Hardshrink(Module):
    """x where |x| > λ, otherwise 0.

    Args:
        lambd: λ; default 0.5.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Hardshrink()(pydl.asarray([0.25, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return str(self.lambd)


class Softshrink(Module):
    """x moved towards 0 by λ, and 0 where |x| <= λ.

    Args:
        lambd: λ, 0 or more; default 0.5.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Softshrink()(pydl.asarray([0.25, 2.0])).numpy().tolist()
    [0.0, 1.5]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return str(self.lambd)


class Threshold(Module):
    """x where it is above a threshold, otherwise a value.

    Args:
        threshold, value: both needed.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Threshold(1.0, 20.0)(pydl.asarray([0.5, 2.0])).numpy().tolist()
    [20.0, 2.0]
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"threshold={self.threshold}, value={self.value}"
