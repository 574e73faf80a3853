"""ProgressBar: what ``fit`` shows while it works."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from pydl.callbacks.base import Callback
from pydl.train.progress import Bar, format_count, format_duration, format_seconds, format_value, is_live, use_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs

__all__ = ["ProgressBar"]


class ProgressBar(Callback):
    """A bar with speed and time left while an epoch runs, and one line for each epoch that is done.

    ``fit(verbose=...)`` makes one. Colours are left out where the variable ``NO_COLOR`` is set, and ``COLUMNS`` says
    how wide the line may be. A finished line looks like this::

        Epoch 3/10  1.8s  33.2k samples/s  loss 0.3125  accuracy 0.8871  val_loss 0.3402  lr 0.001  0:13 left

    Args:
        verbose: 0 is silent, 1 the bar, 2 one line for each epoch, ``"auto"`` (default) is 1 on a terminal and in a
            notebook and 2 elsewhere.
        stream: where to write; default stdout, as in Keras.

    Raises:
        ValueError: another ``verbose``.
    """

    def __init__(self, verbose: str | int = "auto", stream: TextIO | None = None) -> None:
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"[ProgressBar] got verbose={verbose!r}, expected 'auto', 0, 1 or 2")
        self._stream = stream
        self.verbose = (1 if is_live(self._out) else 2) if verbose == "auto" else int(verbose)
        self._bar: Bar | None = None
        self._training = False
        self._epoch = self._batch = 0
        self._epochs_timed: list[float] = []
        if self.verbose != 1:  # then nobody needs to call at every batch
            self.on_train_batch_end = super().on_train_batch_end  # type: ignore[method-assign]
            self.on_test_batch_end = super().on_test_batch_end  # type: ignore[method-assign]
            self.on_predict_batch_end = super().on_predict_batch_end  # type: ignore[method-assign]

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stdout

    def _new_bar(self, total: int | None, label: str, done: int = 0) -> None:
        samples = self._samples_per_batch()
        unit = "samples" if samples else "batches"
        self._bar = Bar(total, done, scale=samples or 1.0, unit=unit, label=label, stream=self._out)

    def _samples_per_batch(self) -> float | None:
        samples, steps, size = (self.params.get(name) for name in ("samples", "steps", "batch_size"))
        if samples and steps:
            return float(samples) / float(steps)
        return float(size) if size else None

    def _epoch_label(self) -> str:
        total = self.params.get("epochs")
        return f"Epoch {self._epoch + 1:{len(str(total))}}/{total}" if total else f"Epoch {self._epoch + 1}"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start the clock."""
        self._training = True
        self._epochs_timed = []

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """A new bar."""
        self._first = getattr(getattr(self.trainer, "_fitting", None), "batch", 0)  # not 0 after a resume
        self._epoch, self._batch, self._trained_at = epoch, self._first, 0.0
        self._epoch_began = time.monotonic()
        if self.verbose == 1:
            self._new_bar(self.params.get("steps"), self._epoch_label(), self._first)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Draw, ten times a second."""
        self._batch = batch + 1
        if self._bar is not None and self._bar.is_due():
            self._bar.update(self._batch, _words(logs))

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """An evaluation, within ``fit`` or on its own."""
        self._test_began = time.monotonic()
        if self._training:
            self._trained_at = self._test_began
        if self.verbose == 1:
            self._clear()
            label = f"{self._epoch_label()} validation" if self._training else "Evaluation"
            self._new_bar(self.params.get("test_steps"), label)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Draw, ten times a second."""
        if self._bar is not None and self._bar.is_due():
            self._bar.update(batch + 1, _words(logs))

    def on_test_end(self, logs: Logs | None = None) -> None:
        """The line of an evaluation on its own."""
        self._clear()
        if not self._training and self.verbose:
            seconds = time.monotonic() - self._test_began
            self._write("  ".join(filter(None, ("Evaluation", format_duration(seconds), _words(logs)))))

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """A prediction."""
        self._test_began = time.monotonic()
        if self.verbose == 1:
            self._new_bar(self.params.get("steps"), "Prediction")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Draw, ten times a second."""
        if self._bar is not None and self._bar.is_due():
            self._bar.update(batch + 1)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """The line of a prediction."""
        self._clear()
        if self.verbose:
            self._write(f"Prediction  {format_duration(time.monotonic() - self._test_began)}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """The line of an epoch."""
        if not self.verbose:
            return
        self._clear()
        now = time.monotonic()
        seconds, trained = now - self._epoch_began, (self._trained_at or now) - self._epoch_began
        if not self._first:
            self._epochs_timed = [*self._epochs_timed[-4:], seconds]
        parts = [self._epoch_label(), format_duration(seconds)]
        per_batch = self._samples_per_batch()
        batches = (self._batch if self.verbose == 1 else self.params.get("steps") or 0) - self._first
        if per_batch and batches > 0 and trained > 0:
            parts.append(f"{format_count(per_batch * batches / trained)} samples/s")
        parts.append(_words(logs))
        remaining = (self.params.get("epochs") or 0) - epoch - 1
        if remaining > 0 and self._epochs_timed and not getattr(self.trainer, "stop_training", False):
            left = remaining * sum(self._epochs_timed) / len(self._epochs_timed)
            parts.append(f"{format_seconds(left)} left")
        self._write("  ".join(filter(None, parts)))
        self._batch = 0

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Where it ended, if that was not at the end of an epoch."""
        self._clear()
        reason = getattr(self.trainer, "stop_reason", None)
        if self.verbose and self._training and reason in ("interrupted", "not finite"):
            steps = self.params.get("steps")
            place = f", batch {self._batch:,}" + (f"/{steps:,}" if steps else "") if self._batch else ""
            self._write(f"{self._epoch_label()}{place}: stopped, {reason}")
        self._training = False

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()
            self._bar = None

    def _write(self, line: str) -> None:
        out = self._out
        if use_color(out):
            label, separator, rest = line.partition("  ")
            line = f"\x1b[1m{label}\x1b[0m{separator}{rest}"
        out.write(line + "\n")
        out.flush()


def _words(logs: Mapping[str, Any] | None) -> str:
    words = []
    for name, value in (logs or {}).items():
        try:
            words.append(format_value(name, float(value)))
        except (TypeError, ValueError):
            continue  # a confusion matrix
    return "  ".join(words)
