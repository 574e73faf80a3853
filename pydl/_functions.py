"""The functions of the array API standard, and what PyTorch adds to them, over the compiled ops.

Functions that need no Python at all are the extension's own; the rest bring arguments into shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pydl import _C
from pydl._aliases import in_its_own_name, torch_keywords
from pydl._C import DType
from pydl._creation import *  # noqa: F403
from pydl._random import *  # noqa: F403
from pydl._shapes import *  # noqa: F403
from pydl._shapes import Axis, TensorOrNumber, moveaxis
from pydl._tensor import Tensor, one_pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl._limits import FloatInfo, IntegerInfo


abs = _C.abs
acos = _C.acos
acosh = _C.acosh
asin = _C.asin
asinh = _C.asinh
atan = _C.atan
atan2 = _C.atan2
atanh = _C.atanh
bitwise_and = _C.bitwise_and
bitwise_invert = _C.bitwise_invert
bitwise_left_shift = _C.bitwise_left_shift
bitwise_or = _C.bitwise_or
bitwise_right_shift = _C.bitwise_right_shift
bitwise_xor = _C.bitwise_xor
ceil = _C.ceil
copysign = _C.copysign
cos = _C.cos
cosh = _C.cosh
divide = _C.divide
elu = _C.elu
equal = _C.equal
erf = _C.erf
erfc = _C.erfc
exp = _C.exp
exp2 = _C.exp2
expm1 = _C.expm1
floor = _C.floor
floor_divide = _C.floor_divide
fmod = _C.fmod
greater = _C.greater
greater_equal = _C.greater_equal
hypot = _C.hypot
isfinite = _C.isfinite
isinf = _C.isinf
isnan = _C.isnan
less = _C.less
less_equal = _C.less_equal
log = _C.log
log10 = _C.log10
log1p = _C.log1p
log2 = _C.log2
logaddexp = _C.logaddexp
logical_and = _C.logical_and
logical_not = _C.logical_not
logical_or = _C.logical_or
logical_xor = _C.logical_xor
matmul = _C.matmul
maximum = _C.maximum
minimum = _C.minimum
multiply = _C.multiply
negative = _C.negative
nextafter = _C.nextafter
not_equal = _C.not_equal
reciprocal = _C.reciprocal
relu = _C.relu
remainder = _C.remainder
rsqrt = _C.rsqrt
sigmoid = _C.sigmoid
sign = _C.sign
signbit = _C.signbit
sin = _C.sin
sinh = _C.sinh
sqrt = _C.sqrt
square = _C.square
tan = _C.tan
tanh = _C.tanh
trunc = _C.trunc
where = _C.where
result_type = _C.result_type


def add(x1: Any, x2: Any, *, alpha: float = 1) -> Tensor:
    """x1 + alpha * x2."""
    return Tensor.add(x1, x2, alpha=alpha)


def subtract(x1: Any, x2: Any, *, alpha: float = 1) -> Tensor:
    """x1 - alpha * x2."""
    return Tensor.subtract(x1, x2, alpha=alpha)


class Extremes(NamedTuple):
    """Values and where they were: what sort, topk, and max and min along an axis give in PyTorch's manner."""

    values: Tensor
    indices: Tensor


# ---- reductions


@torch_keywords
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The sum over axes, all by default. Integers and booleans give int64."""
    return _C.sum(x, axis, keepdims, dtype)


@torch_keywords
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over axes, all by default. Floating dtypes only."""
    return _C.mean(x, axis, keepdims)


