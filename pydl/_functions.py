"""The functions of the array API standard, and what PyTorch adds to them, over the compiled ops.

Functions that need no Python at all are the extension's own; the rest bring arguments into shape.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from pydl import _C
from pydl._aliases import torch_keywords
from pydl._C import DType, Generator
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl._limits import FloatInfo, IntegerInfo

Axis = Union[int, "Sequence[int]", None]
Number = int | float | bool
Shape = Union[int, "Sequence[int]"]
TensorOrNumber = Tensor | Number

abs = _C.abs
acos = _C.acos
acosh = _C.acosh
add = _C.add
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
subtract = _C.subtract
tan = _C.tan
tanh = _C.tanh
trunc = _C.trunc
where = _C.where
result_type = _C.result_type


class Extremes(NamedTuple):
    """Values and where they were: what sort, topk, and max and min along an axis give in PyTorch's manner."""

    values: Tensor
    indices: Tensor


# ---- creation


def _shape(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def _finish(x: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        x.requires_grad = True
    return x


def empty(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the given shape whose elements are not set."""
    _C.Device(device)
    return _finish(_C.empty(_shape(shape), _C.default_dtype() if dtype is None else dtype), requires_grad)


def full(
    shape: Shape, fill_value: Number, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor filled with one value; its dtype is the value's (float32, int64 or bool) unless given.

    >>> import pydl
    >>> pydl.full((2,), 0.5).tolist()
    [0.5, 0.5]
    """
    _C.Device(device)
    return _finish(_C.full(shape, fill_value, dtype), requires_grad)


def zeros(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros. The shape is one sequence or several sizes."""
    _C.Device(device)
    return _finish(_C.full(_shape(shape), 0, _C.default_dtype() if dtype is None else dtype), requires_grad)


def ones(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones. The shape is one sequence or several sizes."""
    _C.Device(device)
    return _finish(_C.full(_shape(shape), 1, _C.default_dtype() if dtype is None else dtype), requires_grad)


def empty_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An unset tensor of x's shape and dtype."""
    return _finish(_C.empty(x.shape, x.dtype if dtype is None else dtype), requires_grad)


def full_like(
    x: Tensor, fill_value: Number, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A filled tensor of x's shape and dtype."""
    return _finish(_C.full(x.shape, fill_value, x.dtype if dtype is None else dtype), requires_grad)


def zeros_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape and dtype."""
    return full_like(x, 0, dtype=dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape and dtype."""
    return full_like(x, 1, dtype=dtype, requires_grad=requires_grad)


@torch_keywords
def arange(
    start: Number,
    stop: Number | None = None,
    step: Number = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below stop; with one argument, 0 to that. int64 where all are integers, else float32."""
    if stop is None:
        start, stop = 0, start
    return _finish(_C.arange(start, stop, step, dtype), requires_grad)


@torch_keywords
def linspace(
    start: float,
    stop: float,
    num: int,
    *,
    endpoint: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """num evenly spaced values from start to stop, stop included unless endpoint is False."""
    return _finish(
        _C.linspace(start, stop, num, endpoint, _C.default_dtype() if dtype is None else dtype), requires_grad
    )


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the k-th diagonal of a (n_rows, n_cols) matrix of zeros."""
    _C.Device(device)
    kind = _C.default_dtype() if dtype is None else dtype
    return _finish(_C.eye(n_rows, n_rows if n_cols is None else n_cols, k, kind), requires_grad)


def asarray(
    data: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of data: a tensor, a NumPy array or anything with the buffer protocol, numbers, nested sequences.

    Arrays are shared, not copied, unless copy is True or the dtype changes. Python floats become float32,
    integers int64.

    >>> import numpy as np, pydl
    >>> a = np.zeros(3, dtype=np.float32)
    >>> x = pydl.asarray(a)
    >>> a[0] = 1
    >>> x.tolist()
    [1.0, 0.0, 0.0]
    """
    from pydl._interop import to_tensor

    _C.Device(device)
    return _finish(to_tensor(data, dtype, copy), requires_grad)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """As asarray, always with memory of its own."""
    return asarray(data, dtype=dtype, device=device, copy=True, requires_grad=requires_grad)


def from_dlpack(x: Any) -> Tensor:
    """Another library's array, without a copy, by the DLPack protocol."""
    return _C.from_dlpack(x.__dlpack__())


def astype(x: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
    """x with another dtype; x itself where it has that dtype already and copy is False."""
    return x.astype(dtype, copy=copy)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates as full grids from 1-d tensors, "xy" or "ij"."""
    if len(arrays) == 1 and isinstance(arrays[0], (list, tuple)):
        arrays = tuple(arrays[0])
    arrays = tuple(_C.reshape(a, (1,)) if a.ndim == 0 else a for a in arrays)
    if indexing not in ("xy", "ij"):
        raise ValueError(f"[meshgrid] indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(arrays)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = [1, 0]
    shape = [0] * n
    for a, i in zip(arrays, order):
        shape[i] = a.shape[0]
    out = []
    for a, i in zip(arrays, order):
        view = [1] * n
        view[i] = a.shape[0]
        out.append(_C.broadcast_to(_C.reshape(a, view), shape))
    return out


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
    return _C.logsumexp(x, axis, keepdims)


@torch_keywords
def norm(
    x: Tensor, ord: float | str | None = 2.0, axis: Axis = None, keepdims: bool = False, *, p: Any = None
) -> Tensor:
    """The vector norm of an order over axes (all: of the flattened tensor): 0, 1, 2, p, inf or -inf; "fro" is 2."""
    order = ord if p is None else p
    if isinstance(order, str) and order != "fro":
        raise ValueError(f"[norm] got the order {order!r}, expected a number or 'fro'")
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
    return _C.sum(_C.not_equal(x, 0), axis, keepdims)


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
    if include_initial:
        shape = list(x.shape)
        shape[axis] = 1
        y = _C.concat([_C.full(shape, first, y.dtype), y], axis)
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
    return flat[_C.concat([_C.full((1,), True), fresh], 0)]


# ---- shape


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """x with another shape, -1 standing for one unknown size; a view where the memory allows it."""
    return _C.reshape(x, shape)


@torch_keywords
def permute_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """A view with the axes in another order."""
    return _C.permute_dims(x, axes)


@torch_keywords
def swap_axes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """A view with two axes exchanged."""
    return _C.swap_axes(x, axis1, axis2)


def matrix_transpose(x: Tensor) -> Tensor:
    """A view with the last two axes exchanged."""
    return _C.swap_axes(x, -1, -2)


@torch_keywords
def moveaxis(x: Tensor, source: Axis, destination: Axis) -> Tensor:
    """A view with axes moved to other places, the rest in order."""
    from_axes = [source] if isinstance(source, int) else list(source or ())
    to_axes = [destination] if isinstance(destination, int) else list(destination or ())
    if len(from_axes) != len(to_axes):
        raise ValueError(f"[moveaxis] got {len(from_axes)} sources and {len(to_axes)} destinations")
    n = x.ndim
    moved = {t % n: f % n for f, t in zip(from_axes, to_axes)}
    rest = iter([a for a in range(n) if a not in moved.values()])
    return _C.permute_dims(x, [moved[i] if i in moved else next(rest) for i in range(n)])


@torch_keywords
def expand_dims(x: Tensor, axis: int = 0) -> Tensor:
    """A view with a new axis of size 1."""
    return _C.expand_dims(x, axis)


def squeeze(x: Tensor, axis: Axis = None, *, dim: Any = None) -> Tensor:
    """A view without axes of size 1: those named, which must be, or all. With ``dim`` others stay, as in PyTorch."""
    if dim is not None:
        return _C.squeeze(x, dim, False) if isinstance(dim, int) else x.squeeze(dim)
    for a in () if axis is None else (axis,) if isinstance(axis, int) else axis:
        if x.ndim and x.shape[a] != 1:
            raise ValueError(f"[squeeze] axis {a} of shape {x.shape} has size {x.shape[a]}, not 1")
    return _C.squeeze(x, axis, axis is None)


def broadcast_to(x: Tensor, shape: Shape) -> Tensor:
    """A view of x repeated to a shape, without a copy."""
    return _C.broadcast_to(x, shape)


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """All broadcast to one shape."""
    shape = broadcast_shapes(*[a.shape for a in arrays])
    return [_C.broadcast_to(a, shape) for a in arrays]


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that all of them broadcast to."""
    out: Any = ()
    for s in shapes:
        out = _C.broadcast_shapes(out, s)
    return tuple(out)


@torch_keywords
def concat(arrays: Sequence[Tensor], axis: int | None = 0) -> Tensor:
    """Tensors joined along an axis; axis None joins them flattened."""
    if isinstance(arrays, Tensor):
        raise TypeError("[concat] got a tensor, expected a list or tuple of them: concat([a, b])")
    if axis is None:
        return _C.concat([_C.reshape(a, -1) for a in arrays], 0)
    return _C.concat(arrays, axis)


@torch_keywords
def stack(arrays: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return _C.stack(arrays, axis)


@torch_keywords
def split(x: Tensor, split_size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Views of consecutive parts along an axis: of a size each (the last may be smaller), or of the sizes given."""
    n = x.shape[axis]
    if isinstance(split_size, int):
        if split_size < 1:
            raise ValueError(f"[split] the size must be positive, got {split_size}")
        sizes = [split_size] * (n // split_size) + ([n % split_size] if n % split_size else [])
    else:
        sizes = list(split_size)
        total = math.fsum(sizes)
        if total != n:
            raise ValueError(f"[split] sizes {sizes} sum to {int(total)}, axis {axis} of shape {x.shape} has {n}")
    out, start = [], 0
    for size in sizes or [0]:
        out.append(_C.slice(x, axis, start, size))
        start += size
    return out


@torch_keywords
def chunk(x: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    """At most `chunks` views of equal size along an axis, the last smaller where it does not divide."""
    if chunks < 1:
        raise ValueError(f"[chunk] the number of chunks must be positive, got {chunks}")
    n = x.shape[axis]
    return split(x, -(-n // chunks) if n else 1, axis)


@torch_keywords
def unstack(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The views along an axis, one by one."""
    return tuple(_C.select(x, axis, i) for i in range(x.shape[axis]))


@torch_keywords
def flip(x: Tensor, axis: Axis = None) -> Tensor:
    """A view with the order reversed along axes, all by default."""
    if axis == () or axis == []:
        return x
    return _C.flip(x, axis)


@torch_keywords
def roll(x: Tensor, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Elements moved along axes, those that leave at one end coming in at the other."""
    return _C.roll(x, shift, axis)


def tile(x: Tensor, repetitions: Shape) -> Tensor:
    """x repeated as a whole along each axis."""
    return _C.tile(x, repetitions)


@torch_keywords
def repeat(x: Tensor, repeats: int | Tensor, axis: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element repeated, along an axis or of the flattened tensor (PyTorch's repeat_interleave)."""
    if axis is None:
        x, axis = _C.reshape(x, -1), 0
    n = x.shape[axis]
    if isinstance(repeats, int):
        if repeats < 0:
            raise ValueError(f"[repeat] repeats must not be negative, got {repeats}")
        index = _C.reshape(_C.broadcast_to(_C.expand_dims(_C.arange(0, n, 1), 1), (n, repeats)), -1)
    else:
        ends = _C.cumulative_sum(_C.broadcast_to(repeats, (n,)), 0)
        total = int(ends[-1]) if n else 0
        starts = _C.arange(0, total, 1)
        index = _C.sum(_C.greater_equal(_C.expand_dims(starts, 1), _C.expand_dims(ends, 0)), 1)
    return _C.take(x, index, axis)


repeat_interleave = repeat


@torch_keywords
def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: Number = 0) -> Tensor:
    """x with a constant before and after each axis: one (before, after) per axis; negative widths crop."""
    return _C.pad(x, [(before, after) for before, after in widths], value)


@torch_keywords
def tril(x: Tensor, k: int = 0) -> Tensor:
    """The lower triangle of matrices, up to the k-th diagonal, zeros above."""
    return _C.tril(x, k)


@torch_keywords
def triu(x: Tensor, k: int = 0) -> Tensor:
    """The upper triangle of matrices, from the k-th diagonal, zeros below."""
    return _C.triu(x, k)


def diagonal(
    x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1, *, dim1: int | None = None, dim2: int | None = None
) -> Tensor:
    """A view of a diagonal of the matrices in two axes, as a new last axis."""
    return _C.diagonal(x, offset, axis1 if dim1 is None else dim1, axis2 if dim2 is None else dim2)


def trace(x: Tensor) -> Tensor:
    """The sum of the main diagonal of the last two axes."""
    return _C.sum(_C.diagonal(x, 0, -2, -1), -1)


# ---- indexing


@torch_keywords
def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
    """Elements along an axis by integer indices (needed where x has several axes)."""
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"[take] axis is needed for a tensor of {x.ndim} axes")
        axis = 0
    return _C.take(x, indices, axis)


@torch_keywords
def take_along_axis(x: Tensor, indices: Tensor, axis: int = -1) -> Tensor:
    """Elements along an axis, an index for each place of the result, the other axes broadcast together."""
    return _C.take_along_axis(x, indices, axis)


@torch_keywords
def index_select(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """As take, in PyTorch's order of arguments."""
    return _C.take(x, indices, axis)


@torch_keywords
def gather(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """As torch.gather: along an axis by an index of the result's shape, which may be smaller along other axes."""
    return _C.gather(x, axis, indices)


@torch_keywords
def scatter_add(x: Tensor, axis: int, indices: Tensor, src: Tensor) -> Tensor:
    """A copy of x with src added at indices along an axis; equal indices add up."""
    return _C.scatter_add(x, axis, indices, src)


@torch_keywords
def scatter(x: Tensor, axis: int, indices: Tensor, src: Tensor | Number) -> Tensor:
    """A copy of x with src put at indices along an axis; of equal indices the last stays."""
    return _C.scatter(x, axis, indices, src if isinstance(src, Tensor) else _C.full((), src, x.dtype))


def masked_fill(x: Tensor, mask: Tensor, value: TensorOrNumber) -> Tensor:
    """x with a value where the mask is true."""
    if isinstance(value, Tensor):
        return _C.where(mask, _C.astype(value, x.dtype), x)
    return _C.masked_fill(x, mask, value)


def nonzero(x: Tensor, *, as_tuple: bool = True) -> Any:
    """The places of elements that are not zero: one int64 tensor per axis, or with as_tuple=False the rows of one."""
    rows = _C.nonzero(x)
    if not as_tuple:
        return rows
    return tuple(_C.select(rows, 1, i) for i in range(x.ndim))


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


def outer(x1: Tensor, x2: Tensor) -> Tensor:
    """The (n, m) products of two vectors."""
    return _C.expand_dims(x1, 1) * _C.expand_dims(x2, 0)


def dot(x1: Tensor, x2: Tensor) -> Tensor:
    """The inner product of two vectors."""
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"[dot] both must be vectors, got shapes {x1.shape} and {x2.shape}; use matmul")
    return _C.matmul(x1, x2)


def addmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ b)."""
    return x * beta + (a @ b) * alpha


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """Distances of all rows of one matrix to all rows of another; see :func:`pydl.nn.functional.cdist`."""
    from pydl.nn.functional import cdist

    return cdist(x1, x2, p, compute_mode)


def lerp(x: Tensor, end: Tensor, weight: TensorOrNumber) -> Tensor:
    """x + weight * (end - x)."""
    return x + weight * (end - x)


# ---- random


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, and return it."""
    generator: Generator = _C.default_generator()
    generator.manual_seed(seed % 2**64)
    return generator


def rand(
    *shape: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1)."""
    kind = _C.default_dtype() if dtype is None else dtype
    return _finish(_C.uniform(_shape(shape), 0.0, 1.0, kind, generator), requires_grad)


def randn(
    *shape: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    kind = _C.default_dtype() if dtype is None else dtype
    return _finish(_C.normal(_shape(shape), 0.0, 1.0, kind, generator), requires_grad)


@torch_keywords
def uniform(
    low: float = 0.0, high: float = 1.0, shape: Shape = (), *, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """Uniform in [low, high)."""
    return _C.uniform(shape, low, high, _C.default_dtype() if dtype is None else dtype, generator)


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
    _C.Device(device)
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        like = mean * 1.0 + 0.0 * std
        return mean + std * _C.normal(like.shape, 0.0, 1.0, like.dtype, generator)  # type: ignore[union-attr]
    shape = () if shape is None else shape
    if requires_grad:
        return _finish(normal(mean, std, shape, generator=generator, dtype=dtype), True)
    return _C.normal(shape, mean, std, _C.default_dtype() if dtype is None else dtype, generator)


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
    _C.Device(device)
    if shape is None and high is not None and not isinstance(high, int):
        high, shape = None, high
    if high is None:
        low, high = 0, low
    return _C.randint(low, high, () if shape is None else shape, _C.int64 if dtype is None else dtype, generator)


def randperm(n: int, *, generator: Generator | None = None, device: Any = None) -> Tensor:
    """0 ... n - 1 in random order, int64."""
    return _C.randperm(n, generator)


def rand_like(
    x: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1), of x's shape and dtype."""
    return _finish(_C.uniform(x.shape, 0.0, 1.0, x.dtype if dtype is None else dtype, generator), requires_grad)


def randn_like(
    x: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal, of x's shape and dtype."""
    return _finish(_C.normal(x.shape, 0.0, 1.0, x.dtype if dtype is None else dtype, generator), requires_grad)


def bernoulli(probability: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the given probability, else 0, in the probability's dtype."""
    return _C.bernoulli(probability, generator)


def multinomial(
    probabilities: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Categories drawn from rows of (unnormalized) probabilities; int64, shape (..., num_samples)."""
    return _C.multinomial(probabilities, num_samples, replacement, generator)


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
