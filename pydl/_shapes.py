"""Functions that change shapes, join and split, and read or write by index."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Union

from pydl import _C
from pydl._aliases import in_its_own_name, torch_keywords
from pydl._creation import Number, Shape
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Axis = Union[int, "Sequence[int]", None]
TensorOrNumber = Tensor | Number


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
    for axes in (from_axes, to_axes):
        if outside := [a for a in axes if not -n <= a < n]:
            raise IndexError(f"[moveaxis] axis {outside[0]} is out of range for a tensor of {n} axes")
        if len({a % n for a in axes}) < len(axes):
            raise ValueError(f"[moveaxis] got the axes {axes}, expected each once")
    moved = {t % n: f % n for f, t in zip(from_axes, to_axes)}
    rest = iter([a for a in range(n) if a not in moved.values()])
    return _C.permute_dims(x, [moved[i] if i in moved else next(rest) for i in range(n)])


@torch_keywords
def expand_dims(x: Tensor, axis: int = 0) -> Tensor:
    """A view with a new axis of size 1."""
    return _C.expand_dims(x, axis)


@in_its_own_name
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


@in_its_own_name
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
    return _C.split(x, axis, sizes or [0])


@in_its_own_name
@torch_keywords
def chunk(x: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    """At most `chunks` views of equal size along an axis, the last smaller where it does not divide."""
    if chunks < 1:
        raise ValueError(f"[chunk] the number of chunks must be positive, got {chunks}")
    n = x.shape[axis]
    return split(x, -(-n // chunks) if n else 1, axis)


@in_its_own_name
@torch_keywords
def unstack(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The views along an axis, one by one."""
    return tuple(_C.squeeze(part, axis, False) for part in _C.split(x, axis, [1] * x.shape[axis]))


@torch_keywords
def flip(x: Tensor, axis: Axis = None) -> Tensor:
    """A copy with the order reversed along axes, all by default; ``x[::-1]`` is a view."""
    if axis == () or axis == []:
        return _C.clone(x)
    return _C.clone(_C.flip(x, axis))


@torch_keywords
def roll(x: Tensor, shift: int | Sequence[int], axis: Axis = None) -> Tensor:
    """Elements moved along axes, those that leave at one end coming in at the other."""
    return _C.roll(x, shift, axis)


@in_its_own_name
def tile(x: Tensor, repetitions: Shape) -> Tensor:
    """x repeated as a whole along each axis."""
    return _C.tile(x, repetitions)


