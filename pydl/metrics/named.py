"""Metrics by name, and what a loss says about how predictions are to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.metrics.accuracy import Accuracy, BinaryAccuracy, TopKAccuracy
from pydl.metrics.auc import AUC
from pydl.metrics.base import FunctionMetric, Mean, Metric
from pydl.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from pydl.metrics.language import BitsPerCharacter, CrossEntropy, Perplexity
from pydl.metrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score, RootMeanSquaredError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "fit_to_loss", "get"]

NAMES: dict[str, Callable[..., Metric]] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "categorical_accuracy": Accuracy,
    "sparse_categorical_accuracy": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "top_k_categorical_accuracy": TopKAccuracy,
    "top_3_accuracy": lambda name: TopKAccuracy(3, name),
    "top_5_accuracy": TopKAccuracy,
    "precision": Precision,
    "recall": Recall,
    "f1": F1Score,
    "f1_score": F1Score,
    "auc": AUC,
    "roc_auc": AUC,
    "confusion_matrix": ConfusionMatrix,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "r2": R2Score,
    "r2_score": R2Score,
    "cross_entropy": CrossEntropy,
    "perplexity": Perplexity,
    "bpc": BitsPerCharacter,
    "bits_per_character": BitsPerCharacter,
}


def get(metric: Any) -> Metric:
    """A metric object from what people write.

    Args:
        metric: a name (the logs will have it under that name), a class of :class:`Metric`, an object of one, or a
            function of (prediction, target), see :class:`FunctionMetric`.

    Raises:
        ValueError: an unknown name; lists the known ones.
        TypeError: something else.

    >>> get("mae").name, get("acc").name
    ('mae', 'acc')
    """
    if isinstance(metric, Metric):
        if isinstance(metric, Mean):
            raise TypeError("[metrics.get] Mean is for numbers, expected a metric of predictions and targets")
        return metric
    if isinstance(metric, str):
        make = NAMES.get(metric.lower())
        if make is None:
            raise ValueError(f"[metrics.get] got {metric!r}, expected one of {', '.join(NAMES)}")
        return make(name=metric)
    if isinstance(metric, type) and issubclass(metric, Metric):
        return get(metric())  # type: ignore[call-arg]
    if callable(metric) and not isinstance(metric, type):
        return FunctionMetric(metric)
    raise TypeError(f"[metrics.get] got {metric!r}, expected a name, a Metric or a function of (prediction, target)")


def fit_to_loss(metric: Any, loss: Any, classes_last: bool = False) -> Any:
    """Tell a metric how to read predictions, where it was not told: as the loss does.

    Args:
        metric: changed and returned.
        loss: a module of pydl.nn, such as ``nn.BCELoss()`` (probabilities) or ``nn.BCEWithLogitsLoss()``.
        classes_last: whether the classes are on the last axis without looking; default False: where the shapes say.

    >>> from pydl import nn
    >>> fit_to_loss(Accuracy(), nn.BCELoss()).from_logits
    False
    """
    known = {
        "BCELoss": False,
        "BCEWithLogitsLoss": True,
        "MultiLabelSoftMarginLoss": True,
        "SoftMarginLoss": True,
        "CrossEntropyLoss": True,
    }
    reading = known.get(type(loss).__name__)
    if reading is not None and "CrossEntropy" not in type(loss).__name__ and hasattr(metric, "elementwise"):
        metric.elementwise = True
    if reading is not None and getattr(metric, "from_logits", 0) is None:
        metric.from_logits = reading
        if isinstance(metric, AUC):
            metric.reset()
    if classes_last and getattr(metric, "axis", 0) is None:
        metric.axis = -1
    return metric