@torch_keywords
def prod(x: Tensor, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """The product over axes, all by default."""
    return _C.prod(x, axis, keepdims, dtype)


def max(x: Tensor, /, *places: Any, axis: Axis = None, keepdims: bool = False, **torch_words: Any) -> Any:
    """The largest element over axes; its gradient is shared evenly among equals. See also max_with_index.

    In PyTorch's manner, ``max(x, 1)`` or ``max(x, dim=1)``, the pair of values and indices, and ``max(x, y)`` the
    larger one of each two elements.
    """
    if places or torch_words:
        return _extremes_or_pair(_C.max_with_index, _C.maximum, x, places, torch_words, keepdims)
    return _C.max(x, axis, keepdims)


def min(x: Tensor, /, *places: Any, axis: Axis = None, keepdims: bool = False, **torch_words: Any) -> Any:
    """The smallest element over axes; its gradient is shared evenly among equals.

    In PyTorch's manner, ``min(x, 1)`` or ``min(x, dim=1)``, the pair of values and indices, and ``min(x, y)`` the
    smaller one of each two elements.
    """
    if places or torch_words:
        return _extremes_or_pair(_C.min_with_index, _C.minimum, x, places, torch_words, keepdims)
    return _C.min(x, axis, keepdims)


def _extremes_or_pair(
    along: Any, pairwise: Any, x: Tensor, places: tuple[Any, ...], words: dict[str, Any], keepdims: bool
) -> Any:
    if len(places) == 1 and isinstance(places[0], Tensor) and not words:
        return pairwise(x, places[0])
    if "other" in words:
        return pairwise(x, words["other"])
    unknown = set(words) - {"dim", "keepdim"}
    if unknown or len(places) > 2 or not (places or "dim" in words):
        raise TypeError(
            f"[{pairwise.__name__[:3]}] got {[*places, *words]}, expected axis and keepdims, or dim and keepdim"
        )
    axis = words.get("dim", places[0] if places else None)
    keep = words.get("keepdim", places[1] if len(places) == 2 else keepdims)
    return Extremes(*along(x, axis, keep))


@torch_keywords
def max_with_index(x: Tensor, axis: int, keepdims: bool = False) -> Extremes:
    """The largest element along an axis and its first place; the gradient goes to that place."""
    return Extremes(*_C.max_with_index(x, axis, keepdims))


@torch_keywords
def min_with_index(x: Tensor, axis: int, keepdims: bool = False) -> Extremes:
    """The smallest element along an axis and its first place; the gradient goes to that place."""
    return Extremes(*_C.min_with_index(x, axis, keepdims))


@torch_keywords
def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element is true (not zero)."""
    return _C.any(x, axis, keepdims)


@torch_keywords
def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true (not zero)."""
    return _C.all(x, axis, keepdims)


def var(
    x: Tensor,
    /,
    *places: Any,
    axis: Axis = None,
    correction: float | None = None,
    keepdims: bool = False,
    **torch_words: Any,
) -> Tensor:
    """The variance over axes, divided by n - correction; default 0, as in the standard.

    In PyTorch's manner, ``var(x, 1)``, ``var(x, dim=1)`` or ``var(x, unbiased=True)``, the default correction is 1.
    """
    if places or torch_words:
        return x.var(*places, **({} if correction is None else {"correction": correction}), **torch_words)
    return _C.var(x, axis, float(correction or 0.0), keepdims)


@in_its_own_name
def std(
    x: Tensor,
    /,
    *places: Any,
    axis: Axis = None,
    correction: float | None = None,
    keepdims: bool = False,
    **torch_words: Any,
) -> Tensor:
    """The standard deviation over axes; see var."""
    return _C.sqrt(var(x, *places, axis=axis, correction=correction, keepdims=keepdims, **torch_words))


@torch_keywords
def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes, without overflow."""
    return _C.logsumexp(x if x.dtype.is_floating_point else _C.astype(x, _C.default_dtype()), axis, keepdims)


@torch_keywords
def norm(
    x: Tensor, ord: float | str | None = 2.0, axis: Axis = None, keepdims: bool = False, *, p: Any = None
) -> Tensor:
    """The vector norm of an order over axes (all: of the flattened tensor): 0, 1, 2, p, inf or -inf; "fro" is 2."""
    order = ord if p is None else p
    if order == "nuc" and (x.ndim == 2 if axis is None else isinstance(axis, (tuple, list)) and len(axis) == 2):
        from pydl.linalg import matrix_norm

        y = matrix_norm(x if axis is None else moveaxis(x, axis, (-2, -1)), "nuc", keepdims)
        return moveaxis(y, (-2, -1), axis) if keepdims and axis is not None else y
    if isinstance(order, str) and order != "fro":
        raise ValueError(f"[norm] got the order {order!r}, expected a number, 'fro', or 'nuc' of a matrix")
    return _C.norm(x, 2.0 if order in ("fro", None) else float(order), axis, keepdims)


@torch_keywords
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The first place of the largest element along an axis, or in the flattened tensor; int64."""
    return _C.argmax(x, axis, keepdims)


@torch_keywords
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The first place of the smallest element along an axis, or in the flattened tensor; int64."""
    return _C.argmin(x, axis, keepdims)


@torch_keywords
def count_nonzero(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero."""
    return _C.sum(x if x.dtype == _C.bool_ else _C.not_equal(x, 0), axis, keepdims)


@torch_keywords
def cumulative_sum(x: Tensor, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running sums along an axis (needed where x has several). include_initial puts a zero first."""
    return _cumulative(_C.cumulative_sum, 0, x, axis, dtype, include_initial)


@torch_keywords
def cumulative_prod(x: Tensor, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Running products along an axis (needed where x has several). include_initial puts a one first."""
    return _cumulative(_C.cumulative_prod, 1, x, axis, dtype, include_initial)


def _cumulative(op: Any, first: int, x: Tensor, axis: int | None, dtype: Any, include_initial: bool) -> Tensor:
    if axis is None:
        if x.ndim > 1:
            raise ValueError(f"[cumulative_sum] axis is needed for a tensor of {x.ndim} axes")
        axis = 0
    if dtype is not None:
        x = _C.astype(x, dtype)
    y: Tensor = op(x, axis)
    if dtype is not None:  # whole numbers are summed in 64 bits
        y = _C.astype(y, dtype)
    if include_initial:
        shape = list(x.shape)
        shape[axis] = 1
        y = _C.concat([_C.full(shape, first, y.dtype, y.device), y], axis)
    return y


def sort(
    x: Tensor, /, *places: Any, axis: int = -1, descending: bool = False, stable: bool = True, **torch_words: Any
) -> Any:
    """Sorted along an axis; always stable, NaN counts as the largest.

    In PyTorch's manner, ``sort(x, 1)`` or ``sort(x, dim=1)``, and as a method the pair of values and indices.
    """
    if places or torch_words:
        pair: Any = x.sort  # whose descending comes by place, too
        return pair(*places, **({"descending": descending} if len(places) < 2 else {}), **torch_words)
    return _C.sort(x, axis, descending)[0]


@torch_keywords
def argsort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along an axis; always stable."""
    return _C.sort(x, axis, descending)[1]


@torch_keywords
def topk(x: Tensor, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> Extremes:
    """The k largest (or smallest) elements along an axis, in order, and where they were."""
    return Extremes(*_C.topk(x, k, axis, largest))


def unique_values(x: Tensor) -> Tensor:
    """The distinct elements, sorted."""
    flat = _C.sort(_C.reshape(x, -1), 0, False)[0]
    if flat.shape[0] < 2:
        return flat
    fresh = _C.not_equal(flat[1:], flat[:-1])
    return flat[_C.concat([_C.full((1,), True, None, fresh.device), fresh], 0)]


# ---- arithmetic with arguments


def round(x: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest whole number, or number of so many decimals; halves go to the even one."""
    if decimals == 0:
        return _C.round(x)
    factor = 10.0 ** math.fabs(decimals)
    return _C.round(x * factor) / factor if decimals > 0 else _C.round(x / factor) * factor


@torch_keywords
def clip(x: Tensor, min: TensorOrNumber | None = None, max: TensorOrNumber | None = None) -> Tensor:
    """x kept within bounds, each a number, a tensor or None; NaN stays."""
    return _C.clip_bounds(x, min, max)


def pow(x1: TensorOrNumber, x2: TensorOrNumber) -> Tensor:
    """x1 to the power of x2."""
    return x1**x2  # type: ignore[return-value]


@torch_keywords
def softmax(x: Tensor, axis: int = -1, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis."""
    return _C.softmax(x if dtype is None else _C.astype(x, dtype), axis)


@torch_keywords
def log_softmax(x: Tensor, axis: int = -1, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along an axis, exact for large inputs too."""
    return _C.log_softmax(x if dtype is None else _C.astype(x, dtype), axis)


def tensordot(
    x1: Tensor, x2: Tensor, axes: int | tuple[Sequence[int], Sequence[int]] = 2, *, dims: Any = None
) -> Tensor:
    """Sums of products over axes: the last of x1 with the first of x2, or over the pairs given."""
    axes = axes if dims is None else dims
    if isinstance(axes, int):
        axes1, axes2 = list(range(x1.ndim - axes, x1.ndim)), list(range(axes))
    else:
        axes1, axes2 = [a % x1.ndim for a in axes[0]], [a % x2.ndim for a in axes[1]]
    for a, b in zip(axes1, axes2):  # sizes of 1 are broadcast, as PyTorch does
        if 1 in (x1.shape[a], x2.shape[b]) and x1.shape[a] != x2.shape[b]:
            x1, x2 = (_C.sum(x, axis, True, None) if x.shape[axis] != 1 else x for x, axis in ((x1, a), (x2, b)))
    if [x1.shape[a] for a in axes1] != [x2.shape[a] for a in axes2]:
        pairs = f"axes {axes1} of shape {x1.shape} and {axes2} of shape {x2.shape}"
        raise ValueError(f"[tensordot] got {pairs}, expected equal sizes pair by pair")
    free1 = [a for a in range(x1.ndim) if a not in axes1]
    free2 = [a for a in range(x2.ndim) if a not in axes2]
    shape = [x1.shape[a] for a in free1] + [x2.shape[a] for a in free2]
    inner = math.prod(x1.shape[a] for a in axes1)
    left = _C.reshape(_C.permute_dims(x1, free1 + axes1), (-1, inner) if x1.size else (0, inner))
    right = _C.reshape(_C.permute_dims(x2, axes2 + free2), (inner, -1) if x2.size else (inner, 0))
    return _C.reshape(left @ right, shape)


@torch_keywords
def vecdot(x1: Tensor, x2: Tensor, axis: int = -1) -> Tensor:
    """Inner products along an axis."""
    return _C.sum(x1 * x2, axis)


@in_its_own_name
def outer(x1: Tensor, x2: Tensor) -> Tensor:
    """The (n, m) products of two vectors."""
    return _C.expand_dims(x1, 1) * _C.expand_dims(x2, 0)


def dot(x1: Tensor, x2: Tensor) -> Tensor:
    """The inner product of two vectors."""
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"[dot] both must be vectors, got shapes {x1.shape} and {x2.shape}; use matmul")
    return _C.matmul(x1, x2)


def _scaled_sum(x: Tensor, beta: float, product: Tensor, alpha: float) -> Tensor:
    """beta * x + alpha * product; with beta 0 x is not looked at, so its NaN does not matter, as in PyTorch."""
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else (x if beta == 1 else x * beta) + product


@in_its_own_name
def addmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ b)."""
    y: Tensor | None = None
    if isinstance(beta, (int, float)) and isinstance(alpha, (int, float)) and isinstance(x, Tensor):
        y = _C.addmm(x, a, b, beta, alpha)
    return _scaled_sum(x, beta, (a @ b), alpha) if y is None else y


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """Distances of all rows of one matrix to all rows of another; see :func:`pydl.nn.functional.cdist`."""
    from pydl.nn.functional import cdist

    return cdist(x1, x2, p, compute_mode)


@in_its_own_name
def lerp(x: Tensor, end: Tensor, weight: TensorOrNumber) -> Tensor:
    """x + weight * (end - x)."""
    y = one_pass(_C.lerp, x, end, weight)
    return x + weight * (end - x) if y is None else y


# ---- questions


def is_tensor(x: Any) -> bool:
    """Whether x is a tensor of pydl."""
    return isinstance(x, Tensor)


def numel(x: Tensor) -> int:
    """The number of elements."""
    return x._count


def allclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |x - y| <= atol + rtol * |y| everywhere."""
    return bool(_C.all(isclose(x, y, rtol, atol, equal_nan)))


def isclose(x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |x - y| <= atol + rtol * |y|, or both are the same infinity (or NaN, where equal_nan)."""
    if rtol < 0 or atol < 0:
        raise ValueError(f"[isclose] got rtol={rtol} and atol={atol}, expected numbers of 0 or more")
    if x.dtype == _C.bool_ and y.dtype == _C.bool_:
        return _C.equal(x, y)
    close = _C.less_equal(_C.abs(x - y), _C.abs(y) * rtol + atol)
    close = _C.logical_or(_C.logical_and(close, _C.isfinite(y)), _C.equal(x, y))
    if equal_nan:
        close = _C.logical_or(close, _C.logical_and(_C.isnan(x), _C.isnan(y)))
    return close


def set_default_dtype(dtype: Any) -> None:
    """The dtype of new floating tensors where none is given; float32 until changed."""
    _C.set_default_dtype(dtype)


def get_default_dtype() -> DType:
    """The dtype of new floating tensors where none is given."""
    return _C.default_dtype()


def positive(x: Tensor) -> Tensor:
    """x itself."""
    return x


def finfo(type: Any) -> FloatInfo:
    """The limits of a floating dtype: bits, eps, max, min, smallest_normal, dtype."""
    from pydl._limits import float_info

    return float_info(type)


def iinfo(type: Any) -> IntegerInfo:
    """The limits of an integer dtype: bits, max, min, dtype."""
    from pydl._limits import integer_info

    return integer_info(type)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: a dtype, "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating", "numeric", or one of a tuple of these."""
    from pydl._limits import is_kind

    return is_kind(dtype, kind)


def can_cast(from_: Any, to: Any) -> bool:
    """Whether the standard's promotion allows the conversion."""
    source = from_.dtype if isinstance(from_, Tensor) else from_
    try:
        return bool(_C.result_type(source, to) == to)
    except TypeError:
        return False
