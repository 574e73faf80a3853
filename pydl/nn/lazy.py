"""Layers that learn their input size from the first input: LazyLinear and its kin, and what users need for their own.

A lazy layer is a layer whose parameters are not there yet. Its first call makes them, as the layer draws them, and
turns it into the plain layer of its kind. Converting the model (``to``, ``double``) before that is fine; an optimizer
may have the parameters already, since they stay the same objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl._tensor import Tensor
from pydl.nn.convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from pydl.nn.linear import Linear
from pydl.nn.module import Module, Parameter
from pydl.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl.nn.arguments import Attached, AttachedToNorm

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
    "LazyModuleMixin",
    "UninitializedBuffer",
    "UninitializedParameter",
    "is_lazy",
]

AnyModule = TypeVar("AnyModule", bound=Module)


class UninitializedParameter(Parameter):
    """A parameter whose shape is not known yet. :meth:`materialize` makes it a :class:`Parameter`, the same object.

    Args:
        requires_grad: default True.
        device, dtype: of the values to come; default CPU and float32.

    >>> from pydl import nn
    >>> weight = UninitializedParameter()
    >>> weight.materialize((2, 3))
    >>> type(weight) is nn.Parameter, weight.shape
    (True, (2, 3))
    """

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        return super().__new__(cls, pydl.empty((0,), device=device, dtype=dtype), requires_grad)  # type: ignore[return-value]

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        pass  # __new__ has done it

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Get memory of this shape, whose values are still to be drawn."""
        _materialize(self, Parameter, shape, device, dtype)

    def __repr__(self) -> str:
        return f"<UninitializedParameter of {self.dtype}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, None, self.dtype)


class UninitializedBuffer(Tensor):
    """A buffer whose shape is not known yet. :meth:`materialize` makes it a plain tensor, the same object."""

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> UninitializedBuffer:
        return super().__new__(cls, pydl.empty((0,), device=device, dtype=dtype))

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        pass  # __new__ has done it

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> None:
        """Get memory of this shape, whose values are still to be set."""
        _materialize(self, Tensor, shape, device, dtype)

    def __repr__(self) -> str:
        return f"<UninitializedBuffer of {self.dtype}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(False, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (False, None, self.dtype)


def _materialize(tensor: Any, kind: type, shape: tuple[int, ...], device: Any, dtype: Any) -> None:
    tensor.data = pydl.empty(tuple(shape), device=device or tensor.device, dtype=dtype or tensor.dtype)
    tensor.__class__ = kind


