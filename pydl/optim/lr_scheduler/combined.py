"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from pydl.optim.lr_scheduler.base import LRScheduler
from pydl.optim.lr_scheduler.plateau import ReduceLROnPlateau

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydl.optim.optimizer import Optimizer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Combined(LRScheduler):
    _not_saved = ("optimizer", "_schedulers")

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None, unit: str | None) -> None:
        name = type(self).__name__
        if len(schedulers) == 0:
            raise ValueError(f"[{name}] got no schedulers")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"[{name}] got a {type(scheduler).__name__} at place {i}, expected a scheduler")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(f"[{name}] can't hold a ReduceLROnPlateau: its step wants a metric; step it by itself")
            if scheduler.optimizer is not (optimizer or schedulers[0].optimizer):
                raise ValueError(f"[{name}] the scheduler at place {i} has another optimizer, expected one for all")
        units = {scheduler.unit for scheduler in schedulers}
        if unit is None and len(units) > 1:
            raise ValueError(f"[{name}] got schedulers of both units, epoch and step; give them one, or say unit=")
        self.unit = unit or units.pop()
        self.optimizer = optimizer or schedulers[0].optimizer
        self._schedulers = list(schedulers)

    def _active(self) -> Sequence[LRScheduler]:
        """Those that act at the first step."""
        raise NotImplementedError

    def _initial_step(self) -> None:
        """Begin anew, at step 0, from the rates that the groups have."""
        self.last_epoch = 0
        _rewind(self._schedulers)
        for scheduler in self._active():
            scheduler._initial_step()
        self._last_lr = self._rates()

    def _update_lr(self, epoch: int | None = None) -> None:
        for group in self.optimizer.param_groups:  # undo what other schedules have set
            group["lr"] = group["initial_lr"]
        self._initial_step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all schedulers, in order, and its own."""
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR(_Combined):
    """One schedule after the other, each counting from 0 when its turn comes.

    Args:
        optimizer: whose rates it sets.
        schedulers: made for that optimizer.
        milestones: the steps where the next one takes over, one less than there are schedulers.
        last_epoch: default -1.
        unit: that of all schedulers, where they don't agree.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0)
    >>> warmup = optim.lr_scheduler.WarmupLR(optimizer, 2)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, 0.5, unit="step")
    >>> schedule = SequentialLR(optimizer, [warmup, decay], milestones=[2])
    >>> rates = []
    >>> for step in range(4):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.5, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
        *,
        unit: str | None = None,
    ) -> None:
        self._take(schedulers, optimizer, unit)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"[SequentialLR] got {len(milestones)} milestones for {len(schedulers)} schedulers, expected one less"
            )
        self._milestones = list(milestones)
        self._update_lr()
        self.last_epoch = last_epoch + 1

    def _active(self) -> Sequence[LRScheduler]:
        return [self._schedulers[bisect_right(self._milestones, 0)]]

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step."""
        if epoch is not None:
            raise ValueError("[SequentialLR] can't jump to an epoch; step it without one")
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Combined):
    """All schedules at each step, each changing what the one before it left.

    Args:
        schedulers: made for one optimizer.
        optimizer: default that of the schedulers.
        unit: that of all schedulers, where they don't agree.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None, *, unit: str | None = None
    ) -> None:
        self._take(schedulers, optimizer, unit)
        self.last_epoch = 0
        self._last_lr = self._rates()

    def _active(self) -> Sequence[LRScheduler]:
        return self._schedulers

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step."""
        if epoch is not None:
            raise ValueError("[ChainedScheduler] can't jump to an epoch; step it without one")
        self.last_epoch += 1
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


def _rewind(schedulers: list[LRScheduler]) -> None:
    for scheduler in schedulers:
        if isinstance(scheduler, _Combined):
            _rewind(scheduler._schedulers)
        scheduler.last_epoch = -1
