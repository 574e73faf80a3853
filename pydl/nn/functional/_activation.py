"""Activations. ``inplace`` is accepted where PyTorch has it and changes nothing: the result is a new tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl._aliases import in_its_own_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl import Tensor

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return _C.relu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return _C.relu6(input)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _C.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _C.tanh(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x·Φ(x), or with ``approximate="tanh"`` its approximation by a tanh. Hendrycks and Gimpel, arXiv:1606.08415."""
    if approximate == "none":
        return _C.gelu(input)
    if approximate == "tanh":
        return _C.gelu_tanh(input)
    raise ValueError(f"[gelu] got approximate = {approximate!r}, expected 'none' or 'tanh'")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·σ(x), also called swish. Ramachandran et al., arXiv:1710.05941."""
    return _C.silu(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(softplus(x)). Misra, arXiv:1908.08681."""
    return _C.mish(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(βx))/β, and x itself where βx passes ``threshold``."""
    return _C.softplus(input, beta, threshold)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x for x > 0, otherwise x times the slope."""
    return _C.leaky_relu(input, negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, otherwise a·x with a learned slope, one or one for each channel (axis 1). He et al. (2015)."""
    if weight.size != 1:
        channels = input.shape[1] if input.ndim > 1 else None
        if weight.ndim != 1 or weight.size != channels:
            shapes = f"weight of shape {tuple(weight.shape)} for input {tuple(input.shape)}"
            raise ValueError(f"[prelu] got {shapes}, expected one slope or one for each channel (axis 1)")
        weight = weight.reshape((1, -1) + (1,) * (input.ndim - 2))
    elif input.ndim == 0:
        weight = weight.reshape(())
    return _C.prelu(input, weight)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, otherwise α(exp(x) - 1). Clevert et al., arXiv:1511.07289."""
    return _C.elu(input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled ELU that keeps mean 0 and variance 1. Klambauer et al., arXiv:1706.02515."""
    return _C.selu(input)


def _check_celu(alpha: float) -> None:
    if alpha == 0:
        raise ValueError("[celu] got alpha = 0, expected another number")


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(0, x) + min(0, α(exp(x/α) - 1)). Barron, arXiv:1704.07483."""
    _check_celu(alpha)
    return _C.celu(input, alpha)


def _check_hardtanh(min_val: float, max_val: float) -> None:
    if min_val > max_val:
        raise ValueError(f"[hardtanh] got min_val = {min_val} above max_val = {max_val}")


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x kept between ``min_val`` and ``max_val``."""
    _check_hardtanh(min_val, max_val)
    return _C.hardtanh(input, min_val, max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6."""
    return _C.hardsigmoid(input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·hardsigmoid(x). Howard et al., arXiv:1905.02244."""
    return _C.hardswish(input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _C.softsign(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log σ(x), without overflow."""
    return _C.logsigmoid(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _C.tanhshrink(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > λ, otherwise 0."""
    return _C.hardshrink(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by λ, and 0 where |x| <= λ."""
    if not lambd >= 0:
        raise ValueError(f"[softshrink] got lambd = {lambd}, expected 0 or more")
    return _C.softshrink(input, lambd)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, otherwise ``value``."""
    return _C.threshold(input, threshold, value)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x for x > 0, otherwise x times a slope: drawn from [lower, upper] for each element in training, else the mean.

    Xu et al., arXiv:1505.00853.
    """
    if not lower <= upper:
        raise ValueError(f"[rrelu] got lower = {lower} above upper = {upper}")
    if not training:
        return _C.leaky_relu(input, (lower + upper) / 2)
    slope = _C.uniform(input.shape, lower, upper, input.dtype, None, input.device)
    return input * pydl.where(input > 0, pydl.ones_like(slope), slope)


def glu(input: Tensor, axis: int = -1, *, dim: int | None = None) -> Tensor:
    """Gated linear unit a·σ(b), for the halves a and b of one axis. Dauphin et al., arXiv:1612.08083."""
    axis = axis if dim is None else dim
    if not -input.ndim <= axis < input.ndim:
        raise IndexError(f"[glu] got input of shape {tuple(input.shape)}, which has no axis {axis}")
    size = input.shape[axis]
    if size % 2:
        raise ValueError(f"[glu] axis {axis} has size {size}, expected an even one")
    a, b = _C.split(input, axis, [size // 2] * 2)
    return a * _C.sigmoid(b)


def softmax(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / Σ exp(x) along one axis, without overflow.

    Without an axis it is 0 for tensors of 0, 1 or 3 axes and 1 for others, as in PyTorch; better give it.
    """
    return _C.softmax(input if dtype is None else input.astype(dtype), _softmax_axis(input, axis, dim))


def softmin(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    return softmax(-input, axis, dim=dim, dtype=dtype)


def log_softmax(input: Tensor, axis: int | None = None, *, dim: int | None = None, dtype: Any = None) -> Tensor:
    """log softmax(x), without overflow; the axis as in :func:`softmax`."""
    return _C.log_softmax(input if dtype is None else input.astype(dtype), _softmax_axis(input, axis, dim))


def _softmax_axis(input: Tensor, axis: int | None, dim: int | None) -> int:
    if axis is None:
        axis = dim
    if axis is None:
        axis = 0 if input.ndim in (0, 1, 3) else 1
    return axis


@in_its_own_name
def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, axis: int = -1, *, dim: int | None = None
) -> Tensor:
    """softmax((x + g)/τ) with Gumbel noise g: a soft sample of the category that softmax(x) describes.

    With ``hard=True`` the result is the one-hot vector of the largest, with the gradient of the soft one. ``eps`` has
    no effect, as in PyTorch. Jang et al., arXiv:1611.01144; Maddison et al., arXiv:1611.00712.
    """
    axis = axis if dim is None else dim
    uniform = pydl.rand(*logits.shape, dtype=logits.dtype)
    gumbel = -pydl.log(-pydl.log1p(-uniform))  # 1 - u lies in (0, 1]
    soft = _C.softmax((logits + gumbel) / tau, axis)
    if not hard:
        return soft
    largest = pydl.argmax(soft, axis=axis, keepdims=True)
    ones = pydl.ones(largest.shape, dtype=soft.dtype, device=soft.device)
    one_hot = pydl.scatter_add(pydl.zeros_like(soft.detach()), axis, largest, ones)
    return one_hot - soft.detach() + soft


def _in_place(function: Callable[..., Tensor], input: Tensor, *arguments: Any) -> Tensor:
    name = function.__name__ + "_"
    if not _C.replace(name, input, arguments):
        _C.assign(name, input, function(_C.original(name, input, ()), *arguments))
    return input


def relu_(input: Tensor) -> Tensor:
    """:func:`relu` in place."""
    return _in_place(relu, input)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """:func:`elu` in place."""
    return _in_place(elu, input, alpha)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """:func:`celu` in place."""
    _check_celu(alpha)
    return _in_place(celu, input, alpha)


def selu_(input: Tensor) -> Tensor:
    """:func:`selu` in place."""
    return _in_place(selu, input)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """:func:`hardtanh` in place."""
    _check_hardtanh(min_val, max_val)
    return _in_place(hardtanh, input, min_val, max_val)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """:func:`leaky_relu` in place."""
    return _in_place(leaky_relu, input, negative_slope)


def rrelu_(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """:func:`rrelu` in place."""
    return _in_place(rrelu, input, lower, upper, training)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """:func:`threshold` in place."""
    return _in_place(globals()["threshold"], input, threshold, value)
