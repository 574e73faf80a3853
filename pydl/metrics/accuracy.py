"""How many predictions are right: accuracy, element by element, and among the k best."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.metrics.base import Metric, ratio
from pydl.metrics.inputs import labels, logits_last, same_shape, to_array, weights_for

__all__ = ["Accuracy", "BinaryAccuracy", "TopKAccuracy"]


class Accuracy(Metric):
    """The share of predictions that are right.

    What predictions and targets mean is told by their shapes:

    - (N, C) scores (logits or probabilities) and (N,) class indices, also (N, 1);
    - sequences and images: (N, C, T, ...) as the losses take them, or (N, T, ..., C), with (N, T, ...) indices. Where
      both fit (T = C) it is (N, C, T); say ``axis=-1`` for the other;
    - targets of the predictions' shape that are distributions over the classes (one-hot, mixup): their largest;
    - one column, (N,) or (N, 1), of floating predictions for classes 0 and 1: see ``from_logits``;
    - integer predictions of the targets' shape: class indices.

    Args:
        name: default ``"accuracy"``.
        axis: of the classes; default as above.
        from_logits: whether a single column is logits (class 1 above 0) or probabilities (class 1 above 0.5). None
            (default): both are counted, and it is logits as soon as one number outside of 0 to 1 was seen.
        threshold: instead, above what a single column is class 1.
        ignore_index: targets of this value are left out; default -100, as in the losses.
        elementwise: targets of the predictions' shape are labels of 0 and 1, several for each sample, and not
            distributions; default False.

    >>> import pydl
    >>> accuracy = Accuracy()
    >>> accuracy.update(pydl.asarray([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), pydl.asarray([0, 1, 1]))
    >>> accuracy.update(pydl.asarray([[0.0, 1.0]]), pydl.asarray([1]))
    >>> accuracy.result()
    0.75
    """

    _sums = ("correct", "count", "outside")
    correct: Any
    count: float
    outside: float

    def __init__(
        self,
        name: str = "accuracy",
        *,
        axis: int | None = None,
        from_logits: bool | None = None,
        threshold: float | None = None,
        ignore_index: int | None = -100,
        elementwise: bool = False,
    ) -> None:
        super().__init__(name)
        self.axis = axis
        self.elementwise = elementwise
        self.from_logits = from_logits
        self.threshold = threshold
        self.ignore_index = ignore_index

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.correct = np.zeros(2)  # read as probabilities, as logits

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch; shapes as the class says."""
        if weight is None and self._count_plain(prediction, target):
            return
        batch = labels(
            type(self).__name__,
            prediction,
            target,
            weight,
            axis=self.axis,
            from_logits=self.from_logits,
            threshold=self.threshold,
            ignore_index=self.ignore_index,
            elementwise=self.elementwise,
        )
        right = [predicted == batch.wanted for predicted in batch.predicted]
        if batch.weight is None:
            counts = [float(np.count_nonzero(r)) for r in right]
            self.count += batch.wanted.size
        else:
            counts = [float(batch.weight[r].sum()) for r in right]
            self.count += float(batch.weight.sum())
        self.correct = self.correct + (counts if len(counts) == 2 else counts * 2)
        self.outside += float(batch.outside)

    def _count_plain(self, prediction: Any, target: Any) -> bool:
        """The common case in few steps: scores (N, C) and indices (N,) of which none is ignored."""
        scores, wanted = to_array(prediction), to_array(target)
        if scores.ndim != 2 or wanted.ndim != 1 or wanted.dtype.kind != "i" or self.axis is not None:
            return False
        if scores.shape[1] < 2 or len(scores) != len(wanted) or not len(wanted) or wanted.min() < 0:
            return False
        self.correct += np.count_nonzero(scores.argmax(1) == wanted)
        self.count += len(wanted)
        return True

    def result(self) -> float:
        """The share; NaN of nothing."""
        return ratio(self.correct[1 if self.outside else 0], self.count)


class BinaryAccuracy(Accuracy):
    """The share of elements on the right side of a threshold, for one or more labels of 0 and 1 for each sample.

    Predictions (N,), (N, 1) or (N, L) and targets of that shape. Arguments as :class:`Accuracy`; the default name is
    ``"binary_accuracy"``.

    >>> import pydl
    >>> BinaryAccuracy()(pydl.asarray([[2.0, -1.0], [-3.0, 4.0]]), pydl.asarray([[1, 0], [1, 1]]))
    0.75
    """

    def __init__(
        self,
        name: str = "binary_accuracy",
        *,
        from_logits: bool | None = None,
        threshold: float | None = None,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(name, from_logits=from_logits, threshold=threshold, ignore_index=ignore_index)

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch; every element counts, with its sample's weight."""
        predicted, wanted = same_shape("BinaryAccuracy", prediction, target)
        if weight is not None:
            weight = np.broadcast_to(weights_for("BinaryAccuracy", weight, wanted.shape), wanted.shape).ravel()
        super().update(predicted.ravel(), wanted.ravel(), weight)


class TopKAccuracy(Metric):
    """The share of samples whose class is among the k highest scores.

    A class with the same score as the k-th counts as among them only if fewer than k are above it, so equal scores
    everywhere are not a success for k = 1: of equal ones those with the lower index come first.

    Args:
        k: default 5.
        name: default ``"top_5_accuracy"``.
        axis, ignore_index: as for :class:`Accuracy`, which says which shapes are understood.

    >>> import pydl
    >>> TopKAccuracy(k=2)(pydl.asarray([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), pydl.asarray([1, 2]))
    0.5
    """

    _sums = ("correct", "count")
    correct: float
    count: float

    def __init__(
        self, k: int = 5, name: str | None = None, *, axis: int | None = None, ignore_index: int | None = -100
    ) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"[TopKAccuracy] got k={k!r}, expected an integer, 1 or more")
        super().__init__(name or f"top_{k}_accuracy")
        self.k = k
        self.axis = axis
        self.ignore_index = ignore_index

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch."""
        scores, wanted, place = logits_last("TopKAccuracy", prediction, target, self.axis)
        if wanted.ndim == scores.ndim:
            wanted = np.moveaxis(wanted, place, -1).argmax(axis=-1)
        weights = (
            None if weight is None else np.broadcast_to(weights_for("TopKAccuracy", weight, wanted.shape), wanted.shape)
        )
        kept = np.ones(wanted.shape, bool) if self.ignore_index is None else wanted != self.ignore_index
        scores, wanted = scores[kept], wanted[kept].astype(np.int64)
        classes = scores.shape[-1]
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < classes):
            raise ValueError(f"[TopKAccuracy] got targets from {wanted.min()} to {wanted.max()}, of {classes} classes")
        own = np.take_along_axis(scores, wanted[:, None], 1)
        earlier = np.arange(classes) < wanted[:, None]
        right = ((scores > own) | ((scores == own) & earlier)).sum(axis=1) < self.k
        right &= ~np.isnan(own[:, 0])
        if weights is None:
            self.correct += float(np.count_nonzero(right))
            self.count += wanted.size
        else:
            self.correct += float(weights[kept][right].sum())
            self.count += float(weights[kept].sum())

    def result(self) -> float:
        """The share; NaN of nothing."""
        return ratio(self.correct, self.count)
