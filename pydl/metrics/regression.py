"""How far numbers are from what they should be: MSE, RMSE, MAE, R²."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pydl.metrics.base import Metric, ratio
from pydl.metrics.inputs import same_shape, weights_for

__all__ = ["MeanAbsoluteError", "MeanSquaredError", "R2Score", "RootMeanSquaredError"]


class _MeanOfElements(Metric):
    """The mean over all elements of a function of the difference."""

    _sums = ("total", "count")
    total: float
    count: float
    _default_name = ""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name or self._default_name)

    def _values(self, difference: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch of equal shapes, (N,), (N, 1) or (N, ...); every element has its sample's weight."""
        predicted, wanted = same_shape(type(self).__name__, prediction, target)
        values = self._values(predicted.astype(np.float64) - wanted)
        if weight is None:
            self.total += float(values.sum())
            self.count += values.size
            return
        weights = np.broadcast_to(weights_for(type(self).__name__, weight, values.shape), values.shape)
        kept = weights != 0  # what is left out may be anything
        self.total += float((values[kept] * weights[kept]).sum())
        self.count += float(weights.sum())

    def result(self) -> float:
        """The mean; NaN of nothing."""
        return ratio(self.total, self.count)


class MeanSquaredError(_MeanOfElements):
    """The mean of (prediction - target)² over all elements. The default name is ``"mse"``.

    >>> import numpy as np
    >>> MeanSquaredError()(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    """

    _default_name = "mse"

    def _values(self, difference: np.ndarray) -> np.ndarray:
        return difference * difference


class RootMeanSquaredError(MeanSquaredError):
    """The root of :class:`MeanSquaredError`, over all elements and outputs together. The default name is ``"rmse"``.

    >>> import numpy as np
    >>> RootMeanSquaredError()(np.array([1.0, 2.0]), np.array([1.0, 4.0])) ** 2
    2.0000000000000004
    """

    _default_name = "rmse"

    def result(self) -> float:
        """The root; NaN of nothing."""
        return math.sqrt(super().result())


class MeanAbsoluteError(_MeanOfElements):
    """The mean of \\|prediction - target\\| over all elements. The default name is ``"mae"``.

    >>> import numpy as np
    >>> MeanAbsoluteError()(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """

    _default_name = "mae"

    def _values(self, difference: np.ndarray) -> np.ndarray:
        return np.abs(difference)


class R2Score(Metric):
    """The coefficient of determination, 1 - Σ(target - prediction)² / Σ(target - mean)², averaged over outputs.

    Means and squares are updated as by Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances" (1979), so large means lose nothing. As in scikit-learn, an output whose targets are
    all equal is 1 when it is predicted exactly and else 0; fewer than two samples are NaN.

    Args:
        name: default ``"r2"``.

    >>> import numpy as np
    >>> R2Score()(np.array([2.5, 0.0, 2.0, 8.0]), np.array([3.0, -0.5, 2.0, 7.0]))
    0.9486081370449679
    """

    _sums = ("samples", "count", "residual", "mean", "spread")
    samples: float
    count: Any
    residual: Any
    mean: Any
    spread: Any

    def __init__(self, name: str = "r2") -> None:
        super().__init__(name)

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch of equal shapes, (N,), (N, 1) or (N, outputs...)."""
        predicted, wanted = same_shape("R2Score", prediction, target)
        shape = predicted.shape
        if not predicted.size:
            return
        weights = np.ones((1,) * len(shape)) if weight is None else weights_for("R2Score", weight, shape)
        weights = np.broadcast_to(weights, shape).reshape(shape[0], -1)
        predicted, wanted = (a.astype(np.float64).reshape(shape[0], -1) for a in (predicted, wanted))
        if weight is not None:  # what is left out may be anything
            predicted, wanted = (np.where(weights != 0, a, 0.0) for a in (predicted, wanted))
        count = weights.sum(axis=0)
        mean = np.divide((weights * wanted).sum(axis=0), count, out=np.zeros_like(count), where=count > 0)
        spread = (weights * (wanted - mean) ** 2).sum(axis=0)
        residual = (weights * (wanted - predicted) ** 2).sum(axis=0)
        self._add(float((weights != 0).any(axis=1).sum()), count, mean, spread, residual)

    def _add(self, samples: float, count: Any, mean: Any, spread: Any, residual: Any) -> None:
        if np.ndim(self.count) and np.shape(self.count) != np.shape(count):
            raise ValueError(f"[R2Score] got {np.size(count)} outputs, expected {np.size(self.count)} as before")
        total = self.count + count
        share = np.divide(count, total, out=np.zeros_like(total), where=total > 0)
        away = mean - self.mean
        self.spread = self.spread + spread + away * away * self.count * share
        self.mean = self.mean + away * share
        self.residual = self.residual + residual
        self.count = total
        self.samples += samples

    def merge(self, other: Metric) -> None:
        """Count what another one has counted."""
        self._check_same(other)
        assert isinstance(other, R2Score)
        if other.samples:
            self._add(other.samples, other.count, other.mean, other.spread, other.residual)

    def result(self) -> float:
        """The mean over the outputs."""
        if self.samples < 2:
            return float("nan")
        residual, spread = np.asarray(self.residual), np.asarray(self.spread)
        constant = np.where(residual == 0, 1.0, 0.0)
        return float(np.mean(1.0 - np.divide(residual, spread, out=1.0 - constant, where=spread > 0)))
