"""In-place methods that write in one pass what the function of their name makes in several, or with a check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl import _C, _compositions
from pydl import _functions as ops
from pydl._aliases import in_its_own_name, torch_keywords
from pydl._compositions import places as _places
from pydl._shapes import flat_places
from pydl._tensor import Tensor, one_pass

if TYPE_CHECKING:
    from collections.abc import Sequence


@in_its_own_name
def addcdiv_(x: Tensor, a: Tensor, b: Tensor, *, value: Any = 1) -> Tensor:
    """Add value * a / b."""
    if one_pass(_C.addcdiv, x, a, b, value, in_place=True) is None:
        _C.assign("addcdiv_", x, _compositions.addcdiv(x, a, b, value=value))
    return x


@in_its_own_name
def addcmul_(x: Tensor, a: Tensor, b: Tensor, *, value: Any = 1) -> Tensor:
    """Add value * a * b."""
    if one_pass(_C.addcmul, x, a, b, value, in_place=True) is None:
        _C.assign("addcmul_", x, _compositions.addcmul(x, a, b, value=value))
    return x


def clip_(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Keep within bounds, each a number, a tensor or None; NaN stays."""
    low, high = -math.inf if min is None else min, math.inf if max is None else max
    if not (x.dtype.is_floating_point and _C.replace("clip_", x, (low, high))):
        _C.assign("clip_", x, ops.clip(_C.original("clip_", x, (min, max)), min, max))
    return x


def clamp_max_(x: Tensor, max: Any) -> Tensor:
    """Set what is greater to max."""
    return clip_(x, None, max)


def clamp_min_(x: Tensor, min: Any) -> Tensor:
    """Set what is less to min."""
    return clip_(x, min, None)


def div_(x: Tensor, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """Divide by other; rounded to a whole number where rounding_mode is "floor" or "trunc"."""
    if rounding_mode is None:
        x /= other
    else:
        _C.assign("div_", x, _compositions.div(_C.original("div_", x, (other,)), other, rounding_mode=rounding_mode))
    return x


@in_its_own_name
def lerp_(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Go this part of the way to end: add weight * (end - x)."""
    if one_pass(_C.lerp, x, end, weight, in_place=True) is None:
        _C.assign("lerp_", x, ops.lerp(x, end, weight))
    return x


def _write(name: str, x: Tensor, places: tuple[Any, ...], values: Any, accumulate: bool = False) -> Tensor:
    """x[places] = values, or +=; at the cost of what is written where no gradient is recorded."""
    if x.ndim == 0 and _recorded(x, values):
        _C.assign(name, x, _C.reshape(_C.index_put(_places.lift(x), places, values, accumulate), ()))
    else:
        _C.index_put(_places.lift(x), places, values, accumulate, True)
    return x


def _recorded(x: Tensor, values: Tensor) -> bool:
    return _C.is_grad_enabled() and (x.requires_grad or values.requires_grad)


@in_its_own_name
def index_add_(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """Add slices of source, times alpha, at places along an axis."""
    places, source = _places.slices_at(x, dim, index, source)
    return _write("index_add_", x, places, source if alpha == 1 else source * alpha, True)


@in_its_own_name
def index_copy_(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Put slices of source at places along an axis."""
    return _write("index_copy_", x, *_places.slices_at(x, dim, index, source))


@in_its_own_name
def index_fill_(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Put a value at places along an axis."""
    return _write("index_fill_", x, *_places.filled_at(x, dim, index, value))


@in_its_own_name
def index_put_(x: Tensor, indices: Sequence[Tensor], values: Any, accumulate: bool = False) -> Tensor:
    """Put values at x[indices], of equal places the last one; with accumulate add them."""
    return _write("index_put_", x, tuple(indices), _places.scalar_of(x, values), accumulate)


@in_its_own_name
def put_(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Put source's elements at places of the flattened tensor; with accumulate add them."""
    source = _places.of_shape(source, index.shape)
    if _recorded(x, source):
        _C.assign("put_", x, _places.put(x, index, source, accumulate))
    elif x.is_contiguous():
        _C.index_put(_C.reshape(x, -1), (index,), source, accumulate, True)
    else:
        _C.index_put(x, flat_places("put_", x, index), source, accumulate, True)
    return x


@torch_keywords
def scatter_(x: Tensor, axis: int, indices: Tensor, src: Any, *, reduce: str | None = None) -> Tensor:
    """Put src at indices along an axis; of equal indices the last stays. See :func:`pydl.scatter`."""
    kernel = {None: _C.scatter, "add": _C.scatter_add}.get(reduce)
    if x.ndim == 0 or kernel is None or kernel(x, axis, indices, _places.scalar_of(x, src), True) is None:
        _C.assign("scatter_", x, ops.scatter(_C.original("scatter_", x, (src,)), axis, indices, src, reduce=reduce))
    return x


@torch_keywords
def scatter_add_(x: Tensor, axis: int, indices: Tensor, src: Tensor) -> Tensor:
    """Add src at indices along an axis; equal indices add up."""
    if x.ndim == 0 or _C.scatter_add(x, axis, indices, src, True) is None:
        _C.assign("scatter_add_", x, ops.scatter_add(x, axis, indices, src))
    return x


@torch_keywords
def scatter_reduce_(
    x: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Join what src sends to a place with what is there. See :func:`pydl.scatter_reduce`."""
    fits = 0 < x.ndim == index.ndim == src.ndim and all(n <= m for n, m in zip(index.shape, src.shape, strict=True))
    direct = fits and x.is_cpu and not _recorded(x, src) and x.dtype in _places.REDUCED
    if not direct or reduce not in ("sum", "prod", "amax", "amin"):
        whole = _places.scatter_reduce(
            _C.original("scatter_reduce_", x, (src,)), axis, index, src, reduce, include_self=include_self
        )
        _C.assign("scatter_reduce_", x, whole)
        return x
    if not include_self:
        src = _C.clone(src)  # which may be a part of x
        _C.scatter(x, axis, index, _places.neutral(x.dtype, reduce), True)
    if reduce == "sum":
        _C.scatter_add(x, axis, index, src, True)
    else:
        _C.scatter_joined(x, axis, index, src, reduce, True)
    return x


def pow_(x: Tensor, exponent: Any) -> Tensor:
    """Raise to a power."""
    x **= exponent
    return x


def round_(x: Tensor, *, decimals: int = 0) -> Tensor:
    """Round to the nearest whole number, or number of so many decimals; halves go to the even one."""
    if decimals != 0 or not _C.replace("round_", x, ()):
        _C.assign("round_", x, ops.round(x, decimals=decimals))
    return x
