"""Losses. ``reduction`` is "mean" (default), "sum" or "none"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(x)[target]; see :class:`pydl.nn.CrossEntropyLoss`."""
    return _C.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-x[target] for log-probabilities x; see :class:`pydl.nn.NLLLoss`."""
    axis = 1 if input.ndim > 1 else 0
    batch = tuple(input.shape[:axis]) + tuple(input.shape[axis + 1 :])
    if input.ndim == 0 or tuple(target.shape) != batch:
        shapes = f"input {tuple(input.shape)} and target {tuple(target.shape)}"
        raise ValueError(f"[nll_loss] got {shapes}, expected (N, C, ...) and (N, ...), or (C) and ()")
    counted = _C.not_equal(target, ignore_index)
    place = pydl.where(counted, target, pydl.zeros_like(target))
    classes = input.shape[axis]
    if place.size and not (int(place.min().item()) >= 0 and int(place.max().item()) < classes):
        raise IndexError(f"[nll_loss] target holds numbers outside 0 to {classes - 1}")
    picked = pydl.squeeze(pydl.take_along_axis(input, pydl.expand_dims(place, axis=axis), axis=axis), axis=axis)
    share = counted.astype(input.dtype)
    if weight is not None:
        share = share * pydl.take(weight, place.reshape((-1,)), axis=0).reshape(batch)
    loss = pydl.where(counted, -picked * share, pydl.zeros_like(picked))
    return loss.sum() / share.sum() if reduction == "mean" else _reduce(loss, reduction, "nll_loss")


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - y)²."""
    _same_shape(input, target, "mse_loss")
    return _reduce(_C.square(input - target), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - y|."""
    _same_shape(input, target, "l1_loss")
    return _reduce(abs(input - target), reduction, "l1_loss")


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """(x - y)²/2β where |x - y| < β, otherwise |x - y| - β/2. Girshick, arXiv:1504.08083."""
    if not beta >= 0:
        raise ValueError(f"[smooth_l1_loss] got beta = {beta}, expected 0 or more")
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """(x - y)²/2 where |x - y| < δ, otherwise δ(|x - y| - δ/2). Huber (1964)."""
    if not delta > 0:
        raise ValueError(f"[huber_loss] got delta = {delta}, expected more than 0")
    _same_shape(input, target, "huber_loss")
    distance = abs(input - target)
    small = pydl.minimum(distance, delta)  # half its square, and delta times what lies beyond
    return _reduce(small * (distance - 0.5 * small), reduction, "huber_loss")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p; logarithms end at -100, as in PyTorch."""
    _same_shape(input, target, "binary_cross_entropy")
    yes = pydl.maximum(pydl.log(input), -100.0)
    no = pydl.maximum(pydl.log1p(-input), -100.0)
    loss = -(target * yes + (1.0 - target) * no)
    return _reduce(loss if weight is None else loss * weight, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(w y log σ(x) + (1 - y) log(1 - σ(x))) without overflow; see :class:`pydl.nn.BCEWithLogitsLoss`."""
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    rest = (1.0 - target) * input
    if pos_weight is None:
        loss = rest - _C.logsigmoid(input)
    else:
        loss = rest - (1.0 + (pos_weight - 1.0) * target) * _C.logsigmoid(input)
    return _reduce(loss if weight is None else loss * weight, reduction, "binary_cross_entropy_with_logits")


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """y (log y - x) for log-probabilities x; ``reduction="batchmean"`` divides the sum by the batch size."""
    if log_target:
        loss = pydl.exp(target) * (target - input)
    else:
        positive = target > 0
        safe = pydl.where(positive, target, pydl.ones_like(target))
        loss = pydl.where(positive, target * pydl.log(safe), pydl.zeros_like(target)) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return _reduce(loss, reduction, "kl_div")


def _same_shape(input: Tensor, target: Tensor, op: str) -> None:
    if input.shape != target.shape:
        raise ValueError(
            f"[{op}] got input of shape {tuple(input.shape)} and target of shape {tuple(target.shape)}, "
            "expected the same; reshape one of them"
        )


def _reduce(loss: Tensor, reduction: str, op: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"[{op}] got reduction {reduction!r}, expected 'mean', 'sum' or 'none'")
