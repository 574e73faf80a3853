"""Which of two values of a logged number is better: for callbacks that watch one."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from pydl.train.arguments import real_number

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Monitor", "larger_is_better"]

_LARGER = (
    "acc", "auc", "precision", "recall", "f1", "r2", "iou", "sensitivity", "specificity", "top_", "top-", "bleu",
    "dice", "jaccard", "kappa", "exact",
)  # fmt: skip
_SMALLER = (
    "loss", "err", "mse", "mae", "rmse", "mape", "msle", "mean_squared", "mean_absolute", "root_mean", "nll", "perplex",
    "ppl", "bpc", "bits", "nats", "entropy", "huber", "hinge", "kl", "dist", "penalty", "lr", "learning_rate", "wer",
    "cer", "bound", "reconstruction", "divergence", "residual", "cross_entropy",
)  # fmt: skip


def larger_is_better(name: str) -> bool:
    """Whether a metric of this name is meant to grow: accuracy, AUC, precision, recall, F1, R2, BLEU.

    >>> larger_is_better("val_accuracy"), larger_is_better("val_loss")
    (True, False)
    """
    return _is_named(name, _LARGER) and not name.lower().endswith(("loss", "error"))


def _is_named(name: str, words: tuple[str, ...]) -> bool:
    plain = name.lower().removeprefix("val_")
    return plain.startswith(words) or any(f"_{word}" in plain for word in words)


class Monitor:
    """Reads a number from the logs and says whether it improves on another.

    Args:
        callback: the name in error messages.
        name: of the number, such as ``"val_loss"``.
        mode: ``"min"``, ``"max"`` or ``"auto"``, by the name; see :func:`larger_is_better`. Of a name that says nothing
            it takes the smaller value for the better one, and warns.
        min_delta: the least change that is an improvement; its sign does not matter.

    Raises:
        ValueError: another mode.
        TypeError: the name is no text.

    >>> accuracy = Monitor("Example", "val_accuracy", min_delta=0.1)
    >>> accuracy.improves(0.8, 0.6), accuracy.improves(0.65, 0.6), accuracy.improves(0.1, None)
    (True, False, True)
    """

    def __init__(self, callback: str, name: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        if not isinstance(name, str):
            raise TypeError(f"[{callback}] got monitor={name!r}, expected a name in the logs, such as 'val_loss'")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"[{callback}] got mode={mode!r}, expected 'auto', 'min' or 'max'")
        self.callback = callback
        self.name = name
        self.mode = ("max" if larger_is_better(name) else "min") if mode == "auto" else mode
        if mode == "auto" and self.mode == "min" and not _is_named(name, _SMALLER):
            warnings.warn(
                f"[{callback}] the name {name!r} does not say which values are better; smaller ones are taken to be, "
                "give mode='min' or mode='max'",
                UserWarning,
                stacklevel=3,
            )
        self.min_delta = abs(real_number(callback, "min_delta", min_delta))
        self._warned = False
        self._comes = False  # if not in every epoch

    def improves(self, value: float, best: float | None) -> bool:
        """Whether ``value`` is better than ``best`` by more than min_delta; NaN never is, anything beats None."""
        if math.isnan(value):
            return False
        if best is None or math.isnan(best):
            return True
        return value > best + self.min_delta if self.mode == "max" else value < best - self.min_delta

    def check(self, params: Mapping[str, Any]) -> None:
        """Raise ValueError where it is known before the training that no such number will be logged."""
        names = params.get("metrics") or ()
        self._comes = self.name in names
        if names and self.name not in names and self.name not in ("lr", "learning_rate"):
            hint = "; give fit validation data" if self.name.startswith("val_") else ""
            raise ValueError(
                f"[{self.callback}] got monitor={self.name!r}, expected one of {', '.join(map(repr, names))}{hint}"
            )

    def read(self, logs: Mapping[str, Any] | None) -> float | None:
        """The number, or None where the logs lack it; with one warning unless it is known to come."""
        value = (logs or {}).get(self.name)
        if value is None:
            if not self._warned and not self._comes:
                self._warned = True
                known = ", ".join(logs or {}) or "nothing"
                warnings.warn(
                    f"[{self.callback}] the logs have no {self.name!r}, so it does nothing; they have {known}",
                    UserWarning,
                    stacklevel=3,
                )
            return None
        return float(value)
