"""Metric: sums that grow batch by batch and give a number in the end; and the mean of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FunctionMetric", "Mean", "Metric", "ratio"]


class Metric:
    """Base of all metrics. ``update`` takes a batch, ``result`` is that of everything since ``reset``.

    The result does not depend on how samples are dealt out to batches: sums and weights are kept, in float64, and
    divided in the end. Parts that were counted apart are put together by :meth:`merge`.

    A subclass names its sums in ``_sums``: attributes that are numbers or float64 arrays, 0 in the beginning, and
    that add up. What cannot be added overrides the methods.

    Attributes:
        name: under which the logs have it.
    """

    _sums: tuple[str, ...] = ()
    name: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        for key in self._sums:
            setattr(self, key, 0.0)

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch.

        Args:
            prediction, target: tensors or arrays; shapes are each metric's own.
            weight: of each sample (N,) or of each step (N, T): 0 and more; False and 0 leave out. Default: all 1.

        Raises:
            ValueError: shapes that do not fit, or negative weights.
        """
        raise NotImplementedError(f"[{type(self).__name__}] has no update method; define one")

    def result(self) -> Any:
        """The number so far; NaN where nothing was counted."""
        raise NotImplementedError(f"[{type(self).__name__}] has no result method; define one")

    def merge(self, other: Metric) -> None:
        """Count what another metric of this class has counted, as of another part of the data.

        Raises:
            TypeError: it is of another class.
        """
        self._check_same(other)
        for key in self._sums:
            setattr(self, key, getattr(self, key) + getattr(other, key))

    def _check_same(self, other: Metric) -> None:
        if type(other) is not type(self):
            raise TypeError(f"[{type(self).__name__}] got a {type(other).__name__} to merge, expected one of its class")

    def state_dict(self) -> dict[str, Any]:
        """What was counted: numbers and tensors."""
        return {key: _saved(getattr(self, key)) for key in self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        for key in self._sums:
            setattr(self, key, _loaded(state[key]))

    def __call__(self, prediction: Any, target: Any, weight: Any = None) -> Any:
        """The result of these alone; what was counted before is forgotten."""
        self.reset()
        self.update(prediction, target, weight)
        return self.result()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


def _saved(value: Any) -> Any:
    return pydl.asarray(np.array(value)) if isinstance(value, np.ndarray) else value


def _loaded(value: Any) -> Any:
    return np.array(value.cpu().numpy()) if isinstance(value, pydl.Tensor) else value


def ratio(sum_: float, count: float) -> float:
    """The mean, or NaN where nothing was counted."""
    return float(sum_) / float(count) if count else float("nan")


class Mean(Metric):
    """The mean of numbers, as of losses: ``update(value, weight)``.

    Args:
        name: default ``"mean"``.

    >>> mean = Mean("loss")
    >>> mean.update(0.5, weight=32)  # the mean of 32 samples
    >>> mean.update([1.0, 2.0])  # two numbers
    >>> mean.result()
    0.5588235294117647
    """

    _sums = ("total", "count")
    total: float
    count: float

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)

    def update(self, value: Any, weight: Any = None) -> None:  # type: ignore[override]
        """Count a number or several.

        Args:
            value: a number, or an array or tensor of them.
            weight: of the numbers; anything that broadcasts against them. Default 1.
        """
        if isinstance(value, (float, int)) and (weight is None or isinstance(weight, (float, int))):
            scale = 1.0 if weight is None else float(weight)
            self.total += value * scale if scale else 0.0
            self.count += scale
            return
        from pydl.metrics.inputs import to_array, weights_for

        values = np.asarray(to_array(value), np.float64)
        weights = None if weight is None else np.broadcast_to(weights_for("Mean", weight, values.shape), values.shape)
        if weights is None:
            self.total += float(values.sum())
            self.count += values.size
        else:
            kept = weights != 0  # what is left out may be NaN
            self.total += float((values[kept] * weights[kept]).sum())
            self.count += float(weights.sum())

    def result(self) -> float:
        """The mean; NaN of nothing."""
        return ratio(self.total, self.count)


class FunctionMetric(Metric):
    """A metric from a function of (prediction, target).

    Where the function gives a value for each sample (N,) or step (N, T), their mean is exact. Where it gives one number
    for the batch, the result is the mean over batches weighted by their numbers of samples: right for means over
    samples, an approximation for anything else, such as an F1 score.

    Args:
        function: of two tensors, to a number, tensor or array.
        name: default the function's.

    >>> import pydl
    >>> metric = FunctionMetric(lambda prediction, target: abs(prediction - target), name="distance")
    >>> metric.update(pydl.asarray([1.0, 2.0]), pydl.asarray([1.0, 4.0]))
    >>> metric.result()
    1.0
    """

    _sums = ("total", "count")
    total: float
    count: float

    def __init__(self, function: Callable[[Any, Any], Any], name: str | None = None) -> None:
        super().__init__(name or str(getattr(function, "__name__", type(function).__name__)))
        self.function = function

    def update(self, prediction: Any, target: Any, weight: Any = None) -> None:
        """Count a batch; weights need a function that gives a value for each sample."""
        from pydl.metrics.inputs import to_array, weights_for

        with pydl.no_grad():
            given = self.function(prediction, target)
        if given is None:
            raise TypeError(f"[{self.name}] the function returned None, expected a number; does it lack a return?")
        values = np.asarray(to_array(given), np.float64)
        if values.size == 1 and (values.ndim == 0 or len(target) != 1):
            if weight is not None:
                raise ValueError(
                    f"[{self.name}] the function gives one number for a batch, which cannot be weighted by sample; "
                    "return a value for each sample"
                )
            self.total += float(values.reshape(())) * len(target)
            self.count += len(target)
            return
        weights = 1.0 if weight is None else weights_for(self.name, weight, values.shape)
        all_weights = np.broadcast_to(weights, values.shape)
        kept = all_weights != 0
        self.total += float((values[kept] * all_weights[kept]).sum())
        self.count += float(all_weights.sum())

    def result(self) -> float:
        """The weighted mean; NaN of nothing."""
        return ratio(self.total, self.count)
