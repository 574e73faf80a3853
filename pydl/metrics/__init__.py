"""Numbers that say how good predictions are: right across uneven batches, masks and weights, and mergeable over parts.

Objects count batch by batch: ``update(prediction, target, weight)``, then ``result()``. Functions under scikit-learn's
names (``accuracy_score``, ``f1_score``, ``roc_auc_score``, ...) take everything at once, in its order: true, predicted.

>>> import pydl
>>> metric = pydl.metrics.get("accuracy")
>>> metric.update(pydl.asarray([[0.2, 0.8], [0.9, 0.1]]), pydl.asarray([1, 1]))
>>> metric.result()
0.5
"""

from __future__ import annotations

from pydl.metrics.accuracy import Accuracy, BinaryAccuracy, TopKAccuracy
from pydl.metrics.auc import AUC
from pydl.metrics.base import FunctionMetric, Mean, Metric
from pydl.metrics.bleu import BLEU, bleu_score
from pydl.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from pydl.metrics.functions import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)
from pydl.metrics.language import BitsPerCharacter, CrossEntropy, Perplexity
from pydl.metrics.named import fit_to_loss, get
from pydl.metrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score, RootMeanSquaredError

__all__ = [
    "AUC",
    "BLEU",
    "Accuracy",
    "BinaryAccuracy",
    "BitsPerCharacter",
    "ConfusionMatrix",
    "CrossEntropy",
    "F1Score",
    "FunctionMetric",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
    "accuracy_score",
    "bleu_score",
    "confusion_matrix",
    "f1_score",
    "fit_to_loss",
    "get",
    "mean_absolute_error",
    "mean_squared_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
]
