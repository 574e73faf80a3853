"""Convolutions, transposed convolutions, and patches as columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.autograd import Function

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]

Numbers = int | Sequence[int]


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation) along one axis; see conv2d.

    (N, C, L) or (C, L), (O, C/groups, K), (O) -> (N, O, L') or (O, L').

    >>> conv1d(pydl.asarray([[1.0, 2.0, 4.0]]), pydl.asarray([[[-1.0, 1.0]]])).numpy().tolist()
    [[1.0, 2.0]]
    """
    return _C.convolution(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation) along two axes.

    y[n, o, i, j] = bias[o] + Σ x[n, c, i·stride + u·dilation - padding, ...] · weight[o, c, u, v] over c, u and v.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (O, C/groups, KH, KW).
        bias: (O) or None.
        stride, dilation: one number, or one for each axis; default 1.
        padding: zeros on both sides of each axis; default 0. ``"same"`` keeps the size (stride 1 only), with the odd
            zero behind; ``"valid"`` is 0.
        groups: channels are cut into so many groups that do not see each other; default 1.

    Returns:
        (N, O, H', W') or (O, H', W'), H' = ⌊(H + 2·padding - dilation·(KH - 1) - 1)/stride⌋ + 1.

    float16 and bfloat16 are computed in float32. Kernels of 3x3 and more may use Winograd's algorithm in float32 (Lavin
    & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016), whose errors are some twice those of plain sums;
    where a result is infinite or NaN, plain sums make all of it.

    Raises:
        ValueError: shapes that do not fit each other; a kernel larger than the padded input.
        TypeError: dtypes that are not floating.

    >>> conv2d(pydl.ones((1, 3, 5, 5)), pydl.ones((2, 3, 3, 3)), padding=1)[0, 0, 0].numpy().tolist()
    [12.0, 18.0, 18.0, 18.0, 12.0]
    """
    return _C.convolution(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation) along three axes; see conv2d.

    (N, C, D, H, W) or (C, D, H, W), (O, C/groups, KD, KH, KW), (O) -> (N, O, D', H', W') or (O, D', H', W').
    """
    return _C.convolution(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """Transposed convolution along one axis; see conv_transpose2d.

    (N, C, L) or (C, L), (C, O/groups, K), (O) -> (N, O, L') or (O, L').

    >>> conv_transpose1d(pydl.asarray([[1.0, 2.0]]), pydl.asarray([[[1.0, 10.0]]]), stride=2).numpy().tolist()
    [[1.0, 10.0, 2.0, 20.0]]
    """
    return _C.convolution_transposed(1, input, weight, bias, stride, padding, output_padding, dilation, groups)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """The transpose of conv2d's linear map, which is its gradient: each input pixel adds a scaled kernel to the output.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, O/groups, KH, KW).
        bias: (O) or None.
        stride, padding, dilation, groups: those of the convolution that it transposes.
        output_padding: added to the output's size on one side, less than stride or dilation; default 0.

    Returns:
        (N, O, H', W') or (O, H', W'), H' = (H - 1)·stride - 2·padding + dilation·(KH - 1) + output_padding + 1.

    Raises:
        ValueError: shapes that do not fit each other; an output without pixels.
        TypeError: dtypes that are not floating.

    >>> conv_transpose2d(pydl.ones((1, 4, 5, 5)), pydl.ones((4, 2, 3, 3)), stride=2).shape
    (1, 2, 11, 11)
    """
    return _C.convolution_transposed(2, input, weight, bias, stride, padding, output_padding, dilation, groups)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    output_padding: Numbers = 0,
    groups: int = 1,
    dilation: Numbers = 1,
) -> Tensor:
    """Transposed convolution along three axes; see conv_transpose2d.

    (N, C, D, H, W) or (C, D, H, W), (C, O/groups, KD, KH, KW), (O) -> (N, O, D', H', W') or (O, D', H', W').
    """
    return _C.convolution_transposed(3, input, weight, bias, stride, padding, output_padding, dilation, groups)


