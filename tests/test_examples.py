"""The examples: short enough to read, and they learn."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import pydl
from pydl.examples import char_rnn, min_char_rnn
from pydl.text import CharVocabulary

TEXT = "the cat sat on the mat; " * 60


def test_they_are_as_short_as_promised() -> None:
    for module, most in ((min_char_rnn, 112), (char_rnn, 50)):
        assert len(pathlib.Path(module.__file__).read_text().splitlines()) <= most


def test_min_char_rnn_gradients_by_finite_differences(rng: np.random.Generator) -> None:
    model = min_char_rnn.MinCharRNN(CharVocabulary.from_text(TEXT), hidden=7)
    for parameter in model.parameters:
        parameter.copy_(pydl.asarray(rng.normal(size=parameter.shape).astype(np.float32) * 0.5))
    ids = model.vocabulary.encode(TEXT[:10])
    inputs, targets = pydl.asarray(ids[:-1]), pydl.asarray(ids[1:])
    h0 = pydl.asarray(rng.normal(size=(1, 7)).astype(np.float32) * 0.3)
    _, gradients, _ = model.loss_and_gradients(inputs, targets, h0)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        direction = pydl.asarray(rng.normal(size=parameter.shape).astype(np.float32))
        losses = []
        for step in (1e-2, -2e-2):
            parameter.add_(step * direction)
            losses.append(model.loss_and_gradients(inputs, targets, h0)[0] * len(targets))
        parameter.add_(1e-2 * direction)
        expected = (losses[0] - losses[1]) / 2e-2
        assert pydl.sum(gradient * direction).item() == pytest.approx(expected, rel=0.02, abs=0.02)


def test_min_char_rnn_learns(capsys: pytest.CaptureFixture[str]) -> None:
    loss = min_char_rnn.main(TEXT, iterations=3000)
    assert loss < 0.3 * math.log(len(set(TEXT)))
    assert "the cat sat on" in capsys.readouterr().out


def test_char_rnn_learns(capsys: pytest.CaptureFixture[str]) -> None:
    char_rnn.main(TEXT, epochs=40, batch=4, steps=25)
    losses = [float(line.split("loss ")[1]) for line in capsys.readouterr().out.splitlines() if "loss " in line]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["min_char_rnn", "char_rnn"])
def test_they_run_by_name(name: str, tmp_path: pathlib.Path) -> None:
    for arguments in ([], [str(tmp_path / "text.txt")]):
        (tmp_path / "text.txt").write_text(TEXT * 20)
        done = subprocess.run(
            [sys.executable, "-m", f"pydl.examples.{name}", *arguments], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert done.stdout.count("loss") > 3
