"""The progress bar as it looks: on a terminal, in a notebook, in a file; narrow, without colours, at the end."""

from __future__ import annotations

import io
import re
import sys

import pytest

import pydl
from pydl import nn
from pydl.callbacks import EarlyStopping, LambdaCallback, ProgressBar
from pydl.train import progress
from pydl.train.progress import Bar, format_seconds, format_value, say


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(pydl.callbacks.progress_bar, "time", clock)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return clock


def screen(text: str, width: int = 1000) -> list[str]:
    """What a terminal shows in the end, without colours."""
    lines = [""]
    column = 0
    for part in re.findall(r"\x1b\[2K|\x1b\[\d*m|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            lines.append("")
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif not part.startswith("\x1b"):
            line = lines[-1].ljust(column)
            lines[-1] = line[:column] + part + line[column + len(part) :]
            column += len(part)
            assert len(lines[-1]) < width
    return [line.rstrip() for line in lines]


def test_words() -> None:
    assert [format_seconds(s) for s in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
    assert [progress.format_duration(s) for s in (0.004, 0.99999, 59.96)] == ["4ms", "1.0s", "1:00"]
    assert format_value("loss", 123456.0) == "loss 1.235e+05"
    assert format_value("loss", float("nan")) == "loss nan"


def test_bar_on_a_terminal(clock: Clock) -> None:
    out = Terminal()
    bar = Bar(200, scale=32, unit="samples", label="Epoch 1/3", stream=out)
    bar.update(0, "loss 1.0000")
    clock.now += 1
    bar.update(50, "loss 0.5000")
    bar.update(51, "loss 0.4000")  # too soon to draw
    (line,) = screen(out.getvalue(), 100)
    assert line.startswith("Epoch 1/3  25% ███████░")
    assert line.endswith("50/200  loss 0.5000  1.6k samples/s  0:03 left")
    assert "\x1b[32m" in out.getvalue()
    bar.clear()
    assert screen(out.getvalue()) == [""]


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80])
def test_bar_fits_narrow_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    bar = Bar(1000, unit="samples", label="Epoch 10/100", stream=out)
    clock.now += 2
    bar.update(500, "loss 0.5000  accuracy 0.9000")
    (line,) = screen(out.getvalue(), columns)
    assert line.startswith("Epoch 10/100  50%"[: columns - 1])
    assert ("0:02 left" in line) == (columns > 27)


