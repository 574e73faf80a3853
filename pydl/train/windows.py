"""Truncated backpropagation through time: a batch of long sequences as windows, each of which is an optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.train.structure import as_batch, leaves, map_leaves
from pydl.train.tracking import StepLogs, Tracker

if TYPE_CHECKING:
    from pydl.train.trainer import Trainer

__all__ = ["train_windows"]


def train_windows(trainer: Trainer, batch: Any) -> StepLogs:
    """Train on (N, T, ...) in windows of ``trainer.tbptt`` steps; the means over the batch."""
    x, y, weight = as_batch(batch)
    length = _length(x, y)
    window = trainer.tbptt or length
    means = Tracker()
    if not trainer.stateful:
        trainer.state = None
    for start in range(0, length, window):
        cut = slice(start, start + window)

        def part(t: Any, cut: slice = cut) -> Any:
            return t[:, cut] if t.ndim > 1 and t.shape[1] == length else t

        trainer.optimizer.zero_grad()
        result = trainer._call(trainer.model, (map_leaves(part, x), trainer.state))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(
                f"[Trainer] with tbptt the model is called as model(x, state) and must return (prediction, state); got "
                f"a {type(result).__name__}"
            )
        prediction, state = result
        some_y, some_weight = map_leaves(part, y), map_leaves(part, weight)
        loss, logs = trainer.compute_loss(prediction, some_y, some_weight)
        if trainer.metrics:
            trainer.metrics.update(map_leaves(lambda t: t.detach(), prediction), some_y, some_weight)
        trainer.backward(loss, logs.counts["loss"])
        trainer.apply_gradients()
        trainer.state = map_leaves(lambda t: t.detach() if isinstance(t, pydl.Tensor) else t, state)
        means.add(logs, logs.counts["loss"])
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
