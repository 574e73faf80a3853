"""LearningRateScheduler: the learning rate as a function of the epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import Callback, takes
from pydl.callbacks.learning_rate import get_learning_rate, set_learning_rate
from pydl.train.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl.callbacks.base import Logs

__all__ = ["LearningRateScheduler"]


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch.

    The schedules of :mod:`pydl.optim.lr_scheduler`, given to the trainer, do this too; this is for a function of
    one's own. Where groups have rates of their own, the ratios stay.

    Args:
        schedule: a function of (epoch from 0, present rate), or of the epoch alone, that gives the rate.
        verbose: 1 prints the rate of each epoch; default 0.

    Raises:
        TypeError: ``schedule`` is no function, or gives no number.
        ValueError: it gives a negative rate or one that is not finite.

    >>> from pydl.callbacks import LearningRateScheduler
    >>> halve = LearningRateScheduler(lambda epoch, lr: lr if epoch < 10 else lr / 2)
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            hint = "; a schedule of pydl.optim.lr_scheduler is given to the Trainer: scheduler=..."
            raise TypeError(
                f"[LearningRateScheduler] got schedule={schedule!r}, expected a function of (epoch, lr)"
                + hint * hasattr(schedule, "step")
            )
        self._takes_rate = takes(schedule, 2)
        if not self._takes_rate and not takes(schedule, 1):
            raise TypeError(
                f"[LearningRateScheduler] got schedule={schedule!r}, expected a function of (epoch, lr) or (epoch)"
            )
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.trainer.optimizer
        rate: Any = self.schedule(epoch, get_learning_rate(optimizer)) if self._takes_rate else self.schedule(epoch)
        try:
            rate = float(rate)
        except (TypeError, ValueError):
            raise TypeError(f"[LearningRateScheduler] the schedule gave {rate!r}, expected a number") from None
        if not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"[LearningRateScheduler] the schedule gave {rate}, expected a finite number, 0 or more")
        set_learning_rate(optimizer, rate)
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate {rate:.6g}")
