"""Norms, distances and similarities of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "cosine_similarity",
    "normalize",
]


def normalize(input: Tensor, p: float = 2.0, axis: int = 1, eps: float = 1e-12, *, dim: int | None = None) -> Tensor:
    """x / max(‖x‖_p, ε) along one axis."""
    axis = axis if dim is None else dim
    return input / pydl.maximum(_norm(input, p, axis), eps)


def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8, *, dim: int | None = None) -> Tensor:
    """x1·x2 / (max(‖x1‖, ε) max(‖x2‖, ε)) along one axis."""
    axis = axis if dim is None else dim
    norms = pydl.maximum(_norm(x1, 2.0, axis), eps) * pydl.maximum(_norm(x2, 2.0, axis), eps)
    return (x1 * x2 / norms).sum(axis=axis)


def _norm(x: Tensor, p: float, axis: int) -> Tensor:
    if p == 2:
        return pydl.sqrt((x * x).sum(axis=axis, keepdims=True))
    return (abs(x) ** p).sum(axis=axis, keepdims=True) ** (1.0 / p)
