"""EarlyStopping: ends a training that no longer gets better, and gives back the best weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.callbacks.patience import Patience
from pydl.train.arguments import real_number, whole_number
from pydl.train.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor
    from pydl.callbacks.base import Logs

__all__ = ["EarlyStopping"]


class EarlyStopping(Patience):
    """Stops when a number in the logs has not improved for ``patience`` epochs.

    The model leaves ``fit`` with the weights and buffers of its best epoch on every way out: when patience ends, after
    the last epoch, after an interrupt, and when a number was not finite. Where no epoch was counted (an interrupt
    in the first one), it keeps what it has. A NaN is no improvement.

    Args:
        monitor: what is watched, a name in the logs; default ``"val_loss"``.
        min_delta: changes of this size or less are no improvement; default 0.
        patience: epochs without improvement after which it stops; default 0.
        verbose: 1 prints why it stopped and what was restored; default 0.
        mode: ``"min"``, ``"max"`` or ``"auto"`` (default), which goes by the name.
        baseline: improvements on the best value only count for patience if they beat this too; default None.
        restore_best_weights: default True (Keras: False).
        start_from_epoch: epochs before this one (from 0) are not looked at; default 0.

    Attributes:
        best, best_epoch: the best value and its epoch, from 0; None and -1 before there is one.
        wait: epochs since the last improvement.
        stopped_epoch: the epoch after which it stopped, or -1.

    Raises:
        ValueError, TypeError: an argument is out of its range; the training logs nothing of that name.

    >>> from pydl.callbacks import EarlyStopping
    >>> stop = EarlyStopping("val_accuracy", patience=3)
    >>> stop.monitor.mode, stop.best_epoch
    ('max', -1)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta, patience, verbose)
        self.baseline = None if baseline is None else real_number("EarlyStopping", "baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = whole_number("EarlyStopping", "start_from_epoch", start_from_epoch)

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.best_epoch = -1
        self.best_weights: dict[str, Tensor] | None = None
        self.stopped_epoch = -1

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare, remember, stop."""
        value = self.monitor.read(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.monitor.improves(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = {name: t.clone() for name, t in self.model.state_dict().items()}
            if self.baseline is None or self.monitor.improves(value, self.baseline):
                self.wait = 0
                return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.trainer.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Give the best weights back."""
        if self.verbose and self.stopped_epoch >= 0:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            if self.verbose:
                say(f"Weights of epoch {self.best_epoch + 1} restored, {self.monitor.name} {self.best:.6g}")

    def state_dict(self) -> dict[str, Any]:
        """Counters, the best value and the best weights."""
        own = {"best_epoch": self.best_epoch, "stopped_epoch": self.stopped_epoch, "best_weights": self.best_weights}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        super().load_state_dict(state)
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]
        weights = state["best_weights"]
        self.best_weights = None if weights is None else {name: t.clone() for name, t in weights.items()}
