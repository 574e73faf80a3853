"""Losses of margins, rankings and distances, made of ops. Arguments as in _loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C
from pydl._aliases import in_its_own_name
from pydl.nn.functional._distance import pairwise_distance
from pydl.nn.functional._loss import reduced, reduction_of, same_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl import Tensor

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _positive_part(x: Tensor) -> Tensor:
    """max(x, 0), whose derivative at 0 is 1, as PyTorch's clamp has it."""
    return _C.clip(x, 0.0, float("inf"))


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - y (x1 - x2)): x1 should rank above x2 where y is 1, below where it is -1."""
    reduction = reduction_of("margin_ranking_loss", reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        shapes = f"{tuple(input1.shape)}, {tuple(input2.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[margin_ranking_loss] got shapes {shapes}, expected as many axes in each")
    return reduced(_positive_part(margin - target * (input1 - input2)), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """A distance x where y is 1, max(0, margin - x) where y is -1."""
    reduction = reduction_of("hinge_embedding_loss", reduction, size_average, reduce)
    return _C.hinge_embedding_loss(*same_shape("hinge_embedding_loss", input, target), reduction, margin)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where y is 1, max(0, cos(x1, x2) - margin) where y is -1. (N, D), (N, D), (N) or (D), (D), ()."""
    reduction = reduction_of("cosine_embedding_loss", reduction, size_average, reduce)
    if target.ndim > 1 or not input1.ndim == input2.ndim == target.ndim + 1:
        shapes = f"{tuple(input1.shape)}, {tuple(input2.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[cosine_embedding_loss] got {shapes}, expected (N, D), (N, D) and (N), or (D), (D) and ()")
    eps = 1e-12
    squares = ((input1 * input1).sum(axis=-1) + eps) * ((input2 * input2).sum(axis=-1) + eps)
    cosine = (input1 * input2).sum(axis=-1) / pydl.sqrt(squares)
    zeros = pydl.zeros_like(cosine)
    loss = pydl.where(target == 1, 1.0 - cosine, zeros) + pydl.where(
        target == -1, _positive_part(cosine - margin), zeros
    )
    return reduced(loss, reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_i w_y max(0, margin - x_y + x_i)^p / C over the classes i other than y. (N, C) and (N), or (C) and ()."""
    reduction = reduction_of("multi_margin_loss", reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError(f"[multi_margin_loss] got p = {p}, expected 1 or 2")
    x = input if input.ndim == 2 else input.reshape((1, -1))
    y = target.reshape((-1, 1))
    if input.ndim > 2 or target.ndim > 1 or y.shape[0] != x.shape[0]:
        shapes = f"input {tuple(input.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[multi_margin_loss] got {shapes}, expected (N, C) and (N), or (C) and ()")
    classes = x.shape[1]
    _check_classes("multi_margin_loss", y, classes)
    violated = _C.relu(margin - pydl.take_along_axis(x, y, axis=1) + x)
    violated = violated if p == 1 else violated * violated
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise ValueError(f"[multi_margin_loss] got weight of shape {tuple(weight.shape)}, expected ({classes},)")
        violated = violated * pydl.take(weight, y.reshape((-1,)), axis=0).reshape((-1, 1))
    others = pydl.arange(classes, device=y.device) != y
    loss = pydl.where(others, violated, pydl.zeros_like(violated)).sum(axis=1) / classes
    return reduced(loss.reshape(target.shape), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_ij max(0, 1 - (x_j - x_i)) / C over labels j and other classes i. (N, C) each, or (C).

    A row of the target lists its labels; what follows the first -1 does not count.
    """
    reduction = reduction_of("multilabel_margin_loss", reduction, size_average, reduce)
    if input.shape != target.shape or input.ndim > 2:
        shapes = f"input {tuple(input.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[multilabel_margin_loss] got {shapes}, expected (N, C) twice, or (C)")
    x, y = (t if t.ndim == 2 else t.reshape((1, -1)) for t in (input, target))
    classes = x.shape[1]
    listed = pydl.cumulative_prod((y >= 0).astype(pydl.int64), axis=1)  # 1 before the first negative one
    place = y * listed
    _check_classes("multilabel_margin_loss", place, classes)
    is_label = pydl.scatter_add(pydl.zeros(y.shape, dtype=pydl.int64, device=y.device), 1, place, listed) > 0
    labels = pydl.expand_dims(pydl.take_along_axis(x, place, axis=1), axis=2)
    violated = _C.relu(1.0 - labels + pydl.expand_dims(x, axis=1))
    counts = pydl.expand_dims(listed > 0, axis=2) & pydl.expand_dims(~is_label, axis=1)
    loss = pydl.where(counts, violated, pydl.zeros_like(violated)).sum(axis=(1, 2)) / classes
    return reduced(loss if input.ndim == 2 else loss.reshape(()), reduction)


@in_its_own_name
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)) with the p-norm as distance. Balntas et al. (2016) for ``swap``."""
    reduction = reduction_of("triplet_margin_loss", reduction, size_average, reduce)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)) with any distance; default :func:`pairwise_distance`."""
    op = "triplet_margin_with_distance_loss"
    reduction = reduction_of(op, reduction, None, None)
    distance = pairwise_distance if distance_function is None else distance_function
    return _triplet(op, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    op: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if not margin > 0:
        raise ValueError(f"[{op}] got margin = {margin}, expected more than 0")
    if not anchor.ndim == positive.ndim == negative.ndim:
        shapes = f"{tuple(anchor.shape)}, {tuple(positive.shape)} and {tuple(negative.shape)}"
        raise ValueError(f"[{op}] got anchor, positive and negative of shapes {shapes}, expected as many axes in each")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = pydl.minimum(far, distance(positive, negative))
    return reduced(_positive_part(margin + near - far), reduction)


def _check_classes(op: str, target: Tensor, classes: int) -> None:
    if target.is_floating_point():
        raise TypeError(f"[{op}] got a {target.dtype} target, expected class numbers; convert with astype(pydl.int64)")
    if target.size:
        low, high = int(target.min().item()), int(target.max().item())
        if low < 0 or high >= classes:
            raise IndexError(f"[{op}] got targets from {low} to {high}, expected 0 to {classes - 1}")
