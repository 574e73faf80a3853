"""How surprised a model of classes is by the right ones: perplexity and bits per character."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import pydl
from pydl.metrics.base import Metric, ratio
from pydl.metrics.inputs import logits_last, weights_for

__all__ = ["BitsPerCharacter", "CrossEntropy", "Perplexity"]


class CrossEntropy(Metric):
    """The mean of -log p(target) over all steps, in nats.

    Predictions are (N, C), (N, C, T) or (N, T, C), targets class indices (N,) or (N, T); where both fit (T = C) it is
    (N, C, T), unless ``axis=-1``.

    Args:
        name: default ``"cross_entropy"``.
        axis: of the classes; default as above.
        from_logits: False if predictions are probabilities; default True.
        ignore_index: targets of this value are left out; default -100, as in the losses.

    >>> import pydl
    >>> round(CrossEntropy()(pydl.zeros((4, 8)), pydl.asarray([0, 1, 2, 3])), 6)  # log 8
    2.079442
    """

    _sums = ("total", "count")
    total: float
    count: float
    _default_name = "cross_entropy"

    def __init__(
        self,
        name: str | None = None,
        *,
        axis: int | None = None,
        from_logits: bool = True,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(name or self._default_name)
        self.axis = axis
        self.from_logits = from_logits
        self.ignore_index = ignore_index

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch; weights are of samples (N,) or of steps (N, T)."""
        name = type(self).__name__
        scores, wanted, _ = logits_last(name, prediction, target, self.axis)
        if wanted.ndim == scores.ndim or wanted.dtype.kind not in "iu":
            raise ValueError(f"[{name}] got targets of shape {wanted.shape} and type {wanted.dtype}, expected indices")
        weights = None
        if weight is not None:
            weights = np.broadcast_to(weights_for(name, weight, wanted.shape), wanted.shape).ravel()
        classes = scores.shape[-1]
        scores, wanted = scores.reshape(-1, classes), wanted.ravel().astype(np.int64)
        kept = np.ones(len(wanted), bool) if self.ignore_index is None else wanted != self.ignore_index
        if weights is not None:
            kept &= weights != 0
        if not kept.all():
            scores, wanted = scores[kept], wanted[kept]
            weights = None if weights is None else weights[kept]
        if not len(wanted):
            return
        if wanted.min() < 0 or wanted.max() >= classes:
            raise ValueError(f"[{name}] got targets from {wanted.min()} to {wanted.max()}, of {classes} classes")
        losses = self._losses(scores, wanted)
        self.total += float(losses.sum() if weights is None else (losses * weights).sum())
        self.count += float(len(wanted) if weights is None else weights.sum())

    def _losses(self, scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        if not self.from_logits:
            with np.errstate(divide="ignore"):
                return -np.log(np.take_along_axis(scores, wanted[:, None], 1)[:, 0].astype(np.float64))
        with pydl.no_grad():
            logits = pydl.asarray(np.ascontiguousarray(scores))
            if logits.dtype == pydl.float16:
                logits = logits.astype(pydl.float32)
            losses = pydl.nn.functional.cross_entropy(logits, pydl.asarray(wanted), reduction="none")
        return losses.cpu().numpy().astype(np.float64)

    def result(self) -> float:
        """The mean; NaN of nothing."""
        return ratio(self.total, self.count)


class Perplexity(CrossEntropy):
    """exp of the mean cross-entropy: among how many equally likely classes the model seems to choose.

    Arguments as :class:`CrossEntropy`; the default name is ``"perplexity"``.

    >>> import pydl
    >>> round(Perplexity()(pydl.zeros((4, 8)), pydl.asarray([0, 1, 2, 3])), 5)
    8.0
    """

    _default_name = "perplexity"

    def result(self) -> float:
        """The perplexity; infinite where it passes the largest number."""
        mean = super().result()
        return math.exp(mean) if not mean > 709 else math.inf


class BitsPerCharacter(CrossEntropy):
    """The mean cross-entropy in bits, of a model whose classes are characters. The default name is ``"bpc"``.

    >>> import pydl
    >>> round(BitsPerCharacter()(pydl.zeros((4, 8)), pydl.asarray([0, 1, 2, 3])), 6)
    3.0
    """

    _default_name = "bpc"

    def result(self) -> float:
        """The bits; NaN of nothing."""
        return super().result() / math.log(2.0)