@in_its_own_name
@torch_keywords
def repeat(x: Tensor, repeats: int | Tensor, axis: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element repeated, along an axis or of the flattened tensor (PyTorch's repeat_interleave)."""
    if axis is None:
        x, axis = _C.reshape(x, -1), 0
    n = x.shape[axis]
    if isinstance(repeats, int):
        if repeats < 0:
            raise ValueError(f"[repeat] repeats must not be negative, got {repeats}")
        if 1 < n == x.numel() and repeats > 1:  # an index would be larger than x
            shape = [n * repeats if i == axis % x.ndim else 1 for i in range(x.ndim)]
            return _C.reshape(_C.broadcast_to(_C.reshape(x, (n, 1)), (n, repeats)), shape)
        index = _C.reshape(_C.broadcast_to(_C.expand_dims(_C.arange(0, n, 1), 1), (n, repeats)), -1)
    else:
        if n and int(_C.min(repeats)) < 0:
            raise ValueError(f"[repeat] repeats must not be negative, got {int(_C.min(repeats))}")
        ends = _C.cumulative_sum(_C.broadcast_to(repeats, (n,)), 0)
        total = int(ends[-1]) if n else 0
        passed = _C.full((total + 1,), 0, _C.int64, ends.device)
        passed = _C.scatter_add(passed, 0, ends, _C.full(ends.shape, 1, _C.int64, ends.device))
        index = _C.slice(_C.cumulative_sum(passed, 0), 0, 0, total)  # how many have ended before
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


@in_its_own_name
def trace(x: Tensor) -> Tensor:
    """The sum of the main diagonal of the last two axes."""
    return _C.sum(_C.diagonal(x, 0, -2, -1), -1)


# ---- indexing


def flat_places(op: str, x: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Places of the flattened x, counted from the end below 0, as an index for each axis."""
    count, index = x.numel(), _C.astype(index, _C.int64)
    if index.numel() > 0 and not (-count <= _C.min(index).item() and _C.max(index).item() < count):
        raise IndexError(f"[{op}] got an index beyond the {count} elements of shape {x.shape}")
    return unravelled(_C.where(_C.less(index, 0), index + count, index), x.shape)


def unravelled(index: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Places of the flattened tensor as one index for each axis."""
    found: list[Tensor] = []
    for size in reversed(sizes):
        found.append(_C.remainder(index, size))
        index = _C.floor_divide(index, size)
    return tuple(reversed(found))


@torch_keywords
def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
    """Elements along an axis by integer indices; without one, of the flattened tensor, as PyTorch does."""
    if axis is None:
        if isinstance(indices, Tensor) and not x.is_contiguous() and indices.numel() < x.numel() and x.is_cpu:
            return x[flat_places("take", x, indices)]
        if x.ndim != 1 and isinstance(indices, Tensor):  # where the standard says nothing, PyTorch does
            indices = _C.where(_C.less(indices, 0), indices + x._count, indices)
        x, axis = _C.reshape(x, -1), 0
    return _C.take(x, indices, axis)


@torch_keywords
def take_along_axis(x: Tensor, indices: Tensor, axis: int = -1) -> Tensor:
    """Elements along an axis, an index for each place of the result, the other axes broadcast together."""
    return _C.take_along_axis(x, indices, axis)


@in_its_own_name
@torch_keywords
def index_select(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """As take, in PyTorch's order of arguments."""
    if x.ndim == 0:
        return _C.reshape(_C.take(_C.reshape(x, 1), _C.reshape(indices, -1), 0), ())
    return _C.take(x, indices, axis)


@torch_keywords
def gather(x: Tensor, axis: int, indices: Tensor) -> Tensor:
    """As torch.gather: along an axis by an index of the result's shape, which may be smaller along other axes."""
    if x.ndim == 0:
        return _C.reshape(_C.gather(_C.reshape(x, 1), 0, _C.reshape(indices, -1)), indices.shape)
    return _C.gather(x, axis, indices)


@torch_keywords
def scatter_add(x: Tensor, axis: int, indices: Tensor, src: Tensor) -> Tensor:
    """A copy of x with src added at indices along an axis; equal indices add up."""
    if x.ndim == 0:
        return _C.reshape(_C.scatter_add(_C.reshape(x, 1), 0, _C.reshape(indices, -1), _C.reshape(src, -1)), ())
    return _C.scatter_add(x, axis, indices, src)


@torch_keywords
def scatter(x: Tensor, axis: int, indices: Tensor, src: Tensor | Number, *, reduce: str | None = None) -> Tensor:
    """A copy of x with src put at indices along an axis; of equal indices the last stays.

    With ``reduce="add"`` or ``"multiply"`` src is added to what is there, or multiplied with it.
    """
    src = src if isinstance(src, Tensor) else _C.full((), src, x.dtype)
    if reduce is not None:
        from pydl._compositions import scatter_reduce

        if reduce not in ("add", "multiply"):
            raise ValueError(f"[scatter] got reduce {reduce!r}, expected 'add', 'multiply' or None")
        src = src if src.ndim else _C.broadcast_to(src, indices.shape)
        return scatter_reduce(x, axis, indices, src, "sum" if reduce == "add" else "prod")
    if x.ndim == 0:
        src = src if src.ndim == 0 else _C.reshape(src, -1)
        return _C.reshape(_C.scatter(_C.reshape(x, 1), 0, _C.reshape(indices, -1), src), ())
    return _C.scatter(x, axis, indices, src)


@in_its_own_name
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
    if not x.ndim:
        return (_C.arange(0, rows.shape[0], 1),)
    return tuple(_C.select(rows, 1, i) for i in range(x.ndim))
