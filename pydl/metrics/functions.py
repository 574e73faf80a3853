"""Metrics as one call, under scikit-learn's names, with its order of arguments and its meaning."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl.metrics.accuracy import Accuracy
from pydl.metrics.auc import AUC
from pydl.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from pydl.metrics.inputs import to_array
from pydl.metrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

__all__ = [
    "accuracy_score",
    "confusion_matrix",
    "f1_score",
    "mean_absolute_error",
    "mean_squared_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
]


def _classes(name: str, values: Any) -> np.ndarray:
    array = to_array(values)
    if array.dtype.kind not in "iub":
        raise TypeError(f"[{name}] got labels of type {array.dtype}, expected class indices; use argmax(axis=1)")
    return array.astype(np.int64, copy=False)


def accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The share of class indices (N,) that are right.

    >>> accuracy_score([0, 1, 2, 2], [0, 1, 1, 2])
    0.75
    """
    name = "accuracy_score"
    return Accuracy(ignore_index=None)(_classes(name, y_pred), _classes(name, y_true), sample_weight)


def confusion_matrix(y_true: Any, y_pred: Any, *, sample_weight: Any = None, normalize: str | None = None) -> Any:
    """Rows are the true classes, columns the predicted ones, for classes 0 to the highest that comes.

    >>> confusion_matrix([0, 1, 1], [0, 1, 0]).tolist()
    [[1, 0], [1, 1]]
    """
    name = "confusion_matrix"
    metric = ConfusionMatrix(normalize=normalize, ignore_index=None)
    result = metric(_classes(name, y_pred), _classes(name, y_true), sample_weight)
    return result.astype(np.int64) if sample_weight is None and normalize is None else result


def precision_score(y_true: Any, y_pred: Any, *, average: str | None = "binary", sample_weight: Any = None) -> Any:
    """Precision of class 1, or averaged; see :class:`pydl.metrics.Precision`.

    >>> precision_score([0, 0, 1, 1], [0, 1, 1, 1])
    0.6666666666666666
    """
    name = "precision_score"
    return Precision(average, ignore_index=None)(_classes(name, y_pred), _classes(name, y_true), sample_weight)


def recall_score(y_true: Any, y_pred: Any, *, average: str | None = "binary", sample_weight: Any = None) -> Any:
    """Recall of class 1, or averaged; see :class:`pydl.metrics.Recall`.

    >>> recall_score([0, 0, 1, 1], [0, 1, 0, 1])
    0.5
    """
    name = "recall_score"
    return Recall(average, ignore_index=None)(_classes(name, y_pred), _classes(name, y_true), sample_weight)


def f1_score(y_true: Any, y_pred: Any, *, average: str | None = "binary", sample_weight: Any = None) -> Any:
    """F1 of class 1, or averaged; see :class:`pydl.metrics.F1Score`.

    >>> f1_score([0, 0, 1, 1], [0, 1, 1, 1])
    0.8
    """
    name = "f1_score"
    return F1Score(average, ignore_index=None)(_classes(name, y_pred), _classes(name, y_true), sample_weight)


def roc_auc_score(y_true: Any, y_score: Any, *, average: str | None = "macro", sample_weight: Any = None) -> Any:
    """The exact area under the ROC curve; several columns are one class against the rest.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return AUC(average=average, ignore_index=None)(to_array(y_score), to_array(y_true), sample_weight)


def mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The mean of squared differences.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return MeanSquaredError()(y_pred, y_true, sample_weight)


def root_mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The root of the mean squared error; of several outputs (N, K) the mean of their roots.

    >>> root_mean_squared_error([1.0, 2.0], [1.0, 2.0])
    0.0
    """
    true, predicted = to_array(y_true), to_array(y_pred)
    if true.ndim < 2 or true.shape != predicted.shape:
        return float(np.sqrt(mean_squared_error(true, predicted, sample_weight=sample_weight)))
    columns = range(true.shape[1])
    roots = [root_mean_squared_error(true[:, i], predicted[:, i], sample_weight=sample_weight) for i in columns]
    return float(np.mean(roots))


def mean_absolute_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The mean of absolute differences.

    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return MeanAbsoluteError()(y_pred, y_true, sample_weight)


def r2_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """The coefficient of determination, averaged over outputs.

    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    1.0
    """
    return R2Score()(y_pred, y_true, sample_weight)
