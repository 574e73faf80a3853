"""What it takes to do the last steps of a training again: a state of some steps ago, and the batches since then.

Copying the state before every step would cost more than many a step. So it is copied when enough time has passed that
the copies stay below a fifth of a percent of it, and the batches since then can be read again. Steps are functions of
state and batch, so the state before any of the last steps comes out of doing the ones in between again, to the bit.
"""

from __future__ import annotations

import math
import time
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.train.structure import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl import Tensor
    from pydl.nn import Module
    from pydl.train.trainer import Trainer

__all__ = ["Recorder", "Snapshot", "Suspect", "weights_are_finite"]

_SHARE = 500  # of the time since the last copy, what a copy may take
_STEPS_UNASKED = 31
_MOST_BATCHES = 1000
_MOST_BYTES = 64 << 20


class Suspect(Exception):  # noqa: N818 - a signal between step and loop, never seen outside
    """A step found a number that is not finite, before anything was changed by it."""

    def __init__(self, what: str, value: float, late: bool = False) -> None:
        super().__init__(what, value)
        self.what, self.value = what, value
        self.late = late  # found steps after it came up, as steps that are captured are read later


def weights_are_finite(model: Module) -> bool:
    """Whether all parameters are finite numbers."""
    return _are_finite([p.detach() for p in model.parameters() if p.dtype.is_floating_point])


def _are_finite(tensors: list[Tensor]) -> bool:
    if not tensors or math.isfinite(_C.clip_grad_norm(tensors, math.inf, math.inf).item()):
        return True
    return all(bool(pydl.isfinite(t).all()) for t in tensors)


class Settings:
    """What of a training's state is no tensor: rates, schedules, the positions of these generators, counts."""

    def __init__(self, trainer: Trainer, generators: list[Any]) -> None:
        self._trainer = trainer
        self._options = [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizer.param_groups]
        self._schedulers = [dict(scheduler.state_dict()) for scheduler in trainer.schedulers]
        self._generators = [(generator, generator.get_state()) for generator in generators]
        self.counts = (trainer.epoch, trainer.step, trainer.state)

    def restore(self) -> None:
        """Make them the present ones again."""
        trainer = self._trainer
        for group, options in zip(trainer.optimizer.param_groups, self._options):
            group.update(options)
        for scheduler, state in zip(trainer.schedulers, self._schedulers):
            scheduler.load_state_dict(state)
        for generator, position in self._generators:
            generator.set_state(position)
        trainer.epoch, trainer.step, trainer.state = self.counts


