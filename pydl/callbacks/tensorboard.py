"""TensorBoard: the logs in event files, which TensorBoard shows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import Callback
from pydl.train.arguments import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs
    from pydl.callbacks.event_file import EventFile

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes what ``tensorboard --logdir logs`` shows. Neither TensorBoard nor TensorFlow is needed for writing.

    As in Keras, ``log_dir/train`` has the training's numbers and ``log_dir/validation`` those of validation, under the
    same tags by epoch (``epoch_loss``, ``epoch_accuracy``, ...), so that they share figures. Numbers by batch
    (``batch_loss``, ...) are in ``log_dir/batches``. After a resume nothing is shown twice.

    Args:
        log_dir: default ``"logs"``.
        histogram_freq: epochs from one set of weights' histograms to the next; default 0: none.
        update_freq: ``"epoch"`` (default); ``"batch"`` writes after each batch too, a number after so many.
        write_steps_per_second: also ``epoch_steps_per_second``; default False.

    Raises:
        ValueError: an argument is out of its range.

    >>> from pydl.callbacks import TensorBoard
    >>> board = TensorBoard("logs", histogram_freq=1)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        update_freq: str | int = "epoch",
        write_steps_per_second: bool = False,
    ) -> None:
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = whole_number("TensorBoard", "histogram_freq", histogram_freq)
        if update_freq not in ("batch", "epoch"):
            if isinstance(update_freq, str):
                raise ValueError(
                    f"[TensorBoard] got update_freq={update_freq!r}, expected 'epoch', 'batch' or a number"
                )
            whole_number("TensorBoard", "update_freq", update_freq, 1)
        self.update_freq = update_freq
        self.write_steps_per_second = write_steps_per_second
        self._files: dict[str, EventFile] = {}
        self._resumed = False
        self._steps = 0
        if update_freq == "epoch":  # then nobody needs to call at every batch
            self.on_train_batch_end = super().on_train_batch_end  # type: ignore[method-assign]

    def _file(self, part: str) -> EventFile:
        if part not in self._files:
            from pydl.callbacks.event_file import EventFile

            purge = None
            if self._resumed:
                purge = self._steps + 1 if part == "batches" else self.trainer.epoch
            self._files[part] = EventFile(Path(self.log_dir, part), purge)
        return self._files[part]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the files. Each of a resumed training tells readers what to forget of those before it."""
        if not self._resumed:
            self._steps = 0
        parts = ["train"] if self.update_freq == "epoch" else ["train", "batches"]
        if self.params.get("test_steps") or (self._resumed and Path(self.log_dir, "validation").exists()):
            parts.append("validation")
        for part in parts:
            self._file(part)
        self._resumed = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Take the time."""
        self._began, self._first_step = time.monotonic(), self.trainer.step

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Numbers of a batch, as means over the epoch so far."""
        self._steps += 1
        every = 1 if self.update_freq == "batch" else int(self.update_freq)
        if self._steps % every == 0:
            numbers = _numbers(logs, "batch_")
            self._file("batches").scalars(numbers, self._steps)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Numbers and histograms of an epoch."""
        logs = logs or {}
        training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        numbers = _numbers(training, "epoch_")
        seconds = time.monotonic() - getattr(self, "_began", time.monotonic())
        if self.write_steps_per_second and seconds > 0:
            numbers["epoch_steps_per_second"] = (self.trainer.step - self._first_step) / seconds
        file = self._file("train")
        file.scalars(numbers, epoch)
        if validation:
            self._file("validation").scalars(_numbers(validation, "epoch_"), epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name, parameter in self.model.named_parameters():
                file.histogram(name.replace(".", "/"), parameter.detach().to(dtype=_float64()).cpu().numpy(), epoch)
        for each in self._files.values():
            each.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def state_dict(self) -> dict[str, Any]:
        """How many batches were seen."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting; readers will forget what was written after this point."""
        self._steps = state["steps"]
        self._resumed = True


def _float64() -> Any:
    import pydl

    return pydl.float64


def _numbers(logs: Mapping[str, Any] | None, prefix: str) -> dict[str, float]:
    found = {}
    for name, value in (logs or {}).items():
        try:
            found["epoch_learning_rate" if name == "lr" and prefix == "epoch_" else prefix + name] = float(value)
        except (TypeError, ValueError):
            continue  # a confusion matrix
    return found
