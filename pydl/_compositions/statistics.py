"""Reductions and what else is said of a set of numbers: extremes, quantiles, histograms, running values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pydl import _C
from pydl import _functions as ops
from pydl._aliases import torch_keywords
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "amax",
    "amin",
    "aminmax",
    "bincount",
    "corrcoef",
    "cov",
    "cummax",
    "cummin",
    "cumulative_trapezoid",
    "diff",
    "gradient",
    "histc",
    "histogram",
    "kthvalue",
    "logcumsumexp",
    "median",
    "mode",
    "msort",
    "nanmean",
    "nanmedian",
    "nanquantile",
    "nansum",
    "quantile",
    "renorm",
    "std_mean",
    "trapezoid",
    "trapz",
    "var_mean",
]


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
        return _shared_among_equals(flat, median(flat.detach(), 0)[0])
    values, indices = _C.sort(x, axis, False)
    middle = (x.shape[axis] - 1) // 2 if x.ndim else 0
    place = _C.full((), middle, _C.int64, x.device) if not x.ndim else None
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
    """Quantiles between 0 and 1 along an axis, or of all elements; of several q a new first axis. NaN wins.

    ``interpolation`` between neighbours: ``"linear"`` (default), ``"lower"``, ``"higher"``, ``"nearest"``,
    ``"midpoint"``.
    """
    return _quantile("quantile", x, q, axis, keepdims, interpolation)


@torch_keywords
def nanquantile(
    x: Tensor, q: Any, axis: int | None = None, keepdims: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """As quantile, of the numbers that are not NaN; NaN where there are none."""
    return _quantile("nanquantile", x, q, axis, keepdims, interpolation)


def _quantile(name: str, x: Tensor, q: Any, axis: int | None, keepdims: bool, interpolation: str) -> Tensor:
    if interpolation not in ("linear", "lower", "higher", "nearest", "midpoint"):
        raise ValueError(
            f"[{name}] got interpolation {interpolation!r}, expected 'linear', 'lower', 'higher', 'nearest' or "
            "'midpoint'"
        )
    q = q if isinstance(q, Tensor) else ops.asarray(q, dtype=x.dtype, device=x.device)
    if q.numel() and not 0.0 <= q.min().item() <= q.max().item() <= 1.0:
        raise ValueError(f"[{name}] got q from {q.min().item():g} to {q.max().item():g}, expected 0 to 1")
    rank, flat = x.ndim, axis is None
    if axis is None or rank == 0:
        x, axis, flat = _C.reshape(x, -1), 0, True
    values = ops.moveaxis(_C.sort(x, axis, False)[0], axis, -1)
    if not values.shape[-1]:
        raise ValueError(f"[{name}] got no elements, expected one at least")
    bad = _C.isnan(values)
    last = _C.sum(_C.logical_not(bad), -1, True, None) - 1  # NaN is sorted to the end
    if name == "quantile":
        last = ops.full_like(last, values.shape[-1] - 1)
    places = _C.reshape(q, -1) * _C.astype(ops.clip(last, 0, None), x.dtype)  # (..., Q)
    low, high = _C.floor(places), _C.ceil(places)
    share = places - low
    if interpolation == "midpoint":
        share = _C.where(_C.equal(low, high), share * 0.0, share * 0.0 + 0.5)
    elif interpolation != "linear":
        low = high = {"lower": low, "higher": high, "nearest": _C.round(places)}[interpolation]
    first, second = (_C.gather(values, -1, _C.astype(place, _C.int64)) for place in (low, high))
    y = ops.lerp(first, second, share)
    if name == "quantile":
        y = _C.where(_C.any(bad, -1, True), _C.full((), math.nan, y.dtype), y)
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
    if weights is None and x.is_cpu:
        import numpy as np

        try:
            return ops.asarray(np.bincount(_C.astype(x, _C.int64).numpy(), minlength=max(minlength, 0)))
        except ValueError:  # of negative numbers alone, which is said below
            pass
    if x.shape[0] and int(x.min()) < 0:
        raise ValueError(f"[bincount] got {int(x.min())}, expected numbers of 0 or more")
    size = max(minlength, int(x.max()) + 1 if x.shape[0] else 0)
    parts = ops.ones(x.shape, dtype=_C.int64, device=x.device) if weights is None else weights
    if weights is not None and not weights.dtype.is_floating_point:
        parts = _C.astype(weights, _C.float64)
    return _C.scatter_add(ops.zeros((size,), dtype=parts.dtype, device=x.device), 0, _C.astype(x, _C.int64), parts)


@torch_keywords
def kthvalue(x: Tensor, k: int, axis: int = -1, keepdims: bool = False) -> ops.Extremes:
    """The k-th smallest element along an axis, counted from 1, and its place."""
    if not x.ndim and k == 1:
        return ops.Extremes(x, _C.full((), 0, _C.int64, x.device))
    if not x.ndim:
        raise ValueError(f"[kthvalue] got k={k} for one number, expected 1")
    if not 1 <= k <= x.shape[axis]:
        raise ValueError(f"[kthvalue] got k={k} for axis {axis} of shape {x.shape}, expected 1 to {x.shape[axis]}")
    parts = [_C.select(part, axis, k - 1) for part in _C.sort(x, axis, False)]
    return ops.Extremes(*(_C.expand_dims(part, axis) if keepdims else part for part in parts))


@torch_keywords
def mode(x: Tensor, axis: int = -1, keepdims: bool = False) -> ops.Extremes:
    """The most frequent element along an axis, of several the smallest, and the last of its places.

    NaN is equal to nothing, another NaN included.
    """
    if not x.ndim:
        return ops.Extremes(x, _C.full((), 0, _C.int64, x.device))
    ordered, places = _C.sort(ops.moveaxis(x.detach(), axis, -1), -1, False)
    n = ordered.shape[-1]
    if not n:
        raise ValueError(f"[mode] can't choose from an axis of size 0: got shape {x.shape}")
    here = _C.arange(0, n, 1, device=x.device)
    fresh = _C.not_equal(_C.slice(ordered, -1, 1, n - 1), _C.slice(ordered, -1, 0, n - 1))
    starts = _C.where(fresh, _C.slice(here, 0, 1, n - 1), 0)  # of each run of equals, from its second place on
    starts = _C.cumulative_extreme(_C.pad(starts, [(0, 0)] * (x.ndim - 1) + [(1, 0)], 0), -1, True)[0]
    longest = _C.argmax(here - starts, -1, True)  # the last place of the first of the longest runs
    index = ops.moveaxis(_C.gather(places, -1, longest), -1, axis)
    values = _C.gather(x, axis, index)
    if keepdims:
        return ops.Extremes(values, index)
    return ops.Extremes(_C.squeeze(values, axis, False), _C.squeeze(index, axis, False))


def _shared_among_equals(x: Tensor, value: Tensor) -> Tensor:
    """The value, with a gradient that goes to all elements equal to it in even parts."""
    if not x.requires_grad or value.item() != value.item():
        return value
    return _C.max(_C.where(_C.equal(x, value), x, _C.full((), -math.inf, x.dtype)), None, False)


@torch_keywords
def nanmedian(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """As median, of the numbers that are not NaN; NaN where there are none."""
    if axis is None:
        flat = _C.reshape(x, -1)
        return _shared_among_equals(flat, nanmedian(flat.detach(), 0)[0])
    if not x.ndim:
        return ops.Extremes(x, _C.full((), 0, _C.int64, x.device))
    values, places = _C.sort(x, axis, False)  # NaN comes last
    count = _C.sum(_C.logical_not(_C.isnan(x)), axis, True, None)
    middle = ops.clip(_C.floor_divide(count - 1, 2), 0, None)
    parts = [_C.gather(part, axis, middle) for part in (values, places)]
    return ops.Extremes(*(part if keepdims else _C.squeeze(part, axis, False) for part in parts))


def msort(x: Tensor) -> Tensor:
    """Sorted along the first axis."""
    return _C.sort(x, 0, False)[0] if x.ndim else x


@torch_keywords
def cummax(x: Tensor, axis: int) -> ops.Extremes:
    """The largest element so far along an axis, and the last of its places; NaN stays."""
    return ops.Extremes(*_C.cumulative_extreme(x, axis, True))


@torch_keywords
def cummin(x: Tensor, axis: int) -> ops.Extremes:
    """The smallest element so far along an axis, and the last of its places; NaN stays."""
    return ops.Extremes(*_C.cumulative_extreme(x, axis, False))


def _exact_array(x: Tensor) -> Any:
    x = x.detach()
    return (_C.astype(x, _C.float32) if x.dtype == _C.bfloat16 else x).cpu().numpy()


@torch_keywords
def logcumsumexp(x: Tensor, axis: int) -> Tensor:
    """log(cumsum(exp(x))) along an axis, without overflow."""
    from pydl.autograd import Function

    class LogCumSumExp(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            import numpy as np

            with np.errstate(invalid="ignore"):
                y = ops.asarray(np.logaddexp.accumulate(_exact_array(x), axis), dtype=x.dtype, device=x.device)
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            kind = grad.dtype
            x, y, grad = (_C.astype(t, _C.float64) for t in (*ctx.saved_tensors, grad))

            def behind(positive: Tensor) -> Tensor:  # e^x times the sums from here on of g·e^-y, in logarithms
                return _C.exp(ops.flip(logcumsumexp(ops.flip(_C.log(positive) - y, axis), axis), axis) + x)

            return _C.astype(behind(ops.clip(grad, 0.0, None)) - behind(ops.clip(-grad, 0.0, None)), kind)

    if not x.ndim:
        return x
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"[logcumsumexp] axis {axis} is out of range for a tensor of {x.ndim} axes")
    result: Tensor = LogCumSumExp.apply(x)
    return result


def cov(x: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """The covariance of rows (variables) over columns (observations), divided by n - correction.

    fweights are whole numbers, how often each observation occurs; aweights are its importance.
    """
    if x.ndim > 2:
        raise ValueError(f"[cov] got shape {x.shape}, expected at most two axes")
    x = x if x.dtype.is_floating_point else _C.astype(x, _C.default_dtype())
    rows = _C.reshape(x, (1, -1)) if x.ndim < 2 else x
    weight = None
    if fweights is not None and fweights.dtype.is_floating_point:
        raise TypeError(f"[cov] got fweights of {fweights.dtype}, expected whole numbers; aweights may be fractions")
    for each in (fweights, aweights):
        if each is not None:
            if tuple(each.shape) != (rows.shape[1],) or bool(_C.any(_C.less(each, 0))):
                expected = f"({rows.shape[1]},), one number of 0 or more for each observation"
                raise ValueError(f"[cov] got weights of shape {tuple(each.shape)}, expected {expected}")
            part = _C.astype(each, x.dtype)
            weight = part if weight is None else weight * part
    if weight is None:
        count: Any = rows.shape[1]
        centred = rows - _C.mean(rows, 1, True)
        norm: Any = max(count - correction, 0)
        product = centred @ centred.mT
    else:
        total = _C.sum(weight, None, False, None)
        centred = rows - _C.sum(rows * weight, 1, True, None) / total
        product = (centred * weight) @ centred.mT
        if aweights is None:
            norm = total - correction
        else:
            norm = total - correction * _C.sum(weight * _C.astype(aweights, x.dtype), None, False, None) / total
        norm = ops.clip(norm, 0.0, None)
    result = product / norm
    return _C.reshape(result, ()) if rows.shape[0] == 1 else result


def corrcoef(x: Tensor) -> Tensor:
    """The correlation of rows (variables) over columns (observations)."""
    c = cov(x)
    if not c.ndim:
        return c / c
    scale = _C.sqrt(_C.diagonal(c, 0, 0, 1))
    return ops.clip(c / _C.expand_dims(scale, 1) / _C.expand_dims(scale, 0), -1.0, 1.0)


def histc(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of equal bins from min to max (where both are 0, those of x)."""
    import numpy as np

    low, high = (x.min().item(), x.max().item()) if min == 0 and max == 0 and x.numel() else (min, max)
    low, high = (low - 1, high + 1) if low == high else (low, high)
    counts = np.histogram(_exact_array(x), bins, (low, high))[0]
    return ops.asarray(counts, dtype=x.dtype, device=x.device)


