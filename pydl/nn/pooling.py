"""Pooling layers. The details are functional's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _MaxPool(Module):
    _rank = 0

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        """(N, C, ...) or (C, ...) -> the pooled tensor, and with ``return_indices`` the places."""
        return _C.max_pool(
            input,
            self._rank,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{sizes}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class _MaxUnpool(Module):
    _rank = 0

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
    ) -> None:
        super().__init__()

        def per_axis(value: Any) -> tuple[int, ...]:
            return (value,) * self._rank if isinstance(value, int) else tuple(value)

        self.kernel_size = per_axis(kernel_size)
        self.stride = per_axis(kernel_size if stride is None else stride)
        self.padding = per_axis(padding)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """What a max pooling returned, and the size of what it was given -> zeros but for the largest values."""
        return F._pooling._max_unpool(
            input, indices, self._rank, self.kernel_size, self.stride, self.padding, output_size
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    _rank = 0
    divisor_override: int | None = None

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) or (C, ...) -> the pooled tensor."""
        return _C.avg_pool(
            input,
            self._rank,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPoolWithDivisor(_AvgPool):
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override


class _LPPool(Module):
    _rank = 0

    def __init__(
        self,
        norm_type: float,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) or (C, ...) -> the pooled tensor."""
        return F._pooling._lp_pool(input, self._rank, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return f"norm_type={self.norm_type}, {sizes}, ceil_mode={self.ceil_mode}"


class _AdaptiveAvgPool(Module):
    _rank = 0

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = F._pooling.wanted(type(self).__name__, output_size)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) or (C, ...) -> the same with spatial axes of ``output_size``."""
        return _C.adaptive_avg_pool(input, self._rank, self.output_size)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(Module):
    _rank = 0

    def __init__(self, output_size: int | Sequence[int | None] | None, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = F._pooling.wanted(type(self).__name__, output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """(N, C, ...) or (C, ...) -> the same with spatial axes of ``output_size``, and on demand the places."""
        return _C.adaptive_max_pool(input, self._rank, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"output_size={self.output_size}"


class MaxPool1d(_MaxPool):
    """The largest value of each window of (N, C, L); arguments as ``functional.max_pool2d``, in PyTorch's order.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MaxPool1d(2)(pydl.ones((1, 2, 8))).shape
    (1, 2, 4)
    """

    _rank = 1


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L); arguments as ``functional.avg_pool1d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AvgPool1d(2)(pydl.ones((1, 2, 8))).shape
    (1, 2, 4)
    """

    _rank = 1

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        def one(value: Any) -> tuple[int, ...]:
            return (value,) if isinstance(value, int) else tuple(value)

        super().__init__(
            one(kernel_size), None if stride is None else one(stride), one(padding), ceil_mode, count_include_pad
        )


class LPPool1d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, L); arguments as ``functional.lp_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LPPool1d(2, 2)(pydl.ones((1, 2, 8))).shape
    (1, 2, 4)
    """

    _rank = 1


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of (N, C, L) over as many windows as ``output_size`` says; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveAvgPool1d(3)(pydl.ones((1, 2, 8))).shape
    (1, 2, 3)
    """

    _rank = 1


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Largest values of (N, C, L), ``output_size`` along each axis; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveMaxPool1d(3)(pydl.ones((1, 2, 8))).shape
    (1, 2, 3)
    """

    _rank = 1


class MaxUnpool1d(_MaxUnpool):
    """Undo :class:`MaxPool1d`: its values back in their places, zeros elsewhere; see ``functional.max_unpool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> y, places = nn.MaxPool1d(2, return_indices=True)(pydl.ones((1, 2, 8)))
    >>> nn.MaxUnpool1d(2)(y, places).sum().item()
    8.0
    """

    _rank = 1


class MaxPool2d(_MaxPool):
    """The largest value of each window of (N, C, H, W); arguments as ``functional.max_pool2d``, in PyTorch's order.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MaxPool2d(2)(pydl.ones((1, 2, 8, 8))).shape
    (1, 2, 4, 4)
    """

    _rank = 2


class AvgPool2d(_AvgPoolWithDivisor):
    """The mean of each window of (N, C, H, W); arguments as ``functional.avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AvgPool2d(2)(pydl.ones((1, 2, 8, 8))).shape
    (1, 2, 4, 4)
    """

    _rank = 2


class LPPool2d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, H, W); arguments as ``functional.lp_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LPPool2d(2, 2)(pydl.ones((1, 2, 8, 8))).shape
    (1, 2, 4, 4)
    """

    _rank = 2


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of (N, C, H, W) over as many windows as ``output_size`` says; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveAvgPool2d(3)(pydl.ones((1, 2, 8, 8))).shape
    (1, 2, 3, 3)
    """

    _rank = 2


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest values of (N, C, H, W), ``output_size`` along each axis; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveMaxPool2d(3)(pydl.ones((1, 2, 8, 8))).shape
    (1, 2, 3, 3)
    """

    _rank = 2


class MaxUnpool2d(_MaxUnpool):
    """Undo :class:`MaxPool2d`: its values back in their places, zeros elsewhere; see ``functional.max_unpool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> y, places = nn.MaxPool2d(2, return_indices=True)(pydl.ones((1, 2, 8, 8)))
    >>> nn.MaxUnpool2d(2)(y, places).sum().item()
    32.0
    """

    _rank = 2


class MaxPool3d(_MaxPool):
    """The largest value of each window of (N, C, D, H, W); arguments as ``functional.max_pool2d``, in PyTorch's order.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MaxPool3d(2)(pydl.ones((1, 2, 8, 8, 8))).shape
    (1, 2, 4, 4, 4)
    """

    _rank = 3


class AvgPool3d(_AvgPoolWithDivisor):
    """The mean of each window of (N, C, D, H, W); arguments as ``functional.avg_pool3d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AvgPool3d(2)(pydl.ones((1, 2, 8, 8, 8))).shape
    (1, 2, 4, 4, 4)
    """

    _rank = 3


class LPPool3d(_LPPool):
    """(Σ x^p)^(1/p) over each window of (N, C, D, H, W); arguments as ``functional.lp_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LPPool3d(2, 2)(pydl.ones((1, 2, 8, 8, 8))).shape
    (1, 2, 4, 4, 4)
    """

    _rank = 3


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means of (N, C, D, H, W) over as many windows as ``output_size`` says; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveAvgPool3d(3)(pydl.ones((1, 2, 8, 8, 8))).shape
    (1, 2, 3, 3, 3)
    """

    _rank = 3


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Largest values of (N, C, D, H, W), ``output_size`` along each axis; see ``functional.adaptive_avg_pool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AdaptiveMaxPool3d(3)(pydl.ones((1, 2, 8, 8, 8))).shape
    (1, 2, 3, 3, 3)
    """

    _rank = 3


class MaxUnpool3d(_MaxUnpool):
    """Undo :class:`MaxPool3d`: its values back in their places, zeros elsewhere; see ``functional.max_unpool2d``.

    >>> import pydl
    >>> from pydl import nn
    >>> y, places = nn.MaxPool3d(2, return_indices=True)(pydl.ones((1, 2, 8, 8, 8)))
    >>> nn.MaxUnpool3d(2)(y, places).sum().item()
    128.0
    """

    _rank = 3
