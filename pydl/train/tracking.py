"""Means over an epoch: of losses, of what a custom step returns, and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.train.objective import pick
from pydl.train.structure import batch_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.train.objective import LossTerm, Objective

__all__ = ["MetricSet", "StepLogs", "Tracker"]


class StepLogs(dict[str, float]):
    """What a step returns: name -> mean over the batch. ``counts`` has the terms of each mean where they are known;
    a name without an entry counts as many as the batch has samples.
    """

    counts: dict[str, float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counts = {}


class Tracker:
    """Sums in float64 (Python's floats), so that the mean after a resumption has the same bytes."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def reset(self) -> None:
        """Forget everything."""
        self.sums.clear()
        self.counts.clear()

    def add(self, logs: Mapping[str, float], samples: float) -> None:
        """Take a step's means."""
        known: Mapping[str, float] = getattr(logs, "counts", {})
        sums, counts = self.sums, self.counts
        for name, value in logs.items():
            count = known.get(name, samples)
            if name in sums:
                sums[name] += value * count
                counts[name] += count
            else:
                sums[name], counts[name] = value * count, count

    def results(self) -> dict[str, float]:
        """The means."""
        return {name: total / self.counts[name] if self.counts[name] else 0.0 for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.sums = {name: float(value) for name, value in state["sums"].items()}
        self.counts = {name: float(value) for name, value in state["counts"].items()}


class MetricSet:
    """The metrics of all outputs.

    Args:
        metrics: anything that ``pydl.metrics.get`` takes, one or a list; for several outputs a dict (or a list of
            lists) in the outputs' structure.
        objective: names the outputs.
    """

    def __init__(self, metrics: Any, objective: Objective) -> None:
        self.entries: list[tuple[str, Any, Any]] = []  # name in the logs, metric, output's key
        if not isinstance(metrics, (list, tuple, dict)):
            metrics = [] if metrics is None else [metrics]
        if isinstance(metrics, dict):
            if not objective.many:
                raise ValueError(
                    f"[Trainer] got metrics by output, {list(metrics)}, but one loss; give loss as a dict too"
                )
            groups = [(key, group) for key, group in metrics.items()]
        elif objective.many:
            groups = [(key, metrics) for key in objective.terms if metrics]
        else:
            groups = [(None, metrics)]
        for key, group in groups:
            if objective.many and key not in objective.terms:
                raise ValueError(f"[Trainer] got metrics for {key!r}, expected one of {list(objective.terms)}")
            for each in group if isinstance(group, (list, tuple)) else [group]:
                metric = _metric(each, objective.terms[key])
                name = metric.name if key is None else f"{objective.name_of(key)}_{metric.name}"
                if any(name == known for known, _, _ in self.entries):
                    raise ValueError(f"[Trainer] got two metrics called {name!r}; give one another name")
                self.entries.append((name, metric, key))

    def __bool__(self) -> bool:
        return bool(self.entries)

    def reset(self) -> None:
        """Begin an epoch."""
        for _, metric, _ in self.entries:
            metric.reset()

    def update(self, prediction: Any, target: Any, weight: Any) -> None:
        """Take a batch."""
        for _, metric, key in self.entries:
            _update(metric, key, prediction, target, weight)

    def try_on(self, prediction: Any, target: Any, weight: Any) -> None:
        """Raise what :meth:`update` would of a few samples, and forget them. Functions of the user's are not asked:
        they may need more samples than a trial has.
        """
        for _, metric, key in self.entries:
            if type(metric).__module__.startswith("pydl.metrics.") and not hasattr(metric, "function"):
                kept = metric.state_dict()
                try:
                    _update(metric, key, prediction, target, weight)
                finally:
                    metric.load_state_dict(kept)

    def results(self) -> dict[str, Any]:
        """name -> value."""
        return {name: metric.result() for name, metric, _ in self.entries}

    def state_dict(self) -> dict[str, Any]:
        """name -> the metric's state."""
        return {name: metric.state_dict() for name, metric, _ in self.entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        for name, metric, _ in self.entries:
            if name in state:
                metric.load_state_dict(state[name])


def _update(metric: Any, key: Any, prediction: Any, target: Any, weight: Any) -> None:
    if key is None:
        metric.update(prediction, target, weight)
    else:
        part = weight[key] if isinstance(weight, (tuple, list, dict)) else weight
        metric.update(pick(prediction, key, "the model's output"), pick(target, key, "y"), part)


def _metric(spec: Any, term: LossTerm) -> Any:
    from pydl.metrics import fit_to_loss, get

    return fit_to_loss(get(spec), term.loss, classes_last=term.classes_last)


def samples_of(x: Any) -> float:
    """The batch's samples, as a weight of its means."""
    return float(batch_size(x))
