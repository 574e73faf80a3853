"""ReduceLROnPlateau: a smaller learning rate when a number no longer gets better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl.callbacks.learning_rate import get_learning_rate, set_learning_rate
from pydl.callbacks.patience import Patience
from pydl.train.arguments import real_number, whole_number
from pydl.train.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(Patience):
    """Multiplies the learning rate by ``factor`` after ``patience`` epochs without improvement.

    It counts as Keras does: the rate falls after exactly ``patience`` such epochs. (The schedule of the same name in
    :mod:`pydl.optim.lr_scheduler` counts as PyTorch does, one more.) Where groups have rates of their own, the
    ratios stay, and ``min_lr`` is for the first one.

    Args:
        monitor: what is watched, a name in the logs; default ``"val_loss"``.
        factor: below 1; default 0.1.
        patience: default 10.
        verbose: 1 prints each reduction; default 0.
        mode: ``"min"``, ``"max"`` or ``"auto"`` (default), which goes by the name.
        min_delta: changes of this size or less are no improvement; default 1e-4.
        cooldown: epochs after a reduction in which nothing is counted; default 0.
        min_lr: the smallest rate; default 0.

    Raises:
        ValueError: an argument is out of its range; the training logs nothing of that name.

    >>> from pydl.callbacks import ReduceLROnPlateau
    >>> slower = ReduceLROnPlateau("val_loss", factor=0.2, patience=5, min_lr=1e-5)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        name = "ReduceLROnPlateau"
        if not 0.0 < real_number(name, "factor", factor) < 1.0:
            raise ValueError(f"[{name}] got factor {factor}, expected between 0 and 1")
        if not 0.0 <= real_number(name, "min_lr", min_lr) < math.inf:
            raise ValueError(f"[{name}] got min_lr {min_lr}, expected 0 or more")
        super().__init__(monitor, mode, min_delta, patience, verbose)
        self.factor = float(factor)
        self.cooldown = whole_number(name, "cooldown", cooldown)
        self.min_lr = float(min_lr)

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare and count."""
        value = self.monitor.read(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.monitor.improves(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.trainer.optimizer
        old = get_learning_rate(optimizer)
        if old <= self.min_lr:
            return
        new = max(old * self.factor, self.min_lr)
        set_learning_rate(optimizer, new)
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate reduced to {new:.6g}")

    def state_dict(self) -> dict[str, Any]:
        """The best value and the counters; the rate itself is the optimizer's."""
        return {**super().state_dict(), "cooldown_counter": self.cooldown_counter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        super().load_state_dict(state)
        self.cooldown_counter = state["cooldown_counter"]
