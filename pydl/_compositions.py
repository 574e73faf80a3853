"""PyTorch's functions that the array API standard lacks, made of pydl's ops. Differentiable where that makes sense."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._aliases import torch_keywords
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "addbmm",
    "addcdiv",
    "addcmul",
    "addmv",
    "addr",
    "amax",
    "amin",
    "aminmax",
    "argwhere",
    "baddbmm",
    "bincount",
    "bucketize",
    "cartesian_prod",
    "clamp_max",
    "clamp_min",
    "clone",
    "column_stack",
    "cross",
    "detach",
    "diag",
    "diag_embed",
    "diff",
    "dist",
    "div",
    "dstack",
    "flatten",
    "fmax",
    "fmin",
    "frac",
    "get_rng_state",
    "heaviside",
    "hstack",
    "index_add",
    "index_copy",
    "index_fill",
    "inner",
    "is_floating_point",
    "kron",
    "logit",
    "logspace",
    "masked_select",
    "median",
    "nan_to_num",
    "nanmean",
    "nansum",
    "narrow",
    "quantile",
    "ravel",
    "searchsorted",
    "select",
    "set_rng_state",
    "std_mean",
    "t",
    "tensor_split",
    "tril_indices",
    "triu_indices",
    "unflatten",
    "unique",
    "var_mean",
    "vdot",
    "vstack",
    "xlogy",
]

# ---- products


def addmv(x: Tensor, a: Tensor, v: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ v) for a matrix and a vector."""
    return x * beta + (a @ v) * alpha