def test_no_color_dumb_and_ascii(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    out.encoding = "ascii"  # type: ignore[misc]
    bar = Bar(2, stream=out)
    bar.update(1)
    assert "\x1b[3" not in out.getvalue()
    assert "####" in out.getvalue()
    out.getvalue().encode("ascii")
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    bar = Bar(2, stream=out)
    bar.update(1)
    assert out.getvalue() == ""
    clock.now += 11
    bar.update(1)
    assert out.getvalue() == " 50%  1/2  0.0909 it/s  0:11 left\n"


def test_bar_in_a_file_and_of_unknown_length(clock: Clock) -> None:
    out = io.StringIO()
    bar = Bar(None, unit="batches", label="Epoch 1", stream=out)
    for done in range(1, 26):
        clock.now += 1
        bar.update(done, "loss 0.5")
    assert out.getvalue().splitlines() == [
        "Epoch 1  10  loss 0.5  1 batches/s",
        "Epoch 1  20  loss 0.5  1 batches/s",
    ]


def test_bar_in_a_notebook(clock: Clock) -> None:
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream", "encoding": "UTF-8"})
    out = notebook()
    bar = Bar(10, label="Epoch 1/2", stream=out)
    bar.update(5, "loss 10.0000")
    clock.now += 1
    bar.update(6, "loss 1.0")
    assert "\x1b[2K" not in out.getvalue()  # which a notebook would show
    (line,) = screen(out.getvalue())
    assert line.startswith("Epoch 1/2  60%")
    bar.clear()
    assert screen(out.getvalue()) == [""]
    assert ProgressBar("auto", out).verbose == 1
    assert ProgressBar("auto", io.StringIO()).verbose == 2


def drive(bar: ProgressBar, clock: Clock, batches: int = 4, epochs: int = 2) -> None:
    """A tiny trainer: an epoch's batches take a second each, its validation two."""
    bar.set_params({"epochs": epochs, "steps": batches, "batch_size": 32, "samples": batches * 32})
    bar.on_train_begin({})
    for epoch in range(epochs):
        bar.on_epoch_begin(epoch, {})
        for batch in range(batches):
            clock.now += 1
            bar.on_train_batch_end(batch, {"loss": 1 / (batch + 1)})
        bar.on_test_begin({})
        clock.now += 2
        bar.on_test_batch_end(0, {"loss": 0.5})
        bar.on_test_end({"loss": 0.5})
        bar.on_epoch_end(epoch, {"loss": 0.25, "val_loss": 0.5, "confusion_matrix": [[1]], "lr": 0.001})
    bar.on_train_end({})


LINES = [
    "Epoch 1/2  6.0s  32 samples/s  loss 0.2500  val_loss 0.5000  lr 0.001  0:06 left",
    "Epoch 2/2  6.0s  32 samples/s  loss 0.2500  val_loss 0.5000  lr 0.001",
]


def test_lines_of_epochs(clock: Clock) -> None:
    out = Terminal()
    drive(ProgressBar(1, out), clock)
    assert screen(out.getvalue(), 100) == [*LINES, ""]
    assert "Epoch 1/2 validation" in out.getvalue()
    assert "50%" in out.getvalue()
    out = Terminal()
    drive(ProgressBar(2, out), clock)
    assert screen(out.getvalue()) == [*LINES, ""]
    assert "\r" not in out.getvalue()
    plain = io.StringIO()
    drive(ProgressBar("auto", plain), clock)
    assert plain.getvalue().splitlines() == LINES
    silent = io.StringIO()
    drive(ProgressBar(0, silent), clock)
    assert silent.getvalue() == ""
    with pytest.raises(ValueError, match="got verbose=3"):
        ProgressBar(3)


def test_an_epoch_that_was_resumed_in_its_middle(clock: Clock) -> None:
    class Fitting:
        batch = 3

    class Trainer:
        _fitting = Fitting()

    for verbose in (1, 2):
        out = Terminal()
        bar = ProgressBar(verbose, out)
        bar.set_trainer(Trainer())
        bar.set_params({"epochs": 2, "steps": 4, "batch_size": 32})
        bar.on_train_begin({})
        bar.on_epoch_begin(0, {})
        clock.now += 1
        if verbose == 1:
            bar.on_train_batch_end(3, {"loss": 0.5})
            assert screen(out.getvalue())[-1].endswith("4/4  loss 0.5000  32 samples/s  0:00 left")
        bar.on_epoch_end(0, {"loss": 0.5})
        assert screen(out.getvalue()) == ["Epoch 1/2  1.0s  32 samples/s  loss 0.5000", ""]


def test_evaluation_on_its_own(clock: Clock) -> None:
    out = io.StringIO()
    bar = ProgressBar(2, out)
    bar.on_test_begin({})
    clock.now += 1.5
    bar.on_test_end({"loss": 0.5, "accuracy": 0.875})
    assert out.getvalue() == "Evaluation  1.5s  loss 0.5000  accuracy 0.8750\n"


def test_say_takes_the_bar_away(clock: Clock) -> None:
    out = Terminal()
    bar = Bar(10, stream=out)
    bar.update(5)
    say("saved", out)
    clock.now += 1
    bar.update(6)
    first, second = screen(out.getvalue())
    assert first == "saved"
    assert second.startswith(" 60%")


def test_fit_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    x, y = pydl.rand(64, 3), pydl.arange(64) % 2

    def shown(stream: io.StringIO, **options: object) -> str:
        monkeypatch.setattr(sys, "stdout", stream)
        trainer = pydl.Trainer(nn.Linear(3, 2), "cross_entropy", "sgd", ["accuracy"])
        trainer.fit(x, y, batch_size=16, epochs=3, **options)
        return stream.getvalue()

    validation = {"validation_data": (x, y)}
    lines = shown(io.StringIO(), **validation).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    pattern = r"Epoch 1/3  .*s  .* samples/s  loss 0\.\d{4}  accuracy 0\.\d{4}  val_loss .*  val_accuracy .*  lr 0\.001"
    assert re.match(pattern, lines[0])
    stop = EarlyStopping("loss", min_delta=100, patience=1, verbose=1)
    lines = screen(shown(Terminal(), callbacks=[stop]))
    assert [line.split("  ")[0] for line in lines] == [
        "Epoch 1/3",
        "Epoch 2/3",
        "Epoch 2: early stopping",
        "Weights of epoch 1 restored, loss " + f"{stop.best:.6g}",
        "",
    ]
    assert shown(io.StringIO(), verbose=0) == ""

    def interrupt(batch: int, logs: dict[str, float]) -> None:
        import os
        import signal

        if batch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    lines = screen(shown(Terminal(), callbacks=[LambdaCallback(on_train_batch_end=interrupt)]))
    assert lines[-2:] == ["Epoch 1/3, batch 2/4: stopped, interrupted", ""]