class _Windows:
    """The sliding windows of an image: where each tap of the kernel meets it."""

    def __init__(self, op: str, size: tuple[int, int], kernel: Any, dilation: Any, padding: Any, stride: Any) -> None:
        self.size = size
        self.kernel = _pair(op, "kernel_size", kernel, 1)
        self.dilation = _pair(op, "dilation", dilation, 1)
        self.padding = _pair(op, "padding", padding, 0)
        self.stride = _pair(op, "stride", stride, 1)
        self.padded = (size[0] + 2 * self.padding[0], size[1] + 2 * self.padding[1])
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        if min(size) < 1 or self.padded[0] < reach[0] or self.padded[1] < reach[1]:
            raise ValueError(f"[{op}] the kernel reaches over {tuple(reach)} of an image that is {self.padded}, padded")
        self.rows = (self.padded[0] - reach[0]) // self.stride[0] + 1
        self.columns = (self.padded[1] - reach[1]) // self.stride[1] + 1

    def taps(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Number of the tap, and the index of what it meets in (N, C, H, W), padded."""
        for number, place in enumerate(product(range(self.kernel[0]), range(self.kernel[1]))):
            index: list[Any] = [slice(None), slice(None)]
            for i, count in enumerate((self.rows, self.columns)):
                first = place[i] * self.dilation[i]
                index.append(slice(first, first + (count - 1) * self.stride[i] + 1, self.stride[i]))
            yield number, tuple(index)

    def columns_of(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C·KH·KW, L)."""
        p, q = self.padding
        x = pydl.nn.functional.pad(x, (q, q, p, p)) if p or q else x
        n, c, taps = x.shape[0], x.shape[1], math.prod(self.kernel)
        out = pydl.empty((n, c, taps, self.rows, self.columns), dtype=x.dtype)
        for number, index in self.taps():
            out[:, :, number] = x[index]
        return out.reshape((n, c * taps, self.rows * self.columns))

    def image_of(self, y: Tensor) -> Tensor:
        """(N, C·KH·KW, L) -> (N, C, H, W), values of the same pixel added."""
        n, taps = y.shape[0], math.prod(self.kernel)
        y = y.reshape((n, y.shape[1] // taps, taps, self.rows, self.columns))
        out = pydl.zeros((n, y.shape[1], *self.padded), dtype=y.dtype, device=y.device)
        for number, index in self.taps():
            out[index] = out[index] + y[:, :, number]
        p, q = self.padding
        return out[:, :, p : p + self.size[0], q : q + self.size[1]]


class _Unfold(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: _Windows) -> Tensor:
        ctx.windows = windows
        return windows.columns_of(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(g, ctx.windows), None


class _Fold(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, windows: _Windows) -> Tensor:
        ctx.windows = windows
        return windows.image_of(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Unfold.apply(g, ctx.windows), None


def unfold(
    input: Tensor, kernel_size: Numbers, dilation: Numbers = 1, padding: Numbers = 0, stride: Numbers = 1
) -> Tensor:
    """The patches under a sliding window, as columns.

    (N, C, H, W) or (C, H, W) -> (N, C·KH·KW, L) or (C·KH·KW, L), L the number of places of the window.

    >>> unfold(pydl.arange(9.0).reshape((1, 3, 3)), 2)[:, 0].numpy().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    if input.ndim not in (3, 4):
        raise ValueError(f"[unfold] got an input of shape {tuple(input.shape)}, expected (N, C, H, W) or (C, H, W)")
    windows = _Windows("unfold", (input.shape[-2], input.shape[-1]), kernel_size, dilation, padding, stride)
    y = _Unfold.apply(input if input.ndim == 4 else pydl.expand_dims(input, axis=0), windows)
    return y if input.ndim == 4 else y[0]


def fold(
    input: Tensor,
    output_size: Numbers,
    kernel_size: Numbers,
    dilation: Numbers = 1,
    padding: Numbers = 0,
    stride: Numbers = 1,
) -> Tensor:
    """The sum of patches back into an image: the gradient of unfold.

    (N, C·KH·KW, L) or (C·KH·KW, L) -> (N, C, H, W) or (C, H, W), (H, W) being ``output_size``.

    >>> fold(pydl.ones((4, 4)), 3, 2)[0].numpy().tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    windows = _Windows("fold", _pair("fold", "output_size", output_size, 1), kernel_size, dilation, padding, stride)
    taps, places = math.prod(windows.kernel), windows.rows * windows.columns
    if input.ndim not in (2, 3) or input.shape[-2] % taps or input.shape[-1] != places:
        shape = tuple(input.shape)
        raise ValueError(f"[fold] got an input of shape {shape}, expected (N, C·{taps}, {places}) or (C·{taps}, ...)")
    y = _Fold.apply(input if input.ndim == 3 else pydl.expand_dims(input, axis=0), windows)
    return y if input.ndim == 3 else y[0]


def _pair(op: str, name: str, value: Any, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) == 1:
        pair *= 2
    if len(pair) != 2 or not all(isinstance(n, int) and n >= least for n in pair):
        raise ValueError(f"[{op}] got {name} {value}, expected one or two whole numbers, {least} or more")
    return pair[0], pair[1]
