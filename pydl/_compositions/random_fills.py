"""Tensors filled in place with random numbers of PyTorch's further distributions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl._tensor import Tensor

__all__ = ["cauchy_", "exponential_", "geometric_", "log_normal_", "random_"]


def exponential_(x: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with numbers of the exponential distribution of that rate."""
    if not lambd > 0:
        raise ValueError(f"[exponential_] got the rate {lambd}, expected above 0")
    return _draw(x, lambda u: _C.log1p(-u) * (-1.0 / lambd), generator)


def geometric_(x: Tensor, p: float, *, generator: Any = None) -> Tensor:
    """Fill with numbers of trials, of probability p each, until the first success."""
    if not 0 < p < 1:
        raise ValueError(f"[geometric_] got p = {p}, expected a probability between 0 and 1")
    return _draw(x, lambda u: _C.floor(_C.log1p(-u) * (1.0 / math.log1p(-p))) + 1.0, generator)


def cauchy_(x: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with numbers of the Cauchy distribution."""
    if not sigma > 0:
        raise ValueError(f"[cauchy_] got sigma = {sigma}, expected above 0")
    return _draw(x, lambda u: _C.tan((u - 0.5) * math.pi) * sigma + median, generator)


def log_normal_(x: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Tensor:
    """Fill with numbers whose logarithms are normal with that mean and standard deviation."""
    if not std > 0:
        raise ValueError(f"[log_normal_] got std = {std}, expected above 0")
    _C.copy_(x, _C.exp(_C.normal(x.shape, mean, std, x.dtype, generator, x.device)))
    return x


def random_(x: Tensor, low: int = 0, high: int | None = None, *, generator: Any = None) -> Tensor:
    """Fill with whole numbers of [low, high) or [0, low); without bounds, of all that the dtype holds exactly."""
    if high is None:
        low, high = (0, low) if low else (0, _exact_limit(x.dtype))
    _C.copy_(x, _C.randint(low, high, x.shape, _C.int64, generator, x.device))
    return x


def _draw(x: Tensor, transform: Callable[[Tensor], Tensor], generator: Any) -> Tensor:
    _C.copy_(x, transform(_C.uniform(x.shape, 0.0, 1.0, _C.float64, generator, x.device)))
    return x


def _exact_limit(dtype: Any) -> Any:
    """One past the largest whole number up to which a dtype has all of them."""
    digits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8, "int64": 63, "bool": 1}
    return 2 ** (digits.get(dtype.name) or 8 * dtype.itemsize - (not dtype.name.startswith("uint")))
