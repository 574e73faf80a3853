"""Functions that work element by element, made of those of the array API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "angle",
    "clamp_max",
    "clamp_min",
    "clone",
    "conj",
    "conj_physical",
    "deg2rad",
    "detach",
    "div",
    "fill",
    "float_power",
    "fmax",
    "fmin",
    "frac",
    "frexp",
    "gcd",
    "heaviside",
    "is_complex",
    "is_floating_point",
    "is_nonzero",
    "is_same_size",
    "is_signed",
    "isneginf",
    "isposinf",
    "isreal",
    "lcm",
    "ldexp",
    "nan_to_num",
    "rad2deg",
    "real",
    "resolve_conj",
    "resolve_neg",
    "rsub",
    "scalar_tensor",
]


def div(x1: Any, x2: Any, *, rounding_mode: str | None = None) -> Tensor:
    """x1 / x2; rounded with ``"floor"``, or towards zero with ``"trunc"``."""
    if rounding_mode is None:
        return _C.divide(x1, x2)
    if rounding_mode not in ("floor", "trunc"):
        raise ValueError(f"[div] got rounding_mode {rounding_mode!r}, expected None, 'floor' or 'trunc'")
    if rounding_mode == "floor":
        return _C.floor_divide(x1, x2)
    y = _C.divide(x1, x2)
    kind = _C.result_type(x1, x2)
    return _C.trunc(y) if kind.is_floating_point else _C.astype(_C.trunc(y), kind)


def clamp_min(x: Tensor, min: Any) -> Tensor:
    """x, at least min."""
    return ops.clip(x, min, None)


def clamp_max(x: Tensor, max: Any) -> Tensor:
    """x, at most max."""
    return ops.clip(x, None, max)


def _of_numbers(pick: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
    if all(isinstance(t, Tensor) and not t.dtype.is_floating_point for t in (x, y)):
        return pick(x, y)
    return _C.where(_C.isnan(x), y, _C.where(_C.isnan(y), x, pick(x, y)))


def fmax(x: Tensor, y: Tensor) -> Tensor:
    """The larger one, and the number where the other is NaN."""
    return _of_numbers(_C.maximum, x, y)


def fmin(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one, and the number where the other is NaN."""
    return _of_numbers(_C.minimum, x, y)


def frac(x: Tensor) -> Tensor:
    """x - trunc(x)."""
    return x - _C.trunc(x)


