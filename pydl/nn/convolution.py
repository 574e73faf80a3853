"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl.nn import functional as F
from pydl.nn import init
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import Attached

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]

Numbers = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What the six layers share: arguments, parameters, their starting values."""

    rank: int
    transposed = False
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers,
        padding: Numbers | str,
        dilation: Numbers,
        output_padding: Numbers,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels < 1 or out_channels < 1 or in_channels % groups or out_channels % groups:
            got = f"in_channels {in_channels}, out_channels {out_channels} and groups {groups}"
            raise ValueError(f"[{name}] got {got}, expected 1 or more, the channels multiples of the groups")
        modes = PADDING_MODES[:1] if self.transposed else PADDING_MODES
        if padding_mode not in modes:
            raise ValueError(f"[{name}] got padding_mode {padding_mode!r}, expected {' or '.join(map(repr, modes))}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = self._spread("kernel_size", kernel_size, 1)
        self.stride = self._spread("stride", stride, 1)
        self.dilation = self._spread("dilation", dilation, 1)
        self.output_padding = self._spread("output_padding", output_padding, 0)
        self.padding: tuple[int, ...] | str
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"[{name}] got padding {padding!r}, expected numbers, 'same' or 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"[{name}] padding='same' needs stride 1, got {self.stride}")
            self.padding = padding
        else:
            self.padding = self._spread("padding", padding, 0)
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter((first, second // groups, *self.kernel_size), device, dtype)
        self.register_parameter("bias", new_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def _spread(self, name: str, value: Numbers, least: int) -> tuple[int, ...]:
        values = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(values) == 1:
            values *= self.rank
        if len(values) != self.rank or not all(isinstance(v, int) and v >= least for v in values):
            wanted = f"one whole number or {self.rank}, {least} or more"
            raise ValueError(f"[{type(self).__name__}] got {name} {value}, expected {wanted}")
        return values

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = (self.weight.shape[1] * prod(self.kernel_size)) ** -0.5
            init.uniform_(self.bias, -bound, bound)

    def _widths(self) -> tuple[int, ...]:
        return (0,) * self.rank if isinstance(self.padding, str) else self.padding

    def _borders(self) -> tuple[int, ...]:
        """What F.pad adds for a padding mode that the convolution itself lacks."""
        widths: list[int] = []
        for i in reversed(range(self.rank)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                widths += [total // 2, total - total // 2]
            else:
                widths += [self._widths()[i]] * 2
        return tuple(widths)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> (N, O, ...), or without the batch."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._borders(), mode=self.padding_mode), 0
        return _C.convolution(
            self.rank, input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.rank:
            text += f", padding={self.padding!r}" if isinstance(self.padding, str) else f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * self.rank:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Plain(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers | str = 0,
        dilation: Numbers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip


class Conv1d(_Plain):
    """Convolution along one axis: (N, C, L) or (C, L) -> (N, O, L') or (O, L'). Arguments as in Conv2d.

    >>> from pydl import nn
    >>> nn.Conv1d(16, 33, 3, stride=2)(pydl.ones((20, 16, 50))).shape
    (20, 33, 24)
    """

    rank = 1


class Conv2d(_Plain):
    """Convolution along two axes: (N, C, H, W) or (C, H, W) -> (N, O, H', W') or (O, H', W').

    Args:
        in_channels, out_channels: C and O.
        kernel_size: one number, or one for each axis; so are the next three.
        stride: step of the kernel; default 1.
        padding: how much stands on both sides of each axis; default 0. ``"same"`` keeps the size (stride 1 only),
            ``"valid"`` is 0.
        dilation: distance of the kernel's taps; default 1.
        groups: groups of channels that do not see each other; default 1. C of them is a depthwise convolution.
        bias: whether to add one number per output channel; default True.
        padding_mode: ``"zeros"`` (default), ``"reflect"``, ``"replicate"`` or ``"circular"``.
        device, dtype: of the parameters; default CPU and float32.

    Shapes:
        H' = ⌊(H + 2·padding - dilation·(kernel_size - 1) - 1)/stride⌋ + 1; ``weight`` (O, C/groups, KH, KW), ``bias``
        (O). Both start uniform in ±1/√(C/groups·KH·KW).

    Raises:
        ValueError: sizes that are not possible; an input whose channels are not C or that is smaller than the kernel.

    >>> from pydl import nn
    >>> nn.Conv2d(3, 8, 3, padding="same")(pydl.ones((2, 3, 32, 32))).shape
    (2, 8, 32, 32)
    """

    rank = 2


class Conv3d(_Plain):
    """Convolution along three axes: (N, C, D, H, W) or (C, D, H, W) -> (N, O, D', H', W') or (O, D', H', W').

    Arguments as in Conv2d.
    """

    rank = 3


class _Transposed(_Convolution):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers = 0,
        output_padding: Numbers = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Numbers = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        if isinstance(padding, str):
            raise ValueError(f"[{type(self).__name__}] got padding {padding!r}, expected numbers")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, C, ...) -> (N, O, ...), or without the batch; output_size chooses the output_padding."""
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return _C.convolution_transposed(
            self.rank, input, self.weight, self.bias, self.stride, self._widths(), extra, self.dilation, self.groups
        )

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        wanted = tuple(output_size)[-self.rank :]
        sizes = tuple(input.shape)[-self.rank :]
        least = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                sizes, self.stride, self._widths(), self.dilation, self.kernel_size, strict=True
            )
        ]
        extra = tuple(w - m for w, m in zip(wanted, least, strict=False))
        if len(extra) != self.rank or not all(0 <= e < max(s, 1) for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(m + s - 1 for m, s in zip(least, self.stride, strict=True))
            got = f"output_size {tuple(output_size)}"
            raise ValueError(f"[{type(self).__name__}] got {got}, expected between {tuple(least)} and {most}")
        return extra


class ConvTranspose1d(_Transposed):
    """Transposed convolution along one axis: (N, C, L) -> (N, O, L'). Arguments as in ConvTranspose2d."""

    rank = 1


class ConvTranspose2d(_Transposed):
    """Transposed convolution along two axes: (N, C, H, W) or (C, H, W) -> (N, O, H', W') or (O, H', W').

    Args:
        in_channels, out_channels: C and O.
        kernel_size, stride, padding, dilation: of the convolution that it transposes, as in Conv2d.
        output_padding: added to the output's size on one side; default 0. forward's output_size chooses it.
        groups, bias, device, dtype: as in Conv2d.
        padding_mode: ``"zeros"`` alone.

    Shapes:
        H' = (H - 1)·stride - 2·padding + dilation·(kernel_size - 1) + output_padding + 1; ``weight`` (C, O/groups, KH,
        KW), ``bias`` (O). Both start uniform in ±1/√(O/groups·KH·KW).

    >>> from pydl import nn
    >>> nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)(pydl.ones((1, 16, 7, 7))).shape
    (1, 8, 14, 14)
    """

    rank = 2


class ConvTranspose3d(_Transposed):
    """Transposed convolution along three axes: (N, C, D, H, W) -> (N, O, D', H', W'). As in ConvTranspose2d."""

    rank = 3


class Unfold(Module):
    """Patches under a sliding window, as columns; see nn.functional.unfold."""

    def __init__(self, kernel_size: Numbers, dilation: Numbers = 1, padding: Numbers = 0, stride: Numbers = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C·KH·KW, L)."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """The sum of patches back into an image; see nn.functional.fold."""

    def __init__(
        self,
        output_size: Numbers,
        kernel_size: Numbers,
        dilation: Numbers = 1,
        padding: Numbers = 0,
        stride: Numbers = 1,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """(N, C·KH·KW, L) -> (N, C, H, W)."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        sizes = f"output_size={self.output_size}, kernel_size={self.kernel_size}"
        return f"{sizes}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
