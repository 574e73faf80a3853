"""The confusion matrix and what is computed from it: precision, recall and F1 with their averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pydl.metrics.base import Metric
from pydl.metrics.inputs import labels, to_array

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConfusionMatrix", "F1Score", "Precision", "Recall", "averaged_scores"]

_AVERAGES = ("auto", "binary", "micro", "macro", "weighted", None)


class _Counts(Metric):
    """A metric made of the counts of (wanted, predicted) pairs, which grow with the classes that come."""

    counts: Any  # (2, C, C): a single column read as probabilities, as logits
    outside: float
    _sums = ("counts", "outside")

    def __init__(
        self,
        name: str,
        num_classes: int | None,
        axis: int | None,
        from_logits: bool | None,
        threshold: float | None,
        ignore_index: int | None,
        elementwise: bool,
    ) -> None:
        kind = type(self).__name__
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 1):
            raise ValueError(f"[{kind}] got num_classes={num_classes!r}, expected 1 or more, or None")
        self.num_classes = num_classes
        self.axis = axis
        self.from_logits = from_logits
        self.threshold = threshold
        self.ignore_index = ignore_index
        self.elementwise = elementwise
        super().__init__(name)

    def reset(self) -> None:
        """Forget everything."""
        self.outside = 0.0
        self.counts = np.zeros((2, self.num_classes or 0, self.num_classes or 0))

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch; shapes as for :class:`pydl.metrics.Accuracy`."""
        if weight is None and self._count_plain(prediction, target):
            return
        kind = type(self).__name__
        batch = labels(
            kind,
            prediction,
            target,
            weight,
            axis=self.axis,
            from_logits=self.from_logits,
            threshold=self.threshold,
            ignore_index=self.ignore_index,
            elementwise=self.elementwise,
        )
        wanted = batch.wanted.ravel().astype(np.int64)
        weights = None if batch.weight is None else batch.weight.ravel()
        predicted = [p.ravel().astype(np.int64) for p in batch.predicted]
        everything = np.concatenate([wanted, *predicted])
        if everything.size and everything.min() < 0:
            raise ValueError(f"[{kind}] got the class {everything.min()}, expected 0 and more")
        highest = int(everything.max()) + 1 if everything.size else 0
        limit = self.num_classes or (batch.count if batch.count > 2 else None)
        if limit is not None and highest > limit:
            raise ValueError(f"[{kind}] got the class {highest - 1}, expected one below {limit}, the number of classes")
        size = self.num_classes or max(highest, batch.count)
        self._grow(size)
        size = self.counts.shape[1]
        for i in range(2):
            places = wanted * size + predicted[min(i, len(predicted) - 1)]
            self.counts[i] += np.bincount(places, weights, size * size).reshape(size, size)
        self.outside += float(batch.outside)

    def _count_plain(self, prediction: Any, target: Any) -> bool:
        """The common case in few steps: scores (N, C) and indices (N,) within the classes, of which none is ignored."""
        scores, wanted = to_array(prediction), to_array(target)
        if scores.ndim != 2 or wanted.ndim != 1 or wanted.dtype.kind != "i" or self.axis is not None:
            return False
        classes = scores.shape[1]
        if classes < 2 or len(scores) != len(wanted) or not len(wanted) or self.num_classes not in (None, classes):
            return False
        if wanted.min() < 0 or wanted.max() >= classes or self.counts.shape[1] > classes:
            return False
        self._grow(classes)
        pairs = np.bincount(
            wanted.astype(np.int64, copy=False) * classes + scores.argmax(axis=1), minlength=classes * classes
        )
        self.counts += pairs.reshape(classes, classes)
        return True

    def _grow(self, size: int) -> None:
        more = size - self.counts.shape[1]
        if more > 0:
            self.counts = np.pad(self.counts, ((0, 0), (0, more), (0, more)))

    def merge(self, other: Metric) -> None:
        """Count what another one has counted."""
        self._check_same(other)
        assert isinstance(other, _Counts)
        self._grow(other.counts.shape[1])
        size = other.counts.shape[1]
        self.counts[:, :size, :size] += other.counts
        self.outside += other.outside

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        super().load_state_dict(state)
        self.counts = np.array(self.counts, np.float64)

    @property
    def matrix(self) -> np.ndarray:
        """Weights of (wanted, predicted) pairs, (C, C)."""
        return self.counts[1 if self.outside else 0]


