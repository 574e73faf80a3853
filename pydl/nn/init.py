"""Starting values for weights. Each function fills a tensor in place, without gradient, and returns it.

Random ones draw from ``generator``, by default pydl's own, so :func:`pydl.manual_seed` repeats them. Fan-in and
fan-out are taken from the shape: (out, in) for dense layers, (out, in, ...) times the kernel's area for convolutions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl

if TYPE_CHECKING:
    from pydl import Generator, Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_LINEAR_KINDS = (
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid",
)  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through a nonlinearity: the standard deviation is gain/√fan.

    1 for linear, convolution and sigmoid; 5/3 for tanh; √2 for relu; √(2/(1+a²)) for leaky_relu with the slope a
    (``param``, default 0.01); 3/4 for selu.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    if nonlinearity in _LINEAR_KINDS:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"[calculate_gain] got the slope {param!r}, expected a number")
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if nonlinearity == "selu":
        return 0.75
    known = ", ".join((*_LINEAR_KINDS, "tanh", "relu", "leaky_relu", "selu"))
    raise ValueError(f"[calculate_gain] got nonlinearity {nonlinearity!r}, expected one of {known}")


def _want_tensor(op: str, tensor: Any) -> None:
    if not isinstance(tensor, pydl.Tensor):
        got = type(tensor).__name__
        raise TypeError(f"[{op}] got a {got}, expected a tensor such as layer.weight")


def zeros_(tensor: Tensor) -> Tensor:
    """All 0. Variance 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """All 1. Variance 0."""
    return constant_(tensor, 1.0)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All ``val``. Variance 0."""
    _want_tensor("constant_", tensor)
    if isinstance(val, str):
        raise TypeError(f"[constant_] got {val!r}, expected a number")
    with pydl.no_grad():
        tensor.fill_(val)
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b), by default [0, 1). Variance (b - a)²/12."""
    _want_tensor("uniform_", tensor)
    if not a <= b:
        raise ValueError(f"[uniform_] got a = {a} above b = {b}")
    with pydl.no_grad():
        tensor.uniform_(a, b, generator=generator)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(mean, std²), by default N(0, 1). Variance std²."""
    _want_tensor("normal_", tensor)
    if not std >= 0:
        raise ValueError(f"[normal_] got std = {std}, expected 0 or more")
    with pydl.no_grad():
        tensor.normal_(mean, std, generator=generator)
    return tensor


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """N(mean, std²) cut off at a and b (values, not multiples of std), by drawing again what lies outside.

    With bounds at ±2 std the variance is 0.774 std².

    Raises:
        ValueError: a is not below b, or std is negative.
    """
    if not a < b or not std >= 0:
        raise ValueError(f"[trunc_normal_] got a = {a}, b = {b}, std = {std}, expected a < b and std of 0 or more")
    if std == 0:
        return constant_(tensor, min(max(mean, a), b))
    low, high = (a - mean) / std, (b - mean) / std
    values = mean + std * _cut_normal(math.prod(tensor.shape), low, high, generator)
    return _assign(tensor, np.clip(values, a, b).reshape(tensor.shape))


def _cut_normal(count: int, low: float, high: float, generator: Generator | None) -> np.ndarray:
    """Standard normal numbers between two bounds, by rejection; also where the bounds leave only a far tail."""
    inside = 0.5 * (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0)))
    peak = min(max(0.0, low), high)  # where the density is highest
    reach = math.sqrt(peak * peak + 100.0)  # beyond it the density is e⁻⁵⁰ of the peak's
    low, high = max(low, -reach), min(high, reach)
    values = np.empty(count)
    filled = 0
    while filled < count:
        missing = count - filled
        if inside > 0.25:
            drawn = pydl.randn(missing, dtype=pydl.float64, generator=generator).cpu().numpy()
            drawn = drawn[(drawn >= low) & (drawn <= high)]
        else:
            drawn = low + (high - low) * pydl.rand(missing, dtype=pydl.float64, generator=generator).cpu().numpy()
            chance = pydl.rand(missing, dtype=pydl.float64, generator=generator).cpu().numpy()
            drawn = drawn[chance < np.exp(0.5 * (peak * peak - drawn * drawn))]
        values[filled : filled + len(drawn)] = drawn
        filled += len(drawn)
    return values


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(6/(fan_in + fan_out)). Variance gain²·2/(fan_in + fan_out); for tanh.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
    """
    bound = gain * math.sqrt(6.0 / _nonzero(sum(_fans(tensor, "xavier_uniform_"))))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, σ²) with σ = gain·√(2/(fan_in + fan_out)). Variance σ²; for tanh. Glorot and Bengio (2010)."""
    std = gain * math.sqrt(2.0 / _nonzero(sum(_fans(tensor, "xavier_normal_"))))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ±gain·√(3/fan). Variance gain²/fan, that is 2/fan_in for ReLU.

    He et al., "Delving deep into rectifiers", arXiv:1502.01852 (2015).

    Args:
        tensor: what to fill, two axes or more.
        a: the slope of a leaky ReLU; default 0.
        mode: ``"fan_in"`` (default) keeps the variance forward, ``"fan_out"`` backward.
        nonlinearity: as in :func:`calculate_gain`; default ``"leaky_relu"``.
        generator: default pydl's own.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_uniform_")
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, gain²/fan). Variance gain²/fan, that is 2/fan_in for ReLU. Arguments as in :func:`kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity, "kaiming_normal_"), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str, op: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"[{op}] got mode {mode!r}, expected 'fan_in' or 'fan_out'")
    fan_in, fan_out = _fans(tensor, op)
    return calculate_gain(nonlinearity, a) / math.sqrt(_nonzero(fan_in if mode == "fan_in" else fan_out))


def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform in ±√(3/fan_in). Variance 1/fan_in; for SELU.

    LeCun et al., "Efficient BackProp" (1998); Klambauer et al., arXiv:1706.02515 (2017).
    """
    bound = math.sqrt(3.0 / _nonzero(_fans(tensor, "lecun_uniform_")[0]))
    return uniform_(tensor, -bound, bound, generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """N(0, 1/fan_in). Variance 1/fan_in; for SELU. LeCun et al. (1998)."""
    return normal_(tensor, 0.0, math.sqrt(1.0 / _nonzero(_fans(tensor, "lecun_normal_")[0])), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A random matrix Q with QᵀQ = gain²·1 (or QQᵀ where it is wide); axes after the first are taken as one.

    Variance gain²/max(rows, columns). Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks", arXiv:1312.6120 (2013); uniform over all such matrices by Mezzadri's correction of signs.
    """
    _want_tensor("orthogonal_", tensor)
    if tensor.ndim < 2:
        raise ValueError(f"[orthogonal_] got shape {tuple(tensor.shape)}, expected two axes or more")
    shape = tuple(tensor.shape)
    rows, columns = shape[0], math.prod(shape[1:])
    if rows * columns == 0:
        return tensor
    tall = pydl.randn(max(rows, columns), min(rows, columns), dtype=pydl.float64, generator=generator).cpu().numpy()
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _assign(tensor, gain * (q if rows >= columns else q.T).reshape(shape))


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere: a dense layer that keeps its input."""
    _want_tensor("eye_", tensor)
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] got shape {tuple(tensor.shape)}, expected two axes")
    rows, columns = tensor.shape
    return _assign(tensor, np.eye(rows, columns))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution (out, in, kernel...) that passes each channel through, as far as there are channels.

    Args:
        tensor: three to five axes.
        groups: of the convolution; the output channels must divide by it; default 1.
    """
    _want_tensor("dirac_", tensor)
    if not 3 <= tensor.ndim <= 5:
        raise ValueError(f"[dirac_] got shape {tuple(tensor.shape)}, expected three to five axes")
    out, channels, *kernel = tensor.shape
    if groups < 1 or out % groups:
        raise ValueError(f"[dirac_] got {out} output channels, which do not divide by groups = {groups}")
    values = np.zeros(tensor.shape)
    centre = tuple(n // 2 for n in kernel)
    for group in range(groups):
        for channel in range(min(out // groups, channels)):
            place = (group * (out // groups) + channel, channel, *centre)
            values[place] = 1.0
    return _assign(tensor, values)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """N(0, std²) with a share ``sparsity`` of each column (rounded up) set to zero. Variance (1 - sparsity)·std².

    Martens, "Deep learning via Hessian-free optimization" (2010).
    """
    _want_tensor("sparse_", tensor)
    if tensor.ndim != 2:
        raise ValueError(f"[sparse_] got shape {tuple(tensor.shape)}, expected two axes")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"[sparse_] got sparsity {sparsity}, expected a share from 0 to 1")
    rows, columns = tensor.shape
    values = std * pydl.randn(rows, columns, dtype=pydl.float64, generator=generator).cpu().numpy()
    order = np.argsort(pydl.rand(rows, columns, dtype=pydl.float64, generator=generator).cpu().numpy(), axis=0)
    np.put_along_axis(values, order[: math.ceil(sparsity * rows)], 0.0, axis=0)
    return _assign(tensor, values)


def _fans(tensor: Tensor, op: str) -> tuple[int, int]:
    _want_tensor(op, tensor)
    if tensor.ndim < 2:
        raise ValueError(f"[{op}] got shape {tuple(tensor.shape)}, expected two axes or more: fan-out and fan-in")
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


def _nonzero(fan: int) -> int:
    return max(fan, 1)  # a tensor without elements: any scale will do


def _assign(tensor: Tensor, values: Any) -> Tensor:
    with pydl.no_grad():
        tensor.copy_(pydl.asarray(np.ascontiguousarray(values)).astype(tensor.dtype))
    return tensor


def __getattr__(name: str) -> Any:
    """PyTorch's old names, without the underscore: ``xavier_uniform`` is ``xavier_uniform_``."""
    if not name.startswith("_") and f"{name}_" in __all__:
        return globals()[f"{name}_"]
    raise AttributeError(f"module 'pydl.nn.init' has no attribute {name!r}")
