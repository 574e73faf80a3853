"""Products and sums of products, as PyTorch names them."""

from __future__ import annotations

from pydl import _C
from pydl import _functions as ops
from pydl._tensor import Tensor, one_pass

__all__ = [
    "addbmm",
    "addcdiv",
    "addcmul",
    "addmv",
    "addr",
    "baddbmm",
    "block_diag",
    "chain_matmul",
    "cross",
    "dist",
    "inner",
    "kron",
    "vdot",
]


def addmv(x: Tensor, a: Tensor, v: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ v) for a matrix and a vector."""
    return ops._scaled_sum(x, beta, (a @ v), alpha)


def addr(x: Tensor, v1: Tensor, v2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * outer(v1, v2)."""
    return ops._scaled_sum(x, beta, ops.outer(v1, v2), alpha)


def baddbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * (a @ b) for batches of matrices."""
    return ops._scaled_sum(x, beta, (a @ b), alpha)


def addbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * x + alpha * the sum of the batch's products a @ b."""
    return ops._scaled_sum(x, beta, (a @ b).sum(axis=0), alpha)


def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value * a * b."""
    y = one_pass(_C.addcmul, x, a, b, value)
    return x + a * b * value if y is None else y


def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value * a / b."""
    y = one_pass(_C.addcdiv, x, a, b, value)
    return x + a / b * value if y is None else y


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


ger = ops.outer


def block_diag(*matrices: Tensor) -> Tensor:
    """One matrix with the given ones (numbers and vectors count as rows) along its diagonal, zeros elsewhere."""
    if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)):
        matrices = tuple(matrices[0])
    parts = [_C.reshape(m, (1, -1)) if m.ndim < 2 else m for m in matrices]
    for part in parts:
        if part.ndim != 2:
            raise ValueError(f"[block_diag] got shape {part.shape}, expected matrices, vectors or numbers")
    width, before, rows = sum(part.shape[1] for part in parts), 0, []
    kind = _C.result_type(*parts) if len(parts) > 1 else None
    for part in parts:
        after = width - before - part.shape[1]
        rows.append(_C.pad(part if kind is None else _C.astype(part, kind), [(0, 0), (before, after)], 0))
        before += part.shape[1]
    return ops.concat(rows, axis=0)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, from left to right."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = result @ matrix
    return result
