"""Functions of places in a tensor: reading and writing by index or mask, searching, telling apart."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._aliases import in_its_own_name, torch_keywords
from pydl._shapes import unravelled
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "argwhere",
    "bucketize",
    "diagonal_scatter",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_reduce",
    "isin",
    "masked_scatter",
    "masked_select",
    "put",
    "scatter_reduce",
    "searchsorted",
    "select_scatter",
    "slice_scatter",
    "take_along_dim",
    "tril_indices",
    "triu_indices",
    "unique",
    "unique_consecutive",
    "unravel_index",
]


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """(2, n) rows and columns of the lower triangle's places."""
    places = ops.stack(list(ops.nonzero(_C.tril(ops.ones((row, col), device=device), offset))), axis=0)
    return places if dtype is None else places.astype(dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """(2, n) rows and columns of the upper triangle's places."""
    places = ops.stack(list(ops.nonzero(_C.triu(ops.ones((row, col), device=device), offset))), axis=0)
    return places if dtype is None else places.astype(dtype)


def argwhere(x: Tensor) -> Tensor:
    """(n, axes) places of elements that are not zero."""
    return _C.nonzero(x)


def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is true, as a vector."""
    x, mask = ops.broadcast_arrays(x, mask)
    places = _C.select(_C.nonzero(_C.reshape(mask, -1)), 1, 0)
    return _C.take(_C.reshape(x, -1), places, 0)


@in_its_own_name
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with slices of source, times alpha, added at places along an axis."""
    places, source = slices_at(x, dim, index, source)
    return _put(x, places, source if alpha == 1 else source * alpha, True)


@in_its_own_name
def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of x with slices of source at places along an axis."""
    return _put(x, *slices_at(x, dim, index, source))


@in_its_own_name
def index_fill(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of x with a value at places along an axis."""
    return _put(x, *filled_at(x, dim, index, value))


def _put(x: Tensor, places: tuple[Any, ...], values: Tensor, accumulate: bool = False) -> Tensor:
    return _C.reshape(_C.index_put(lift(x), places, values, accumulate), x.shape)


def slices_at(x: Tensor, dim: int, index: Tensor, source: Any = None) -> tuple[tuple[Any, ...], Any]:
    """What stands between the brackets of x[...] for places along an axis, and source, which must have their shape."""
    x, index = lift(x), lift(index)
    if not -x.ndim <= dim < x.ndim:
        raise IndexError(f"[index] axis {dim} is out of range for a tensor of {x.ndim} axes")
    if index.ndim != 1:
        raise ValueError(f"[index] got an index of shape {index.shape}, expected a vector")
    axis = dim % x.ndim
    if source is not None:
        source = lift(source)
        wanted = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
        if source.shape != wanted:
            raise ValueError(
                f"[index] got a source of shape {source.shape}, expected {wanted}: one slice for each of the index, "
                f"along axis {axis} of the tensor of shape {x.shape}"
            )
    return (*[slice(None)] * axis, index), source


def filled_at(x: Tensor, dim: int, index: Tensor, value: Any) -> tuple[tuple[Any, ...], Tensor]:
    """What stands between the brackets of x[...] = value for places along an axis, and the value."""
    value = scalar_of(x, value)
    if value.ndim > 0:
        raise ValueError(f"[index_fill] got a value of shape {value.shape}, expected a number or a tensor of no axes")
    places, _ = slices_at(x, dim, index)
    if value.requires_grad:  # its gradient comes once from each place
        *before, index = places
        n = lift(x).shape[len(before)]
        from_end = _C.logical_and(_C.less(index, 0), _C.greater_equal(index, -n))
        places = (*before, unique(_C.where(from_end, index + n, index)))
    return places, value


def scalar_of(x: Tensor, value: Any) -> Tensor:
    """A number as a tensor of x's type; a tensor as it is."""
    return value if isinstance(value, Tensor) else _C.full((), value, x.dtype, x.device)


def _spread(index: Tensor, dim: int, source: Tensor) -> Tensor:
    shape = [1] * source.ndim
    shape[dim] = -1
    return _C.broadcast_to(_C.reshape(index, shape), source.shape)


def searchsorted(
    sorted_sequence: Tensor,
    values: Any,
    *,
    right: bool = False,
    side: str | None = None,
    out_int32: bool = False,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would go in a sorted vector: before equal ones, or behind them with right.

    Args:
        sorted_sequence: (N), or (..., N) with values (..., M) that belong to it row by row.
        values: numbers.
        right, side: ``right=True`` or ``side="right"``, behind equal ones; default before them.
        out_int32: int32 in place of int64; default False.
        sorter: the indices that sort the sequence, where it is not sorted itself.
    """
    import numpy as np

    if side not in (None, "left", "right"):
        raise ValueError(f"[searchsorted] got side {side!r}, expected 'left' or 'right'")
    rows = sorted_sequence.detach().cpu().numpy()
    if sorter is not None:
        rows = np.take_along_axis(rows, sorter.cpu().numpy(), -1)
    wanted = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    where: Any = side or ("right" if right else "left")
    if rows.ndim == 1:
        found = np.asarray(np.searchsorted(rows, wanted, where))
    else:
        if rows.ndim == 0 or rows.shape[:-1] != wanted.shape[:-1]:
            raise ValueError(
                f"[searchsorted] got a sequence of shape {rows.shape} and values of shape {wanted.shape}, expected a "
                "vector, or equal sizes but for the last axis"
            )
        found = np.empty(wanted.shape, np.int64)
        for at in np.ndindex(rows.shape[:-1]):
            found[at] = np.searchsorted(rows[at], wanted[at], where)
    return ops.asarray(found.astype(np.int32 if out_int32 else np.int64), device=sorted_sequence.device)


def bucketize(x: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the interval between sorted boundaries that each element lies in."""
    if boundaries.ndim != 1:
        raise ValueError(f"[bucketize] got boundaries of shape {boundaries.shape}, expected a vector")
    return searchsorted(boundaries, x, right=right, out_int32=out_int32)


def unique(
    x: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (or slices along an axis), sorted; on demand where each one of x is among them, and how
    often each occurs.
    """
    import numpy as np

    a = x.detach().cpu().numpy()
    if dim is not None and a.ndim == 0:
        a = a.reshape(1)
    found: Any = np.unique(a, False, return_inverse, return_counts, axis=dim)  # type: ignore[call-overload]
    if not (return_inverse or return_counts):
        return ops.asarray(found, device=x.device)
    parts = [ops.asarray(part, device=x.device) for part in found]
    if return_inverse:
        parts[1] = parts[1].reshape(x.shape if dim is None else (a.shape[dim],))
    return tuple(parts)


def lift(x: Tensor) -> Tensor:
    return _C.reshape(x, (1,)) if x.ndim == 0 else x


def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """Elements along an axis, an index for each place of the result; without an axis, of the flattened tensor."""
    dim = axis if dim is None else dim
    if dim is None:
        return _C.take_along_axis(_C.reshape(x, -1), _C.reshape(indices, -1), 0)
    return _C.take_along_axis(x, indices, dim)


def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of x with source's elements, in order, where the mask is true."""
    if mask.dtype != _C.bool_:
        raise TypeError(f"[masked_scatter] got a mask of {mask.dtype}, expected bool; compare it first: mask != 0")
    x, mask = ops.broadcast_arrays(x, mask)
    hit = _C.reshape(mask, -1)
    count = int(_C.sum(hit, None, False, None))
    if count > source.numel():
        raise ValueError(f"[masked_scatter] the mask has {count} places, the source {source.numel()} elements")
    if not count:
        return _C.clone(x)
    places = _C.select(_C.nonzero(hit), 1, 0)
    flat = _C.scatter(_C.reshape(x, -1), 0, places, _C.slice(_C.reshape(source, -1), 0, 0, count))
    return _C.reshape(flat, x.shape)


@in_its_own_name
def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with source's elements at places of the flattened tensor; with accumulate they are added."""
    flat = _C.reshape(x, -1)
    return _C.reshape(_C.index_put(flat, (index,), of_shape(source, index.shape), accumulate), x.shape)


def of_shape(source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Source's elements in another shape of as many."""
    if source.numel() != math.prod(shape):
        raise ValueError(f"[put] got {source.numel()} elements for an index of shape {shape}")
    return _C.reshape(source, shape)


@in_its_own_name
def index_put(x: Tensor, indices: Sequence[Tensor], values: Any, accumulate: bool = False) -> Tensor:
    """A copy of x with values at x[indices], of equal places the last one; with accumulate they are added."""
    return _C.index_put(x, tuple(indices), scalar_of(x, values), accumulate)


@functools.cache
def _replacing() -> Any:
    from pydl.autograd import Function

    class Replace(Function):
        """A copy of x with src in the places that a view shows."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, src: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
            ctx.view = view
            y = _C.clone(x.detach())
            _C.copy_(view(y), src.detach())
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            of_src = ctx.view(grad)
            of_x = _replace(grad, ops.zeros_like(of_src), ctx.view) if ctx.needs_input_grad[0] else None
            return of_x, of_src, None

    return Replace


def _replace(x: Tensor, src: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    src = _C.broadcast_to(_C.astype(src, x.dtype), view(x).shape)
    y: Tensor = _replacing().apply(x, src, view)
    return y


def select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of x with src in one place along an axis."""
    return _replace(x, src, lambda t: _C.select(t, dim, index))


def slice_scatter(
    x: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of x with src in the places start:end:step along an axis."""
    chosen = (slice(None),) * (dim % x.ndim) + (slice(start, end, step),)
    return _replace(x, src, lambda t: t[chosen])


def diagonal_scatter(x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of x with src on a diagonal."""
    return _replace(x, src, lambda t: _C.diagonal(t, offset, dim1, dim2))


_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


@torch_keywords
def scatter_reduce(
    x: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """A copy of x in which each place has the sum, product, mean, largest or smallest of what src sends to it.

    Args:
        x: (..., N, ...).
        axis, index, src: as in scatter_add.
        reduce: ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``.
        include_self: whether x's own element counts where something is sent to; default True.
    """
    if reduce not in _REDUCTIONS:
        raise ValueError(f"[scatter_reduce] got reduce {reduce!r}, expected one of {', '.join(_REDUCTIONS)}")
    if x.ndim == 0:
        one = scatter_reduce(lift(x), 0, lift(index), lift(src), reduce, include_self=include_self)
        return _C.reshape(one, ())
    if index.ndim == 0:
        index, src = lift(index), lift(src)
    if src.shape != index.shape:
        src = src[tuple(slice(n) for n in index.shape)]
    if x.dtype not in REDUCED:
        kind = _C.float32 if x.dtype.is_floating_point else _C.int64
        top = None  # bit, which is flipped: so uint64 is in the order of int64
        if x.dtype == _C.uint64 and reduce in ("amax", "amin"):
            top = _C.full((), 1 << 63, _C.uint64, x.device)
        numbers = [_C.astype(part if top is None else _C.bitwise_xor(part, top), kind) for part in (x, src)]
        y = scatter_reduce(numbers[0], axis, index, numbers[1], reduce, include_self=include_self)
        y = _C.astype(y, x.dtype)
        return y if top is None else _C.bitwise_xor(y, top)
    if reduce in ("sum", "mean"):
        base = x if include_self else _C.scatter(x, axis, index, _C.full((), 0, x.dtype, x.device))
        total = _C.scatter_add(base, axis, index, src)
        if reduce == "sum":
            return total
        count = _sent(x, axis, index)
        terms = ops.clip(count + 1 if include_self else count, 1, None)
        if x.dtype.is_floating_point:
            return total / terms
        return _C.floor_divide(total, _C.astype(terms, x.dtype))
    if not (_C.is_grad_enabled() and (x.requires_grad or src.requires_grad)):
        return _joined(x, axis, index, src, reduce, include_self)
    result: Tensor = _reducing().apply(x, axis, index, src, reduce, include_self)
    return result


def _joined(x: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, include_self: bool) -> Tensor:
    base = x if include_self else _C.scatter(x, axis, index, neutral(x.dtype, reduce).to(x.device))
    return _C.scatter_joined(base.cpu(), axis, index.cpu(), src.cpu(), reduce, False).to(x.device)


REDUCED = (_C.float32, _C.float64, _C.int64)  # what the kernels of scatter_reduce take


def _sent(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """How much is sent to each place."""
    ones = ops.ones(index.shape, dtype=_C.int64, device=x.device)
    return _C.scatter_add(ops.zeros(x.shape, dtype=_C.int64, device=x.device), axis, index, ones)


def neutral(dtype: Any, reduce: str) -> Tensor:
    """What a sum, product, largest or smallest one may begin with."""
    if reduce in ("sum", "prod"):
        value: Any = 0 if reduce == "sum" else 1
    elif dtype.is_floating_point:
        value = -math.inf if reduce == "amax" else math.inf
    else:
        limits = ops.iinfo(dtype)
        value = limits.min if reduce == "amax" else limits.max
    return _C.full((), value, dtype)


def _reducing() -> Any:
    from pydl.autograd import Function

    class ScatterReduce(Function):
        """Products and extremes, whose gradients are shared as PyTorch shares them."""

        @staticmethod
        def forward(
            ctx: Any, x: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, include_self: bool
        ) -> Tensor:
            x, src = x.detach(), src.detach()
            y = _joined(x, axis, index, src, reduce, include_self)
            ctx.save_for_backward(x, index, src, y)
            ctx.axis, ctx.reduce, ctx.include_self = axis, reduce, include_self
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            x, index, src, y = ctx.saved_tensors
            own = ops.full(x.shape, True, device=x.device) if ctx.include_self else _sent(x, ctx.axis, index) == 0
            share = _shares_of_product if ctx.reduce == "prod" else _shares_of_extreme
            of_x, of_src = share(x, index, src, y, own, ctx.axis)
            return grad * of_x, None, None, _C.gather(grad, ctx.axis, index) * of_src, None, None

    return ScatterReduce


def _shares_of_extreme(
    x: Tensor, index: Tensor, src: Tensor, y: Tensor, own: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    is_x = _C.astype(_C.logical_and(_C.equal(x, y), own), x.dtype)
    is_src = _C.astype(_C.equal(src, _C.gather(y, axis, index)), x.dtype)
    count = _C.scatter_add(is_x, axis, index, is_src)
    return is_x / count, is_src / _C.gather(count, axis, index)


def _shares_of_product(
    x: Tensor, index: Tensor, src: Tensor, y: Tensor, own: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    # The product of the others: where a factor is 0, that of the rest, and only one may be 0.
    one = _C.full((), 1.0, x.dtype)
    x_zero = _C.logical_and(_C.equal(x, 0), own)
    src_zero = _C.equal(src, 0)
    x_rest = _C.where(_C.logical_or(x_zero, _C.logical_not(own)), one, x)
    src_rest = _C.where(src_zero, one, src)
    zeros = _C.scatter_add(_C.astype(x_zero, x.dtype), axis, index, _C.astype(src_zero, x.dtype))
    rest = scatter_reduce(x_rest.detach(), axis, index, src_rest.detach(), "prod")

    def others(zero: Tensor, factor: Tensor, zeros: Tensor, rest: Tensor) -> Tensor:
        alone = _C.equal(zeros, _C.astype(zero, x.dtype))  # no other factor is 0
        return _C.where(alone, rest / factor, rest * 0.0)

    of_x = _C.where(own, others(x_zero, x_rest, zeros, rest), rest * 0.0)
    return of_x, others(src_zero, src_rest, _C.gather(zeros, axis, index), _C.gather(rest, axis, index))


def index_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """As scatter_reduce, by slices of source along an axis; reduce is "prod", "mean", "amax" or "amin"."""
    if x.ndim == 0:
        return scatter_reduce(x, 0, index, _C.reshape(source, -1), reduce, include_self=include_self)
    return scatter_reduce(x, dim, _spread(index, dim, source), source, reduce, include_self=include_self)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Where elements are among test_elements (either may be a number). assume_unique changes nothing."""
    import numpy as np

    a, b = (v.detach().cpu().numpy() if isinstance(v, Tensor) else v for v in (elements, test_elements))
    return ops.asarray(np.asarray(np.isin(a, b, invert=invert)))


def unique_consecutive(
    x: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """x without elements (or slices along an axis) that repeat the one before; on demand the run that each belongs to,
    and the runs' lengths.
    """
    import numpy as np

    a = x.detach().cpu().numpy()
    shape = a.shape
    a = a.reshape(-1) if dim is None else a
    axis = 0 if dim is None else dim
    n = a.shape[axis]
    rows = np.moveaxis(a, axis, 0).reshape(n, a.size // n if n else 0)
    fresh = np.ones(n, bool)
    if n:
        fresh[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(fresh)
    found: list[Any] = [np.ascontiguousarray(a.take(starts, axis))]
    if return_inverse:
        inverse = np.cumsum(fresh) - 1
        found.append(inverse.reshape(shape) if dim is None else inverse)
    if return_counts:
        found.append(np.diff(np.append(starts, n)))
    parts = tuple(ops.asarray(part, device=x.device) for part in found)
    return parts if len(parts) > 1 else parts[0]


def unravel_index(indices: Tensor, shape: Sequence[int] | int) -> tuple[Tensor, ...]:
    """Places of the flattened tensor as one index for each axis."""
    return unravelled(_C.astype(indices, _C.int64), [shape] if isinstance(shape, int) else shape)