class Histogram(NamedTuple):
    """What histogram gives."""

    hist: Tensor
    bin_edges: Tensor


def histogram(
    x: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None, density: bool = False
) -> Histogram:
    """Counts, or sums of weights, in bins (a number of equal ones, or their edges), and the edges."""
    import numpy as np

    edges = _exact_array(bins) if isinstance(bins, Tensor) else bins
    kept = None if weight is None else _exact_array(weight).reshape(-1)
    counts, found = np.histogram(_exact_array(x).reshape(-1), edges, range, density, kept)  # type: ignore[arg-type]
    return Histogram(
        ops.asarray(counts, dtype=x.dtype, device=x.device), ops.asarray(found, dtype=x.dtype, device=x.device)
    )


@torch_keywords
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, at points x or dx (1) apart."""
    n = y.shape[axis]
    if x is not None or n < 2 or not (dx is None or isinstance(dx, int | float)):
        return _C.sum(_trapezoids(y, x, dx, axis), axis, False, None)
    ends = _C.select(y, axis, 0) + _C.select(y, axis, n - 1)
    total = _C.sum(_C.slice(y, axis, 1, n - 2), axis, False, None) + ends * 0.5
    return total if dx is None else total * dx


@torch_keywords
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, axis: int = -1) -> Tensor:
    """The running integral along an axis by the trapezoidal rule; one element less."""
    return _C.cumulative_sum(_trapezoids(y, x, dx, axis), axis)


def _trapezoids(y: Tensor, x: Tensor | None, dx: Any, axis: int) -> Tensor:
    if x is not None and dx is not None:
        raise ValueError("[trapezoid] got x and dx, expected one of them")
    n = y.shape[axis]
    means = (_C.slice(y, axis, 0, max(n - 1, 0)) + _C.slice(y, axis, min(n, 1), max(n - 1, 0))) * 0.5
    if x is None:
        return means if dx is None else means * dx
    if x.ndim == 1:
        shape = [1] * y.ndim
        shape[axis] = x.shape[0]
        x = _C.reshape(x, shape)
    m = x.shape[axis]
    return means * (_C.slice(x, axis, min(m, 1), max(m - 1, 0)) - _C.slice(x, axis, 0, max(m - 1, 0)))


def gradient(
    x: Tensor, *, spacing: Any = None, dim: Any = None, axis: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The derivative along axes (all) by differences of second order, of first or second at the ends.

    ``spacing`` is one number, one for each axis, or one vector of coordinates for each.
    """
    axis = dim if axis is None else axis
    axes = list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    if len({a % max(x.ndim, 1) for a in axes}) < len(axes):
        raise ValueError(f"[gradient] got the axes {axes}, expected each once")
    if edge_order not in (1, 2):
        raise ValueError(f"[gradient] got edge_order {edge_order}, expected 1 or 2")
    steps = list(spacing) if isinstance(spacing, (tuple, list)) else [1.0 if spacing is None else spacing] * len(axes)
    if len(steps) != len(axes):
        raise ValueError(f"[gradient] got {len(steps)} spacings for {len(axes)} axes, expected one for each")
    return tuple(_slope(x, step, a, edge_order) for step, a in zip(steps, axes))


