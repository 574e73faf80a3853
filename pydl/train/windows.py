"""Truncated backpropagation through time: a batch of long sequences as windows, each of which is an optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.train.structure import as_batch, leaves, map_leaves
from pydl.train.tracking import StepLogs, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl.train.trainer import Trainer

__all__ = ["call_with_state", "mean_of", "train_windows", "windows"]


def train_windows(trainer: Trainer, batch: Any) -> StepLogs:
    """Train on (N, T, ...) in windows of ``trainer.tbptt`` steps; the means over the batch."""
    logs_of_windows = []
    for some_x, some_y, some_weight in windows(trainer, *as_batch(batch)):
        trainer.optimizer.zero_grad()
        prediction, state = call_with_state(trainer, some_x, trainer.state)
        loss, logs = trainer.compute_loss(prediction, some_y, some_weight)
        if trainer.metrics:
            trainer.metrics.update(map_leaves(lambda t: t.detach(), prediction), some_y, some_weight)
        trainer.backward(loss, logs.counts["loss"])
        trainer.apply_gradients()
        trainer.state = map_leaves(lambda t: t.detach() if isinstance(t, pydl.Tensor) else t, state)
        logs_of_windows.append(logs)
    return mean_of(logs_of_windows)


def windows(trainer: Trainer, x: Any, y: Any, weight: Any) -> Iterator[tuple[Any, Any, Any]]:
    """The windows of a batch in their order; the carried state is dropped before the first where that is so."""
    length = _length(x, y)
    window = trainer.tbptt or length
    if not trainer.stateful:
        trainer.state = None
    for start in range(0, length, window):
        cut = slice(start, start + window)

        def part(t: Any, cut: slice = cut) -> Any:
            return t[:, cut] if t.ndim > 1 and t.shape[1] == length else t

        yield map_leaves(part, x), map_leaves(part, y), map_leaves(part, weight)


def call_with_state(trainer: Trainer, x: Any, state: Any) -> Any:
    """The model's prediction and its next state."""
    result = trainer._call(trainer.model, (x, state))
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(
            f"[Trainer] with tbptt the model is called as model(x, state) and must return (prediction, state); got "
            f"a {type(result).__name__}"
        )
    return result


def mean_of(logs: list[StepLogs]) -> StepLogs:
    """The means over a batch from those over its windows."""
    means = Tracker()
    for each in logs:
        means.add(each, each.counts["loss"])
    whole = StepLogs(means.results())
    whole.counts = dict(means.counts)
    return whole


def _length(x: Any, y: Any) -> int:
    lengths = {}
    for name, structure in (("x", x), ("y", y)):
        for path, leaf in leaves(structure, name):
            if leaf.ndim < 2:
                raise ValueError(
                    f"[Trainer] tbptt needs a step axis: {path} has shape {tuple(leaf.shape)}, expected (N, T, ...)"
                )
            lengths[path] = leaf.shape[1]
    if len(set(lengths.values())) != 1:
        raise ValueError(f"[Trainer] tbptt needs as many steps everywhere, got {lengths}")
    return next(iter(lengths.values()))
