"""What EarlyStopping and ReduceLROnPlateau share: a number that is watched, its best value, epochs without a better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import Callback
from pydl.callbacks.monitor import Monitor
from pydl.train.arguments import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs

__all__ = ["Patience"]


class Patience(Callback):
    """Base of callbacks that wait for an improvement; arguments as in :class:`EarlyStopping`.

    Attributes:
        best: the best value, None before there is one. wait: epochs since.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float, patience: int, verbose: int) -> None:
        name = type(self).__name__
        self.monitor = Monitor(name, monitor, mode, min_delta)
        self.patience = whole_number(name, "patience", patience)
        self.verbose = verbose
        self._resumed = False
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.best: float | None = None
        self.wait = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget the fit before, unless this one was resumed."""
        self.monitor.check(self.params)
        if not self._resumed:
            self.reset()
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """The best value and the counter."""
        return {"best": self.best, "wait": self.wait}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.best, self.wait = state["best"], state["wait"]
        self._resumed = True
