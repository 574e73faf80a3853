"""The area under the ROC curve, exact: no thresholds are chosen, and equal scores count half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.metrics.base import Metric
from pydl.metrics.inputs import logits_last, to_array, weights_for

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AUC", "roc_auc"]

_COMPACT = 1 << 16  # rows that are waited for before equal scores are put together


class AUC(Metric):
    """The probability that a sample of the class has a higher score than one that is not; equal scores count half.

    It is exact and the same however samples are dealt out to batches or parts. For that every different score is kept
    with its weights, 24 bytes each: a million samples take at most 24 MB.

    Predictions are one column, (N,) or (N, 1), with targets 0 and 1 (logits or probabilities: only the order counts);
    two columns, of which the second is class 1; or C columns with class indices (N,) or one-hot targets (N, C): one
    class against the rest, each by its probability.

    Args:
        name: default ``"auc"``.
        average: of C > 2 classes: ``"macro"`` (default), ``"weighted"`` by how often each is wanted, or None for an
            array. Classes that never or always come are left out, and NaN in the array.
        from_logits: whether several columns are logits and need a softmax; default None: they are unless the first
            rows are probabilities that add up to 1.
        ignore_index: targets of this value are left out; default -100.

    Raises:
        ValueError: targets that are not 0 and 1 with one column; rows that are no probabilities after some that were.

    >>> import numpy as np
    >>> AUC()(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """

    def __init__(
        self,
        name: str = "auc",
        average: str | None = "macro",
        *,
        from_logits: bool | None = None,
        ignore_index: int | None = -100,
    ) -> None:
        if average not in ("macro", "weighted", None):
            raise ValueError(f"[AUC] got average={average!r}, expected 'macro', 'weighted' or None")
        self.average = average
        self.from_logits = from_logits
        self.ignore_index = ignore_index
        super().__init__(name)

    def reset(self) -> None:
        """Forget everything."""
        self._tables: list[np.ndarray] = []  # for each class: (n, 3) of score, weight of others, weight of the class
        self._waiting: list[list[np.ndarray]] = []
        self._rows = 0
        self._plain: list[tuple[np.ndarray, np.ndarray]] = []
        self._plain_rows = 0
        self._logits = self.from_logits

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch."""
        scores, wanted = to_array(prediction), to_array(target)
        if weight is None and self._keep_plain(scores, wanted):
            return
        self._take_plain()
        self._take(scores, wanted, weight)

    def _keep_plain(self, scores: np.ndarray, wanted: np.ndarray) -> bool:
        """The common case in few steps: a batch of scores (N,) or (N, C) and valid targets (N,) waits for others."""
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or scores.ndim not in (1, 2):
            return False
        columns = scores.shape[1] if scores.ndim == 2 else 1
        if not len(wanted) or len(scores) != len(wanted) or wanted.min() < 0 or wanted.max() >= max(2, columns):
            return False
        if self._plain and scores.shape[1:] != self._plain[0][0].shape[1:]:
            return False
        if self._waiting and len(self._waiting) != columns:
            return False
        self._plain.append((scores.copy(), wanted.copy()))  # a loader uses its memory again
        self._plain_rows += len(wanted)
        if self._plain_rows > _COMPACT:
            self._compact()
        return True

    def _take_plain(self) -> None:
        if self._plain:
            scores, wanted = (np.concatenate(parts) for parts in zip(*self._plain))
            self._plain, self._plain_rows = [], 0
            self._take(scores, wanted, None)

    def _take(self, scores: np.ndarray, wanted: np.ndarray, weight: Any) -> None:
        if scores.ndim == 1 or scores.shape[-1] == 1:
            scores, wanted = scores.reshape(-1, 1), wanted.reshape(-1)
        else:
            scores, wanted, place = logits_last("AUC", scores, wanted, None)
            if wanted.ndim == scores.ndim:
                wanted = np.moveaxis(wanted, place, -1).argmax(axis=-1)
        weights: Any = np.ones(wanted.shape)
        if weight is not None:
            weights = np.array(np.broadcast_to(weights_for("AUC", weight, wanted.shape), wanted.shape))
        classes = scores.shape[-1]
        scores, wanted, weights = scores.reshape(-1, classes).astype(np.float64), wanted.ravel(), weights.ravel()
        if len(scores) != len(wanted):
            raise ValueError(f"[AUC] got {len(scores)} predictions and {len(wanted)} targets")
        if self.ignore_index is not None:
            kept = wanted != self.ignore_index
            scores, wanted, weights = scores[kept], wanted[kept], weights[kept]
        limit = max(2, classes)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < limit):
            raise ValueError(f"[AUC] got targets from {wanted.min()} to {wanted.max()}, expected 0 to {limit - 1}")
        if not len(scores):
            return
        if classes > 1:
            scores = self._comparable(scores)
        columns = [1] if classes == 1 else list(range(classes))
        if not self._waiting:
            self._tables = [np.empty((0, 3)) for _ in columns]
            self._waiting = [[] for _ in columns]
        if len(self._waiting) != len(columns):
            raise ValueError(f"[AUC] got {classes} columns, expected {len(self._waiting)} as before")
        for i, label in enumerate(columns):
            is_label = wanted == label
            self._waiting[i].append(np.stack([scores[:, i], weights * ~is_label, weights * is_label], axis=1))
        self._rows += len(scores)
        if self._rows > _COMPACT:
            self._compact()

    def _comparable(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities as they are, logits as logarithms of probabilities, which are in the same order."""
        if self._logits is None:
            self._logits = not _are_probabilities(scores)
        if not self._logits:
            if self.from_logits is None and not _are_probabilities(scores):
                raise ValueError("[AUC] got rows that are no probabilities after some that were; give from_logits=")
            return scores
        top = scores.max(axis=1, keepdims=True)
        shifted = scores - top
        if scores.shape[1] == 2:
            difference = shifted[:, 1] - shifted[:, 0]
            return np.stack([-difference, difference], axis=1)
        first = np.argmax(scores, axis=1)
        powers = np.exp(shifted)
        powers[np.arange(len(powers)), first] = 0.0
        return shifted - np.log1p(powers.sum(axis=1, keepdims=True))

    def _compact(self) -> None:
        self._take_plain()
        self._tables = [_merged([table, *more]) for table, more in zip(self._tables, self._waiting)]
        self._waiting = [[] for _ in self._tables]
        self._rows = 0

    def result(self) -> Any:
        """The area; NaN where a class was not seen, or nothing else."""
        self._compact()
        areas = np.array([roc_auc(table) for table in self._tables])
        if len(areas) <= 1:
            return float(areas[0]) if len(areas) else float("nan")
        if len(areas) == 2:
            return float(areas[1]) if self.average is not None else areas
        if self.average is None:
            return areas
        known = ~np.isnan(areas)
        if not known.any():
            return float("nan")
        shares = np.array([table[:, 2].sum() for table in self._tables])
        if self.average == "macro":
            shares = np.ones(len(areas))
        return float((areas[known] * shares[known]).sum() / shares[known].sum())

    def merge(self, other: Metric) -> None:
        """Count what another one has counted."""
        self._check_same(other)
        assert isinstance(other, AUC)
        other._compact()
        self._compact()
        if not other._tables:
            return
        if not self._tables:
            self._tables, self._logits = [table.copy() for table in other._tables], other._logits
        elif len(self._tables) != len(other._tables) or self._logits != other._logits:
            raise ValueError("[AUC] cannot merge parts with different columns, or of logits and of probabilities")
        else:
            self._tables = [_merged([a, b]) for a, b in zip(self._tables, other._tables)]
        self._waiting = [[] for _ in self._tables]

    def state_dict(self) -> dict[str, Any]:
        """What was counted."""
        self._compact()
        return {"tables": [pydl.asarray(table.copy()) for table in self._tables], "logits": self._logits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.reset()
        self._tables = [np.array(table.cpu().numpy()) for table in state["tables"]]
        self._waiting = [[] for _ in self._tables]
        self._logits, self._rows = state["logits"], 0


def _are_probabilities(scores: np.ndarray) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3))


def _merged(parts: list[np.ndarray]) -> np.ndarray:
    """One row for each different score, in ascending order."""
    rows = np.concatenate(parts)
    scores, place = np.unique(rows[:, 0], return_inverse=True)
    place = place.reshape(-1)
    sums = [np.bincount(place, rows[:, i], len(scores)) for i in (1, 2)]
    return np.stack([scores, *sums], axis=1)


def roc_auc(table: np.ndarray) -> float:
    """The area from rows of (score ascending, weight of negatives, weight of positives).

    >>> import numpy as np
    >>> roc_auc(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]))
    0.75
    """
    negative, positive = table[:, 1], table[:, 2]
    total = negative.sum() * positive.sum()
    if not total or np.isnan(table[:, 0]).any():
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / total)