class Snapshot:
    """A copy in memory of what a step reads and changes. :meth:`take` reuses the memory of the time before."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._copies: list[Tensor] = []
        self.weights: list[Tensor] = []  # the model's own, not copied
        self.generators: list[Any] = []
        self._entries: dict[Any, dict[str, Any]] = {}  # the optimizer's, by parameter
        self.take()

    def _tensors(self) -> list[Tensor]:
        trainer = self._trainer
        found: list[Any] = [*trainer.model.parameters(), *trainer.model.buffers()]
        if trainer.average is not None:
            found += [*trainer.average.averaged.parameters(), *trainer.average.averaged.buffers()]
        return found

    def take(self) -> None:
        """Copy the present state."""
        tensors = self._tensors()
        with pydl.no_grad():
            if len(tensors) != len(self._copies):
                self._copies = [t.detach().clone() for t in tensors]
            else:
                for kept, tensor in zip(self._copies, tensors):
                    kept.copy_(tensor.detach())
            entries, state = self._entries, self._trainer.optimizer.state
            if len(entries) != len(state):
                self._entries = entries = {param: {} for param in state}
            for param, entry in state.items():
                _copy_entry(entry, entries[param])
        # Walking over the model costs more than what is done with what it has: kept for where there is less time.
        self.weights = [p.detach() for p in self._trainer.model.parameters() if p.dtype.is_floating_point]
        self.generators = _generators(self._trainer)
        self.settings = Settings(self._trainer, self.generators)

    def restore(self) -> None:
        """Make it the present state again."""
        trainer = self._trainer
        state = trainer.optimizer.state
        with pydl.no_grad():
            for tensor, kept in zip(self._tensors(), self._copies):
                tensor.copy_(kept)
            for param in list(state):
                if param not in self._entries:  # its first step came later
                    del state[param]
            for param, entry in self._entries.items():
                _copy_entry(entry, state.setdefault(param, {}))
        self.settings.restore()
        trainer._pending, trainer._pending_terms = 0, 0.0
        trainer.optimizer.zero_grad()


def _copy_entry(source: dict[str, Any], target: dict[str, Any]) -> None:
    for key, value in source.items():
        if not isinstance(value, pydl.Tensor):
            target[key] = list(value) if isinstance(value, list) else value
        elif key in target:
            target[key].copy_(value)
        else:
            target[key] = value.detach().clone()


def _generators(trainer: Trainer) -> list[Any]:
    from pydl.train.checkpoint import generators

    return [generator for _, generator in generators(trainer.model)]


class Recorder:
    """Keeps a state and what it takes to read the batches since it; asked before each step.

    Batches of a loader that can go back are read again when they are wanted: keeping them would cost more than all the
    rest, as Python's garbage collector walks over what is kept. Those of other iterables are kept.

    Args:
        trainer: whose steps.
        loader: where its batches come from, if it can go back to a position; default none.
    """

    def __init__(self, trainer: Trainer, loader: Any = None) -> None:
        self._trainer = trainer
        self._loader = loader
        self._position: Any = None  # of the loader, behind the first batch since the snapshot
        self.snapshot: Snapshot | None = None
        self.log: list[Any] | None = None  # batches or their numbers, Settings where epochs begin; None: too many
        self.unasked = 0  # steps to come that are only counted down: asking for the time costs more
        self._allowed = 0  # what `unasked` began with
        self._count = 0  # of batches before those that no entry of the log counts yet
        self._taken = 0.0  # when
        self._cost = 0.0  # seconds that a copy takes
        self._bytes = 0

    def epoch_begins(self) -> None:
        """Between epochs rates and much else may have changed."""
        if self.log is not None and self.snapshot is not None:
            self._close()
            self.log.append(Settings(self._trainer, self.snapshot.generators))

    def epoch_ends(self) -> None:
        """The last steps' gradients may have been NaN without a loss that showed it."""
        if self.snapshot is not None and not _are_finite(self.snapshot.weights):
            raise Suspect("weights", math.nan)

    def note(self, batch: Any) -> None:
        """Before a step with this batch, unless :attr:`unasked` steps are left, which is made one less then."""
        self._count += self._allowed
        self.unasked = self._allowed = 0 if self._trainer._pending or self._loader is None else _STEPS_UNASKED
        now = time.perf_counter()
        if now - self._taken > _SHARE * self._cost and not self._trainer._pending:
            self._take(now)
        if self._loader is not None:
            self._count += 1
        elif self.log is not None:
            self.log.append(batch)
            self._bytes += sum(leaf.nbytes for _, leaf in leaves(batch) if hasattr(leaf, "nbytes"))
            if (len(self.log) > _MOST_BATCHES or self._bytes > _MOST_BYTES) and len(self.log) > 1:
                self.log = None

    def _close(self) -> None:
        count = self._count + self._allowed - self.unasked
        self._count, self._allowed = 0, self.unasked
        if count and self.log is not None:
            self.log.append(count)

    def entries(self) -> Iterator[Any]:
        """The batches since the snapshot in their order, and Settings where epochs began."""
        if self.log is None or self.snapshot is None:
            return
        if self._loader is None:
            yield from self.log
            return
        self._close()
        loader = copy(self._loader)
        loader.num_workers = 0
        loader.load_state_dict({**self._position, "batch": self._position["batch"] - 1})
        batches = iter(loader)
        for i, entry in enumerate(self.log):
            if not isinstance(entry, Settings):
                yield from islice(batches, entry)
                continue
            yield entry
            if i:
                batches = iter(loader)

    def _take(self, begin: float) -> None:
        self._trainer.read_steps()
        if self.snapshot is None:
            self.snapshot = Snapshot(self._trainer)
        elif not weights_are_finite(self._trainer.model):
            self.unasked = self._allowed = 0  # this batch has no step
            raise Suspect("weights", math.nan)  # while there is a good state to go back to
        else:
            self.snapshot.take()
        if self._loader is not None:
            self._position = self._loader.state_dict()
        self.log = []
        self._count = self._bytes = 0
        self._taken = time.perf_counter()
        self._cost = self._taken - begin
