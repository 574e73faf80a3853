"""Smooth activations and those of one bend. The formulas, and the papers, are functional's; any shape goes.

``inplace`` is accepted where PyTorch has it and changes nothing: the result is a new tensor.
"""

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

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ReLU(Module):
    """max(x, 0).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.ReLU()(pydl.asarray([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return _C.relu(input)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Sigmoid()(pydl.asarray([0.0])).item()
    0.5
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return _C.sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Tanh()(pydl.asarray([0.0])).item()
    0.0
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return _C.tanh(input)


class GELU(Module):
    """x·Φ(x).

    Args:
        approximate: ``"none"`` (default) or ``"tanh"`` for the approximation.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.GELU()(pydl.asarray([1.0])).item(), 4)
    0.8413
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"[GELU] got approximate = {approximate!r}, expected 'none' or 'tanh'")
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x·σ(x), also called swish.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.SiLU()(pydl.asarray([0.0])).item()
    0.0
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.silu(input)


class Mish(Module):
    """x·tanh(softplus(x)).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Mish()(pydl.asarray([0.0])).item()
    0.0
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.mish(input)


class Softplus(Module):
    """log(1 + exp(βx))/β.

    Args:
        beta: β; default 1.
        threshold: where βx passes it the result is x; default 20.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.Softplus()(pydl.asarray([0.0])).item(), 4)
    0.6931
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"beta={self.beta}, threshold={self.threshold}"


class LeakyReLU(Module):
    """x for x > 0, otherwise x times the slope.

    Args:
        negative_slope: default 0.01.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LeakyReLU(0.5)(pydl.asarray([-1.0, 2.0])).numpy().tolist()
    [-0.5, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """x for x > 0, otherwise a·x with a learned slope a.

    Args:
        num_parameters: 1 (default), or the number of channels (axis 1) for a slope each.
        init: starting value; default 0.25.
        device, dtype: of the slopes; default CPU and float32.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.PReLU()(pydl.asarray([-1.0, 2.0])).detach().numpy().tolist()
    [-0.25, 2.0]
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(pydl.full((num_parameters,), float(init), device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """x for x > 0, otherwise x times a slope, drawn anew for each element while training. Xu et al., arXiv:1505.00853.

    Args:
        lower, upper: slopes are uniform between them, and their mean in evaluation; default 1/8 and 1/3.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.RReLU(0.25, 0.75).eval()(pydl.asarray([-1.0, 2.0])).numpy().tolist()
    [-0.5, 2.0]
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__()
        if not lower <= upper:
            raise ValueError(f"[RReLU] got lower = {lower} above upper = {upper}")
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.rrelu(input, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"lower={self.lower}, upper={self.upper}"


class ELU(Module):
    """x for x > 0, otherwise α(exp(x) - 1).

    Args:
        alpha: α; default 1.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.ELU()(pydl.asarray([-1.0])).item(), 4)
    -0.6321
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"alpha={self.alpha}"


class SELU(Module):
    """Scaled ELU; use it with LeCun's normal initialization.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.SELU()(pydl.asarray([1.0])).item(), 4)
    1.0507
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.selu(input)


class CELU(Module):
    """max(0, x) + min(0, α(exp(x/α) - 1)).

    Args:
        alpha: α, not 0; default 1.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.CELU(2.0)(pydl.asarray([-2.0])).item(), 4)
    -1.2642
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"alpha={self.alpha}"


class Softsign(Module):
    """x / (1 + |x|).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Softsign()(pydl.asarray([1.0])).item()
    0.5
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.softsign(input)


class LogSigmoid(Module):
    """log σ(x).

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.LogSigmoid()(pydl.asarray([0.0])).item(), 4)
    -0.6931
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.logsigmoid(input)