def addr(x: Tensor, v1: Tensor, v2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * outer(v1, v2)."""
    return x * beta + ops.outer(v1, v2) * alpha


def baddbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ b) for batches of matrices."""
    return x * beta + (a @ b) * alpha


def addbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * the sum of the batch's products a @ b."""
    return x * beta + (a @ b).sum(axis=0) * alpha


def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value * a * b."""
    return x + a * b * value


def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value * a / b."""
    return x + a / b * value


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Sums of products over the last axes."""
    if x.ndim == 0 or y.ndim == 0:
        return x * y
    return ops.tensordot(x, y, axes=([-1], [-1]))


def vdot(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of two vectors."""
    return ops.dot(x, y)


def cross(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Vector products along an axis of size 3."""
    if x.shape[dim] != 3 or y.shape[dim] != 3:
        raise ValueError(f"[cross] got shapes {x.shape} and {y.shape}, expected size 3 along axis {dim}")
    a, b = ops.broadcast_arrays(x, y)
    return ops.roll(a, -1, dim) * ops.roll(b, -2, dim) - ops.roll(a, -2, dim) * ops.roll(b, -1, dim)


def kron(x: Tensor, y: Tensor) -> Tensor:
    """The Kronecker product."""
    rank = max(x.ndim, y.ndim)
    a = _C.reshape(x, (1,) * (rank - x.ndim) + x.shape)
    b = _C.reshape(y, (1,) * (rank - y.ndim) + y.shape)
    product = _C.reshape(a, [n for size in a.shape for n in (size, 1)]) * _C.reshape(
        b, [n for size in b.shape for n in (1, size)]
    )
    return _C.reshape(product, [m * n for m, n in zip(a.shape, b.shape, strict=True)])


def dist(x: Tensor, y: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of x - y."""
    return ops.norm(x - y, p)


# ---- element by element


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


def fmax(x: Tensor, y: Tensor) -> Tensor:
    """The larger one, and the number where the other is NaN."""
    return _C.where(_C.isnan(x), y, _C.where(_C.isnan(y), x, _C.maximum(x, y)))


def fmin(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one, and the number where the other is NaN."""
    return _C.where(_C.isnan(x), y, _C.where(_C.isnan(y), x, _C.minimum(x, y)))


def frac(x: Tensor) -> Tensor:
    """x - trunc(x)."""
    return x - _C.trunc(x)


def heaviside(x: Tensor, values: Tensor) -> Tensor:
    """0 below zero, 1 above, and ``values`` at zero."""
    return _C.where(_C.equal(x, 0), values, _C.astype(_C.greater(x, 0), x.dtype))


def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), of x kept within [eps, 1 - eps] where eps is given."""
    x = x if eps is None else ops.clip(x, eps, 1 - eps)
    return _C.log(x) - _C.log1p(-x)


def xlogy(x: Any, y: Any) -> Tensor:
    """x·log(y), and 0 where x is 0 and y is no NaN."""
    x, y = (v if isinstance(v, Tensor) else _C.full((), v, None) for v in (x, y))
    nothing = _C.logical_and(_C.equal(x, 0), _C.logical_not(_C.isnan(y)))
    return _C.where(nothing, x * 0.0, x * _C.log(_C.where(nothing, y * 0.0 + 1.0, y)))


def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with numbers in place of NaN (0), ∞ (the dtype's largest) and -∞ (its smallest)."""
    if not x.dtype.is_floating_point:
        return x
    limits = ops.finfo(x.dtype)
    x = _C.masked_fill(x, _C.isnan(x), nan)
    x = _C.masked_fill(x, _C.equal(x, math.inf), limits.max if posinf is None else posinf)
    return _C.masked_fill(x, _C.equal(x, -math.inf), limits.min if neginf is None else neginf)


def clone(x: Tensor) -> Tensor:
    """A copy; differentiable."""
    return _C.clone(x)


def detach(x: Tensor) -> Tensor:
    """The same memory without the history."""
    return x.detach()


def is_floating_point(x: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return x.dtype.is_floating_point


# ---- reductions


@torch_keywords
def amax(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element over axes; the gradient is shared evenly among equals."""
    return _C.max(x, None if axis == () else axis, keepdims)


@torch_keywords
def amin(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element over axes; the gradient is shared evenly among equals."""
    return _C.min(x, None if axis == () else axis, keepdims)


@torch_keywords
def aminmax(x: Tensor, *, axis: Any = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Both amin and amax."""
    return _C.min(x, axis, keepdims), _C.max(x, axis, keepdims)


@torch_keywords
def median(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """The middle element, of two the lower one, as in PyTorch; along an axis the pair of values and indices."""
    if axis is None:
        flat = _C.reshape(x, -1)
        if not flat.shape[0]:
            raise ValueError("[median] got no elements, expected one at least")
        return median(flat, 0)[0]
    values, indices = _C.sort(x, axis, False)
    middle = (x.shape[axis] - 1) // 2 if x.ndim else 0
    place = _C.full((), middle, _C.int64) if not x.ndim else None
    if place is not None:
        return ops.Extremes(x, place)
    first = ops.Extremes(_C.select(values, axis, middle), _C.select(indices, axis, middle))
    last = _C.select(values, axis, x.shape[axis] - 1)  # NaN sorts last, and any of them is the answer
    bad = _C.isnan(last) if x.dtype.is_floating_point else None
    if bad is not None and bool(_C.any(bad, None, False)):
        first = ops.Extremes(
            _C.where(bad, last, first.values),
            _C.where(bad, _C.select(indices, axis, x.shape[axis] - 1), first.indices),
        )
    if keepdims:
        first = ops.Extremes(*(_C.expand_dims(part, axis) for part in first))
    return first


@torch_keywords
def quantile(
    x: Tensor, q: Any, axis: int | None = None, keepdims: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Quantiles between 0 and 1 along an axis, or of all elements; of several q a new first axis.

    ``interpolation`` between neighbours: ``"linear"`` (default), ``"lower"``, ``"higher"``, ``"nearest"``,
    ``"midpoint"``.
    """
    q = q if isinstance(q, Tensor) else ops.asarray(q, dtype=x.dtype)
    rank, flat = x.ndim, axis is None
    if axis is None or rank == 0:
        x, axis, flat = _C.reshape(x, -1), 0, True
    values = ops.moveaxis(_C.sort(x, axis, False)[0], axis, -1)
    n = values.shape[-1]
    if not n:
        raise ValueError("[quantile] got no elements, expected one at least")
    places = _C.reshape(q, -1) * (n - 1.0)
    low, high = _C.floor(places), _C.ceil(places)
    share = places - low
    if interpolation == "midpoint":
        share = _C.where(_C.equal(low, high), share * 0.0, share * 0.0 + 0.5)
    elif interpolation != "linear":
        rounding = {"lower": low, "higher": high, "nearest": _C.round(places)}
        if interpolation not in rounding:
            raise ValueError(f"[quantile] got interpolation {interpolation!r}, expected 'linear', 'lower', 'higher', "
                             "'nearest' or 'midpoint'")  # fmt: skip
        low = high = rounding[interpolation]
    first = _C.take(values, _C.astype(low, _C.int64), -1)
    last = _C.take(values, _C.astype(high, _C.int64), -1)
    y = first + (last - first) * _C.astype(share, x.dtype)
    if x.dtype.is_floating_point:
        y = _C.where(_C.expand_dims(_C.isnan(_C.select(values, -1, n - 1)), -1), _C.full((), math.nan, y.dtype), y)
    y = ops.moveaxis(y, -1, 0)
    if keepdims:
        y = _C.reshape(y, (y.shape[0], *(1,) * rank)) if flat else _C.expand_dims(y, axis % rank + 1 if rank else 1)
    return _C.select(y, 0, 0) if q.ndim == 0 else y


@torch_keywords
def nansum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum without NaN."""
    return _C.sum(_C.masked_fill(x, _C.isnan(x), 0), axis, keepdims, None)


@torch_keywords
def nanmean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean without NaN."""
    count = _C.sum(_C.logical_not(_C.isnan(x)), axis, keepdims, None)
    return nansum(x, axis, keepdims) / _C.astype(count, x.dtype)


@torch_keywords
def var_mean(x: Tensor, axis: Any = None, correction: Any = 1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Variance (divided by n - 1 unless told otherwise, as in PyTorch) and mean."""
    if isinstance(axis, bool):  # var_mean(x, unbiased)
        axis, correction = None, axis
    return x.var(axis, correction, keepdims), _C.mean(x, axis, keepdims)


@torch_keywords
def std_mean(x: Tensor, axis: Any = None, correction: Any = 1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean; see var_mean."""
    variance, mean = var_mean(x, axis, correction, keepdims)
    return _C.sqrt(variance), mean


def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each whole number from 0 on occurs in a vector, or the sums of weights."""
    if x.ndim != 1 or x.dtype.is_floating_point:
        raise ValueError(
            f"[bincount] got {x.dtype} of shape {x.shape}, expected a vector of whole numbers of 0 or more"
        )
    size = max(minlength, int(x.max()) + 1 if x.shape[0] else 0)
    if x.shape[0] and int(x.min()) < 0:
        raise ValueError(f"[bincount] got {int(x.min())}, expected numbers of 0 or more")
    parts = ops.ones(x.shape, dtype=_C.int64) if weights is None else weights
    return _C.scatter_add(ops.zeros((size,), dtype=parts.dtype), 0, _C.astype(x, _C.int64), parts)


# ---- shape


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """With the axes from start_dim to end_dim made one."""
    return x.flatten(start_dim, end_dim)


def ravel(x: Tensor) -> Tensor:
    """Flattened."""
    return x.ravel()


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """With one axis split into several."""
    return x.unflatten(dim, sizes)


def t(x: Tensor) -> Tensor:
    """The transposed matrix (at most 2 axes)."""
    return x.t()


def narrow(x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of ``length`` places along an axis from start on."""
    n, begin = x.shape[dim], int(start)
    begin = begin + n if begin < 0 else begin
    if not 0 <= begin <= begin + length <= n:
        raise ValueError(f"[narrow] places {start} to {start + length} lie outside axis {dim} of shape {x.shape}")
    return _C.slice(x, dim, begin, length)


def select(x: Tensor, dim: int, index: int) -> Tensor:
    """A view of one place along an axis, which goes."""
    return _C.select(x, dim, index)


def hstack(arrays: Sequence[Tensor]) -> Tensor:
    """Joined along the second axis, vectors along the first."""
    arrays = [_C.reshape(a, (1,)) if a.ndim == 0 else a for a in arrays]
    return ops.concat(arrays, axis=0 if arrays[0].ndim == 1 else 1)


def vstack(arrays: Sequence[Tensor]) -> Tensor:
    """Joined along the first axis, vectors as rows."""
    return ops.concat([_C.reshape(a, (1, -1)) if a.ndim < 2 else a for a in arrays], axis=0)


def dstack(arrays: Sequence[Tensor]) -> Tensor:
    """Joined along the third axis."""
    lifted = [_C.reshape(a, (1, -1, 1)) if a.ndim < 2 else a for a in arrays]
    return ops.concat([_C.expand_dims(a, 2) if a.ndim == 2 else a for a in lifted], axis=2)


def column_stack(arrays: Sequence[Tensor]) -> Tensor:
    """Joined along the second axis, vectors as columns."""
    return ops.concat([_C.reshape(a, (-1, 1)) if a.ndim < 2 else a for a in arrays], axis=1)


def tensor_split(x: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views along an axis: that many, of equal size or one more, or cut at the places given."""
    n = x.shape[dim]
    if isinstance(indices_or_sections, int):
        size, rest = divmod(n, indices_or_sections)
        sizes = [size + 1] * rest + [size] * (indices_or_sections - rest)
        return tuple(ops.split(x, sizes, dim))
    cuts = [0, *(min(max(i + n if i < 0 else i, 0), n) for i in map(int, indices_or_sections)), n]
    return tuple(_C.slice(x, dim, a, max(0, b - a)) for a, b in pairwise(cuts))


def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """A matrix's diagonal, or a matrix with a vector on its diagonal."""
    if x.ndim == 2:
        return _C.diagonal(x, diagonal, 0, 1)
    if x.ndim != 1:
        raise ValueError(f"[diag] got shape {x.shape}, expected a vector or a matrix; use diag_embed or diagonal")
    return diag_embed(x, diagonal)


def diag_embed(x: Tensor, offset: int = 0) -> Tensor:
    """Matrices with the last axis on their diagonals."""
    n, size = x.shape[-1], x.shape[-1] + abs(offset)
    rows = ops.arange(n) + max(-offset, 0)
    columns = ops.arange(n) + max(offset, 0)
    flat = _C.scatter(
        ops.zeros((*x.shape[:-1], size * size), dtype=x.dtype),
        -1,
        _C.broadcast_to(rows * size + columns, x.shape),
        x,
    )
    return _C.reshape(flat, (*x.shape[:-1], size, size))


def diff(x: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    """Differences of neighbours along an axis, n times."""
    for _ in range(n):
        size = x.shape[dim]
        x = _C.slice(x, dim, 1, max(size - 1, 0)) - _C.slice(x, dim, 0, max(size - 1, 0))
    return x


def cartesian_prod(*vectors: Tensor) -> Tensor:
    """All combinations of the vectors' elements, one a row."""
    if len(vectors) == 1:
        return vectors[0]
    return ops.stack([_C.reshape(grid, -1) for grid in ops.meshgrid(*vectors, indexing="ij")], axis=1)


# ---- places


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """(2, n) rows and columns of the lower triangle's places."""
    _C.Device(device)
    places = ops.stack(list(ops.nonzero(_C.tril(ops.ones((row, col)), offset))), axis=0)
    return places if dtype is None else places.astype(dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """(2, n) rows and columns of the upper triangle's places."""
    _C.Device(device)
    places = ops.stack(list(ops.nonzero(_C.triu(ops.ones((row, col)), offset))), axis=0)
    return places if dtype is None else places.astype(dtype)


def argwhere(x: Tensor) -> Tensor:
    """(n, axes) places of elements that are not zero."""
    return _C.nonzero(x)


def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is true, as a vector."""
    x, mask = ops.broadcast_arrays(x, mask)
    places = _C.select(_C.nonzero(_C.reshape(mask, -1)), 1, 0)
    return _C.take(_C.reshape(x, -1), places, 0)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with slices of source, times alpha, added at places along an axis."""
    return _C.scatter_add(x, dim, _spread(index, dim, source), source if alpha == 1 else source * alpha)


def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of x with slices of source at places along an axis."""
    return _C.scatter(x, dim, _spread(index, dim, source), source)


def index_fill(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of x with a value at places along an axis."""
    hit = _C.scatter(ops.zeros((x.shape[dim],), dtype=_C.bool_), 0, index, ops.ones(index.shape, dtype=_C.bool_))
    shape = [1] * x.ndim
    shape[dim] = -1
    return ops.masked_fill(x, _C.reshape(hit, shape), value)


def _spread(index: Tensor, dim: int, source: Tensor) -> Tensor:
    shape = [1] * source.ndim
    shape[dim] = -1
    return _C.broadcast_to(_C.reshape(index, shape), source.shape)


def searchsorted(sorted_sequence: Tensor, values: Any, *, right: bool = False, side: str | None = None) -> Tensor:
    """Where values would go in a sorted vector: before equal ones, or behind them with right."""
    import numpy as np

    if sorted_sequence.ndim != 1:
        raise ValueError(f"[searchsorted] got a sequence of shape {sorted_sequence.shape}, expected a vector")
    found = np.searchsorted(
        sorted_sequence.detach().numpy(),
        values.detach().numpy() if isinstance(values, Tensor) else values,
        side or ("right" if right else "left"),  # type: ignore[call-overload]
    )
    return ops.asarray(np.asarray(found, np.int64))


def bucketize(x: Any, boundaries: Tensor, *, right: bool = False) -> Tensor:
    """The number of the interval between sorted boundaries that each element lies in."""
    return searchsorted(boundaries, x, right=right)


def unique(x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The distinct elements, sorted; on demand where each element is among them, and how often each occurs."""
    import numpy as np

    found: Any = np.unique(x.detach().numpy(), False, return_inverse, return_counts)  # type: ignore[call-overload]
    if not (return_inverse or return_counts):
        return ops.asarray(found)
    parts = [ops.asarray(part) for part in found]
    if return_inverse:
        parts[1] = parts[1].reshape(x.shape)
    return tuple(parts)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """Powers of a base with evenly spaced exponents, the last included."""
    _C.Device(device)
    return base ** ops.linspace(start, end, steps, dtype=dtype)


def get_rng_state() -> Any:
    """The state of the default generator, for :func:`set_rng_state`."""
    return _C.default_generator().get_state()


def set_rng_state(new_state: Any) -> None:
    """Go on with random numbers from a state that :func:`get_rng_state` gave."""
    _C.default_generator().set_state(new_state)