class ConfusionMatrix(_Counts):
    """How often each class (row) was taken for each class (column). Its result is an array, not a number.

    Args:
        num_classes: default as many as come, or as the predictions have columns.
        normalize: None (default): counts; ``"true"``: shares of each row; ``"pred"``: of each column; ``"all"``.
        name: default ``"confusion_matrix"``.
        axis, from_logits, threshold, ignore_index, elementwise: as for :class:`pydl.metrics.Accuracy`.

    >>> import numpy as np
    >>> ConfusionMatrix()(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        num_classes: int | None = None,
        normalize: str | None = None,
        name: str = "confusion_matrix",
        *,
        axis: int | None = None,
        from_logits: bool | None = None,
        threshold: float | None = None,
        ignore_index: int | None = -100,
        elementwise: bool = False,
    ) -> None:
        if normalize not in (None, "true", "pred", "all"):
            raise ValueError(f"[ConfusionMatrix] got normalize={normalize!r}, expected None, 'true', 'pred' or 'all'")
        self.normalize = normalize
        super().__init__(name, num_classes, axis, from_logits, threshold, ignore_index, elementwise)

    def result(self) -> np.ndarray:
        """A float64 array (C, C); a row or column without anything is 0 when normalized."""
        matrix = self.matrix.copy()
        if self.normalize is None:
            return matrix
        axis = {"true": 1, "pred": 0, "all": (0, 1)}[self.normalize]
        total = matrix.sum(axis=axis, keepdims=True)
        return np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)


class _Score(_Counts):
    _which = ""
    _default_name = ""

    def __init__(
        self,
        average: str | None = "auto",
        name: str | None = None,
        *,
        num_classes: int | None = None,
        pos_label: int = 1,
        zero_division: float = 0.0,
        axis: int | None = None,
        from_logits: bool | None = None,
        threshold: float | None = None,
        ignore_index: int | None = -100,
        elementwise: bool = False,
    ) -> None:
        if average not in _AVERAGES:
            raise ValueError(
                f"[{type(self).__name__}] got average={average!r}, expected {', '.join(map(repr, _AVERAGES))}"
            )
        self.average = average
        self.pos_label = pos_label
        self.zero_division = float(zero_division)
        super().__init__(
            name or self._default_name, num_classes, axis, from_logits, threshold, ignore_index, elementwise
        )

    def result(self) -> Any:
        """A number; an array (C,) with ``average=None``; NaN where nothing was counted."""
        average = self.average
        if average == "auto":
            average = "binary" if self.matrix.shape[0] <= 2 else "macro"
        return averaged_scores(self._which, self.matrix, average, self.pos_label, self.zero_division)


class Precision(_Score):
    """Of what was predicted to be of a class, the share that is: TP / (TP + FP).

    Args:
        average: of several classes, as in scikit-learn: ``"macro"``: the mean over the classes that occur;
            ``"weighted"``: weighted by how often they are wanted; ``"micro"``: over all decisions; None: an array;
            ``"binary"``: of the class ``pos_label`` alone. ``"auto"`` (default): binary for two classes, else macro.
        name: default ``"precision"``.
        num_classes: default as many as come, or as the predictions have columns.
        pos_label: default 1.
        zero_division: the value of a class for which it is not defined; default 0.
        axis, from_logits, threshold, ignore_index, elementwise: as for :class:`pydl.metrics.Accuracy`.

    >>> import numpy as np
    >>> Precision()(np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]))
    0.6666666666666666
    """

    _which = "precision"
    _default_name = "precision"


class Recall(_Score):
    """Of what is of a class, the share that was predicted so: TP / (TP + FN). Arguments as :class:`Precision`.

    >>> import numpy as np
    >>> Recall(average="macro")(np.array([0, 1, 0, 2]), np.array([0, 1, 1, 2]))
    0.8333333333333334
    """

    _which = "recall"
    _default_name = "recall"


class F1Score(_Score):
    """The harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN). Arguments as :class:`Precision`.

    >>> import numpy as np
    >>> F1Score()(np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]))
    0.8
    """

    _which = "f1"
    _default_name = "f1"


def averaged_scores(which: str, matrix: np.ndarray, average: str | None, pos_label: int, zero_division: float) -> Any:
    """Precision, recall or F1 from a confusion matrix (wanted, predicted)."""
    right, wanted, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    if not matrix.sum():
        return np.full(len(matrix), np.nan) if average is None else float("nan")
    if average == "micro":
        right, wanted, predicted = (np.array([values.sum()]) for values in (right, wanted, predicted))
    over, under = {
        "precision": (right, predicted),
        "recall": (right, wanted),
        "f1": (2 * right, wanted + predicted),
    }[which]
    scores = np.divide(over, under, out=np.full(len(over), zero_division), where=under > 0)
    if average is None:
        return scores
    if average == "micro":
        return float(scores[0])
    if average == "binary":
        if len(matrix) > 2:
            raise ValueError(
                f"[{which}] got {len(matrix)} classes with average='binary', expected 2; choose 'macro', 'micro', "
                "'weighted' or None"
            )
        return float(scores[pos_label]) if pos_label < len(scores) else zero_division
    if average == "weighted":
        return float((scores * wanted).sum() / wanted.sum())
    return float(scores[(wanted + predicted) > 0].mean())
