"""Similarity and distance of vectors as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Module):
    """x1·x2 / (max(‖x1‖, ε) max(‖x2‖, ε)) along one axis.

    Args:
        dim: the axis; default 1.
        eps: ε; default 1e-8.

    Shapes:
        two inputs whose shapes broadcast -> that shape without the axis.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.CosineSimilarity()(pydl.asarray([[3.0, 4.0]]), pydl.asarray([[4.0, 3.0]])).item(), 2)
    0.96
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """(..., D, ...), (..., D, ...) -> (..., ...)."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """‖x1 - x2 + ε‖_p over the last axis.

    Args:
        p: of the norm; default 2.
        eps: ε, so that the norm has a gradient where the vectors are equal; default 1e-6.
        keepdim: keep the last axis, with size 1; default False.

    Shapes:
        (N, D), (N, D) -> (N), or (D), (D) -> ().

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.PairwiseDistance()(pydl.zeros((1, 2)), pydl.asarray([[3.0, 4.0]])).item(), 4)
    5.0
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """(N, D), (N, D) -> (N)."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
