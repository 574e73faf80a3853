"""Functions that change shapes: joining, splitting, turning."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "adjoint",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "cartesian_prod",
    "column_stack",
    "combinations",
    "constant_pad_nd",
    "diag",
    "diag_embed",
    "diagflat",
    "dsplit",
    "dstack",
    "flatten",
    "fliplr",
    "flipud",
    "hsplit",
    "hstack",
    "narrow",
    "ravel",
    "rot90",
    "row_stack",
    "select",
    "split_with_sizes",
    "sum_to_size",
    "t",
    "tensor_split",
    "unflatten",
    "vander",
    "vsplit",
    "vstack",
]


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
    if not arrays:
        raise ValueError("[hstack] got no tensors, expected one or more")
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
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        if indices_or_sections < 1:
            raise ValueError(f"[tensor_split] got {indices_or_sections} parts, expected 1 or more")
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


def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices, in two axes of the result, with x's last axis on their diagonals."""
    if not x.ndim:
        raise ValueError("[diag_embed] got a tensor without axes, expected one axis at least")
    rank, n, size = x.ndim + 1, x.shape[-1], x.shape[-1] + abs(offset)
    for dim in (dim1, dim2):
        if not -rank <= dim < rank:
            raise IndexError(f"[diag_embed] axis {dim} is out of range for a result of {rank} axes")
    first, second = dim1 % rank, dim2 % rank
    if first == second:
        raise ValueError(f"[diag_embed] got the axis {dim1} twice, expected two")
    rows = ops.arange(n, device=x.device) + max(-offset, 0)
    columns = ops.arange(n, device=x.device) + max(offset, 0)
    flat = _C.scatter(
        ops.zeros((*x.shape[:-1], size * size), dtype=x.dtype, device=x.device),
        -1,
        _C.broadcast_to(rows * size + columns, x.shape),
        x,
    )
    return ops.moveaxis(_C.reshape(flat, (*x.shape[:-1], size, size)), (-2, -1), (first, second))


def cartesian_prod(*vectors: Tensor) -> Tensor:
    """All combinations of the vectors' elements, one a row."""
    if len(vectors) == 1:
        return vectors[0]
    return ops.stack([_C.reshape(grid, -1) for grid in ops.meshgrid(*vectors, indexing="ij")], axis=1)


def atleast_1d(*arrays: Any) -> Any:
    """Each with one axis at least; one tensor, or a tuple of several."""
    return _lifted(arrays, lambda a: _C.reshape(a, (1,)) if a.ndim == 0 else a)


def atleast_2d(*arrays: Any) -> Any:
    """Each with two axes at least, vectors as rows; one tensor, or a tuple of several."""
    return _lifted(arrays, lambda a: _C.reshape(a, (1, -1)) if a.ndim < 2 else a)


def atleast_3d(*arrays: Any) -> Any:
    """Each with three axes at least; one tensor, or a tuple of several."""

    def lift(a: Tensor) -> Tensor:
        if a.ndim < 2:
            return _C.reshape(a, (1, -1, 1))
        return _C.expand_dims(a, -1) if a.ndim == 2 else a

    return _lifted(arrays, lift)


def _lifted(arrays: tuple[Any, ...], lift: Any) -> Any:
    if len(arrays) == 1 and not isinstance(arrays[0], (tuple, list)):
        return lift(arrays[0])
    return tuple(lift(a) for a in (arrays[0] if len(arrays) == 1 else arrays))


def hsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Views along the second axis (vectors: the first), as tensor_split."""
    return _split_evenly("hsplit", x, indices_or_sections, 0 if x.ndim == 1 else 1)


def vsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Views along the first axis, as tensor_split."""
    return _split_evenly("vsplit", x, indices_or_sections, 0)


def dsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Views along the third axis, as tensor_split."""
    return _split_evenly("dsplit", x, indices_or_sections, 2)


def _split_evenly(name: str, x: Tensor, cuts: Any, axis: int) -> tuple[Tensor, ...]:
    if x.ndim <= axis:
        raise ValueError(f"[{name}] got shape {x.shape}, expected {axis + 1} axes or more")
    if isinstance(cuts, str) or (isinstance(cuts, int) and cuts < 1):
        raise ValueError(f"[{name}] got {cuts!r}, expected a number of parts, or the places of cuts")
    if isinstance(cuts, int) and x.shape[axis] % cuts:
        raise ValueError(f"[{name}] axis {axis} of shape {x.shape} does not split into {cuts} equal parts")
    return tensor_split(x, cuts, axis)


def fliplr(x: Tensor) -> Tensor:
    """With the second axis reversed."""
    return ops.flip(x, 1)


def flipud(x: Tensor) -> Tensor:
    """With the first axis reversed."""
    if not x.ndim:
        raise ValueError("[flipud] got a tensor without axes, expected one axis at least")
    return ops.flip(x, 0)


def rot90(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned k times by 90° in the plane of two axes, from the first towards the second."""
    if len(dims) != 2 or x.ndim < 2 or dims[0] % x.ndim == dims[1] % x.ndim:
        raise ValueError(f"[rot90] got the axes {tuple(dims)} of shape {x.shape}, expected two different ones")
    a, b = dims
    if k % 4 == 0:
        return _C.clone(x)
    if k % 4 == 2:
        return ops.flip(x, (a, b))
    return ops.flip(_C.swap_axes(x, a, b), a) if k % 4 == 1 else ops.flip(_C.swap_axes(x, a, b), b)


def diagflat(x: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements on a diagonal."""
    return diag_embed(_C.reshape(x, -1), offset)


def adjoint(x: Tensor) -> Tensor:
    """A view with the last two axes exchanged."""
    return _C.swap_axes(x, -1, -2)


def sum_to_size(x: Tensor, *size: Any) -> Tensor:
    """Summed over axes until it has a shape that broadcasts to its own."""
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    extra = x.ndim - len(shape)
    summed = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    if extra < 0 or any(n not in (1, x.shape[i + extra]) for i, n in enumerate(shape)):
        raise ValueError(f"[sum_to_size] got {shape} for shape {x.shape}, expected a shape that broadcasts to it")
    return _C.reshape(_C.sum(x, summed, False, None) if summed else x, shape)


def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, one a row."""
    from itertools import combinations, combinations_with_replacement

    if x.ndim != 1:
        raise ValueError(f"[combinations] got shape {x.shape}, expected a vector")
    rows = list((combinations_with_replacement if with_replacement else combinations)(range(x.shape[0]), r))
    if not rows or not r:
        return _C.full((0,) if not r else (0, r), 0, x.dtype, x.device)
    return _C.take(x, ops.asarray(rows, device=x.device), 0)


def constant_pad_nd(x: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """With a constant around it: (before, after) of the last axis, then of the one before it, and so on."""
    from pydl.nn.functional import pad as pad_by_pairs

    return pad_by_pairs(x, pad, value=value)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector's elements as rows, the highest first unless increasing."""
    powers = ops.arange(x.shape[0] if N is None else N, device=x.device)
    return _C.expand_dims(x, -1) ** (powers if increasing else ops.flip(powers))


def split_with_sizes(x: Tensor, split_sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    """Views of consecutive parts of the sizes given."""
    return ops.split(x, list(split_sizes), dim)


row_stack = vstack
