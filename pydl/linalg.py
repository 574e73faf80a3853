"""The array API standard's linalg names for what pydl has of linear algebra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl._functions import diagonal, matmul, matrix_transpose, norm, outer, tensordot, trace, vecdot

if TYPE_CHECKING:
    from pydl._functions import Axis
    from pydl._tensor import Tensor

__all__ = [
    "diagonal",
    "matmul",
    "matrix_transpose",
    "norm",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def vector_norm(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2.0) -> Tensor:
    """The norm of vectors along axes, all by default: order 0, 1, 2, p, inf or -inf."""
    return norm(x, ord, axis, keepdims)