def is_lazy(value: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(value, (UninitializedParameter, UninitializedBuffer))


class LazyModuleMixin(Module):
    """Base of lazy layers, put before the layer's class: ``class LazyMine(LazyModuleMixin, Mine)``.

    A subclass registers :class:`UninitializedParameter` and :class:`UninitializedBuffer` in its ``__init__``, makes
    them in ``initialize_parameters``, which gets the first call's arguments, and may name the class to turn into.

    Attributes:
        cls_to_become: the class after the first call; None: it stays what it is.
    """

    cls_to_become: type[Module] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.has_uninitialized_params() or self.cls_to_become is not None:
            self.initialize_parameters(*args, **kwargs)
            left = [name for name in (*self._parameter_names, *self._buffer_names) if is_lazy(self.__dict__[name])]
            if left:
                raise ValueError(
                    f"[{type(self).__name__}] initialize_parameters left {', '.join(left)} without a shape"
                )
            if self.cls_to_become is not None:
                self.__class__ = self.cls_to_become  # type: ignore[assignment]
        return Module.__call__(self, *args, **kwargs)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Make the parameters for inputs like these."""
        raise NotImplementedError(f"[{type(self).__name__}] has no initialize_parameters method; define one")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of this layer has no shape yet."""
        state = self.__dict__
        return any(is_lazy(state[name]) for names in (self._parameter_names, self._buffer_names) for name in names)


class _LazyLayer(LazyModuleMixin):
    """The lazy form of a layer whose first argument is the size of an axis of its input.

    Until the first call it has the attributes of a small layer of its kind (so that ``repr`` works), with size 0.
    """

    cls_to_become: Any
    _size: str  # the first argument's name, and the attribute's
    _axis = 1

    def _set_up(self, smallest: int, options: dict[str, Any]) -> None:
        Module.__init__(self)
        device, dtype = options.get("device"), options.get("dtype")
        small = self.cls_to_become(smallest, **options)
        for name, value in small.__dict__.items():
            if name not in self.__dict__ and name not in small._parameter_names and name not in small._buffer_names:
                self.__dict__[name] = value
        self.__dict__[self._size] = 0
        self.__dict__["_lazy_options"] = options
        for name in small._parameter_names:
            known = None if small.__dict__[name] is None else UninitializedParameter(device=device, dtype=dtype)
            self.register_parameter(name, known)
        for name, persistent in small._buffer_names.items():
            value = small.__dict__[name]
            if value is not None and value.ndim > 0:
                value = UninitializedBuffer(device=device, dtype=dtype)
            self.register_buffer(name, value, persistent)

    def reset_parameters(self) -> None:
        """Nothing: there is nothing to draw yet."""

    def _input_size(self, input: Tensor) -> int:
        if input.ndim < 2 and self._axis == 1:
            raise ValueError(f"[{type(self).__name__}] got input of shape {tuple(input.shape)}, which has no channels")
        return int(input.shape[self._axis])

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make the parameters of the plain layer for this input."""
        options = self.__dict__["_lazy_options"]
        made = self.cls_to_become(self._input_size(input), **options)
        for name, value in made.__dict__.items():
            own: Any = self.__dict__.get(name)
            if is_lazy(own):
                own.materialize(tuple(value.shape))
                with pydl.no_grad():
                    own.copy_(value.detach())  # in the dtype and on the device that it was converted to
            elif isinstance(value, Tensor):
                if own is not None and tuple(own.shape) != tuple(value.shape):
                    raise ValueError(
                        f"[{type(self).__name__}] the loaded {name} has shape {tuple(own.shape)}, expected "
                        f"{tuple(value.shape)} for input of shape {tuple(input.shape)}"
                    )
            elif not name.startswith("_") and name != "training":
                self.__dict__[name] = value
        del self.__dict__["_lazy_options"]


class LazyLinear(_LazyLayer, Linear):
    """:class:`Linear` whose ``in_features`` is the last axis of its first input.

    Args:
        out_features, bias, device, dtype: as in :class:`Linear`.

    >>> import pydl
    >>> from pydl import nn
    >>> layer = nn.LazyLinear(3)
    >>> layer(pydl.ones((2, 5))).shape, layer
    ((2, 3), Linear(in_features=5, out_features=3, bias=True))
    """

    cls_to_become = Linear
    _size = "in_features"
    _axis = -1

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, **attached: Unpack[Attached]
    ) -> None:
        self._set_up(0, {"out_features": out_features, "bias": bias, "device": device, "dtype": dtype})


class _LazyConvolution(_LazyLayer):
    _size = "in_channels"
    rank: int

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        options = {
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "bias": bias,
            "padding_mode": padding_mode,
            "device": device,
            "dtype": dtype,
        }
        self._set_up(max(1, groups), options)

    def _input_size(self, input: Tensor) -> int:
        if input.ndim not in (self.rank + 1, self.rank + 2):
            got, rank = tuple(input.shape), self.rank
            raise ValueError(
                f"[{type(self).__name__}] got input of shape {got}, expected {rank + 2} or {rank + 1} axes"
            )
        return int(input.shape[-self.rank - 1])


class LazyConv1d(_LazyConvolution, Conv1d):
    """:class:`Conv1d` whose ``in_channels`` are those of its first input; the other arguments as there."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConvolution, Conv2d):
    """:class:`Conv2d` whose ``in_channels`` are those of its first input; the other arguments as there.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LazyConv2d(4, 3)(pydl.ones((2, 5, 8, 8))).shape
    (2, 4, 6, 6)
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConvolution, Conv3d):
    """:class:`Conv3d` whose ``in_channels`` are those of its first input; the other arguments as there."""

    cls_to_become = Conv3d


class _LazyTransposed(_LazyConvolution):
    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        options = {
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "groups": groups,
            "bias": bias,
            "dilation": dilation,
            "padding_mode": padding_mode,
            "device": device,
            "dtype": dtype,
        }
        self._set_up(max(1, groups), options)


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """:class:`ConvTranspose1d` whose ``in_channels`` are those of its first input; the other arguments as there."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """:class:`ConvTranspose2d` whose ``in_channels`` are those of its first input; the other arguments as there."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """:class:`ConvTranspose3d` whose ``in_channels`` are those of its first input; the other arguments as there."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(_LazyLayer):
    _size = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        options = {
            "bias": bias,
            "eps": eps,
            "momentum": momentum,
            "affine": affine,
            "track_running_stats": track_running_stats,
            "device": device,
            "dtype": dtype,
        }
        self._set_up(0, options)


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """:class:`BatchNorm1d` whose ``num_features`` are the channels of its first input; other arguments as there."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """:class:`BatchNorm2d` whose ``num_features`` are the channels of its first input; other arguments as there."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """:class:`BatchNorm3d` whose ``num_features`` are the channels of its first input; other arguments as there."""

    cls_to_become = BatchNorm3d


class _LazyInstanceNorm(_LazyNorm):
    _rank: int

    def _input_size(self, input: Tensor) -> int:
        if input.ndim not in (self._rank + 1, self._rank + 2):
            name, got, axes = type(self).__name__, tuple(input.shape), self._rank + 2
            raise ValueError(f"[{name}] got input of shape {got}, expected {axes} or {axes - 1} axes")
        return int(input.shape[-self._rank - 1])


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """:class:`InstanceNorm1d` whose ``num_features`` are the channels of its first input.

    The other arguments as there, but affine and track_running_stats are True by default, as in PyTorch.
    """

    cls_to_become = InstanceNorm1d
    _rank = 1


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """:class:`InstanceNorm2d` whose ``num_features`` are the channels of its first input; see LazyInstanceNorm1d."""

    cls_to_become = InstanceNorm2d
    _rank = 2


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """:class:`InstanceNorm3d` whose ``num_features`` are the channels of its first input; see LazyInstanceNorm1d."""

    cls_to_become = InstanceNorm3d
    _rank = 3