def heaviside(x: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, and ``values`` at zero."""
    return _C.where(_C.equal(x, 0), values, _C.astype(_C.greater(x, 0), x.dtype))


def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with numbers in place of NaN (0), ∞ (the dtype's largest) and -∞ (its smallest)."""
    if not x.dtype.is_floating_point:
        return x
    limits = ops.finfo(x.dtype)
    y = _C.nan_to_num(x, limits.min if neginf is None else neginf, limits.max if posinf is None else posinf)
    return y if nan == 0 else _C.masked_fill(y, _C.isnan(x), nan)


def clone(x: Tensor) -> Tensor:
    """A copy; differentiable."""
    return _C.clone(x)


def detach(x: Tensor) -> Tensor:
    """The same memory without the history."""
    return x.detach()


def is_floating_point(x: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return x.dtype.is_floating_point


def rsub(x: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """other - alpha * x."""
    return _C.subtract(other, x if alpha == 1 else x * alpha)


def float_power(x: Any, exponent: Any) -> Tensor:
    """x to the power of exponent, in float64."""
    wide = [_C.astype(v, _C.float64) if isinstance(v, Tensor) else v for v in (x, exponent)]
    return wide[0] ** wide[1]


def ldexp(x: Tensor, other: Tensor) -> Tensor:
    """x * 2 ** other."""
    _want_tensors("ldexp", x, other)
    return x * _C.exp2(_C.astype(other, x.dtype if x.dtype.is_floating_point else _C.default_dtype()))


def frexp(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissas in ±[1/2, 1) and int32 exponents: x = mantissa * 2 ** exponent."""
    import numpy as np

    exponent = np.frexp(_C.astype(x.detach(), _C.float64).cpu().numpy())[1]
    factor = ops.asarray(np.ldexp(1.0, -exponent), dtype=x.dtype, device=x.device)
    return x * factor, ops.asarray(exponent.astype(np.int32), device=x.device)


def deg2rad(x: Tensor) -> Tensor:
    """Degrees as radians."""
    return x * (math.pi / 180)


def rad2deg(x: Tensor) -> Tensor:
    """Radians as degrees."""
    return x * (180 / math.pi)


def angle(x: Tensor) -> Tensor:
    """π where x is negative, else 0; NaN stays."""
    x = x if x.dtype.is_floating_point else _C.astype(x, _C.default_dtype())
    turned = _C.where(_C.less(x, 0), _C.full((), math.pi, x.dtype), _C.full((), 0.0, x.dtype))
    return _C.where(_C.isnan(x), x, turned)


def isposinf(x: Tensor) -> Tensor:
    """Where x is ∞."""
    return _C.equal(x, math.inf) if x.dtype.is_floating_point else _C.isinf(x)  # no integer is


def isneginf(x: Tensor) -> Tensor:
    """Where x is -∞."""
    return _C.equal(x, -math.inf) if x.dtype.is_floating_point else _C.isinf(x)  # no integer is


def isreal(x: Tensor) -> Tensor:
    """True everywhere: there are no complex numbers."""
    return _C.full(x.shape, True, None, x.device)


def real(x: Tensor) -> Tensor:
    """x itself: there are no complex numbers."""
    return x


def gcd(x: Tensor, y: Tensor) -> Tensor:
    """The greatest common divisor of whole numbers."""
    return _of_whole("gcd", x, y)


def lcm(x: Tensor, y: Tensor) -> Tensor:
    """The least common multiple of whole numbers."""
    return _of_whole("lcm", x, y)


def _of_whole(name: str, x: Tensor, y: Tensor) -> Tensor:
    import numpy as np

    _want_tensors(name, x, y)
    if x.dtype.is_floating_point or y.dtype.is_floating_point:
        raise TypeError(f"[{name}] got {x.dtype} and {y.dtype}, expected whole numbers")
    return ops.asarray(np.asarray(getattr(np, name)(x.cpu().numpy(), y.cpu().numpy())), device=x.device)


def _want_tensors(name: str, *args: Any) -> None:
    for x in args:
        if not isinstance(x, Tensor):
            got = type(x).__name__
            raise TypeError(f"[{name}] got a value of type {got}, expected a tensor; convert it with pydl.asarray")


def fill(x: Tensor, value: Any) -> Tensor:
    """A tensor of x's shape and dtype with one value; a tensor's gradient goes to it."""
    if not isinstance(value, Tensor):
        return ops.full_like(x, value)
    return _C.clone(_C.broadcast_to(_C.astype(value, x.dtype), x.shape))


def scalar_tensor(value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor without axes, float32 unless told otherwise."""
    kind = _C.default_dtype() if dtype is None else dtype
    return ops.full((), value, dtype=kind, device=device, requires_grad=requires_grad)


def is_complex(x: Tensor) -> bool:
    """False: there are no complex numbers."""
    return False


def is_signed(x: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return not (x.dtype == _C.bool_ or x.dtype.name.startswith("uint"))


def is_nonzero(x: Tensor) -> bool:
    """Whether a tensor of one element is not zero."""
    if x.numel() != 1:
        raise ValueError(f"[is_nonzero] got shape {x.shape}, expected one element")
    return bool(x.item())


def is_same_size(x: Tensor, other: Tensor) -> bool:
    """Whether both have one shape."""
    return x.shape == other.shape


conj = real
conj_physical = real
resolve_conj = real
resolve_neg = real
