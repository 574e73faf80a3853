"""Losses of predictions and targets. ``reduction`` is "mean" (default), "sum" or "none".

``size_average`` and ``reduce`` are what PyTorch had before ``reduction``; they are accepted and override it. The
losses of margins and distances are in _margin_loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
]


def reduction_of(
    op: str, reduction: str, size_average: bool | None, reduce: bool | None, known: tuple[str, ...] = ()
) -> str:
    """The reduction that is meant, from PyTorch's old pair of flags too."""
    if isinstance(size_average, str):
        raise TypeError(f"[{op}] got {size_average!r} for size_average; give it by name: reduction={size_average!r}")
    if size_average is not None or reduce is not None:
        if reduce is False:
            return "none"
        return "sum" if size_average is False else "mean"
    if reduction not in ("mean", "sum", "none", *known):
        expected = ", ".join(map(repr, ("mean", "sum", "none", *known)))
        raise ValueError(f"[{op}] got reduction {reduction!r}, expected one of {expected}")
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the losses, or the losses themselves."""
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(x)[target]; see :class:`pydl.nn.CrossEntropyLoss`."""
    if size_average is not None or reduce is not None:
        reduction = reduction_of("cross_entropy", reduction, size_average, reduce)
    if ignore_index >= 0 and target.dtype.is_floating_point:
        _refuse_ignoring("cross_entropy", ignore_index)
    return _C.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def _refuse_ignoring(op: str, ignore_index: int) -> None:
    raise ValueError(
        f"[{op}] got ignore_index {ignore_index} with probabilities as target, expected class numbers beside it; "
        "weigh the rows to leave out with 0 instead"
    )


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """:func:`cross_entropy` of the logits that a dense layer makes; see :class:`pydl.nn.LinearCrossEntropyLoss`."""
    if ignore_index is not None and target.dtype.is_floating_point:
        _refuse_ignoring("linear_cross_entropy", ignore_index)
    *places, features = linear_weight.shape
    if len(places) > 1 and input.ndim == 1:
        got = f"an input of shape {tuple(input.shape)} with a weight of shape {tuple(linear_weight.shape)}"
        raise ValueError(f"[linear_cross_entropy] got {got}, expected a batch, (N, {features})")
    bias = None if linear_bias is None else linear_bias.reshape((-1,))
    logits = _C.linear(input, linear_weight.reshape((-1, features)), bias)
    if len(places) > 1:
        logits = logits.reshape((*input.shape[:-1], *places))
    ignored = -100 if ignore_index is None else ignore_index
    return _C.cross_entropy(logits, target, weight, ignored, reduction, label_smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-x[target] for log-probabilities x; see :class:`pydl.nn.NLLLoss`."""
    reduction = reduction_of("nll_loss", reduction, size_average, reduce)
    return _C.nll_loss(input, target, weight, ignore_index, reduction)


def _weighted(
    op: str, input: Tensor, target: Tensor, weight: Tensor, reduction: str, p: float = 0.0, by_weight: bool = True
) -> Tensor:
    """A regression loss with a weight for each element; the mean is divided by the weights' sum, or their number."""
    if weight.shape != input.shape:
        shapes = f"weight of shape {tuple(weight.shape)} for input {tuple(input.shape)}"
        raise ValueError(f"[{op}] got {shapes}, expected one weight for each element")
    if weight.requires_grad:
        loss = weight * getattr(_C, op)(input, target, "none", p)
        loss = loss if reduction == "none" else loss.sum()
    else:
        loss = getattr(_C, op)(input, target, "sum" if reduction == "mean" else reduction, p, weight)
    if reduction != "mean":
        return loss
    return loss / (weight.sum() if by_weight else max(weight.size, 1))


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - y)²; with ``weight``, one for each element, the mean is the weighted one."""
    reduction = reduction_of("mse_loss", reduction, size_average, reduce)
    if weight is not None:
        return _weighted("mse_loss", input, target, weight, reduction)
    return _C.mse_loss(input, target, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - y|; with ``weight``, one for each element, the mean is the weighted one."""
    reduction = reduction_of("l1_loss", reduction, size_average, reduce)
    if weight is not None:
        return _weighted("l1_loss", input, target, weight, reduction)
    return _C.l1_loss(input, target, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - y)²/2β where |x - y| < β, otherwise |x - y| - β/2. Girshick, arXiv:1504.08083."""
    reduction = reduction_of("smooth_l1_loss", reduction, size_average, reduce)
    if not beta >= 0:
        raise ValueError(f"[smooth_l1_loss] got beta = {beta}, expected 0 or more")
    return _C.l1_loss(input, target, reduction) if beta == 0 else _C.smooth_l1_loss(input, target, reduction, beta)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """(x - y)²/2 where |x - y| < δ, otherwise δ(|x - y| - δ/2). Huber (1964).

    ``weight``, one for each element, multiplies the losses; their mean stays one over the number of elements.
    """
    reduction = reduction_of("huber_loss", reduction, None, None)
    if not delta > 0:
        raise ValueError(f"[huber_loss] got delta = {delta}, expected more than 0")
    if weight is not None:
        return _weighted("huber_loss", input, target, weight, reduction, delta, by_weight=False)
    return _C.huber_loss(input, target, reduction, delta)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p; logarithms end at -100, as in PyTorch."""
    reduction = reduction_of("binary_cross_entropy", reduction, size_average, reduce)
    if weight is not None and weight.requires_grad:
        return reduced(weight * _C.binary_cross_entropy(input, target, "none"), reduction)
    return _C.binary_cross_entropy(input, target, reduction, 0.0, weight)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(w y log σ(x) + (1 - y) log(1 - σ(x))) without overflow; see :class:`pydl.nn.BCEWithLogitsLoss`."""
    op = "binary_cross_entropy_with_logits"
    reduction = reduction_of(op, reduction, size_average, reduce)
    if pos_weight is not None and pos_weight.requires_grad:  # rare: as the sum of its two parts
        positive = -(target * _C.logsigmoid(input)) * pos_weight
        loss = positive - (1.0 - target) * _C.logsigmoid(-input)
        return reduced(loss if weight is None else loss * weight, reduction)
    if weight is not None and weight.requires_grad:
        return reduced(
            weight * _C.binary_cross_entropy_with_logits(input, target, "none", 0.0, None, pos_weight), reduction
        )
    return _C.binary_cross_entropy_with_logits(input, target, reduction, 0.0, weight, pos_weight)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """y (log y - x) for log-probabilities x; ``reduction="batchmean"`` divides the sum by the batch size."""
    reduction = reduction_of("kl_div", reduction, size_average, reduce, ("batchmean",))
    op = _C.kl_div_log_target if log_target else _C.kl_div
    input, target = same_shape("kl_div", input, target)
    if reduction == "batchmean":
        return op(input, target, "sum") / (input.shape[0] if input.ndim else 1)
    return op(input, target, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - y x for a Poisson rate exp(x), or x - y log(x + ε) where ``log_input`` is false.

    ``full=True`` adds Stirling's y log y - y + log(2πy)/2 for y > 1, which does not depend on x.
    """
    reduction = reduction_of("poisson_nll_loss", reduction, size_average, reduce)
    input, target = same_shape("poisson_nll_loss", input, target)
    if log_input:
        loss = _C.poisson_nll_loss(input, target, reduction)
    else:
        loss = _C.poisson_nll_loss_of_rate(input, target, reduction, eps)
    if not full:
        return loss
    counts = target.astype(loss.dtype)
    large = pydl.maximum(counts, 1.0)
    stirling = large * pydl.log(large) - large + 0.5 * pydl.log(2.0 * math.pi * large)
    return loss + reduced(pydl.where(counts > 1, stirling, pydl.zeros_like(stirling)), reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log max(v, ε) + (x - y)²/max(v, ε))/2 for a normal distribution of mean x and variance v.

    ``var`` has the input's shape, or that with a last axis of 1 or without it (one variance for all of them), or is a
    number. ``full=True`` adds log(2π)/2. Nix and Weigend (1994).
    """
    reduction = reduction_of("gaussian_nll_loss", reduction, None, None)
    if not isinstance(var, pydl.Tensor):
        var = pydl.full(input.shape, float(var), dtype=input.dtype, device=input.device)
    shape, wanted = tuple(var.shape), tuple(input.shape)
    if shape != wanted:
        if shape == wanted[:-1]:
            var = pydl.expand_dims(var, axis=-1)
        elif len(shape) != len(wanted) or any(v not in (1, n) for v, n in zip(shape, wanted)):
            raise ValueError(
                f"[gaussian_nll_loss] got var of shape {shape} for input of shape {wanted}, expected that shape, or it "
                "with a last axis of 1 or without it"
            )
    lowest = var.detach()
    if lowest.size and lowest.min().item() < 0:
        raise ValueError(f"[gaussian_nll_loss] got a variance of {lowest.min().item()}, expected 0 or more")
    var = var + (pydl.maximum(lowest, eps) - lowest)  # the bound is no part of the gradient
    loss = 0.5 * (pydl.log(var) + (input - target) ** 2 / var)
    return reduced(loss + 0.5 * math.log(2.0 * math.pi) if full else loss, reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-y x)) for targets y of -1 and 1."""
    reduction = reduction_of("soft_margin_loss", reduction, size_average, reduce)
    return _C.soft_margin_loss(*same_shape("soft_margin_loss", input, target), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of logits (N, C), averaged over the classes: one loss for each row."""
    reduction = reduction_of("multilabel_soft_margin_loss", reduction, size_average, reduce)
    loss = binary_cross_entropy_with_logits(input, target, weight, reduction="none")
    return reduced(loss.mean(axis=-1), reduction)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of each target sequence, over all its alignments; see :class:`pydl.nn.CTCLoss`."""
    reduction = reduction_of("ctc_loss", reduction, None, None)
    single = log_probs.ndim == 2
    if single:
        log_probs = pydl.expand_dims(log_probs, axis=1)
        targets = targets.reshape((1, -1)) if targets.ndim <= 1 else targets
    lengths = []
    for given in (input_lengths, target_lengths):
        made = given if isinstance(given, pydl.Tensor) else pydl.asarray(given, dtype=pydl.int64)
        lengths.append(made.reshape((1,)) if single and made.ndim == 0 else made)
    loss = _C.ctc_loss(log_probs, targets, lengths[0], lengths[1], blank, zero_infinity)
    if reduction == "mean":
        return (loss / pydl.maximum(lengths[1], 1).to(loss.device, loss.dtype)).mean()
    if reduction == "sum":
        return loss.sum()
    return pydl.squeeze(loss, axis=0) if single else loss


def same_shape(op: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Input and target spread to one shape, for the losses that PyTorch lets broadcast."""
    if input.shape == target.shape:
        return input, target
    try:
        shape = pydl.broadcast_shapes(input.shape, target.shape)
    except ValueError:
        shapes = f"input of shape {tuple(input.shape)} and target of shape {tuple(target.shape)}"
        raise ValueError(f"[{op}] got {shapes}, expected the same; reshape one of them") from None
    return pydl.broadcast_to(input, shape), pydl.broadcast_to(target, shape)
