"""Norms of vectors and matrices, rank and condition; pydl.linalg has them under these names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl import _functions as ops
from pydl._aliases import torch_keywords
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from pydl._functions import Axis

__all__ = ["cond", "matrix_norm", "matrix_rank", "norm", "vector_norm"]


@torch_keywords
def norm(x: Tensor, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of a vector, a matrix or, without an order, of all elements, as NumPy's and PyTorch's of that name.

    Args:
        x: any shape; without axes and with an order a vector or a matrix.
        ord: of a vector any number, of a matrix what :func:`matrix_norm` takes; default 2, of matrices "fro".
        axis: one axis for vectors, two for matrices; default all.
        keepdims: leave the axes there with size 1; default False.

    >>> import pydl
    >>> x = pydl.asarray([[3.0, 0.0], [0.0, 4.0]])
    >>> norm(x).item(), norm(x, 2).item(), norm(x, 1, axis=0).tolist()
    (5.0, 4.0, [3.0, 4.0])
    """
    if ord is None:
        return ops.norm(x, 2.0, axis, keepdims)
    if axis is None and x.ndim not in (1, 2):
        raise ValueError(f"[norm] got shape {x.shape} with an order, expected a vector or a matrix, or an axis")
    pair = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if len(pair) == 2:
        return matrix_norm(x, ord, pair, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"[norm] got the order {ord!r} for vectors, expected a number")
    return vector_norm(x, ord, pair, keepdims)


@torch_keywords
def vector_norm(x: Tensor, ord: float = 2.0, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors along axes, all by default: order 0, 1, 2, p, inf or -inf."""
    return ops.norm(x, ord, axis, keepdims)


@torch_keywords
def matrix_norm(
    x: Tensor, ord: float | str = "fro", axis: Any = (-2, -1), keepdims: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices: "fro", "nuc", 2 and -2 (of singular values), 1, -1, inf, -inf (of sums of rows)."""
    if isinstance(axis, bool):  # matrix_norm(x, ord, keepdims)
        axis, keepdims = (-2, -1), axis
    x = x if dtype is None else _C.astype(x, dtype)
    if x.ndim < 2:
        raise ValueError(f"[matrix_norm] got shape {x.shape}, expected matrices (..., M, N)")
    if ord == "fro":
        return ops.norm(x, 2.0, axis, keepdims)
    first, second = (a % x.ndim for a in axis)
    x = ops.moveaxis(x, (first, second), (-2, -1))
    if not x.shape[-2] * x.shape[-1] and ord in (1, 2, math.inf):
        y = _C.full(x.shape[:-2], 0, x.dtype, x.device)
    elif ord in ("nuc", 2, -2):
        from pydl.linalg import svdvals

        s = svdvals(x)
        y = _C.sum(s, -1, False, None) if ord == "nuc" else _C.select(s, -1, 0 if ord == 2 else s.shape[-1] - 1)
    elif ord in (1, -1, math.inf, -math.inf):
        sums = _C.sum(_C.abs(x), -2 if abs(float(ord)) == 1 else -1, False, None)
        y = _C.max(sums, -1, False) if float(ord) > 0 else _C.min(sums, -1, False)
    else:
        raise ValueError(f"[matrix_norm] got the order {ord!r}, expected 'fro', 'nuc', ±1, ±2 or ±inf")
    for a in sorted((first, second)) if keepdims else ():
        y = _C.expand_dims(y, a)
    return y


def matrix_rank(x: Tensor, tol: Any = None, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Tensor:
    """How many singular values are above atol (0) and above rtol times the largest; int64.

    The default of rtol is max(M, N)·eps, and 0 with an atol, or ``tol``, of its own. ``hermitian`` is accepted.
    """
    from pydl.linalg import svdvals

    if not x.numel():
        return _C.full(x.shape[:-2], 0, _C.int64, x.device)
    s = svdvals(x.detach())
    least = tol if atol is None else atol
    if rtol is None:
        rtol = max(x.shape[-2:]) * ops.finfo(x.dtype).eps if least is None else 0.0
    rtol, least = (_C.expand_dims(bound, -1) if isinstance(bound, Tensor) else bound for bound in (rtol, least))
    bound = ops.clip(_C.max(s, -1, True) * rtol, 0.0 if least is None else least, None)
    return _C.sum(_C.greater(s, bound), -1, False, None)


def cond(x: Tensor) -> Tensor:
    """The largest singular value over the smallest."""
    from pydl.linalg import svdvals

    s = svdvals(x)
    return _C.select(s, -1, 0) / _C.select(s, -1, s.shape[-1] - 1)
