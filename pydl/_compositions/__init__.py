"""PyTorch's functions that the array API standard lacks, made of pydl's ops. Differentiable where that makes sense.

The package is imported when the first of them is asked for.
"""

from __future__ import annotations

from typing import Any

from pydl import _C
from pydl import _functions as ops
from pydl._aliases import in_its_own_name
from pydl._compositions import elementwise, places, products, random_fills, shaping, statistics, strided
from pydl._compositions.elementwise import *  # noqa: F403
from pydl._compositions.places import *  # noqa: F403
from pydl._compositions.products import *  # noqa: F403
from pydl._compositions.random_fills import *  # noqa: F403
from pydl._compositions.shaping import *  # noqa: F403
from pydl._compositions.special import (
    digamma,
    erfinv,
    i0,
    igamma,
    igammac,
    lgamma,
    logaddexp2,
    logit,
    mvlgamma,
    polygamma,
    sinc,
    xlogy,
)
from pydl._compositions.statistics import *  # noqa: F403
from pydl._compositions.strided import *  # noqa: F403
from pydl._tensor import Tensor
from pydl.linalg import cholesky, det, matrix_exp, matrix_power, matrix_rank, slogdet
from pydl.linalg import inv as inverse
from pydl.linalg import pinv as pinverse
from pydl.linalg import qr as _qr
from pydl.linalg import svd as _svd

__all__ = [
    "get_rng_state",
    "initial_seed",
    "logspace",
    "promote_types",
    "randint_like",
    "seed",
    "set_rng_state",
    "cholesky",
    "det",
    "inverse",
    "logdet",
    "matrix_exp",
    "matrix_power",
    "matrix_rank",
    "pinverse",
    "qr",
    "slogdet",
    "svd",
    "digamma",
    "erfinv",
    "i0",
    "igamma",
    "igammac",
    "lgamma",
    "logaddexp2",
    "logit",
    "mvlgamma",
    "polygamma",
    "sinc",
    "xlogy",
    *elementwise.__all__,
    *places.__all__,
    *products.__all__,
    *random_fills.__all__,
    *shaping.__all__,
    *statistics.__all__,
    *strided.__all__,
]


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Powers of a base with evenly spaced exponents, the last included."""
    kind = dtype if dtype is None or dtype.is_floating_point else _C.float64
    powers = base ** ops.linspace(start, end, steps, dtype=kind, device=device)
    return powers if dtype is None or kind is dtype else _C.astype(powers, dtype)


def get_rng_state() -> Any:
    """The state of the default generator, for :func:`set_rng_state`."""
    return _C.default_generator().get_state()


def set_rng_state(new_state: Any) -> None:
    """Go on with random numbers from a state that :func:`get_rng_state` gave."""
    _C.default_generator().set_state(new_state)


def logdet(x: Tensor) -> Tensor:
    """log(det(x)); NaN where the determinant is negative."""
    sign, value = slogdet(x)
    return _C.where(_C.less(sign, 0), _C.full((), float("nan"), x.dtype), value)


def qr(x: Tensor, some: bool = True) -> Any:
    """Q and R; see :func:`pydl.linalg.qr`. With some=False Q is square."""
    return _qr(x, "reduced" if some else "complete")


def svd(x: Tensor, some: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V (not transposed, as in PyTorch's function of that place); see :func:`pydl.linalg.svd`."""
    u, s, vh = _svd(x, full_matrices=not some)
    return u, s, vh.mT


def initial_seed() -> int:
    """The seed of the default generator."""
    return int(_C.default_generator().initial_seed())


def seed() -> int:
    """Seed the default generator with a number that differs each time, and return it."""
    import secrets

    number = secrets.randbits(63)
    ops.manual_seed(number)
    return number


def promote_types(type1: Any, type2: Any) -> Any:
    """The dtype that two dtypes promote to."""
    return _C.result_type(type1, type2)


def randint_like(x: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Integers in [low, high), or [0, low), of x's shape and dtype."""
    return ops.randint(low, high, x.shape, dtype=x.dtype if dtype is None else dtype, device=device)


for _name in __all__:
    if callable(globals()[_name]):
        globals()[_name] = in_its_own_name(globals()[_name])
