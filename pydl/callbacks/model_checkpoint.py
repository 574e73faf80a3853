"""ModelCheckpoint: weights, or the whole training, in files as it goes on."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import Callback
from pydl.callbacks.monitor import Monitor
from pydl.train.arguments import real_number, whole_number
from pydl.train.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Callback):
    """Saves after each epoch, after each improvement, or every so many batches. A file is the old one or the new one.

    Args:
        filepath: with fields in braces if wanted: ``"run/{epoch:02d}-{val_loss:.3f}.safetensors"``; ``epoch`` counts
            from 1, as does ``batch`` in its epoch; the others are the logs'. A number of the validation is ``nan`` in
            epochs without one. Folders are made. Without fields each file replaces the one before.
        monitor: what tells the best; default ``"val_loss"``. Read only with ``save_best_only``.
        verbose: 1 prints what is saved; default 0.
        save_best_only: only after improvements; default False.
        save_weights_only: ``model.state_dict()``, which ``model.load_state_dict(pydl.load(path))`` takes; default
            False: everything to go on from, by ``trainer.save``.
        mode: ``"min"``, ``"max"`` or ``"auto"`` (default), which goes by the name.
        save_freq: ``"epoch"`` (default), or after how many batches.
        initial_value_threshold: with ``save_best_only``, what the first file has to beat; default nothing.

    Attributes:
        best: the best value so far, or None.
        last_path: the last file written, or None.

    Raises:
        ValueError, TypeError: an argument is out of its range; a field of ``filepath`` is not in the logs.

    >>> from pydl.callbacks import ModelCheckpoint
    >>> best = ModelCheckpoint("best.safetensors", monitor="val_accuracy", save_best_only=True, save_weights_only=True)
    >>> best.monitor.mode
    'max'
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        name = "ModelCheckpoint"
        if not isinstance(filepath, (str, os.PathLike)):
            raise TypeError(f"[{name}] got filepath {filepath!r}, expected the path of a file")
        self.filepath = os.fspath(filepath)
        if not self.filepath or os.path.isdir(self.filepath):
            raise ValueError(f"[{name}] got filepath {self.filepath!r}, expected the path of a file")
        self.monitor = Monitor(name, monitor, mode)
        if save_freq != "epoch":
            if isinstance(save_freq, str):
                raise ValueError(f"[{name}] got save_freq={save_freq!r}, expected 'epoch' or a number of batches")
            whole_number(name, "save_freq", save_freq, 1)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.initial_value_threshold = initial_value_threshold
        self.best: float | None = None
        if initial_value_threshold is not None:
            self.best = real_number(name, "initial_value_threshold", initial_value_threshold)
        self.last_path: str | None = None
        self._batches = 0
        self._resumed = False
        if save_freq == "epoch":  # then nobody needs to call at every batch
            self.on_train_batch_end = super().on_train_batch_end  # type: ignore[method-assign]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Check what is known before the first step."""
        if self.save_best_only and self.save_freq == "epoch":
            self.monitor.check(self.params)
        names = self.params.get("metrics")
        if names:
            at_batches = self.save_freq != "epoch"
            known = [each for each in names if not (at_batches and (each.startswith("val_") or each == "lr"))]
            self._path(0, 0 if at_batches else None, dict.fromkeys(known, 0.5))  # before the first step
        if not self._resumed:
            self._batches = 0
        self._resumed = False

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save every ``save_freq`` batches."""
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save(self.trainer.epoch, batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, None, logs or {})

    def _save(self, epoch: int, batch: int | None, logs: Mapping[str, Any]) -> None:
        what = f"Epoch {epoch + 1}" + ("" if batch is None else f", batch {batch + 1}")
        if self.save_best_only:
            value = self.monitor.read(logs)
            if value is None or not self.monitor.improves(value, self.best):
                if self.verbose and value is not None:
                    say(f"{what}: {self.monitor.name} did not improve from {self.best:.5g}")
                return
            what += f": {self.monitor.name} improved to {value:.5g}"
            self.best = value
        path = self._path(epoch, batch, logs)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if self.save_weights_only:
            from pydl.serialization import save_file

            save_file(self.model.state_dict(), path)
        else:
            self.trainer.save(path)
        self.last_path = path
        if self.verbose:
            say(f"{what}, saved to {path}")

    def _path(self, epoch: int, batch: int | None, logs: Mapping[str, Any]) -> str:
        absent = [each for each in self.params.get("metrics") or () if each.startswith("val_") and batch is None]
        count = (self.params.get("steps") or 0) if batch is None else batch + 1
        fields = {**dict.fromkeys(absent, math.nan), **logs, "epoch": epoch + 1, "batch": count}
        try:
            return self.filepath.format(**fields)
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(fields)
            raise ValueError(
                f"[ModelCheckpoint] got filepath {self.filepath!r} with a field that cannot be filled ({error}); "
                f"there are {known}"
            ) from None

    def state_dict(self) -> dict[str, Any]:
        """The best value and the count of batches."""
        return {"best": self.best, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.best, self._batches = state["best"], state["batches"]
        self._resumed = True