def _slope(x: Tensor, step: Any, axis: int, edge_order: int) -> Tensor:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise ValueError(f"[gradient] axis {axis} of shape {x.shape} has {n} points, expected {edge_order + 1} or more")
    shape = [1] * x.ndim
    shape[axis] = -1
    if isinstance(step, Tensor) and step.ndim:
        h: Any = _C.reshape(diff(_C.astype(step, x.dtype)), shape)
    else:
        h = _C.full([n - 1 if k == -1 else k for k in shape], float(step), x.dtype, x.device)

    def part(t: Tensor, start: int, length: int) -> Tensor:
        return _C.slice(t, axis, start, length)

    slopes = (part(x, 1, n - 1) - part(x, 0, n - 1)) / h
    first, last = part(slopes, 0, 1), part(slopes, n - 2, 1)
    if n == 2:
        return ops.concat([first, last], axis=axis)
    before, after = part(h, 0, n - 2), part(h, 1, n - 2)
    inner = (part(slopes, 0, n - 2) * after + part(slopes, 1, n - 2) * before) / (before + after)
    if edge_order == 2:
        first = first + (first - part(slopes, 1, 1)) * part(h, 0, 1) / (part(h, 0, 1) + part(h, 1, 1))
        h1, h2 = part(h, n - 2, 1), part(h, n - 3, 1)
        last = last + (last - part(slopes, n - 3, 1)) * h1 / (h1 + h2)
    return ops.concat([first, inner, last], axis=axis)


def diff(x: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """Differences of neighbours along an axis, n times; with elements put before and behind first."""
    if not x.ndim:
        raise ValueError("[diff] got a tensor without axes, expected one axis at least")
    if n < 0:
        raise ValueError(f"[diff] got n={n}, expected 0 or more")
    if n > 0 and (prepend is not None or append is not None):
        x = ops.concat([part for part in (prepend, x, append) if part is not None], axis=dim)
    for _ in range(n):
        size = x.shape[dim]
        after, before = _C.slice(x, dim, min(size, 1), max(size - 1, 0)), _C.slice(x, dim, 0, max(size - 1, 0))
        x = _C.logical_xor(after, before) if x.dtype == _C.bool_ else after - before
    return x


@torch_keywords
def renorm(x: Tensor, p: float, axis: int, maxnorm: float) -> Tensor:
    """x with each slice along an axis scaled down to a p-norm of at most maxnorm."""
    if x.ndim < 2:
        raise ValueError(f"[renorm] got shape {x.shape}, expected two axes or more")
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    norm = _C.norm(x, float(p), others, True)
    return _C.where(_C.greater(norm, maxnorm), x * (maxnorm / (norm + 1e-7)), x)


trapz = trapezoid
