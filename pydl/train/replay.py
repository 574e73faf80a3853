"""What to do when a number is not finite: do the last steps again, find the one and the layer, go back to before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pydl.train.anomaly import NotFinite
from pydl.train.checking import Observed
from pydl.train.recorder import Settings, Snapshot, Suspect, weights_are_finite
from pydl.train.structure import as_batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydl.train.recorder import Recorder
    from pydl.train.trainer import Trainer

__all__ = ["investigate"]


class _Repetition(NamedTuple):
    """The steps from a snapshot on, done again."""

    before: Snapshot  # before the step at fault, or before the last one
    batches: list[Any]  # of that step
    step: int
    epoch: int
    failed: bool


def investigate(trainer: Trainer, recorder: Recorder | None, suspect: Suspect, batch: Any) -> NotFinite:
    """Find where it began, put the trainer back to before that step, and say so.

    Args:
        trainer: whose step found the number.
        recorder: its last steps.
        suspect: what was found.
        batch: that of the step; None where it was found between steps.
    """
    found = f"the {suspect.what} is {suspect.value}"
    trainer.stop_capturing()  # steps are done again to look at each of their tensors
    place = trainer._placing()
    batch = batch if batch is None or place is None else place(batch)
    epoch, step = trainer.epoch, trainer.step
    failing = Snapshot(trainer)
    snapshot = None if recorder is None else recorder.snapshot
    intact = batch is not None and suspect.what != "weights" and not suspect.late and weights_are_finite(trainer.model)
    again = None if recorder is None or snapshot is None else _repeat(trainer, snapshot, recorder.entries())

    if again is not None and again.failed and (again.step == step or not intact):
        where = _observe(trainer, again.before, again.batches)
        again.before.restore()
        return _not_finite(again.epoch, again.step, where, found)
    # What the repetition did not show may still be there now: in a weight that was changed between steps, in a layer.
    batches = again.batches if again is not None and not again.failed else [batch]
    where = None if batch is None else _observe(trainer, failing, batches)
    if again is not None and not again.failed:
        again.before.restore()
    elif intact:
        failing.restore()
    elif snapshot is not None:
        snapshot.restore()
    return _not_finite(epoch, step, where, found)


def _not_finite(epoch: int, step: int, place: tuple[str, str] | None, found: str) -> NotFinite:
    layer, tensor = (None, None) if place is None else place
    return NotFinite(epoch, step, layer, tensor, found)


def _repeat(trainer: Trainer, snapshot: Snapshot, entries: Iterable[Any]) -> _Repetition | None:
    """Do the steps again until one fails."""
    snapshot.restore()
    before = Snapshot(trainer)
    batches: list[Any] = []
    step, epoch = trainer.step, trainer.epoch
    place = trainer._placing()
    for entry in entries:
        if isinstance(entry, Settings):
            if trainer._pending and _fails(trainer.apply_gradients):
                return _Repetition(before, batches, step, epoch, True)
            entry.restore()
            trainer.state = None
            continue
        if place is not None:
            entry = place(entry)
        if not trainer._pending:
            before.take()
            batches = []
            step, epoch = trainer.step, trainer.epoch
        batches.append(entry)
        if _fails(lambda: trainer.one_step(entry)) or not weights_are_finite(trainer.model):  # noqa: B023
            return _Repetition(before, batches, step, epoch, True)
    return _Repetition(before, batches, step, epoch, False) if batches else None


def _fails(action: Any) -> bool:
    try:
        logs = action()
    except Suspect:
        return True
    return logs is not None and not math.isfinite(logs.get("loss", 0.0))


def _observe(trainer: Trainer, before: Snapshot, batches: list[Any]) -> tuple[str, str] | None:
    """Do one step again with every layer watched."""
    before.restore()
    trainer.model.train()
    with Observed(trainer.model) as observed:
        for batch in batches:
            x, y, weight = as_batch(batch)
            observed.look_at(x, "input")
            failed = _fails(lambda: trainer.one_step(batch))  # noqa: B023
            place = observed.result()
            if place is None or place[1].startswith("gradient"):
                observed.look_at(y, "target")
                observed.look_at(weight, "sample weight")
                place = observed.result() or place
            if place is not None:
                return place
            if failed:
                return "", "loss"
    return None
