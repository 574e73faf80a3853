"""Functions that draw random numbers, by Philox's counters: what comes depends on the seed and the position alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl._aliases import torch_keywords
from pydl._C import Generator
from pydl._creation import finish, shape_of
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from pydl._creation import Number, Shape

    TensorOrNumber = Tensor | Number


def manual_seed(seed: int) -> Generator:
    """Seed the default generator with an integer, modulo 2**64, and return it."""
    generator: Generator = _C.default_generator()
    return generator.manual_seed(seed)


def rand(
    *shape: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1)."""
    kind = _C.default_dtype() if dtype is None else dtype
    return finish(_C.uniform(shape_of(shape), 0.0, 1.0, kind, generator, device), requires_grad)


def randn(
    *shape: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    kind = _C.default_dtype() if dtype is None else dtype
    return finish(_C.normal(shape_of(shape), 0.0, 1.0, kind, generator, device), requires_grad)


@torch_keywords
def uniform(
    low: float = 0.0,
    high: float = 1.0,
    shape: Shape = (),
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Uniform in [low, high)."""
    return _C.uniform(shape, low, high, _C.default_dtype() if dtype is None else dtype, generator, device)


@torch_keywords
def normal(
    mean: TensorOrNumber = 0.0,
    std: TensorOrNumber = 1.0,
    shape: Shape | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal with a mean and a standard deviation, numbers or tensors of one for each element."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        like = mean * 1.0 + 0.0 * std
        return mean + std * _C.normal(like.shape, 0.0, 1.0, like.dtype, generator, like.device)  # type: ignore[operator,union-attr]
    if std < 0:
        raise ValueError(f"[normal] got a standard deviation of {std}, expected 0 or more")
    shape = () if shape is None else shape
    if requires_grad:
        return finish(normal(mean, std, shape, generator=generator, dtype=dtype, device=device), True)
    return _C.normal(shape, mean, std, _C.default_dtype() if dtype is None else dtype, generator, device)


@torch_keywords
def randint(
    low: int = 0,
    high: Any = None,
    shape: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), int64; with one bound, in [0, low)."""
    if shape is None and high is not None and not isinstance(high, int):
        high, shape = None, high
    if high is None:
        low, high = 0, low
    kind = _C.int64 if dtype is None else dtype
    return _C.randint(low, high, () if shape is None else shape, kind, generator, device)


def randperm(n: int, *, generator: Generator | None = None, device: Any = None) -> Tensor:
    """0 ... n - 1 in random order, int64."""
    return _C.randperm(n, generator, device)


def rand_like(
    x: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1), of x's shape, dtype and device."""
    return finish(
        _C.uniform(
            x.shape, 0.0, 1.0, x.dtype if dtype is None else dtype, generator, x.device if device is None else device
        ),
        requires_grad,
    )


def randn_like(
    x: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal, of x's shape, dtype and device."""
    return finish(
        _C.normal(
            x.shape, 0.0, 1.0, x.dtype if dtype is None else dtype, generator, x.device if device is None else device
        ),
        requires_grad,
    )


def bernoulli(probability: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the given probability, else 0, in the probability's dtype."""
    return _C.bernoulli(probability, generator)


def multinomial(
    probabilities: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Categories drawn from rows of (unnormalized) probabilities; int64, shape (..., num_samples)."""
    return _C.multinomial(probabilities, num_samples, replacement, generator)
