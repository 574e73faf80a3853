"""Norms, distances and similarities of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl._aliases import in_its_own_name

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "cdist",
    "cosine_similarity",
    "normalize",
    "pairwise_distance",
    "pdist",
]


@in_its_own_name
def normalize(
    input: Tensor, p: float = 2.0, axis: int = 1, eps: float = 1e-12, *, dim: int | None = None, out: Any = None
) -> Tensor:
    """x / max(‖x‖_p, ε) along one axis."""
    axis = axis if dim is None else dim
    return input / pydl.clip(pydl.norm(input, p, axis=axis, keepdims=True), eps)


@in_its_own_name
def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8, *, dim: int | None = None) -> Tensor:
    """x1·x2 / (max(‖x1‖, ε) max(‖x2‖, ε)) along one axis; the shapes broadcast."""
    axis = axis if dim is None else dim
    if x1.shape != x2.shape:
        x1, x2 = pydl.broadcast_arrays(x1, x2)
    # Divided before the product is taken, so that neither overflows.
    return (_unit(x1, axis, eps) * _unit(x2, axis, eps)).sum(axis=axis)


def _unit(x: Tensor, axis: int, eps: float) -> Tensor:
    norm = pydl.norm(x, 2.0, axis=axis, keepdims=True)
    return x / pydl.where(norm < eps, pydl.full_like(norm, eps), norm)


@in_its_own_name
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False, *, keepdims: bool = False
) -> Tensor:
    """‖x1 - x2 + ε‖_p over the last axis: (N, D), (N, D) -> (N)."""
    return pydl.norm(x1 - x2 + eps, p, axis=-1, keepdims=keepdim or keepdims)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """‖x_i - x_j‖_p for all rows i < j: (N, D) -> (N (N - 1) / 2), row by row of the upper triangle."""
    if input.ndim != 2:
        raise ValueError(f"[pdist] got input of shape {tuple(input.shape)}, expected (N, D)")
    if not p >= 0:
        raise ValueError(f"[pdist] got p = {p}, expected 0 or more")
    import numpy as np

    first, second = (pydl.asarray(i.astype(np.int64), device=input.device) for i in np.triu_indices(input.shape[0], 1))
    if not first.size:
        return pydl.norm(input[:0], p if p < float("inf") else 2.0, axis=-1)
    return pydl.norm(pydl.take(input, first, axis=0) - pydl.take(input, second, axis=0), p, axis=-1)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """‖x1_i - x2_j‖_p for all pairs of rows: (..., P, D), (..., R, D) -> (..., P, R); batch axes broadcast.

    With p = 2 and more than 25 rows on both sides it is made of a matrix product, unless ``compute_mode`` is
    ``"donot_use_mm_for_euclid_dist"``: quicker, and less exact where distances are small beside the vectors.
    """
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        shapes = f"{tuple(x1.shape)} and {tuple(x2.shape)}"
        raise ValueError(f"[cdist] got shapes {shapes}, expected (..., P, D) and (..., R, D)")
    if not p >= 0:
        raise ValueError(f"[cdist] got p = {p}, expected 0 or more")
    large = x1.shape[-2] > 25 and x2.shape[-2] > 25
    if p == 2 and (
        compute_mode == "use_mm_for_euclid_dist" or (large and compute_mode == "use_mm_for_euclid_dist_if_necessary")
    ):
        squares = (x1 * x1).sum(axis=-1, keepdims=True) + pydl.expand_dims((x2 * x2).sum(axis=-1), axis=-2)
        squares = squares - 2.0 * (x1 @ x2.mT)
        apart = squares > 0  # where it is not, the distance is 0 and so is its gradient
        return pydl.where(apart, pydl.sqrt(pydl.where(apart, squares, 1.0)), pydl.zeros_like(squares))
    if compute_mode not in (
        "use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist",
    ):  # fmt: skip
        raise ValueError(f"[cdist] got compute_mode {compute_mode!r}")
    return pydl.norm(pydl.expand_dims(x1, axis=-2) - pydl.expand_dims(x2, axis=-3), p, axis=-1)
