"""Dense layers and changes of shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn import functional as F
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import Attached

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "Unflatten"]


class Identity(Module):
    """Returns its input; takes and ignores any arguments, so it can stand in for any layer.

    >>> from pydl import nn
    >>> nn.Identity(54, unused=True)(3)
    3
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input itself."""
        return input


class Linear(Module):
    """Dense layer: y = x Wᵀ + b.

    Args:
        in_features: size of the input's last axis, D.
        out_features: size of the output's last axis, H.
        bias: whether to add b; default True.
        device, dtype: of the parameters; default CPU and float32.

    Shapes:
        input (..., D) -> output (..., H); ``weight`` (H, D), ``bias`` (H).

    Both start uniform in ±1/√D, as in LeCun et al., "Efficient BackProp" (1998), up to a constant.

    Raises:
        ValueError: a negative size; an input whose last axis is not D.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Linear(20, 30)(pydl.ones((128, 20))).shape
    (128, 30)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__()
        if in_features < 0 or out_features < 0:
            raise ValueError(f"[Linear] got sizes {in_features} and {out_features}, expected 0 or more")
        self.in_features = in_features
        self.out_features = out_features
        self.weight = new_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        uniform_in_fan(self.in_features, self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., H)."""
        return _C.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """Bilinear layer: y_k = x1ᵀ W_k x2 + b_k.

    Args:
        in1_features, in2_features: sizes D1, D2 of the inputs' last axes.
        out_features: size H of the output's last axis.
        bias: whether to add b; default True.

    Shapes:
        inputs (..., D1) and (..., D2) -> (..., H); ``weight`` (H, D1, D2), ``bias`` (H). Both start uniform in ±1/√D1.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Bilinear(3, 4, 5)(pydl.ones((2, 3)), pydl.ones((2, 4))).shape
    (2, 5)
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__()
        if in1_features < 1:
            raise ValueError(f"[Bilinear] got in1_features {in1_features}, expected 1 or more")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = new_parameter((out_features, in1_features, in2_features), device, dtype)
        self.register_parameter("bias", new_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new starting values."""
        uniform_in_fan(self.in1_features, self.weight, self.bias)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """(..., D1), (..., D2) -> (..., H)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        sizes = f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


class Flatten(Module):
    """Join neighbouring axes into one; by default all but the first (the batch).

    Args:
        start_dim: the first axis to join; default 1.
        end_dim: the last axis to join; default -1.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Flatten()(pydl.ones((32, 1, 5, 5))).shape
    (32, 25)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """(..., a, b, ..., z, ...) -> (..., a·b·…·z, ...)."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several.

    Args:
        dim: the axis.
        unflattened_size: its new sizes; one of them may be -1.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Unflatten(1, (2, 5, 5))(pydl.ones((32, 50))).shape
    (32, 2, 5, 5)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """(..., a·b·…·z, ...) -> (..., a, b, ..., z, ...)."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def new_parameter(shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter of this shape whose values are still to be drawn."""
    if not all(hasattr(n, "__index__") for n in shape):
        raise TypeError(f"[parameter] got sizes {shape}, expected whole numbers; divide with // for them")
    return Parameter(pydl.empty(shape, device=device, dtype=dtype))


def uniform_in_fan(fan_in: int, *parameters: Parameter | None) -> None:
    """Draw the parameters uniform in ±1/√fan_in: variance 1/(3·fan_in)."""
    bound = fan_in**-0.5 if fan_in > 0 else 0.0
    with pydl.no_grad():
        for parameter in parameters:
            if parameter is not None:
                parameter.uniform_(-bound, bound)
